"""replay.sh: what Firehose set aside goes back on the stream, each line once, and only then leaves errors/.

The objects are written here as Firehose documents them (rawData in base64, one document a line). moto's PutRecords
never refuses an entry: where a test needs that, a fake in front of it refuses some and hands on the rest.
"""

import base64
import collections
import gzip
import json

import pytest

import fleet

KEY = "errors/parquet/format-conversion-failed/2026-11-20/hr_firehose-1-2026-11-20-10-00-00-x"
REFUSING = '''
def answer(words):
    """Every second entry is refused, until the fourth call. What each call carried is written down."""
    if words[:2] != ["kinesis", "put-records"]:
        return None
    place = words.index("--cli-input-json") + 1
    request = json.loads(Path(words[place].removeprefix("file://")).read_text())
    number = len(list(FOLDER.glob("call-*")))
    (FOLDER / f"call-{number}").write_text(json.dumps([one["Data"] for one in request["Records"]]))
    accepted = [one for at, one in enumerate(request["Records"]) if number >= 3 or at % 2 == 0]
    given = FOLDER / "request.json"
    given.write_text(json.dumps(request | {"Records": accepted}))
    run = subprocess.run([REAL, *words[:place], f"file://{given}", *words[place + 1:]], capture_output=True, text=True, check=True)
    answers = iter(json.loads(run.stdout)["Records"])
    refused = {"ErrorCode": "ProvisionedThroughputExceededException", "ErrorMessage": "slow down"}
    return json.dumps({"Records": [next(answers) if one in accepted else refused for one in request["Records"]]})
'''


@pytest.fixture
def account(server):
    """A bucket and a stream, and a stack that only says where they are."""
    server.reset()
    server.lake()
    return server


@pytest.fixture(scope="module")
def lines():
    return [json.dumps(line, separators=(",", ":")) for line in fleet.small_fleet()[:600]]


def failed(*records):
    """An object as Firehose writes it."""
    documents = [{"attemptsMade": 1, "arrivalTimestamp": 1763632800000, "errorCode": "DataFormatConversion.MalformedData",
                  "errorMessage": "no", "attemptEndingTimestamp": 1763632900000,
                  "rawData": base64.b64encode(record if isinstance(record, bytes) else record.encode()).decode(),
                  "sequenceNumber": "1", "subSequenceNumber": 0} for record in records]
    return "".join(json.dumps(one) + "\n" for one in documents).encode()


def put(account, key, body):
    file = account.folder / "body"
    file.write_bytes(body)
    account.aws("s3api", "put-object", "--bucket", "lake", "--key", key, "--body", str(file))


def body(account, key):
    file = account.folder / "got"
    account.aws("s3api", "get-object", "--bucket", "lake", "--key", key, str(file))
    return file.read_bytes()


def keys(account):
    return [one["Key"] for one in account.aws("s3api", "list-objects-v2", "--bucket", "lake").get("Contents") or []]


def on_stream(account):
    """Each record's partition key and lines."""
    shard = account.aws("kinesis", "list-shards", "--stream-name", "readings")["Shards"][0]["ShardId"]
    start = account.aws("kinesis", "get-shard-iterator", "--stream-name", "readings", "--shard-id", shard, "--shard-iterator-type", "TRIM_HORIZON")
    records = account.aws("kinesis", "get-records", "--shard-iterator", start["ShardIterator"])["Records"]
    return [(one["PartitionKey"], base64.b64decode(one["Data"]).decode().splitlines()) for one in records]


def test_a_rehearsal_counts_and_touches_nothing(account, lines):
    put(account, KEY, failed(*(line + "\n" for line in lines[:30])))
    run = account.script("replay.sh", "--dry-run")
    assert run.returncode == 0, run.stderr
    assert "30 lines would be sent, 0 objects moved" in run.stdout
    assert (keys(account), on_stream(account)) == ([KEY], [])


