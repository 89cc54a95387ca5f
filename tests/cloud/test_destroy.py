"""destroy.sh takes down what its stack made, and nothing of anybody else's."""

import json

import pytest

import aws
from test_scripts import outputs

PLACE = "curated/hr_readings/"


@pytest.fixture
def account(server):
    server.reset()
    server.aws("s3api", "create-bucket", "--bucket", "company", "--create-bucket-configuration", f"LocationConstraint={aws.REGION}")
    server.aws("s3api", "put-bucket-versioning", "--bucket", "company", "--versioning-configuration", "Status=Enabled")
    return server


def put(account, *keys):
    for key in keys:
        account.aws("s3api", "put-object", "--bucket", "company", "--key", key, "--body", __file__)


def keys(account):
    """Also those of which only older versions are left."""
    listed = account.aws("s3api", "list-object-versions", "--bucket", "company")
    return {one["Key"] for one in listed.get("Versions", [])}


def table(account, database, place):
    account.aws("glue", "create-database", "--database-input", json.dumps({"Name": database}))
    account.aws("glue", "create-table", "--database-name", database, "--table-input",
                json.dumps({"Name": "hr_readings", "StorageDescriptor": {"Location": f"s3://company/{place}"}}))


def test_in_a_bucket_of_the_companys_a_stack_writes_and_deletes_under_its_name_alone(account):
    put(account, f"{PLACE}theirs", "heart_rate_data/theirs", f"hr-gatewayd2/{PLACE}theirs")
    run = account.script("deploy.sh", "--no-live", "--no-curated", "--parameter", "ExistingBucket=company")
    assert run.returncode == 0, run.stderr
    assert "all that this stack writes lies under hr-gatewayd/ in it" in run.stdout
    assert outputs(account)["Prefix"] == "hr-gatewayd/"
    put(account, f"hr-gatewayd/{PLACE}data/ours", "hr-gatewayd/heart_rate_data/date=2026-11-01/ours")
    again = account.script("deploy.sh", "--no-live", "--no-curated")
    assert again.returncode == 0 and outputs(account)["Prefix"] == "hr-gatewayd/"
    rehearsal = account.script("destroy.sh", "--dry-run").stdout
    assert f"goes:   1 objects of the curated table, s3://company/hr-gatewayd/{PLACE}" in rehearsal
    assert "stays:  the bucket company, which this stack did not make" in rehearsal
    before = keys(account)
    run = account.script("destroy.sh", "--yes", "--delete-data")
    assert run.returncode == 0, run.stderr
    assert keys(account) == before - {f"hr-gatewayd/{PLACE}data/ours"}


@pytest.mark.parametrize("tables, goes", [
    ({}, False),
    ({"hr_data": PLACE}, True),
    ({"hr_data": "elsewhere/"}, False),
    ({"hr_data": PLACE, "production": PLACE}, False),
    ({"hr_data": PLACE, "production": "production/"}, True),
    ({"production": PLACE}, False),
])  # fmt: skip
def test_of_a_stack_of_before_only_the_catalogue_says_what_it_made(account, tables, goes):
    account.stack("hr-gatewayd", {"Bucket": "company", "Database": "hr_data"})
    for database, place in tables.items():
        table(account, database, place)
    put(account, f"{PLACE}data/x", "other")
    # What is listed is what is deleted: the test above.
    rehearsal = account.script("destroy.sh", "--dry-run")
    assert rehearsal.returncode == 0, rehearsal.stderr
    assert ("of the curated table" in rehearsal.stdout) == goes


def test_what_cannot_be_looked_up_is_not_deleted(account, tmp_path):
    account.stack("hr-gatewayd", {"Bucket": "company", "Database": "hr_data"})
    put(account, f"{PLACE}data/x")
    refuses = 'def answer(words):\n    if words[:2] == ["glue", "get-table"]: sys.exit("AccessDeniedException: no")\n'
    run = account.script("destroy.sh", "--yes", environment=account.with_fake(tmp_path / "fake", refuses))
    assert run.returncode == 1 and "cannot look for the table" in run.stderr and "AccessDenied" in run.stderr
    assert keys(account) == {f"{PLACE}data/x"}
