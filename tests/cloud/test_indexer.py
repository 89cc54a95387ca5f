"""The indexer's real binary against a real OpenSearch: one document per reading, whatever happens on the way."""

import json
import random
import subprocess
import time
from datetime import datetime
from urllib.parse import urlsplit

import botocore.auth
import botocore.awsrequest
import botocore.credentials
import pytest

import fleet
from indexing import binary, documents, holds_just, index, indexer, node, readings, summary  # noqa: F401
from proxy import Proxy
from runtime_api import ROOT, SHARD, Indexer, InvocationError, NotStarted, event, failures, sequence_number

NOWHERE = "http://127.0.0.1:9"  # The port of "discard": nobody listens.


def test_each_line_of_a_fleet_is_one_document_that_says_the_same(indexer, index):
    lines = fleet.small_fleet()
    *lines, undated = (line for line in lines if line["timestamp"] < "2025-08")
    lines = [*lines[:6000], undated]
    assert any("gap_reason" in line for line in lines)
    assert indexer.invoke(event(fleet.records(lines))) == {"batchItemFailures": []}
    holds_just(index, lines)
    assert summary(indexer)["indexed"] == summary(indexer)["lines"] == len(lines)


def test_an_index_holds_a_month_and_what_has_no_year_is_undated(indexer, index):
    gateway = fleet.Gateway("gym", "00000000000000bb")
    times = {"2025-07-31T23:59:59.999+00:00": "2025.07", "2025-08-01T00:00:00.000+00:00": "2025.08",
             "2019-12-31T23:59:59.999+00:00": "undated", "2020-01-01T00:00:00.000+00:00": "2020.01",
             "1970-01-01T00:00:00.000+00:00": "undated", "2099-12-31T23:59:59.999+00:00": "2099.12",
             "2100-01-01T00:00:00.000+00:00": "undated"}
    lines = [gateway.line("bike", datetime.fromisoformat(time_), heart_rate=90) for time_ in times]
    assert indexer.invoke(event([fleet.as_record(lines)])) == {"batchItemFailures": []}
    holds_just(index, lines)
    found = documents(index)
    assert [found[line["reading_id"]][0] for line in lines] == [f"hr-readings-{month}" for month in times.values()]
    assert {name for name, _ in documents(index, "hr-minutes-*").values()} == {
        f"hr-minutes-{month}" for month in times.values()}


def test_copies_in_a_batch_and_in_later_batches_are_one_document(indexer, index):
    lines = readings(300)
    batch = event([*fleet.records(lines), *fleet.records(lines[100:]), b"\n\r\n" + fleet.as_record(lines[:50])])
    for _ in range(3):
        assert indexer.invoke(batch) == {"batchItemFailures": []}
        told = summary(indexer)
        assert (told["lines"], told["indexed"], told["repeated"]) == (550, 300, 250)
    holds_just(index, lines)


def test_the_later_copy_wins(indexer, index):
    line, = readings(1)
    corrected = line | {"timestamp": "2025-07-15T18:00:00.000Z", "clock": "corrected"}
    indexer.invoke(event([fleet.as_record([line, corrected])]))
    holds_just(index, [corrected])
    indexer.invoke(event([fleet.as_record([line])]))
    holds_just(index, [line])


def test_a_poisoned_line_is_set_aside_and_blocks_nothing(indexer, index):
    lines = readings(60)
    good = [fleet.as_record(lines[first:first + 10]) for first in range(0, 60, 10)]
    base = lines[0] | {"reading_id": "poison", "sensor_id": "poisoned-sensor"}
    ruined = [
        b"{", b"[]", b'"heart_rate"', b"null",
        json.dumps(base | {"heart_rate": "fast"}).encode(), json.dumps(base | {"heart_rate": 70000}).encode(),
        json.dumps(base | {"schema_version": 2}).encode(), json.dumps(base | {"timestamp": "2025-07-15 17:10"}).encode(),
        json.dumps(base | {"reading_id": "x" * 513}).encode(), json.dumps(base | {"reading_id": ""}).encode(),
        json.dumps(base | {"sensor_id": "no name"}).encode(), json.dumps(base | {"gap_reason": "link_down"}).encode(),
        json.dumps({name: value for name, value in base.items() if name != "sequence"}).encode(),
        json.dumps(base | {"heart_rate": 40000}).encode(),  # OpenSearch's `short` does not take it.
    ]
    good[2] += b"\n".join(ruined[:7]) + b"\n"
    good[4] = b"\n".join(ruined[7:]) + b"\n" + good[4]
    batch = event([*good, b"\xff" + good[0], b""])
    batch["Records"].insert(3, json.loads(json.dumps(batch["Records"][0])))
    batch["Records"][3]["kinesis"] |= {"data": "&&&", "sequenceNumber": "777"}
    assert indexer.invoke(batch) == {"batchItemFailures": []}
    holds_just(index, lines)
    set_aside = [line for line in indexer.log().splitlines() if "line set aside" in line]
    told = summary(indexer)
    assert len(set_aside) == told["set_aside"] == len(ruined) + 2
    assert told["lines"] == told["indexed"] + told["set_aside"] + told["repeated"] + told["failed"]
    places = [(number, line) for number, first in ((2, 11), (4, 1)) for line in range(first, first + 7)]
    for number, line in places:
        expected = f'shard="{SHARD}" sequence_number="{sequence_number(number)}" line={line} lines=1 reason='
        assert any(expected in entry for entry in set_aside), (expected, set_aside)
    assert any('sequence_number="777" lines=1 reason="the record is not base64"' in entry for entry in set_aside)
    for secret in ("poison", "40000", "70000", "fast", "forerunner", "living-room", "xxx", "00000000000000aa", "AKID", "not-a-"):
        assert secret not in indexer.log()


