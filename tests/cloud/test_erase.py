"""erase-sensor.sh: nothing of the one sensor is left where it reaches, and everything of the others is.

The bucket with its versions and the schedules are moto's, the index is a real OpenSearch. Nothing here speaks Athena's
UNLOAD and VACUUM nor runs a state machine: a fake takes these calls, answers as if they had worked, and writes down in
which order they came and what the bucket held at that moment.
"""

import base64
import gzip
import json
import sys

import boto3
import pytest

import aws
import fleet

SENSOR, OTHER = "adi", "strap"
FAKE = '''
def answer(words):
    log = FOLDER / "statements"
    said = log.read_text().splitlines() if log.exists() else []
    def real(*more):
        return subprocess.run([REAL, *more, "--output", "json"], capture_output=True, text=True)
    if words[0] == "stepfunctions":
        if words[1] == "start-execution":
            states = [json.loads(real("scheduler", "get-schedule", "--group-name", "hr-gatewayd-curated", "--name", name).stdout)["State"]
                      for name in ("merge", "tidy")]
            log.write_text("\\n".join([*said, f"MERGE with {states}"]))
        return json.dumps({"executionArn": "run", "status": "SUCCEEDED", "executions": []})
    if words[:2] == ["glue", "get-table"]:
        return json.dumps({"Table": {"StorageDescriptor": {"Columns": [{"Name": "timestamp"}, {"Name": "sensor_id"}]}}})
    if words[0] != "athena":
        return None
    if words[1] == "start-query-execution":
        request = json.loads(Path(words[words.index("--cli-input-json") + 1].removeprefix("file://")).read_text())
        sql = " ".join(request["QueryString"].split())
        if sql.startswith("UNLOAD"):
            found = real("s3api", "list-objects-v2", "--bucket", "lake", "--prefix", "heart_rate_data/")
            sql += f" -- {[one['Key'] for one in json.loads(found.stdout).get('Contents', [])]}"
        log.write_text("\\n".join([*said, sql + f" {request.get('ExecutionParameters', '')} in {request['WorkGroup']}"]))
        return json.dumps({"QueryExecutionId": str(len(said))})
    sql = said[int(words[words.index("--query-execution-id") + 1])]
    again = sql.startswith("OPTIMIZE") and sum(one.startswith("OPTIMIZE") for one in said) == 1
    status = {"State": "FAILED", "StateChangeReason": "ICEBERG_OPTIMIZE_MORE_RUNS_NEEDED"} if again else {"State": "SUCCEEDED"}
    if words[1] == "get-query-execution":
        return json.dumps({"QueryExecution": {"Status": status}})
    gone = any(one.startswith("UNLOAD" if "hr_table" in sql else "DELETE") for one in said)
    value = "s3://lake/heart_rate_data/date=2026-11-20/hr_firehose-1-2026-11-20-10-00-00-old.parquet" if "DISTINCT" in sql.split("FROM")[0] else "5" if "starts_with" in sql or not gone else "0"
    rows = [] if "DISTINCT" in sql.split("FROM")[0] and gone else [{"Data": [{"VarCharValue": value}]}]
    return json.dumps({"ResultSet": {"Rows": [{"Data": [{"VarCharValue": "header"}]}, *rows]}})
'''


@pytest.fixture
def account(server):
    """What the lake's stack says, and a bucket with versions; no curated table, no index."""
    server.reset()
    server.lake(Database="hr_data", Table="hr_table", WorkGroup="people", FirstDay="2025-01-01")
    return server


@pytest.fixture(scope="module")
def lines():
    """Of both sensors, and one that says the name in another place."""
    found = [json.dumps(line, separators=(",", ":")) for line in fleet.small_fleet()[:3000]]
    ours, others = ([line for line in found if json.loads(line)["sensor_id"] == sensor] for sensor in (SENSOR, OTHER))
    others = others[:40] + [json.dumps(json.loads(others[40]) | {"gateway_id": SENSOR}, separators=(",", ":"))]
    assert len(ours) >= 40
    return ours[:40], others


def put(account, key, body, *more):
    file = account.folder / "body"
    file.write_bytes(body)
    return account.aws("s3api", "put-object", "--bucket", "lake", "--key", key, "--body", str(file), *more)["VersionId"]


def versions(account, prefix=""):
    listed = account.aws("s3api", "list-object-versions", "--bucket", "lake", "--prefix", prefix)
    return {(one["Key"], one["VersionId"]) for one in listed.get("Versions") or []}


def body(account, key):
    file = account.folder / "got"
    answer = account.aws("s3api", "get-object", "--bucket", "lake", "--key", key, str(file))
    return file.read_bytes(), answer.get("ContentEncoding")


def ndjson(lines):
    return "".join(line + "\n" for line in lines).encode()


