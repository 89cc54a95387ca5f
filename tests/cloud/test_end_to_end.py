"""All of it at once: the daemon's demo → a Kinesis stream (moto's) → hr-indexer → OpenSearch, and → Parquet → Trino.

The daemon's own ledger is the truth. Then a third of the stream's records is put on it again, as a call does whose
answer was lost, and nothing may come out differently but the count of duplicates.
"""

import json
import subprocess
from collections import Counter
from types import SimpleNamespace

import boto3
import pytest

import aws
import lake
import runtime_api
import template as cfn

STREAM = "hr-kinesis-stream"
SENSORS = 3
BATCH_RECORDS = 10
PLAYED = "20s"


@pytest.fixture(scope="module")
def gateway():
    """The daemon, with the features that the other tests ask for: what they compiled is taken."""
    build = ["cargo", "build", "--quiet", "--locked", "--bin", "hr-gatewayd", "--example", "store"]
    subprocess.run(build, cwd=aws.REPOSITORY, check=True)
    return aws.REPOSITORY / "target" / "debug" / "hr-gatewayd"


@pytest.fixture(scope="module")
def stream(gateway, tmp_path_factory):
    """What the demo left: its ledger, and the stream's records, some of them twice."""
    account = aws.Account(tmp_path_factory.mktemp("moto"))
    try:
        kinesis = boto3.client("kinesis", region_name=aws.REGION, endpoint_url=account.url,
                               aws_access_key_id="test", aws_secret_access_key="test")
        kinesis.create_stream(StreamName=STREAM, ShardCount=2)
        demo = subprocess.run(
            [gateway, "demo", "--quiet", "--sensors", str(SENSORS), "--for", PLAYED, "--kinesis-endpoint", account.url],
            env=account.environment | {
                # moto numbers the records of concurrent calls without a lock, and then overwrites some of them.
                "HR_GATEWAYD_DRAIN__CALLS_IN_FLIGHT_MAX": "1"},
            cwd=tmp_path_factory.mktemp("demo"), capture_output=True, text=True, timeout=120)
        assert demo.returncode == 0, demo.stderr
        first = records(kinesis)
        repeated = first[::3]
        kinesis.put_records(StreamName=STREAM, Records=[
            {"Data": record["Data"], "PartitionKey": record["PartitionKey"]} for record in repeated])
        yield SimpleNamespace(
            ledger=json.loads(demo.stdout.splitlines()[-1]), records=[record["Data"] for record in records(kinesis)],
            repeated=[line for record in repeated for line in record["Data"].splitlines()])
    finally:
        account.close()


def records(kinesis):
    """All of the stream, shard by shard."""
    found = []
    for shard in kinesis.list_shards(StreamName=STREAM)["Shards"]:
        place = kinesis.get_shard_iterator(StreamName=STREAM, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON")
        found += kinesis.get_records(ShardIterator=place["ShardIterator"], Limit=10_000)["Records"]
    return found


@pytest.fixture(scope="module")
def lines(stream):
    """What the gateway wrote, by its id."""
    parsed = (json.loads(line) for record in stream.records for line in record.splitlines())
    return {line["reading_id"]: line for line in parsed}


def test_the_stream_holds_what_the_ledger_says(stream, lines):
    sequences = sorted(line["sequence"] for line in lines.values())
    assert sequences == list(range(1, len(sequences) + 1))
    assert stream.ledger["received"] == stream.ledger["delivered"] == count(lines) > 0
    assert len({line["sensor_id"] for line in lines.values()}) == SENSORS
    assert stream.repeated


def count(lines):
    return sum("heart_rate" in line for line in lines.values())


def test_the_index_holds_each_reading_once_and_its_minutes_are_right(stream, lines, opensearch):
    opensearch.clear()
    subprocess.run([cfn.CLOUD / "opensearch" / "setup.sh", opensearch.url, "--no-retention", "--no-roles", "--no-alerts",
                    "--no-dashboards"], check=True, capture_output=True)
    with runtime_api.Indexer(runtime_api.build(), opensearch.url) as indexer:
        state = {}
        for first in range(0, len(stream.records), BATCH_RECORDS):
            batch = stream.records[first:first + BATCH_RECORDS]
            answer = indexer.invoke(runtime_api.event(batch, first, state=state))
            assert answer["batchItemFailures"] == []
            state = answer["state"]
        indexer.invoke(runtime_api.event([], len(stream.records), state=state, final=True))
    assert opensearch.count("hr-readings-*") == len(lines)
    only_readings = {"query": {"exists": {"field": "heart_rate"}}}
    assert opensearch.post("hr-readings-*/_count", only_readings)["count"] == stream.ledger["delivered"]
    opensearch.post("hr-minutes-*/_refresh")
    hits = opensearch.search("hr-minutes-*", {"size": 1000})["hits"]["hits"]
    minutes = {(hit["_source"]["sensor_id"], hit["_source"]["minute"][:16]): hit["_source"] for hit in hits}
    truth = Counter((line["sensor_id"], line["timestamp"][:16]) for line in lines.values() if "heart_rate" in line)
    assert {key: minute["readings"] for key, minute in minutes.items()} == truth


@pytest.fixture(scope="module")
def trino(stream, tmp_path_factory):
    root = tmp_path_factory.mktemp("lake")
    firehose = lake.Firehose(root)
    half = len(stream.records) // 2
    firehose.deliver(stream.records[:half])
    firehose.deliver(stream.records[half:])
    assert firehose.refused == []
    with lake.Trino(root) as engine:
        yield engine


def test_the_lakes_ledger_balances_and_its_view_holds_each_reading_once(stream, lines, trino):
    days = sorted({line["timestamp"][:10] for line in lines.values()})
    row, = trino.rows(lake.filled("ledger", days[0], days[-1]))
    assert (row["sequences"], row["missing"], row["unexplained"]) == (len(lines), 0, 0)
    assert (row["arrived"], row["duplicates"]) == (len(lines) + len(stream.repeated), len(stream.repeated))
    view, = trino.rows(
        "SELECT count(*) AS readings, count(DISTINCT reading_id) AS ids, sum(cardinality(rr_intervals_ms)) AS intervals "
        f"FROM hr_readings_unique WHERE \"date\" BETWEEN '{days[0]}' AND '{days[-1]}'")
    intervals = sum(len(line.get("rr_intervals_ms", [])) for line in lines.values())
    assert (view["readings"], view["ids"], view["intervals"]) == (stream.ledger["delivered"], stream.ledger["delivered"], intervals)
    assert intervals > 0