def test_lines_beyond_what_a_record_may_hold_are_set_aside(indexer, index):
    lines = readings(510)
    assert indexer.invoke(event([fleet.as_record(lines)])) == {"batchItemFailures": []}
    holds_just(index, lines[:500])
    assert "line=501 lines=10 reason=" in indexer.log() and summary(indexer)["set_aside"] == 10


def test_items_that_are_throttled_once_are_tried_again_alone(binary, index):
    lines, told = readings(400), []

    def script(call):
        if call.path.startswith("/_bulk"):
            told.append(len(call.operations()))
            return list(range(0, 400, 7)) if len(told) == 1 else None

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        assert indexer.invoke(event(fleet.records(lines), state={}))["batchItemFailures"] == []
    assert told == [400, 58]
    holds_just(index, lines)


def test_records_with_items_that_stay_throttled_are_reported_and_the_others_are_not(binary, index):
    lines = readings(200)
    stuck = {lines[45]["reading_id"], lines[46]["reading_id"], lines[199]["reading_id"]}

    def script(call):
        ids = [json.loads(lines.splitlines()[0]) for lines in call.operations()] if "_bulk" in call.path else []
        return [place for place, action in enumerate(ids) if action.get("index", {}).get("_id") in stuck]

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        began = time.monotonic()
        assert failures(indexer.invoke(event(fleet.records(lines)), timeout_s=6)) == [2, 9]
        assert time.monotonic() - began < 6
        holds_just(index, [line for line in lines if line["reading_id"] not in stuck])
        assert summary(indexer)["failed"] == 3
        stuck.clear()
        retried = list(fleet.records(lines))[2:]
        assert indexer.invoke(event(retried, first=2)) == {"batchItemFailures": []}
    holds_just(index, lines)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_calls_that_fail_as_a_whole_are_made_again(binary, index, status):
    lines, told = readings(100), []

    def script(call):
        told.append(call.path)
        return status if len(told) <= 3 else None

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        assert indexer.invoke(event(fleet.records(lines))) == {"batchItemFailures": []}
    holds_just(index, lines)


@pytest.mark.parametrize("status", [400, 401, 403, 404])
def test_a_call_that_needs_a_person_reports_all_records_at_once(binary, index, status):
    with Proxy(index.url, lambda call: status) as proxy, Indexer(binary, proxy.url) as indexer:
        began = time.monotonic()
        assert failures(indexer.invoke(event(fleet.records(readings(100)), state={}))) == [0, 1, 2, 3, 4]
        assert time.monotonic() - began < 2 and len(proxy.calls) == 1
        assert f"answered {status}" in indexer.log() and "forerunner" not in indexer.log()


@pytest.mark.parametrize("window", [{}, {"state": {}}])
def test_a_dead_endpoint_reports_all_records_in_time(binary, index, window):
    with Indexer(binary, NOWHERE) as indexer:
        began = time.monotonic()
        assert failures(indexer.invoke(event(fleet.records(readings(100)), **window), timeout_s=6)) == [0, 1, 2, 3, 4]
        assert time.monotonic() - began < 5
        assert "OpenSearch cannot be reached" in indexer.log()