def failed(lines):
    return ndjson([json.dumps({"attemptsMade": 1, "rawData": base64.b64encode(line.encode() + b"\n").decode()}, separators=(",", ":"))
                   for line in lines])


def seeded(account, lines):
    """Objects that hold both, only the one, only the other, and older versions; and a query's result."""
    ours, others = lines
    mixed = [line for pair in zip(ours, others, strict=False) for line in pair] + others[40:]
    raw = "raw/arrived=2026-11-20"
    put(account, f"{raw}/mixed.gz", gzip.compress(ndjson(mixed)), "--content-encoding", "gzip")
    put(account, f"{raw}/only.gz", gzip.compress(ndjson(ours)))
    put(account, f"{raw}/others.gz", gzip.compress(ndjson(others)))
    put(account, f"{raw}/rewritten.gz", gzip.compress(ndjson(mixed)))
    put(account, f"{raw}/rewritten.gz", gzip.compress(ndjson(others)))
    put(account, f"{raw}/deleted.gz", gzip.compress(ndjson(ours)))
    account.aws("s3api", "delete-object", "--bucket", "lake", "--key", f"{raw}/deleted.gz")
    put(account, "errors/parquet/x/2026-11-20/mixed", failed(mixed[:20]) + f'broken "{SENSOR}"\n'.encode())
    put(account, "replayed/errors/parquet/x/2026-11-20/old", failed(ours[:3]))
    put(account, "heart_rate_data/date=2026-11-20/hr_firehose-1-2026-11-20-10-00-00-old.parquet", b"x")
    put(account, "athena-results/1.csv", b"x")
    return mixed


def test_a_rehearsal_counts_and_erases_nothing(account, lines, tmp_path):
    seeded(account, lines)
    before = versions(account)
    run = account.script("erase-sensor.sh", SENSOR, "--dry-run", environment=account.with_fake(tmp_path, FAKE))
    assert run.returncode == 0, run.stderr
    assert [line.split()[-1] for line in run.stdout.splitlines()[:4]] == ["11", "3", "160", "5"]
    assert versions(account) == before


def test_the_objects_keep_every_line_of_the_others(account, lines, tmp_path):
    mixed = seeded(account, lines)
    kept = {key: version for key, version in versions(account) if key.endswith("others.gz")}
    run = account.script("erase-sensor.sh", SENSOR, "--yes", environment=account.with_fake(tmp_path, FAKE))
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Nothing is left in these places." in run.stdout
    raw = "raw/arrived=2026-11-20"
    text, encoding = body(account, f"{raw}/mixed.gz")
    assert gzip.decompress(text) == ndjson([line for line in mixed if json.loads(line)["sensor_id"] != SENSOR])
    assert encoding == "gzip"
    assert body(account, "errors/parquet/x/2026-11-20/mixed")[0] == failed(mixed[1:20:2])
    left = versions(account)
    assert sorted(key for key, _ in left if not key.startswith("heart_rate_data/")) == sorted(
        ["errors/parquet/x/2026-11-20/mixed", f"{raw}/mixed.gz", f"{raw}/others.gz", f"{raw}/rewritten.gz"])
    assert set(kept.items()) < left  # Not touched, not even written again.
    assert "the stream readings, until what it holds is 24 hours old" in run.stdout
    # No line's words, and nobody else's name.
    assert "heart_rate\"" not in run.stdout and OTHER not in run.stdout


def test_the_tables_are_merged_first_then_rewritten_and_expired(account, lines, tmp_path):
    machine = "arn:aws:states:ap-south-2:123456789012:stateMachine:hr-gatewayd-curated"
    account.stack("hr-gatewayd-curated", {"WorkGroup": "machines", "StateMachineArn": machine}, [("KeepSnapshotsDays", "7")])
    account.aws("scheduler", "create-schedule-group", "--name", "hr-gatewayd-curated")
    target = {"Arn": machine, "RoleArn": "arn:aws:iam::123456789012:role/x", "Input": '{"tidy": true}'}
    for name in ("merge", "tidy"):
        account.aws("scheduler", "create-schedule", "--name", name, "--group-name", "hr-gatewayd-curated", "--schedule-expression", "rate(1 hour)",
                    "--flexible-time-window", "Mode=OFF", "--target", json.dumps(target))
    put(account, "heart_rate_data/date=2026-11-20/hr_firehose-1-2026-11-20-10-00-00-old.parquet", b"x")
    run = account.script("erase-sensor.sh", SENSOR, "--yes", environment=account.with_fake(tmp_path, FAKE))
    assert run.returncode == 0, run.stdout + run.stderr
    said = (tmp_path / "statements").read_text().splitlines()
    orders = [line.split()[0] for line in said if not line.startswith("SELECT count")]
    assert orders == ["SELECT", "MERGE", "UNLOAD", "DELETE", "OPTIMIZE", "OPTIMIZE", "ALTER", "VACUUM", "ALTER"]
    assert "MERGE with ['DISABLED', 'DISABLED']" in said
    unload, = (line for line in said if line.startswith("UNLOAD"))
    assert unload.startswith('UNLOAD (SELECT "timestamp", "sensor_id" FROM hr_table WHERE "$path" = '
                             "'s3://lake/heart_rate_data/date=2026-11-20/hr_firehose-1-2026-11-20-10-00-00-old.parquet' AND sensor_id IS DISTINCT FROM 'adi') "
                             "TO 's3://lake/heart_rate_data/date=2026-11-20/rewritten-2026-11-20-10-00-00-")
    assert "old.parquet']" in unload and unload.endswith("in machines")  # The old one was still there.
    assert versions(account, "heart_rate_data/") == set()
    alters = [line for line in said if line.startswith("ALTER")]
    assert "= '1')" in alters[0] and "= '604800')" in alters[1]
    for name in ("merge", "tidy"):
        schedule = account.aws("scheduler", "get-schedule", "--group-name", "hr-gatewayd-curated", "--name", name)
        assert (schedule["State"], schedule["Target"]["Input"]) == ("ENABLED", '{"tidy": true}')


