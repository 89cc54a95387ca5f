"""App events on their way: onto a stream of moto's through refusals, and through the template's delivery into a lake.

Firehose's part is played by pyarrow, Athena's by DuckDB: partition, schema and format are the events template's own.
"""

import base64
import collections
import json
import re
import sys

import duckdb
import pytest

import fleet
import lake
import template as cfn

sys.path.insert(0, str(cfn.CLOUD / "lib"))
import app_events  # noqa: E402

STREAM = "hr-app-events"
FROM_THE_LAKE = {
    "Bucket": "the-lake", "KeyArn": "arn:aws:kms:ap-south-1:111122223333:key/one", "DatabaseName": "hr_data",
    "TopicArn": "arn:aws:sns:ap-south-1:111122223333:topic", "FirstDay": "2025-06-01",
}
REFUSING = '''
def answer(words):
    """Of each group of records every third is refused, until it comes for the third time. Each call's size is noted."""
    if words[:2] != ["kinesis", "put-records"]:
        return None
    place = words.index("--cli-input-json") + 1
    request = json.loads(Path(words[place].removeprefix("file://")).read_text())
    number = len(list(FOLDER.glob("call-*")))
    (FOLDER / f"call-{number}").write_text(str(len(request["Records"])))
    going = [at for at in range(len(request["Records"])) if NEVER is False and (number % 3 == 2 or at % 3 != 0)]
    if not going:
        return json.dumps({"Records": [REFUSED for _ in request["Records"]]})
    given = FOLDER / "request.json"
    given.write_text(json.dumps(request | {"Records": [request["Records"][at] for at in going]}))
    run = subprocess.run([REAL, *words[:place], f"file://{given}", *words[place + 1:]],
                         capture_output=True, text=True, check=True)
    answers = iter(json.loads(run.stdout)["Records"])
    return json.dumps({"Records": [next(answers) if at in going else REFUSED for at in range(len(request["Records"]))]})


REFUSED = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
NEVER = False
'''


@pytest.fixture
def account(server):
    server.reset()
    server.aws("kinesis", "create-stream", "--stream-name", STREAM, "--shard-count", "2")
    return server


def on_stream(account):
    """Each record's shard, partition key and lines."""
    found = []
    for shard in account.aws("kinesis", "list-shards", "--stream-name", STREAM)["Shards"]:
        start = account.aws("kinesis", "get-shard-iterator", "--stream-name", STREAM, "--shard-id", shard["ShardId"],
                            "--shard-iterator-type", "TRIM_HORIZON")["ShardIterator"]
        for one in account.aws("kinesis", "get-records", "--shard-iterator", start)["Records"]:
            found.append((shard["ShardId"], one["PartitionKey"], base64.b64decode(one["Data"]).decode().splitlines()))
    return found


def lines_of(sessions, share="0.02", days=10):
    plan = app_events.planned(sessions, 1, share, "2025-07-01", days)
    return [event.line for event in app_events.events(plan)]