def test_a_slow_endpoint_reports_all_records_in_time(binary, index):
    with Proxy(index.url, lambda call: time.sleep(9) or 503) as proxy, Indexer(binary, proxy.url) as indexer:
        began = time.monotonic()
        assert failures(indexer.invoke(event(fleet.records(readings(100)), state={}), timeout_s=5)) == [0, 1, 2, 3, 4]
        assert 2 < time.monotonic() - began < 4.5
        assert "OpenSearch did not answer in time" in indexer.log()


def test_what_is_no_batch_of_a_stream_is_refused_without_being_quoted(indexer, index):
    foreign = event(fleet.records(readings(1)))
    foreign["Records"][0]["eventSource"] = "aws:sqs"
    named = [{"Records": "forerunner"}, {"Records": [{"body": "forerunner"}]}]
    for payload in ({}, [], "heart_rate of 61 bpm", None, *named, foreign):
        with pytest.raises(InvocationError, match="NotKinesis: .* stream"):
            indexer.invoke(payload)
    assert "forerunner" not in indexer.log() and "bpm" not in indexer.log()
    assert indexer.invoke(event([])) == {"batchItemFailures": []}


def test_a_function_that_is_not_told_its_endpoint_says_so_and_ends(binary):
    with pytest.raises(NotStarted, match="OPENSEARCH_ENDPOINT is not of the form"):
        Indexer(binary, "search.example")


def test_a_batch_of_10000_records_is_indexed_whole(indexer, index):
    lines = readings(10_000)
    repeated = random.Random(5).sample(lines, 500)
    assert indexer.invoke(event(fleet.records(lines, at_most=1), state={}))["batchItemFailures"] == []
    assert indexer.invoke(event(fleet.records(repeated, at_most=1), state={}))["batchItemFailures"] == []
    holds_just(index, lines)
    assert indexer.peak_kib() < 128 * 1024


def test_no_body_of_a_bulk_call_is_larger_than_5_mib(binary, index):
    long = {"rr_intervals_ms": [1000 / 3] * 400}
    lines = [line | long for line in readings(2000)]
    with Proxy(index.url) as proxy, Indexer(binary, proxy.url) as indexer:
        assert indexer.invoke(event(fleet.records(lines, at_most=100), state={}))["batchItemFailures"] == []
        sizes = [len(call.body) for call in proxy.calls]
        assert len(sizes) > 2 and max(sizes) <= 5 * 1024 * 1024
    holds_just(index, lines)


def test_each_call_is_signed_for_the_service_and_with_its_body(binary, index):
    with Proxy(index.url) as proxy, Indexer(binary, proxy.url) as indexer:
        indexer.invoke(event(fleet.records(readings(70))))
        assert {urlsplit(call.path).path.split("/")[-1] for call in proxy.calls} == {"_bulk", "_mget", "_refresh", "_search"}
    credentials = botocore.credentials.Credentials("AKIDEXAMPLE", "not-a-secret", "not-a-token")
    for call in proxy.calls:
        headers = {name.lower(): value for name, value in call.headers.items()}
        scope, signed, signature = headers["authorization"].removeprefix("AWS4-HMAC-SHA256 ").split(", ")
        assert scope.endswith("/eu-central-1/es/aws4_request") and "host" in signed and "x-amz-security-token" in signed
        request = botocore.awsrequest.AWSRequest("POST", f"http://{headers['host']}{call.path}", data=call.body)
        for name in signed.removeprefix("SignedHeaders=").split(";"):
            request.headers[name] = headers[name]
        request.context["timestamp"] = headers["x-amz-date"]
        auth = botocore.auth.SigV4Auth(credentials, "es", "eu-central-1")
        expected = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
        assert signature == f"Signature={expected}"


def test_what_goes_to_aws_is_the_arm64_bootstrap_of_the_zip(index, tmp_path):
    subprocess.run([ROOT / "packaging" / "build-lambda.sh"], check=True)
    package = ROOT / "target" / "lambda" / "hr-indexer.zip"
    subprocess.run(["python3", "-m", "zipfile", "-e", package, tmp_path], check=True)
    bootstrap = tmp_path / "bootstrap"
    bootstrap.chmod(0o755)
    sysroot = ROOT / "target" / "debian" / "sysroot-arm64"
    lines = readings(120)
    with Indexer(bootstrap, index.url, ["qemu-aarch64-static", "-L", str(sysroot)]) as indexer:
        assert indexer.invoke(event(fleet.records(lines)), timeout_s=100) == {"batchItemFailures": []}
    holds_just(index, lines)
    assert len(documents(index, "hr-minutes-*")) == 2