def test_the_index_loses_the_readings_and_the_minutes(account, lines, tmp_path, opensearch):
    opensearch.clear()
    ours, others = lines
    for sensor, number in ((SENSOR, 30), (OTHER, 20)):
        opensearch.put(f"hr-minutes-2025.07/_doc/{sensor}?refresh=true", {"sensor_id": sensor, "readings": 1})
        for place in range(number):
            opensearch.put(f"hr-readings-2025.07/_doc/{sensor}-{place}", {"sensor_id": sensor, "heart_rate": 60})
    for index in ("hr-readings-2025.07", "hr-minutes-2025.07"):
        assert opensearch.count(index) > 0
    account.aws("secretsmanager", "create-secret", "--name", "master", "--secret-string", '{"username": "hr-admin", "password": "a word"}')
    account.stack("hr-gatewayd-live", {"Endpoint": opensearch.url, "MasterSecretArn": "master"})
    environment = account.with_fake(tmp_path, FAKE)
    run = account.script("erase-sensor.sh", SENSOR, "--yes", environment=environment)
    assert run.returncode == 0, run.stdout + run.stderr
    assert opensearch.count("hr-readings-*") == 20 and opensearch.count("hr-minutes-*") == 1
    assert "a word" not in run.stdout + run.stderr
    assert run.stdout.split("index (documents)")[-1].split()[:2] == ["31", "0"]


def test_what_cannot_be_asked_is_not_called_erased(account, tmp_path):
    account.aws("secretsmanager", "create-secret", "--name", "master", "--secret-string", '{"username": "a", "password": "b"}')
    account.stack("hr-gatewayd-live", {"Endpoint": "http://127.0.0.1:9", "MasterSecretArn": "master"})
    run = account.script("erase-sensor.sh", SENSOR, "--yes", environment=account.with_fake(tmp_path, FAKE))
    assert run.returncode == 1
    assert "is this machine inside --viewer?" in run.stderr and "Not all is erased" in run.stdout


def test_it_wants_the_name_typed_and_takes_only_a_name(account):
    nobody = account.script("erase-sensor.sh", SENSOR)
    assert nobody.returncode == 1 and "--yes" in nobody.stderr
    assert account.script("erase-sensor.sh", "adi' OR '1'='1", "--yes").returncode == 2


def test_of_thousands_of_versions_only_the_current_ones_stay(account):
    s3 = boto3.client("s3", region_name=aws.REGION, endpoint_url=account.url, aws_access_key_id="test", aws_secret_access_key="test")
    for number in range(700):
        key = f"curated/hr_readings/{number:04}"
        s3.put_object(Bucket="lake", Key=key, Body=b"old")
        if number % 3:
            s3.delete_object(Bucket="lake", Key=key)
        else:
            s3.put_object(Bucket="lake", Key=key, Body=b"new")
    code = "import erase_objects; erase_objects.delete_all('lake', 'curated/hr_readings/', old_only=True)"
    run = account.run(sys.executable, "-B", "-c", code, environment={"PYTHONPATH": str(aws.CLOUD / "lib")})
    assert run.returncode == 0, run.stderr
    left = [answer for answer in s3.get_paginator("list_object_versions").paginate(Bucket="lake", Prefix="curated/hr_readings/")]
    assert not any(answer.get("DeleteMarkers") for answer in left)
    kept = [(entry["Key"][-4:], entry["IsLatest"]) for answer in left for entry in answer.get("Versions", [])]
    assert kept == [(f"{number:04}", True) for number in range(0, 700, 3)]
