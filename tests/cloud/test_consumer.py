"""packaging/cloud/consumer against a Kinesis with HTTP/2, fan-out and shards that end: the counts are those put.

What must hold: each test puts a known number of lines, some twice and on another shard, among lines of nobody's;
however workers come and go, the ledger has each line once and each foreign line once.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import botocore.session
import pytest

import aws
import fleet
import template as cfn

HERE = Path(__file__).resolve().parent
JAR = HERE.parents[1] / "target" / "consumer" / "consumer.jar"
JAVA = ["java", "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]  # Starts in half the time.
POLICY = HERE.parents[1] / "packaging" / "cloud" / "consumer" / "policy.yaml"
WAIT_S_MAX = 90
FAILOVER_S = 2
LATE = 99_999  # Seconds between checkpoints: only an end that was asked for makes one.
STREAM = "readings"
PUT_MAX = 500  # Records of one PutRecords.
GOOD = {
    "timestamp": "2025-07-15T10:00:00.000Z", "heart_rate": 60, "reading_id": "00000000000000cc-1",
    "gateway_id": "attic", "sensor_id": "strap", "session_id": "00000000000000cc-s1", "sequence": 1,
    "clock": "synchronized", "schema_version": 1,
}  # fmt: skip
FOREIGN = [
    "no JSON", "[]", "7", '"text"', "{}", '{"reading_id":', "\ufffd\0", json.dumps(GOOD) + json.dumps(GOOD),
    *(json.dumps(GOOD | wrong) for wrong in (
        {"sequence": 2}, {"sequence": 0, "reading_id": "00000000000000cc-0"}, {"sequence": "1"}, {"sequence": 1.0},
        {"sequence": 2**63, "reading_id": f"00000000000000cc-{2**63}"}, {"reading_id": "cc-1"}, {"gateway_id": "a/b"},
        {"reading_id": "00000000000000cc-01"}, {"gateway_id": None}, {"sensor_id": ""},
        {"timestamp": "2025-07-15 10:00:00"}, {"schema_version": "1"},
        {"schema_version": 2}, {"gap_reason": "evicted"}, {"gap_readings_lost": -1},
    )),
    json.dumps({name: value for name, value in GOOD.items() if name != "heart_rate"}),
]  # fmt: skip


class Cloud:
    """The stand-in, a stream of four shards on it, and the workers that read it."""

    def __init__(self, folder):
        self.folder, self.port = folder, aws.free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = (folder / "server.log").open("w")
        command = [sys.executable, "-B", HERE / "stream_server.py", str(self.port)]
        self.server = subprocess.Popen(command, stdout=self.log, stderr=self.log)
        wait_for(self.answers)
        self.kinesis, self.dynamodb = self.client("kinesis"), self.client("dynamodb")
        self.kinesis.create_stream(StreamName=STREAM, ShardCount=4)
        self.environment = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "AWS_ENDPOINT_URL": self.url, "AWS_REGION": aws.REGION,
            "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test",
        }  # fmt: skip
        self.workers = []

    def client(self, service):
        keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
        return botocore.session.get_session().create_client(service, aws.REGION, endpoint_url=self.url, **keys)

    def answers(self):
        try:
            return urllib.request.urlopen(f"{self.url}/moto-api/data.json", timeout=5).status == 200
        except OSError:
            return False

    def consumer(self, *words):
        """Its command line; moto does not know CBOR, which the SDK speaks to Kinesis unless told otherwise."""
        return [*JAVA, "-Daws.cborEnabled=false", "-jar", JAR, *map(str, words)]

    def work(self, name, *options):
        worker = Worker(self, name, options)
        self.workers.append(worker)
        return worker

    def ledger(self):
        """A row for each queue, and how many lines were foreign; or what it says instead."""
        run = subprocess.run(self.consumer("ledger"), env=self.environment, capture_output=True, text=True, timeout=60)
        if run.returncode:
            return run.stderr
        *rows, last = map(json.loads, run.stdout.splitlines())
        return {(row.pop("gateway_id"), row.pop("epoch")): row for row in rows}, last["foreign_lines"]

    def asked(self):
        """The actions that the workers needed."""
        log = (self.folder / "server.log").read_text()
        found = re.findall(r"(Kinesis|DynamoDB)_\d{8}\.(\w+) by aws-sdk-java", log)
        return {f"{service.lower()}:{action}" for service, action in found}

    def put(self, records):
        for at in range(0, len(records), PUT_MAX):
            entries = [{"Data": data, "PartitionKey": str(random.random())} for data in records[at : at + PUT_MAX]]
            assert self.kinesis.put_records(StreamName=STREAM, Records=entries)["FailedRecordCount"] == 0

    def split(self, shard):
        shards = self.kinesis.list_shards(StreamName=STREAM)["Shards"]
        hashes = next(one["HashKeyRange"] for one in shards if one["ShardId"] == shard)
        middle = (int(hashes["StartingHashKey"]) + int(hashes["EndingHashKey"])) // 2
        self.kinesis.split_shard(StreamName=STREAM, ShardToSplit=shard, NewStartingHashKey=str(middle))

    def close(self):
        for process in [worker.process for worker in self.workers] + [self.server]:
            process.kill()
            process.wait()
        self.log.close()


class Worker:
    """A running consumer and what it said."""

    def __init__(self, cloud, name, options):
        self.path = cloud.folder / f"{name}.log"
        words = cloud.consumer("run", "--stream", STREAM, "--worker", name, "--failover", FAILOVER_S, *options)
        with self.path.open("w") as log:
            self.process = subprocess.Popen(words, env=cloud.environment, stdout=log, stderr=log)

    def said(self, pattern):
        return re.findall(pattern, self.path.read_text())

    def taken(self):
        return sum(map(int, self.said(r"lines taken; \S+ new=(\d+)")))

    def again(self):
        return sum(map(int, self.said(r"lines taken; .* again=(\d+)")))

    def shards(self):
        return self.said(r"shard taken over; shard=(\S+)")

    def end(self):
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=60)


def wait_for(state):
    end = time.monotonic() + WAIT_S_MAX
    while not (value := state()):
        assert time.monotonic() < end, f"not so after {WAIT_S_MAX} s"
        time.sleep(0.2)
    return value


class Sent:
    """Two gateways, and what the ledger has to say of all that they sent."""

    def __init__(self):
        self.random = random.Random(7)
        self.gateways = [fleet.Gateway("living-room", "00000000000000aa"), fleet.Gateway("attic", "00000000000000bb")]
        for gateway in self.gateways:
            gateway.sequence = 1
        self.time = datetime(2025, 7, 15, 10, tzinfo=UTC)
        self.foreign = 0

    def records(self, lines):
        """So many lines of each gateway, in records of twelve; every tenth record twice, and all that is foreign."""
        packed = []
        for gateway in self.gateways:
            first = len(gateway.lines)
            for _ in range(lines - 1):
                self.time += timedelta(seconds=1)
                gateway.line("strap", self.time, heart_rate=60)
            gateway.lose(5)
            gateway.gap("strap", self.time, self.time, "evicted", lost=5)
            new = gateway.lines[first:]
            packed += ["\n".join(map(json.dumps, new[at : at + 12])) for at in range(0, len(new), 12)]
        packed += self.random.sample(packed, len(packed) // 10)
        packed = [text + "\n" for text in packed]
        for line in FOREIGN:
            packed[self.random.randrange(len(packed))] += line + "\n"
        self.foreign += len(FOREIGN)
        self.random.shuffle(packed)
        return [text.encode() for text in packed]

    def ledger(self):
        rows = {}
        for gateway in self.gateways:
            lost = sum(line.get("gap_readings_lost", 0) for line in gateway.lines)
            rows[gateway.name, gateway.epoch] = {
                "sequences": len(gateway.lines), "first_sequence": 1, "last_sequence": gateway.sequence - 1,
                "missing": lost, "lost": lost, "unexplained": 0,
            }  # fmt: skip
        return rows, self.foreign


def policy(**parameters):
    """What policy.yaml allows with these parameters."""
    template = cfn.parsed(POLICY.read_text())
    document = cfn.resolved(template, template["Resources"]["ConsumerPolicy"]["Properties"]["PolicyDocument"], **parameters)
    return {action for statement in document["Statement"] for action in listed(statement["Action"])}


def listed(value):
    return [value] if isinstance(value, str) else value


@pytest.fixture
def cloud(tmp_path):
    stream = Cloud(tmp_path)
    yield stream
    stream.close()


def test_a_worker_that_is_killed_before_its_checkpoint_changes_no_count(cloud):
    sent = Sent()
    one = cloud.work("one", "--checkpoint-every", LATE)
    wait_for(lambda: len(one.shards()) == 4)
    two = cloud.work("two", "--checkpoint-every", LATE)
    wait_for(two.shards)
    cloud.put(sent.records(2000))
    wait_for(one.taken)
    one.process.kill()
    cloud.put(sent.records(2000))
    left = set(one.shards())
    wait_for(lambda: left <= set(two.shards()))
    wait_for(lambda: cloud.ledger() == sent.ledger())
    assert two.again() > 0, "nothing was delivered twice"


def test_shards_that_move_or_split_change_no_count(cloud):
    sent = Sent()
    two = cloud.work("two")
    wait_for(lambda: len(two.shards()) == 4)
    cloud.put(sent.records(1000))
    three = cloud.work("three")
    moved = wait_for(three.shards)
    cloud.split("shardId-000000000000")
    cloud.put(sent.records(2000))
    wait_for(lambda: cloud.ledger() == sent.ledger())
    assert {"shardId-000000000004", "shardId-000000000005"} <= {*two.shards(), *three.shards()}
    assert two.end() == three.end() == 0
    assert set(moved) <= set(two.shards()), "a shard went from a living worker to another one"

    # Their ends were checkpointed: what begins now reads nothing again, and the count stays.
    four = cloud.work("four")
    wait_for(lambda: len(four.shards()) >= 5)
    cloud.put(sent.records(100))
    wait_for(lambda: cloud.ledger() == sent.ledger())
    assert four.taken() == 200 and four.again() < 50
    assert cloud.asked() == policy(StreamArn="stream", FanOut="no", Metrics="no")


def test_fan_out_reads_the_same_and_follows_a_split(cloud):
    sent = Sent()
    cloud.put(sent.records(1000))
    worker = cloud.work("one", "--fan-out")
    wait_for(lambda: cloud.ledger() == sent.ledger())
    arn = cloud.kinesis.describe_stream(StreamName=STREAM)["StreamDescription"]["StreamARN"]
    consumers = cloud.kinesis.list_stream_consumers(StreamARN=arn)
    assert [one["ConsumerName"] for one in consumers["Consumers"]] == ["hr-consumer"]
    cloud.split("shardId-000000000003")
    cloud.put(sent.records(1000))
    wait_for(lambda: cloud.ledger() == sent.ledger())
    assert {"shardId-000000000004", "shardId-000000000005"} <= set(worker.shards())
    assert worker.end() == 0
    assert cloud.asked() == policy(StreamArn="stream", FanOut="yes", Metrics="no")


def test_what_cannot_be_written_ends_the_worker_and_comes_again(cloud):
    sent = Sent()
    worker = cloud.work("one", "--checkpoint-every", 1)
    wait_for(lambda: len(worker.shards()) == 4)
    cloud.dynamodb.delete_table(TableName="hr-consumer-ledger")
    cloud.put(sent.records(500))
    assert worker.process.wait(timeout=60) == 3
    assert "batch not taken" in worker.path.read_text()
    cloud.work("two")
    wait_for(lambda: cloud.ledger() == sent.ledger())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ([], {"lease_table": "hr-consumer", "retrieval": "PollingConfig", "metrics": "NullMetricsFactory",
              "failover_ms": 10_000, "leader_lease_ms": 30_000}),
        (["--fan-out", "--metrics", "--failover", "2", "--application", "mine"],
         {"lease_table": "mine", "retrieval": "FanOutConfig", "metrics": "CloudWatchMetricsFactory",
          "failover_ms": 2000, "leader_lease_ms": 6000}),
    ],
)  # fmt: skip
def test_the_options_choose_how_the_stream_is_read(options, expected):
    environment = {"PATH": os.environ["PATH"], "AWS_REGION": aws.REGION}
    words = [*JAVA, "-jar", JAR, "show", "--stream", STREAM, *options]
    run = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert json.loads(run.stdout) == {"stream": STREAM} | expected


@pytest.mark.parametrize("words", [[], ["run"], ["run", "--stream"], ["run", "--stream", "a", "--failover", "0"]])
def test_a_wrong_command_line_is_answered_with_the_usage(words):
    run = subprocess.run([*JAVA, "-jar", JAR, *words], capture_output=True, text=True)
    assert run.returncode == 2 and "Usage: consumer run|show" in run.stderr