def test_each_line_is_put_once_through_refusals(account, tmp_path):
    refusing = account.with_fake(tmp_path, REFUSING)
    run = account.script("generate-events.sh", "--sessions", "800", "--duplicates", "0.02", "--stream", STREAM,
                         environment=refusing)
    assert run.returncode == 0, run.stderr
    put, lines = on_stream(account), lines_of(800)
    assert collections.Counter(line for *_, pack in put for line in pack) == collections.Counter(lines)
    assert f"{len(lines)} lines on {STREAM}" in run.stderr
    sizes = [int((tmp_path / f"call-{n}").read_text()) for n in range(len(list(tmp_path.glob("call-*"))))]
    assert max(sizes) <= 500 and len(sizes) >= 6
    assert sizes[1] == -(-sizes[0] // 3), "only what was refused is put again"
    for _, key, pack in put:
        assert len(pack) <= lake.RECORD_LINES_MAX
        assert {json.loads(line)["user_id"][:2] for line in pack} == {key}


def test_a_users_events_are_on_one_shard_in_their_order(account):
    run = account.script("generate-events.sh", "--sessions", "300", "--duplicates", "0", "--stream", STREAM)
    assert run.returncode == 0, run.stderr
    shards, order = collections.defaultdict(set), collections.defaultdict(list)
    for shard, _, pack in on_stream(account):
        for line in map(json.loads, pack):
            shards[line["user_id"]].add(shard)
            order[line["user_id"]].append(line["timestamp"])
    assert all(len(found) == 1 for found in shards.values())
    assert len(set.union(*shards.values())) == 2
    assert all(times == sorted(times) for times in order.values())


def test_a_stream_that_never_takes_a_line_is_an_error_that_says_what_arrived(account, tmp_path):
    never = account.with_fake(tmp_path, REFUSING.replace("NEVER = False", "NEVER = True"))
    quick = {"PYTHONPATH": str(tmp_path / "quick")}
    (tmp_path / "quick").mkdir()
    (tmp_path / "quick/sitecustomize.py").write_text("import time\ntime.sleep = lambda seconds: None\n")
    run = account.script("generate-events.sh", "--sessions", "10", "--stream", STREAM, environment=never | quick)
    assert run.returncode == 1
    assert "the stream refused" in run.stderr and f"0 lines are on {STREAM}" in run.stderr
    assert on_stream(account) == []


def test_a_stream_that_is_not_there_is_named(account):
    run = account.script("generate-events.sh", "--sessions", "1", "--stream", "elsewhere")
    assert run.returncode == 1 and "ResourceNotFoundException" in run.stderr
    assert account.script("generate-events.sh", "--stream", "no name").returncode == 2


def test_a_rehearsal_puts_nothing(account):
    run = account.script("generate-events.sh", "--sessions", "20", "--stream", STREAM, "--dry-run")
    assert (run.returncode, run.stdout, on_stream(account)) == (0, "", [])


@pytest.fixture(scope="module")
def delivered(tmp_path_factory):
    """3,000 sessions of ten days, and lines that are no events."""
    root = tmp_path_factory.mktemp("events")
    firehose = lake.Firehose(root, cfn.load("events"), **FROM_THE_LAKE)
    lines = lines_of(3_000)
    for start in range(0, len(lines), 10_000):
        buffer = lines[start:start + 10_000]
        firehose.deliver("\n".join(buffer[at:at + 100]).encode() for at in range(0, len(buffer), 100))
    assert not firehose.refused
    return root, firehose, [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def duck(delivered):
    connection = duckdb.connect(config={"threads": 1})
    place = f"{delivered[0]}/app_events/*/*/*.parquet"
    connection.execute(f"CREATE VIEW app_events AS SELECT * FROM read_parquet('{place}', "
                       "hive_partitioning = true, hive_types = {'date': VARCHAR, 'event_name': VARCHAR})")
    return connection


def saved(name):
    template = cfn.load("events")
    return cfn.resolved(template, template["Resources"][name]["Properties"]["QueryString"], **FROM_THE_LAKE)


def test_events_lie_by_name_and_day_where_projection_looks(delivered):
    root, _, lines = delivered
    template = cfn.load("events")
    table = cfn.resolved(template, template["Resources"]["Table"]["Properties"]["TableInput"], **FROM_THE_LAKE)
    place = table["Parameters"]["storage.location.template"].replace("s3://the-lake/", "")
    looked_for = {place.replace("${event_name}", name).replace("${date}", f"2025-07-{day:02}")
                  for name in table["Parameters"]["projection.event_name.values"].split(",") for day in range(1, 12)}
    found = {f"{path.parent.relative_to(root)}/" for path in root.glob("app_events/*/*/*.parquet")}
    assert found <= looked_for
    assert len(found) == len({(line["event_name"], line["timestamp"][:10]) for line in lines})
    partitions = {key["Name"] for key in table["PartitionKeys"]}
    fields = [name for name in lines[0] if name not in partitions]
    assert [column["Name"] for column in table["StorageDescriptor"]["Columns"]] == fields


def test_a_query_by_name_and_day_answers_as_python_counts(delivered, duck):
    counts, events, users = collections.Counter(), collections.defaultdict(set), collections.defaultdict(set)
    for line in delivered[2]:
        key = line["event_name"], line["timestamp"][:10]
        counts[key] += 1
        events[key].add(line["event_id"])
        users[key].add(line["user_id"])
    truth = [(name, day, len(events[name, day]), counts[name, day], len(users[name, day]))
             for name, day in sorted(counts, key=lambda key: key[::-1]) if day <= "2025-07-10"]
    assert duck.execute(lake.Duck.transpiled(saved("EventCounts"))).fetchall() == truth
    assert sum(row[3] - row[2] for row in truth) > 0, "some came twice"
    name, day = "live_opened", "2025-07-05"
    one = duck.execute("SELECT count(DISTINCT event_id) FROM app_events WHERE event_name = ? AND date = ?", [name, day])
    assert one.fetchone() == (len(events[name, day]),)


def test_a_query_finds_the_chains_transitions(delivered, duck):
    followed, left = collections.Counter(), collections.Counter()
    sessions = collections.defaultdict(dict)
    for line in delivered[2]:
        sessions[line["session_id"]][line["position"]] = line["event_name"]
    for session in sessions.values():
        names = [session[position] for position in sorted(session)]
        followed.update(zip(names, names[1:]))
        left.update(names[:-1])
    rows = duck.execute(lake.Duck.transpiled(saved("EventTransitions"))).fetchall()
    assert {(name, follower): times for name, follower, times, _ in rows} == dict(followed)
    for name, follower, times, per_cent in rows:
        assert float(per_cent) == pytest.approx(100 * times / left[name], abs=0.006)
        assert float(per_cent) == pytest.approx(app_events.TRANSITIONS[name][follower], abs=3)


def test_what_is_no_event_lands_apart(tmp_path):
    firehose = lake.Firehose(tmp_path, cfn.load("events"), **FROM_THE_LAKE)
    good = json.loads(lines_of(1)[0])
    bad = [
        good | {"event_name": "unheard_of"}, good | {"event_name": None}, good | {"event_name": ["session_start"]},
        good | {"event_id": ""}, good | {"user_id": 7}, good | {"timestamp": "2025-07-01 00:00:00"},
        good | {"timestamp": "2025-02-30T00:00:00.000Z"}, good | {"timestamp": "2025-07-01T00:00:00.00Z0"},
        {key: value for key, value in good.items() if key != "session_id"}, good | {"position": "first"},
    ]
    old = good | {"timestamp": "1970-01-01T00:00:00.000Z"}
    firehose.deliver([fleet.as_record([good, *bad, old])])
    assert firehose.refused == bad
    days = {path.parent.name for path in tmp_path.glob("app_events/*/*/*.parquet")}
    assert days == {f"date={good['timestamp'][:10]}", "date=2025-06-01"}


def test_nothing_of_the_events_is_where_readings_are_replayed_from():
    """replay.sh takes all below errors/, and its stream is the readings'."""
    template = cfn.load("events")
    settings = cfn.resolved(template, template["Resources"]["Delivery"]["Properties"], **FROM_THE_LAKE)
    place = settings["ExtendedS3DestinationConfiguration"]["ErrorOutputPrefix"]
    assert not place.startswith("errors/") and place.startswith("app_events_errors/")
    role = json.dumps(template["Resources"]["DeliveryRole"])
    assert set(re.findall(r"\$\{Prefix\}(\w+)/", role)) == {"app_events", "app_events_errors"}
