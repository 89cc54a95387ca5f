"""hr-transform's real binary behind a stub of Lambda's Runtime API, in the place that the transform template gives it.

Firehose's part is played here: it takes records apart, asks the function, and puts what it answers where the template says.
"""

import base64
import gzip
import json
import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import duckdb
import pytest

import fleet
import runtime_api
import template as cfn

START = datetime(2025, 7, 1, 23, 55, tzinfo=UTC)
FOREIGN = [{"timestamp": "2025-07-01 06:00:33", "heart_rate": 70}, {"timestamp": "2025-07-01T06:00:33.000Z", "heart_rate": 70}]


def function(**parameters):
    """Running, with the environment of the template."""
    template = cfn.load("transform")
    variables = template["Resources"]["Transform"]["Properties"]["Environment"]["Variables"]
    variables = {name: str(cfn.resolved(template, value, **parameters)) for name, value in variables.items()}
    return runtime_api.Function(runtime_api.build("hr-transform"), variables)


def batch(lines):
    """What Firehose hands over once it took the records apart: each line in a record of its own, without its end."""
    return {"invocationId": "one", "deliveryStreamArn": "arn:aws:firehose:eu-central-1:123456789012:deliverystream/d", "region": "eu-central-1",
            "records": [{"recordId": str(number), "approximateArrivalTimestamp": 1, "data": base64.b64encode(line.encode()).decode()}
                        for number, line in enumerate(lines)]}


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """Ten minutes over midnight, foreign lines among them."""
    root, gateway = tmp_path_factory.mktemp("transform"), fleet.Gateway("attic", "00000000000000aa")
    random_ = random.Random(3)
    for second in range(600):
        gateway.line("adi", START + timedelta(seconds=second), heart_rate=random_.randrange(60, 200))
    gateway.gap("adi", START, START + timedelta(seconds=5), "link_down")
    lines = [json.dumps(line) for line in gateway.lines]
    sent = lines + [json.dumps(line) for line in FOREIGN]
    random_.shuffle(sent)
    template = cfn.load("transform")
    place = template["Resources"]["Delivery"]["Properties"]["ExtendedS3DestinationConfiguration"]["Prefix"]["Fn::Sub"].replace("${Prefix}", "")
    with function(HighestRate=190, FirstDay="2025-01-01") as running:
        answer = running.invoke(batch(sent))["records"]
        log = running.log()
    objects = {}
    for record in answer:
        if record["result"] == "Ok":
            folder = place.replace("!{partitionKeyFromLambda:date}", record["metadata"]["partitionKeys"]["date"])
            objects.setdefault(folder, []).append(base64.b64decode(record["data"]))
    for folder, parts in objects.items():
        (root / folder).mkdir(parents=True)
        (root / folder / "one.gz").write_bytes(gzip.compress(b"".join(parts)))
    return SimpleNamespace(root=root, gateway=gateway, sent=sent, answer=answer, log=log)


def test_each_line_is_answered_in_its_place_and_the_foreign_ones_are_refused_as_they_came(delivered):
    assert [record["recordId"] for record in delivered.answer] == [str(number) for number in range(len(delivered.sent))]
    refused = [base64.b64decode(record["data"]).decode() for record in delivered.answer if record["result"] == "ProcessingFailed"]
    assert sorted(refused) == sorted(json.dumps(line) for line in FOREIGN)
    assert {record["result"] for record in delivered.answer} == {"Ok", "ProcessingFailed"}


def test_a_day_has_its_lines_with_minute_and_zone(delivered):
    rows = duckdb.sql(f"""SELECT date::VARCHAR AS day, minute, zone, count(*) AS n
        FROM read_json('{delivered.root}/transformed/*/*.gz', format = 'newline_delimited', hive_partitioning = true,
            columns = {{reading_id: 'VARCHAR', minute: 'VARCHAR', zone: 'INTEGER'}})
        GROUP BY ALL""").fetchall()
    expected = Counter()
    for line in delivered.gateway.lines:
        rate = line.get("heart_rate")
        zone = None if rate is None else 1 + sum(100 * rate >= begins * 190 for begins in (60, 70, 80, 90))
        expected[line["timestamp"][:10], line["timestamp"][:16] + ":00.000Z", zone] += 1
    assert {(day, minute, zone): n for day, minute, zone, n in rows} == dict(expected)
    assert {day for day, *_ in rows} == {"2025-07-01", "2025-07-02"}


def test_the_log_counts_and_quotes_nothing(delivered):
    assert "refused=2" in delivered.log and "lines=601" in delivered.log
    assert "adi" not in delivered.log and "00000000000000aa" not in delivered.log


def test_a_function_without_its_environment_says_what_is_missing():
    with pytest.raises(runtime_api.NotStarted, match="HIGHEST_RATE is not"):
        runtime_api.Function(runtime_api.build("hr-transform"), {"HIGHEST_RATE": "999", "FIRST_DAY": "2025-01-01"})


def test_the_table_has_the_lines_fields_and_what_the_function_adds():
    columns = {one["Name"]: one["Type"] for one in
               cfn.load("transform")["Resources"]["Table"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]}
    wire = {one["Name"]: one["Type"] for one in
            cfn.load("lake")["Resources"]["Table"]["Properties"]["TableInput"]["StorageDescriptor"]["Columns"]}
    assert columns == wire | {"minute": "string", "zone": "int"}