def test_each_line_arrives_once_by_its_sensor_and_the_objects_move(account, lines):
    """One document a line, several lines in a document, and a compressed object."""
    other = "errors/raw/delivery-failed/2026-11-20/x.gz"
    put(account, KEY, failed(*(line + "\n" for line in lines[:300])))
    put(account, other, gzip.compress(failed("".join(line + "\n" for line in lines[300:]))))
    run = account.script("replay.sh")
    assert run.returncode == 0, run.stderr
    arrived = on_stream(account)
    assert collections.Counter(line for _, pack in arrived for line in pack) == collections.Counter(lines)
    assert all({json.loads(line)["sensor_id"] for line in pack} == {key} for key, pack in arrived)
    for sensor in {key for key, _ in arrived}:
        sequences = [json.loads(line)["sequence"] for key, pack in arrived if key == sensor for line in pack]
        assert sequences == [json.loads(line)["sequence"] for line in lines if json.loads(line)["sensor_id"] == sensor]
    assert sorted(keys(account)) == sorted([f"replayed/{KEY}", f"replayed/{other}"])
    assert "0 lines sent" in account.script("replay.sh").stdout


def test_what_was_accepted_is_not_sent_again_with_what_was_refused(account, lines, tmp_path):
    put(account, KEY, failed(*(line + "\n" for line in lines)))
    run = account.script("replay.sh", environment=account.with_fake(tmp_path, REFUSING))
    assert run.returncode == 0, run.stderr
    assert collections.Counter(line for _, pack in on_stream(account) for line in pack) == collections.Counter(lines)
    calls = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("call-*"))]
    assert len(calls) >= 3 and calls[1] == calls[0][1::2] and calls[2] == calls[1][1::2]
    assert keys(account) == [f"replayed/{KEY}"]


def test_while_the_stream_refuses_the_object_stays(account, lines, tmp_path):
    put(account, KEY, failed(lines[0] + "\n"))
    never = REFUSING.replace("number >= 3 or at % 2 == 0", "False").replace(
        "run = subprocess.run", "run = None if not accepted else subprocess.run").replace(
        'answers = iter(json.loads(run.stdout)["Records"])', "answers = iter([])")
    quick = account.with_fake(tmp_path, never)
    run = account.script("replay.sh", environment=quick)
    assert run.returncode == 1
    assert "the stream refused 1 records" in run.stderr
    assert (keys(account), on_stream(account)) == ([KEY], [])


def test_what_is_no_reading_stays_and_is_named_without_its_words(account, lines):
    poison = json.dumps(json.loads(lines[1]) | {"heart_rate": "fast"})
    put(account, KEY, failed(lines[0] + "\n", "secret words\n", poison + "\n", b"\xff\xfe\n") + b"not a document\n")
    run = account.script("replay.sh")
    assert run.returncode == 1
    assert [pack for _, pack in on_stream(account)] == [[lines[0]]]
    assert f"left: {KEY}, line 2: 1 lines are no readings" in run.stdout and f"left: {KEY}, line 5: no document" in run.stdout
    assert "secret" not in run.stdout + run.stderr and "fast" not in run.stdout + run.stderr
    assert sorted(keys(account)) == sorted([KEY, f"replayed/{KEY}"])
    assert body(account, f"replayed/{KEY}") == body_of(lines[0])
    # The good one is not sent once more with the next run.
    assert account.script("replay.sh").returncode == 1
    assert len(on_stream(account)) == 1
    # All of it that is text, if asked for.
    account.script("replay.sh", "--all")
    assert [pack for _, pack in on_stream(account)][1:] in ([["secret words", poison]], [["secret words"], [poison]])


def body_of(*lines):
    documents = [json.loads(one) for one in failed(*(line + "\n" for line in lines)).splitlines()]
    return "".join(json.dumps(one, separators=(",", ":")) + "\n" for one in documents).encode()


def test_only_the_error_path_is_replayed(account):
    run = account.script("replay.sh", "--prefix", "raw/")
    assert run.returncode == 2 and "begins with errors/" in run.stderr
