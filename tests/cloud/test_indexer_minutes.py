"""The minutes' sums of the indexer's real binary: exact, against sums made here, whatever the window went through."""

import math
import random
from datetime import UTC, datetime, timedelta

import pytest

import fleet
from indexing import START, binary, documents, holds_just, index, indexer, node, readings, summary  # noqa: F401
from proxy import Proxy
from runtime_api import Indexer, InvocationError, event, failures

EMPTY = {"minutes": {}}


def seconds(line):
    return datetime.fromisoformat(line["timestamp"]).timestamp()


def beats_of(queue):
    """The successive beats of one queue's lines of a minute, as runs of RR-Intervals that followed each other."""
    runs, ended = [[]], None
    for line in sorted(queue, key=lambda line: line["sequence"]):
        if "gap_reason" in line:
            ended = None
            runs.append([])
        for place, rr in enumerate(line.get("rr_intervals_ms", [])):
            now = (line["session_id"], seconds(line))
            if place == 0 and ended is not None and (ended[0] != now[0] or abs(now[1] - ended[1]) > 3):
                runs.append([])
            if 300 <= rr <= 2000:
                runs[-1].append(rr)
            else:
                runs.append([])
            ended = now
    return runs


def expected_minutes(lines):
    """The documents, computed without the index: the last copy of each line, by sensor and minute."""
    minutes = {}
    for line in {line["reading_id"]: line for line in lines}.values():
        minutes.setdefault((line["sensor_id"], line["timestamp"][:16]), []).append(line)
    found = {}
    for (sensor, minute), lines in minutes.items():
        rates = [line["heart_rate"] for line in lines if "heart_rate" in line]
        if not rates:
            continue
        queues = {}
        for line in lines:
            queues.setdefault((line["gateway_id"], line["reading_id"].split("-")[0]), []).append(line)
        steps = [later - earlier for queue in queues.values() for run in beats_of(queue) for earlier, later in zip(run, run[1:])]
        last = max((line for line in lines if "heart_rate" in line), key=lambda line: (line["timestamp"], line["sequence"]))
        counted = {}
        for line in sorted((line for line in lines if "heart_rate" in line), key=lambda line: line["sequence"]):
            counted.setdefault(line["reading_id"].split("-")[0], []).append(line["sequence"])
        found[f"{sensor}|{minute}Z"] = {
            "minute": f"{minute}:00.000Z", "sensor_id": sensor, "gateway_id": last["gateway_id"], "readings": len(rates),
            "heart_rate_min": min(rates), "heart_rate_mean": sum(rates) / len(rates), "heart_rate_max": max(rates),
            "rr_differences": len(steps),
            "sequences": {queue: [later - earlier for earlier, later in zip([0, *found], found)] for queue, found in counted.items()},
        } | ({"rmssd_ms": math.sqrt(sum(step * step for step in steps) / len(steps))} if steps else {})
    return found


def minutes_are_those_of(index, lines):
    expected = expected_minutes(lines)
    found = documents(index, "hr-minutes-*")
    assert found.keys() == expected.keys()
    for name, document in expected.items():
        month = document["minute"][:7].replace("-", ".") if document["minute"] >= "2020" else "undated"
        exactly = {field: value for field, value in document.items() if not isinstance(value, float)}
        nearly = {field: pytest.approx(value, rel=1e-12) for field, value in document.items() if isinstance(value, float)}
        assert found[name] == (f"hr-minutes-{month}", exactly | nearly)
    return expected


def run_window(indexer, batches, first=0):
    """A window of several invocations; all but the last say what state there is, and the last closes it."""
    state = {}
    for batch in batches:
        records = list(fleet.records(batch))
        answer = indexer.invoke(event(records, first=first, state=state))
        assert answer["batchItemFailures"] == []
        state, first = answer["state"], first + len(records)
    return indexer.invoke(event([], first=first, state=state, final=True))


def test_a_fleet_of_every_trouble_has_exact_minutes(indexer, index):
    lines = [line for line in fleet.small_fleet() if line["timestamp"] < "2025-07-19" or "rr-strap" in line["sensor_id"]]
    lines = [line for line in lines if line["timestamp"] < "1971" or line["timestamp"] > "2025-07"]
    answer = run_window(indexer, [lines[:2000], lines[2000:]])
    assert answer == {"batchItemFailures": [], "state": EMPTY}
    expected = minutes_are_those_of(index, lines)
    assert len(expected) > 80 and sum(document["rr_differences"] for document in expected.values()) > 3000
    assert any(name.endswith("1970-01-01T00:00Z") for name in expected)


