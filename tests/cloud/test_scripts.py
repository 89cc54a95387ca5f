"""The scripts against an account of moto's: what they make, change, say and take down.

Asserted is what the services answer, never a stack's status: moto's CloudFormation skips Firehose, Glue, Athena,
OpenSearch, budgets and alarms' metrics, and of what it makes it leaves out the stream's encryption and mode, and the
bucket's versioning, lifecycle and block of public access; those are checked in the template (test_template.py). Its
change sets list what a template changes, not what a parameter does, and know of no replacement: where an answer
cannot come from moto, the test says that it is a fake's.
"""

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from http.server import BaseHTTPRequestHandler

import pytest

import aws
import runtime_api

SCRIPTS = sorted(path.name for path in aws.BIN.glob("*.sh"))
SHELL = sorted(aws.CLOUD.glob("*/*.sh"))
STACK = "hr-gatewayd"


@pytest.fixture
def account(server):
    server.reset()
    return server


@pytest.fixture(scope="module")
def lake(server):
    """Deployed once for the tests that only look at it."""
    server.reset()
    run = server.script("deploy.sh", "--no-live", "--parameter", "GatewayIdentity=user")
    assert run.returncode == 0, run.stderr
    return server, run.stdout


def outputs(account, stack=STACK):
    described = account.aws("cloudformation", "describe-stacks", "--stack-name", stack)["Stacks"][0]
    return {one["OutputKey"]: one["OutputValue"] for one in described["Outputs"]}


def stacks(account):
    return {one["StackName"]: one["StackStatus"] for one in account.aws("cloudformation", "describe-stacks")["Stacks"]}


def test_shellcheck_finds_nothing():
    run = subprocess.run(["shellcheck", "-x", *SHELL], cwd=aws.REPOSITORY, capture_output=True, text=True)
    assert run.stdout == ""