def test_late_and_repeated_readings_over_several_invocations_count_once(indexer, index):
    lines = readings(900) + readings(600, sensor="strap", gateway=fleet.Gateway("gym", "00000000000000bb"), seed=2)
    random_ = random.Random(9)
    late = random_.sample(lines, 100)
    punctual = [line for line in lines if line not in late]
    batches = [punctual[:700], punctual[500:1100], punctual[1000:], late, random_.sample(lines, 300)]
    assert run_window(indexer, batches)["state"] == EMPTY
    minutes_are_those_of(index, lines)
    holds_just(index, lines)


def test_before_the_window_ends_there_is_no_sum_and_the_state_is_small(indexer, index):
    answer = indexer.invoke(event(fleet.records(readings(130)), state={}))
    first = int(START.timestamp()) // 60
    assert answer["state"] == {"minutes": {"forerunner": [first, first + 1, first + 2]}}
    assert documents(index, "hr-minutes-*") == {}


def test_a_reading_that_comes_after_its_window_mends_its_minute(indexer, index):
    lines = readings(180)
    run_window(indexer, [lines[:70] + lines[75:]])
    minutes_are_those_of(index, lines[:70] + lines[75:])
    run_window(indexer, [lines[70:75]], first=1000)
    minutes_are_those_of(index, lines)


def test_a_window_that_is_closed_twice_or_early_leaves_the_same(indexer, index):
    lines = readings(200)
    state = indexer.invoke(event(fleet.records(lines[:100]), state={}))["state"]
    last = event(fleet.records(lines[100:]), first=5, state=state, early=True)
    for _ in range(3):
        assert indexer.invoke(last) == {"batchItemFailures": [], "state": EMPTY}
        minutes_are_those_of(index, lines)


def test_without_a_window_minutes_are_summed_at_once(indexer, index):
    lines = readings(200)
    for first in (0, 100):
        indexer.invoke(event(fleet.records(lines[first:first + 100])))
    minutes_are_those_of(index, lines)
    assert summary(indexer)["minutes"] == 3


def test_two_gateways_that_hear_one_sensor_do_not_mix_its_beats(indexer, index):
    here = readings(100)
    there = readings(100, gateway=fleet.Gateway("gym", "00000000000000bb"), seed=2)
    run_window(indexer, [[line for pair in zip(here, there) for line in pair]])
    minutes_are_those_of(index, here + there)


def test_beats_across_silence_a_gap_an_artefact_or_a_session_are_not_successive(indexer, index):
    gateway, lines = fleet.Gateway("living-room", "00000000000000aa"), []

    def read(second, *rr):
        lines.append(gateway.line("forerunner", START + timedelta(seconds=second), heart_rate=70, rr_intervals_ms=list(rr)))

    read(0, 800.0, 810.0)
    read(3, 830.0)  # 10 and 20
    read(6.001, 900.0)  # After silence.
    lines.append(gateway.gap("forerunner", START + timedelta(seconds=6.1), START + timedelta(seconds=7), "no_contact"))
    read(8, 1000.0, 2000.5, 1010.0)  # After a gap, and with an artefact.
    read(9, 1040.0)  # 30
    gateway.session("forerunner")
    read(10, 1100.0, 299.9, 1120.0)
    run_window(indexer, [lines])
    document, = minutes_are_those_of(index, lines).values()
    assert document["rr_differences"] == 3
    assert document["rmssd_ms"] == pytest.approx(math.sqrt((10**2 + 20**2 + 30**2) / 3))


def test_a_minute_that_its_only_reading_has_left_has_no_document(indexer, index):
    line, = readings(1)
    indexer.invoke(event([fleet.as_record([line])]))
    assert len(documents(index, "hr-minutes-*")) == 1
    corrected = line | {"timestamp": "2025-07-15T18:00:00.000Z", "clock": "corrected"}
    state = indexer.invoke(event([fleet.as_record([line])], state={}))["state"]
    indexer.invoke(event([fleet.as_record([corrected])], state=state, final=True))
    minutes_are_those_of(index, [corrected])


def test_a_backlog_of_more_minutes_than_the_state_may_hold_is_summed_at_once(indexer, index):
    gateway = fleet.Gateway("living-room", "00000000000000aa")
    lines = [gateway.line("forerunner", START + timedelta(seconds=30 * step), heart_rate=60 + step % 50) for step in range(4001)]
    answer = indexer.invoke(event(fleet.records(lines[:4000]), state={}))
    assert sum(map(len, answer["state"]["minutes"].values())) == 2000 and documents(index, "hr-minutes-*") == {}
    answer = indexer.invoke(event(fleet.records(lines[4000:]), first=200, state=answer["state"]))
    assert answer == {"batchItemFailures": [], "state": EMPTY}
    minutes_are_those_of(index, lines)


def test_minutes_of_more_readings_than_one_page_are_exact(indexer, index):
    lines = readings(7000)
    assert run_window(indexer, [lines])["state"] == EMPTY
    minutes_are_those_of(index, lines)


@pytest.mark.parametrize("path", ["/_refresh", "/_search", "/_mget"])
@pytest.mark.parametrize("status", [403, 503])
def test_minutes_that_cannot_be_summed_fail_the_invocation_and_its_repetition_is_exact(binary, index, path, status):
    lines, broken = readings(150), True

    def script(call):
        return status if broken and path in call.path else None

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        state = indexer.invoke(event(fleet.records(lines[:100]), state={}))["state"]
        last = event(fleet.records(lines[100:]), first=5, state=state, final=True)
        with pytest.raises(InvocationError, match=f"AggregationError: .*OpenSearch answered {status}"):
            indexer.invoke(last, timeout_s=4)
        broken = False
        assert indexer.invoke(last) == {"batchItemFailures": [], "state": EMPTY}
    minutes_are_those_of(index, lines)


def test_what_the_retention_took_stays_counted_and_late_readings_are_added_once(binary, index):
    lines = readings(120)
    with Indexer(binary, index.url, retention_days=2) as indexer:
        run_window(indexer, [lines[:30]])
        index.delete("hr-readings-2025.07")  # All older than the retention.
        for again in (lines[20:], lines[20:], lines[40:50]):
            run_window(indexer, [again])
            first, second = (documents(index, "hr-minutes-*")[name][1] for name in sorted(expected_minutes(lines)))
            expected, after = expected_minutes(lines).values()
            same = ("readings", "heart_rate_min", "heart_rate_max", "gateway_id", "sequences")
            assert {name: first[name] for name in same} == {name: expected[name] for name in same}
            assert first["heart_rate_mean"] == pytest.approx(expected["heart_rate_mean"], rel=1e-12)
            # What lies between the last beat before and the first after is not known any more.
            assert 0 <= expected["rr_differences"] - first["rr_differences"] <= 1
            assert second == {name: pytest.approx(value, rel=1e-12) if isinstance(value, float) else value for name, value in after.items()}


def test_readings_of_today_are_in_an_index_of_the_day_and_of_a_switch_nothing_is_lost(binary, index):
    now = datetime.now(UTC).replace(second=0, microsecond=0) - timedelta(minutes=2)
    lines = readings(60, start=now)
    day = now.strftime("hr-readings-%Y.%m.%d")
    with Indexer(binary, index.url) as by_month, Indexer(binary, index.url, retention_days=2) as by_day:
        state = by_month.invoke(event(fleet.records(lines[:30]), state={}))["state"]
        by_day.invoke(event(fleet.records(lines[30:] + lines[:5]), first=30, state=state, final=True))
        index.post("hr-readings-*/_refresh")
        assert index.count(day[:-3]) == 30 and index.count(day) == 35
        minutes_are_those_of(index, lines)
        run_window(by_month, [lines[50:]])
        minutes_are_those_of(index, lines)


@pytest.mark.parametrize("there_before", [0, 20])
def test_a_minute_that_another_invocation_wrote_meanwhile_is_summed_again(binary, index, there_before):
    here = readings(60)
    with Indexer(binary, index.url) as indexer:
        run_window(indexer, [here[:there_before]])
    there = readings(60, gateway=fleet.Gateway("gym", "00000000000000bb"), seed=2)
    met = []

    def script(call):
        if "_bulk" in call.path and b"hr-minutes" in call.body and not met:
            met.append(call)
            with Indexer(binary, index.url) as other:
                run_window(other, [there])

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        assert run_window(indexer, [here])["state"] == EMPTY
    assert len(met) == 1
    minutes_are_those_of(index, here + there)


def test_after_a_failure_the_minutes_that_will_not_come_again_are_summed(binary, index):
    lines, stuck = readings(240), True
    name = lines[139]["reading_id"].encode()

    def script(call):
        operations = call.operations() if stuck and "_bulk" in call.path else []
        return [place for place, operation in enumerate(operations) if name in operation.splitlines()[0]]

    with Proxy(index.url, script) as proxy, Indexer(binary, proxy.url) as indexer:
        assert failures(indexer.invoke(event(fleet.records(lines), state={}), timeout_s=5)) == [6]
        assert documents(index, "hr-minutes-*").keys() == expected_minutes(lines[:120]).keys()
        stuck = False
        again = event(list(fleet.records(lines))[6:], first=6, state={}, final=True)
        assert indexer.invoke(again) == {"batchItemFailures": [], "state": EMPTY}
    minutes_are_those_of(index, lines)


def test_a_state_of_somebody_else_stops_nothing_and_is_told(indexer, index):
    lines = readings(60)
    answer = indexer.invoke(event(fleet.records(lines), state={"minutes": "many"}, final=True))
    assert answer == {"batchItemFailures": [], "state": EMPTY}
    minutes_are_those_of(index, lines)
    assert "the window's state cannot be read" in indexer.log()