@pytest.mark.parametrize("name", SCRIPTS)
def test_each_script_explains_itself_without_an_account(name):
    run = subprocess.run([aws.BIN / name, "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True)
    assert (run.returncode, run.stderr) == (0, "")
    assert f"packaging/cloud/bin/{name}" in run.stdout


@pytest.mark.parametrize(("change", "says"), [
    ({"PATH": "/usr/bin:/bin"}, "aws is missing: install the AWS CLI"),
    ({"AWS_REGION": "", "AWS_DEFAULT_REGION": ""}, "no region is set: give --region"),
    ({"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true"}, "AWS does not know who asks: give --profile"),
])
def test_what_is_missing_is_named_with_what_to_do(server, change, says):
    if shutil.which("aws", path=change.get("PATH", "")):
        pytest.skip("this machine has the AWS CLI among its own programs")
    run = server.script("status.sh", environment=change)
    assert run.returncode == 1
    assert says in run.stderr


def test_a_profile_outdoes_keys_in_the_environment(server, tmp_path):
    config = tmp_path / "config"
    config.write_text("[profile lab]\nregion = eu-west-1\naws_access_key_id = a\naws_secret_access_key = b\n")
    environment = {"AWS_CONFIG_FILE": str(config), "AWS_REGION": "", "AWS_DEFAULT_REGION": ""}
    run = server.script("status.sh", "--profile", "lab", environment=environment)
    assert f"there is no stack {STACK} in eu-west-1" in run.stderr


def test_a_rehearsal_leaves_nothing(account):
    run = account.script("deploy.sh", "--no-live", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert re.search(r"Add +Stream +AWS::Kinesis::Stream", run.stdout)
    assert stacks(account) == {}
    assert account.aws("kinesis", "list-streams")["StreamNames"] == []
    assert account.aws("s3api", "list-buckets")["Buckets"] == []


def test_the_dashboard_wants_to_know_who_may_see_it(account):
    run = account.script("deploy.sh")
    assert run.returncode == 1
    assert "--viewer 203.0.113.7/32" in run.stderr and "--no-live" in run.stderr
    assert account.script("deploy.sh", "--viewer", "0.0.0.0/0").returncode == 2
    assert stacks(account) == {}


def test_how_long_the_index_keeps_things_is_not_said_to_a_closed_domain(account):
    half = account.script("deploy.sh", "--viewer", "203.0.113.7", "--parameter", "ReadingsRetentionDays=2.5")
    assert half.returncode == 2 and "a number of days" in half.stderr
    run = account.script("deploy.sh", "--parameter", "ViewerCidr=", "--parameter", "ReadingsRetentionDays=2")
    assert run.returncode == 1 and "give your own address too" in run.stderr
    assert stacks(account) == {}


def test_a_parameter_that_no_template_has_stops_everything(account):
    run = account.script("deploy.sh", "--no-live", "--parameter", "RetentionHour=48")
    assert run.returncode == 2
    assert "RetentionHours" in run.stderr
    # What one stack takes from another is not for a person to set.
    assert account.script("deploy.sh", "--no-live", "--parameter", "TopicArn=x").returncode == 2
    assert stacks(account) == {}


def test_the_stream_the_bucket_and_the_key_are_there(lake):
    account, _ = lake
    made = outputs(account)
    stream = account.aws("kinesis", "describe-stream-summary", "--stream-name", "hr-kinesis-stream")["StreamDescriptionSummary"]
    assert (stream["StreamARN"], stream["OpenShardCount"], stream["RetentionPeriodHours"]) == (made["StreamArn"], 1, 24)
    assert account.aws("kms", "get-key-rotation-status", "--key-id", made["KeyArn"])["KeyRotationEnabled"]
    encryption = account.aws("s3api", "get-bucket-encryption", "--bucket", made["Bucket"])
    default = encryption["ServerSideEncryptionConfiguration"]["Rules"][0]["ApplyServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": made["KeyArn"]}


def test_a_gateway_may_put_records_on_the_stream_and_no_more(lake):
    account, _ = lake
    made = outputs(account)
    policies = account.aws("iam", "list-policies", "--scope", "Local")["Policies"]
    arn, = (one["Arn"] for one in policies if "GatewayPolicy" in one["PolicyName"])
    document = account.aws("iam", "get-policy-version", "--policy-arn", arn, "--version-id", "v1")["PolicyVersion"]["Document"]
    allowed = {(one["Action"], one["Resource"]) for one in document["Statement"]}
    assert allowed == {("kinesis:PutRecords", made["StreamArn"]), ("kms:GenerateDataKey", made["KeyArn"])}


def test_the_machine_of_the_curated_table_gets_the_lakes_names(lake):
    account, _ = lake
    machine = outputs(account, f"{STACK}-curated")["StateMachineArn"]
    definition = account.aws("stepfunctions", "describe-state-machine", "--state-machine-arn", machine)["definition"]
    assert '"hr_data"' in definition and "FROM hr_table" in definition
    assert f"s3://{outputs(account)['Bucket']}/" in definition


def test_what_comes_next_is_said(lake):
    _, said = lake
    assert "Add a gateway:" in said and "add-gateway.sh NAME" in said


def test_a_second_run_changes_nothing(lake):
    account, _ = lake
    before = stacks(account)
    run = account.script("deploy.sh", "--no-live")
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("no changes") == 2
    assert stacks(account) == before


def test_a_parameter_changes_the_stream_and_stays(lake):
    account, _ = lake
    run = account.script("deploy.sh", "--no-live", "--no-curated", "--parameter", "RetentionHours=48")
    assert run.returncode == 0, run.stderr
    assert "no changes" in account.script("deploy.sh", "--no-live", "--no-curated").stdout
    stream = account.aws("kinesis", "describe-stream-summary", "--stream-name", "hr-kinesis-stream")["StreamDescriptionSummary"]
    assert stream["RetentionPeriodHours"] == 48


def what_moto_skipped(account):
    """The delivery, the budget and the stream's encryption, by the services' own calls."""
    made = outputs(account)
    account.aws("firehose", "create-delivery-stream", "--delivery-stream-name", "hr_firehose", "--s3-destination-configuration",
                f"RoleARN=arn:aws:iam::123456789012:role/x,BucketARN=arn:aws:s3:::{made['Bucket']}")
    account.aws("scheduler", "create-schedule-group", "--name", f"{STACK}-curated")
    budget = {"BudgetName": "Budget", "BudgetType": "COST", "TimeUnit": "MONTHLY", "BudgetLimit": {"Amount": "25", "Unit": "USD"}}
    account.aws("budgets", "create-budget", "--account-id", "123456789012", "--budget", json.dumps(budget))


def test_the_first_day_is_not_made_later(lake):
    account, _ = lake
    run = account.script("deploy.sh", "--no-live", "--dry-run", "--parameter", "FirstDay=2026-01-01")
    assert run.returncode == 2 and "may be made earlier, not later" in run.stderr


def test_status_says_line_by_line_what_to_do(lake):
    account, _ = lake
    made = outputs(account)
    what_moto_skipped(account)
    for name, topic in (("by-choice", made["Topic"]), ("somebody-elses", made["Topic"] + "-too")):
        alarm = {"Type": "AWS::CloudWatch::Alarm", "Properties": {
            "AlarmName": name, "ComparisonOperator": "GreaterThanThreshold", "EvaluationPeriods": 1, "Threshold": 1}}
        template = {"Parameters": {"TopicArn": {"Type": "String"}}, "Resources": {"Alarm": alarm}}
        account.aws("cloudformation", "create-stack", "--stack-name", name, "--template-body", json.dumps(template),
                    "--parameters", f"ParameterKey=TopicArn,ParameterValue={topic}")
    run = account.script("status.sh")
    assert run.returncode == 1
    line, = (one for one in run.stdout.splitlines() if "not encrypted" in one)
    assert "aws kinesis start-stream-encryption --stream-name hr-kinesis-stream" in line
    account.aws("kinesis", "start-stream-encryption", "--stream-name", "hr-kinesis-stream", "--encryption-type", "KMS", "--key-id", made["KeyArn"])
    well = account.script("status.sh")
    assert well.returncode == 0, well.stdout
    lines = well.stdout.splitlines()[1:]
    assert all(line.endswith(" OK") for line in lines)
    for word in ("stream ", "delivery ", "  errors/", "budget ", "merge ", "alarms ", "hr-gatewayd-live: not deployed", "by-choice: CREATE_COMPLETE"):
        assert any(word in line for line in lines), word
    assert "somebody-elses" not in well.stdout

    account.aws("s3api", "put-object", "--bucket", made["Bucket"], "--key", "errors/parquet/x/2026-11-21/y", "--body", __file__)
    measured = [{"MetricName": "GetRecords.IteratorAgeMilliseconds", "Value": 7200000, "Dimensions": [{"Name": "StreamName", "Value": "hr-kinesis-stream"}]}]
    account.aws("cloudwatch", "put-metric-data", "--namespace", "AWS/Kinesis", "--metric-data", json.dumps(measured))
    ill = account.script("status.sh")
    assert ill.returncode == 1
    bad = [line for line in ill.stdout.splitlines()[1:] if not line.endswith(" OK")]
    assert len(bad) == 2
    assert any("1 objects" in line and "replay.sh --dry-run" in line for line in bad)
    assert any("120 min behind" in line for line in bad)


def test_a_change_that_leaves_data_behind_wants_to_be_allowed(lake, tmp_path):
    """moto's change sets never tell of a replacement: this answer is a fake's."""
    account, _ = lake
    code = '''
def answer(words):
    if "describe-change-set" in words and any("Changes[]" in word for word in words):
        return "Modify\\tStream\\tAWS::Kinesis::Stream\\tTrue"
'''
    environment = account.with_fake(tmp_path, code)
    asked = ["deploy.sh", "--no-live", "--no-curated", "--parameter", "RetentionHours=72"]
    run = account.script(*asked, environment=environment)
    assert run.returncode == 1
    assert "this would leave data behind: Stream" in run.stderr
    stream = account.aws("kinesis", "describe-stream-summary", "--stream-name", "hr-kinesis-stream")["StreamDescriptionSummary"]
    assert stream["RetentionPeriodHours"] != 72
    assert account.script(*asked, "--allow-replacement", "--dry-run", environment=environment).returncode == 0


def test_a_failure_shows_the_event_and_the_next_run_clears_up(account):
    account.aws("logs", "create-log-group", "--log-group-name", "/aws/kinesisfirehose/hr_firehose")
    run = account.script("deploy.sh", "--no-live", "--no-curated")
    assert run.returncode == 1
    assert "DeliveryLog: " in run.stderr and "already exists" in run.stderr and "ROLLBACK_COMPLETE" in run.stderr
    assert re.search(r"CREATE_FAILED +DeliveryLog", run.stdout)
    assert account.aws("kinesis", "list-streams")["StreamNames"] == []
    account.aws("logs", "delete-log-group", "--log-group-name", "/aws/kinesisfirehose/hr_firehose")
    again = account.script("deploy.sh", "--no-live", "--no-curated")
    assert again.returncode == 0, again.stderr
    assert "which failed, is deleted first" in again.stdout
    assert account.aws("kinesis", "list-streams")["StreamNames"] == ["hr-kinesis-stream"]


def test_a_strangers_stream_is_not_taken(account):
    account.aws("kinesis", "create-stream", "--stream-name", "hr-kinesis-stream", "--shard-count", "1")
    run = account.script("deploy.sh", "--no-live")
    assert run.returncode == 1
    assert "ExistingStreamArn=arn:aws:kinesis:ap-south-2:123456789012:stream/hr-kinesis-stream" in run.stderr
    assert stacks(account) == {}


def test_the_live_stack_runs_the_code_that_was_uploaded(account, tmp_path):
    zip_file = tmp_path / "hr-indexer.zip"
    subprocess.run([sys.executable, "-m", "zipfile", "-c", zip_file, __file__], check=True)
    asked = ["deploy.sh", "--viewer", "203.0.113.7", "--lambda-zip", zip_file, "--endpoint", "http://127.0.0.1:9",
             "--parameter", "ExistingDomainArn=arn:aws:es:ap-south-2:123456789012:domain/mine"]
    run = account.script(*asked)
    assert run.returncode == 1, run.stdout
    assert "OPENSEARCH_USER" in run.stderr  # The domain is not ours: nobody knows its password.
    made = outputs(account, f"{STACK}-live")
    function = account.aws("lambda", "get-function", "--function-name", made["IndexerName"])["Configuration"]
    assert (function["Runtime"], function["Timeout"]) == ("provided.al2023", 120)
    assert function["Environment"]["Variables"] == {"OPENSEARCH_ENDPOINT": "http://127.0.0.1:9", "READINGS_RETENTION_DAYS": "400"}
    code = account.aws("s3api", "list-objects-v2", "--bucket", outputs(account)["Bucket"])["Contents"]
    assert [re.fullmatch(r"artifacts/hr-indexer-[0-9a-f]{16}\.zip", one["Key"]) is not None for one in code] == [True]
    mapping, = account.aws("lambda", "list-event-source-mappings", "--function-name", made["IndexerName"])["EventSourceMappings"]
    assert mapping["EventSourceArn"] == outputs(account)["StreamArn"]
    assert mapping["FunctionResponseTypes"] == ["ReportBatchItemFailures"]
    queues = account.aws("sqs", "list-queues")["QueueUrls"]
    assert [url.rpartition("/")[2] for url in queues] == [made["FailureQueueUrl"].rpartition("/")[2]]
    # The password in the environment, the domain out of reach.
    again = account.script(*asked, environment={"OPENSEARCH_USER": "u", "OPENSEARCH_PASSWORD": "secret-word"})
    assert again.returncode == 1
    assert "the dashboard is not" in again.stderr and "203.0.113.7/32" in again.stderr
    assert "secret-word" not in again.stdout + again.stderr
    # Another build goes in after the domain's roles.
    other = tmp_path / "other.zip"
    subprocess.run([sys.executable, "-m", "zipfile", "-c", other, aws.__file__], check=True)

    def code():
        described = account.aws("cloudformation", "describe-stacks", "--stack-name", f"{STACK}-live")["Stacks"][0]
        return next(one["ParameterValue"] for one in described["Parameters"] if one["ParameterKey"] == "CodeKey")

    before = code()
    with Domain() as domain:
        asked += ["--lambda-zip", other, "--endpoint", domain.url, "--parameter", "ReadingsRetentionDays=2"]
        environment = {"OPENSEARCH_USER": "u", "OPENSEARCH_PASSWORD": "secret-word"}
        domain.refuses = "/roles/"
        refused = account.script(*asked, environment=environment)
        assert refused.returncode == 1 and "the role hr-indexer was refused with 403" in refused.stderr
        assert code() == before
        domain.refuses = None
        done = account.script(*asked, environment=environment)
        assert done.returncode == 0, done.stderr
        assert code() != before
        # How long the index keeps things stays as it was said: with the template's 400 days no domain would hold this.
        sized = account.script("deploy.sh", "--dry-run", "--sensors", "5000", "--lambda-zip", other, environment=environment)
        assert sized.returncode == 0 and "InstanceType=m7g.large.search" in sized.stdout, sized.stderr
        ages = {path: re.search(r'"min_index_age": "(\d+d)"', body)[1] for path, body in domain.puts.items() if "/policies/" in path}
    assert ages == {"/_plugins/_ism/policies/hr-readings": "3d", "/_plugins/_ism/policies/hr-minutes": "1131d"}


class Domain:
    """One that takes all but what it `refuses`, and has nothing yet."""

    def __enter__(self):
        domain, self.refuses, self.puts = self, None, {}

        class Handler(BaseHTTPRequestHandler):
            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length", 0))).decode()
                status = 404 if self.command == "GET" else 403 if domain.refuses and domain.refuses in self.path else 200
                if self.command == "PUT":
                    domain.puts[self.path] = body
                self.send_response(status)
                self.end_headers()
                self.wfile.write(b'{"success": true, "hits": {"hits": []}}')

            do_GET = do_PUT = do_POST = answer

            def log_message(self, *_):
                pass

        self.server = runtime_api.Server(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_):
        self.server.stop()


def typed(account, text, *words):
    """A script at a terminal, where somebody types."""
    screen, terminal = pty.openpty()
    os.write(screen, text.encode())
    run = subprocess.run([aws.BIN / words[0], *words[1:]], env=account.environment, stdin=terminal, capture_output=True,
                         text=True, timeout=aws.SCRIPT_SECONDS_MAX)
    os.close(screen)
    os.close(terminal)
    return run


def test_taken_down_the_readings_stay_and_are_found_again(account):
    assert account.script("deploy.sh", "--no-live").returncode == 0
    bucket = outputs(account)["Bucket"]
    account.aws("s3api", "put-object", "--bucket", bucket, "--key", "heart_rate_data/x", "--body", __file__)
    account.aws("s3api", "put-object", "--bucket", bucket, "--key", "curated/hr_readings/data/x", "--body", __file__)
    rehearsal = account.script("destroy.sh", "--dry-run").stdout
    assert f"goes:   the stack {STACK}-curated" in rehearsal and f"stays:  the bucket {bucket}" in rehearsal
    nobody = account.script("destroy.sh")
    assert nobody.returncode == 1 and "--yes" in nobody.stderr
    assert "nothing was done" in typed(account, "hr\n", "destroy.sh").stderr
    assert set(stacks(account)) == {STACK, f"{STACK}-curated"}
    run = typed(account, f"{STACK}\n", "destroy.sh")
    assert run.returncode == 0, run.stderr
    assert re.findall(r"DELETE_COMPLETE +(\S+)", run.stdout) == [f"{STACK}-curated", STACK]
    assert stacks(account) == {}
    # Made again from what landed; where its files stayed, Athena would make no new table.
    assert [one["Key"] for one in account.aws("s3api", "list-objects-v2", "--bucket", bucket)["Contents"]] == ["heart_rate_data/x"]
    assert account.aws("kinesis", "list-streams")["StreamNames"] == ["hr-kinesis-stream"]

    again = account.script("deploy.sh", "--no-live", "--no-curated")
    assert again.returncode == 0, again.stderr
    assert "of an earlier stack is used again" in again.stdout
    assert outputs(account)["Bucket"] == bucket

    refused = typed(account, f"{STACK}\n2\n", "destroy.sh", "--delete-data")
    assert "1 objects" in refused.stderr + refused.stdout and refused.returncode == 1
    assert account.script("destroy.sh", "--delete-data", "--yes").returncode == 0
    assert account.aws("kinesis", "list-streams")["StreamNames"] == []
    assert account.aws("s3api", "list-buckets")["Buckets"] == []
    keys = [account.aws("kms", "describe-key", "--key-id", one["KeyId"])["KeyMetadata"] for one in account.aws("kms", "list-keys")["Keys"]]
    assert {key["KeyState"] for key in keys if key["KeyManager"] == "CUSTOMER"} == {"PendingDeletion"}
    assert "nothing is left of it" in account.script("destroy.sh", "--delete-data", "--yes").stdout


APPLICATION = """
def answer(words):
    \"\"\"Managed Service for Apache Flink, which moto does not make: started, it runs.\"\"\"
    if words[0] != "kinesisanalyticsv2":
        return None
    started = FOLDER / "started"
    if words[1] == "start-application":
        assert not started.exists()
        started.touch()
        return "{}"
    return "RUNNING" if started.exists() else "READY"
"""


def test_windows_by_flink_are_a_stack_of_their_own_with_a_task_for_each_shard(account, tmp_path):
    jar = tmp_path / "any.jar"
    jar.write_bytes(b"a jar")
    environment = account.with_fake(tmp_path / "fake", APPLICATION)
    asked = ["deploy.sh", "--no-live", "--no-curated", "--windows", "flink", "--streaming-jar", jar, "--parameter", "ShardCount=3"]
    run = account.script(*asked, environment=environment)
    assert run.returncode == 0, run.stderr
    assert "the application is started" in run.stdout

    def made():
        described = account.aws("cloudformation", "describe-stacks", "--stack-name", f"{STACK}-streaming")["Stacks"][0]
        return {one["ParameterKey"]: one["ParameterValue"] for one in described["Parameters"]}

    first = made()
    assert (first["Parallelism"], first["WindowShardCount"]) == ("3", "1") and first["StreamArn"].endswith("stream/hr-kinesis-stream")
    found = account.aws("s3api", "list-objects-v2", "--bucket", outputs(account)["Bucket"], "--prefix", "artifacts/")["Contents"]
    assert [one["Key"] for one in found] == [first["CodeKey"]]
    assert re.fullmatch(r"artifacts/hr-streaming-[0-9a-f]{16}\.jar", first["CodeKey"])
    names = {one["StreamName"] for one in account.aws("kinesis", "list-streams")["StreamSummaries"]}
    assert names == {"hr-kinesis-stream", f"{STACK}-streaming-minutes", f"{STACK}-streaming-alerts"}
    # A later run, asked for nothing of it, keeps it in step with the stream's shards.
    account.aws("kinesis", "update-shard-count", "--stream-name", "hr-kinesis-stream", "--target-shard-count", "6", "--scaling-type", "UNIFORM_SCALING")
    again = account.script("deploy.sh", "--no-live", "--no-curated", environment=environment)
    assert again.returncode == 0, again.stderr
    assert made() == first | {"Parallelism": "6", "WindowShardCount": "2"}
    gone = account.script("destroy.sh", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert account.aws("kinesis", "list-streams")["StreamNames"] == ["hr-kinesis-stream"], "what can be computed again goes"


@pytest.mark.parametrize(("words", "why"), [
    (["--windows", "spark"], "--windows takes lambda, flink or none"), (["--streaming-jar", "any.jar"], "--streaming-jar goes with --windows flink"),
])
def test_windows_that_cannot_be_are_refused_before_anything_is_made(account, words, why):
    run = account.script("deploy.sh", "--no-live", *words)
    assert run.returncode == 2 and why in run.stderr
    assert stacks(account) == {}


def test_the_users_of_gateways_go_with_the_stack(account, tmp_path):
    assert account.script("deploy.sh", "--no-live", "--no-curated", "--parameter", "GatewayIdentity=user").returncode == 0
    assert account.script("add-gateway.sh", "gym", "--output", tmp_path / "gym").returncode == 0
    other = account.script("deploy.sh", "--no-live", "--no-curated", "--parameter", "GatewayIdentity=none")
    assert other.returncode == 1 and "add-gateway.sh --remove NAME" in other.stderr and "hr-gatewayd.gym" in other.stderr
    gone = account.script("destroy.sh", "--yes")
    assert gone.returncode == 0, gone.stderr
    assert "the gateway's user hr-gatewayd.gym" in gone.stdout
    assert account.aws("iam", "list-users")["Users"] == []
