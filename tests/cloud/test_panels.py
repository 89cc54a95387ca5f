"""Each panel's own query against a real OpenSearch; its answers against what the lines come to without one."""

import random
import statistics
from collections import Counter, defaultdict
from datetime import UTC, datetime, timedelta

import pytest

import fleet
import indexed
import panels
from conftest import MISSING
from panels import Panel

EVENING = datetime(2025, 7, 15, 23, 50, tzinfo=UTC)
WINDOWS = {  # Of small_fleet(): what a dashboard may be set to.
    "quarter of an hour": (EVENING, EVENING + timedelta(minutes=15)),
    "across midnight": (EVENING, EVENING + timedelta(minutes=45)),
    "the night the clocks go back": (datetime(2025, 10, 26, tzinfo=UTC), datetime(2025, 10, 26, 3, tzinfo=UTC)),
    "a run": (datetime(2025, 7, 20, 6, tzinfo=UTC), datetime(2025, 7, 20, 7, tzinfo=UTC)),
    "single beats": (datetime(2025, 7, 21, 6, tzinfo=UTC), datetime(2025, 7, 21, 6, 5, tzinfo=UTC)),
}
ALL = (datetime(1969, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, tzinfo=UTC))


@pytest.fixture(scope="module")
def documents(opensearch):
    """What is indexed: some lines never came, the rest took its time."""
    opensearch.clear()
    panels.put_templates(opensearch)
    random_ = random.Random(1)
    lines = [line for line in fleet.small_fleet() if line["gateway_id"] != "living-room" or line["sequence"] not in MISSING]
    made = [indexed.document(line, round(random_.lognormvariate(7, 1))) for line in lines]
    indexed.index(opensearch, made)
    return made


@pytest.fixture(params=WINDOWS)
def window(request):
    return WINDOWS[request.param]


def inside(documents, window, field="timestamp"):
    start, end = map(fleet.written, window)
    return [one for one in documents if start <= one[field] <= end]


def readings(documents, window, field="timestamp"):
    return [one for one in inside(documents, window, field) if "heart_rate" in one]


def by(documents, *fields):
    groups = defaultdict(list)
    for one in documents:
        groups[tuple(one[field] for field in fields) if len(fields) > 1 else one[fields[0]]].append(one)
    return groups


def in_order(documents):
    return sorted(documents, key=lambda one: (one["timestamp"], one["sequence"]))


def test_live_is_the_last_value_of_each_slot(opensearch, documents, window):
    panel = Panel("live", *window)
    slot_ms = {"5s": 5000, "10s": 10_000, "30s": 30_000, "1m": 60_000, "1s": 1000}[
        panel.asked()["aggs"]["sensors"]["aggs"]["times"]["date_histogram"]["interval"]]
    expected = {}
    for one in in_order(readings(documents, window)):
        at = indexed.milliseconds(one["timestamp"])
        expected[one["sensor_id"], at - at % slot_ms] = one["heart_rate"]
    answer = panel.answer(opensearch)
    found = {(sensor["key"], slot["key"]): slot["last"]["hits"]["hits"][0]["_source"]["heart_rate"]
             for sensor in answer for slot in sensor["times"]["buckets"] if slot["doc_count"]}
    assert found == expected
    for sensor in answer:  # Where there was nothing there is a slot without a value: the line breaks.
        times = [slot["key"] for slot in sensor["times"]["buckets"]]
        assert times == list(range(times[0], times[-1] + 1, slot_ms))


def test_a_slot_is_five_seconds_while_the_dashboard_shows_a_quarter_of_an_hour():
    asked = Panel("live", *WINDOWS["quarter of an hour"]).asked()
    assert asked["aggs"]["sensors"]["aggs"]["times"]["date_histogram"]["interval"] == "5s"


def test_range_is_lowest_mean_highest_and_last(opensearch, documents, window):
    found = {sensor["key"]: (sensor["lowest"]["value"], pytest.approx(sensor["mean"]["value"]), sensor["highest"]["value"],
                             sensor["last"]["hits"]["hits"][0]["_source"]["heart_rate"])
             for sensor in Panel("range", *window).answer(opensearch)}
    expected = {}
    for sensor, there in by(in_order(readings(documents, window)), "sensor_id").items():
        rates = [one["heart_rate"] for one in there]
        expected[sensor] = (min(rates), statistics.fmean(rates), max(rates), rates[-1])
    assert found == expected


def minute_means(documents, window):
    groups = by([one | {"minute": one["timestamp"][:16]} for one in documents if "heart_rate" in one], "sensor_id", "minute")
    start, end = (fleet.written(side)[:19] for side in window)
    return {key: statistics.fmean(one["heart_rate"] for one in there)
            for key, there in groups.items() if start <= f"{key[1]}:00" <= end}


def test_zones_are_minutes_by_their_mean(opensearch, documents, window):
    expected = Counter()
    for (sensor, _), mean in minute_means(documents, window).items():
        expected[sensor, sum(mean >= percent * 190 for percent in (0.6, 0.7, 0.8, 0.9)) + 1] += 1
    found = {(sensor["key"], int(zone["key"][0])): zone["doc_count"] for sensor in Panel("zones", *window).answer(opensearch)
             for zone in sensor["zones"]["buckets"] if zone["doc_count"]}
    assert found == expected


def test_sessions_are_those_of_the_range_newest_first(opensearch, documents, window):
    expected = []
    for session, there in by(in_order(readings(documents, window)), "session_id").items():
        rates = [one["heart_rate"] for one in there]
        expected.append((session, there[0]["sensor_id"], indexed.milliseconds(there[0]["timestamp"]),
                         indexed.milliseconds(there[-1]["timestamp"]), len(rates), min(rates), statistics.fmean(rates), max(rates)))
    found = [(one["key"], one["whose"]["buckets"][0]["key"], one["began"]["value"], one["ended"]["value"], one["doc_count"],
              one["lowest"]["value"], pytest.approx(one["average"]["value"]), one["highest"]["value"])
             for one in Panel("sessions", *window).answer(opensearch)]
    assert found == sorted(expected, key=lambda one: -one[2])


def test_the_band_is_the_minutes(opensearch, documents, window):
    rates = by([one | {"minute": one["timestamp"][:16]} for one in documents if "heart_rate" in one], "sensor_id", "minute")
    expected = {(sensor, indexed.milliseconds(f"{minute}:00Z")):
                (min(one["heart_rate"] for one in rates[sensor, minute]), mean, max(one["heart_rate"] for one in rates[sensor, minute]))
                for (sensor, minute), mean in minute_means(documents, window).items()}
    found = {(sensor["key"], slot["key"]): (slot["lowest"]["value"], pytest.approx(slot["mean"]["value"]), slot["highest"]["value"])
             for sensor in Panel("band", *window).answer(opensearch) for slot in sensor["times"]["buckets"]}
    assert found == expected


def test_the_variability_is_each_minutes(opensearch, documents, window):
    start, end = (fleet.written(side)[:19] for side in window)
    expected = {(sensor, indexed.milliseconds(f"{minute}:00Z")): one["rmssd_ms"]
                for (sensor, minute), one in indexed.minutes(documents).items() if "rmssd_ms" in one and start <= f"{minute}:00" <= end}
    found = {(sensor["key"], slot["key"]): pytest.approx(slot["rmssd"]["value"], rel=1e-6)
             for sensor in Panel("hrv", *window).answer(opensearch) for slot in sensor["times"]["buckets"]}
    assert found == expected


def test_the_minutes_variability_is_the_root_of_the_mean_square_of_differences(opensearch, documents):
    """One sensor without a break, so that it can be computed plainly."""
    minute = [one for one in in_order(documents) if one["sensor_id"] == "adi" and one["timestamp"].startswith("2025-07-15T23:55")]
    beats = [rr for one in minute for rr in one.get("rr_intervals_ms", [])]
    plain = statistics.fmean((later - earlier) ** 2 for earlier, later in zip(beats, beats[1:], strict=False)) ** 0.5
    assert len(beats) > 50
    found = {slot["key"]: slot["rmssd"]["value"] for sensor in Panel("hrv", *WINDOWS["quarter of an hour"]).answer(opensearch)
             if sensor["key"] == "adi" for slot in sensor["times"]["buckets"]}
    assert found[indexed.milliseconds("2025-07-15T23:55:00Z")] == pytest.approx(plain, rel=1e-6)


def test_the_age_on_arrival_is_of_what_arrived(opensearch, documents, window):
    expected = by([one for one in readings(documents, window, "indexed_at") if one["clock"] != "unsynchronized"], "gateway_id")
    answer = Panel("lag", *window).answer(opensearch)
    assert [gateway["key"] for gateway in answer] == sorted(expected)
    for gateway in answer:
        ages = sorted(one["lag_ms"] for one in expected[gateway["key"]])
        assert gateway["oldest"]["value"] == ages[-1]
        for percentile in gateway["lag"]["values"]:  # Estimated by OpenSearch: near the place that it should have.
            place = sum(age <= percentile["value"] for age in ages) / len(ages)
            assert place == pytest.approx(percentile["key"] / 100, abs=0.01 + 1 / len(ages))


def test_last_seen_is_when_something_was_measured_and_when_it_came(opensearch, documents, window):
    def newest(there, field):
        return max(indexed.milliseconds(one[field]) for one in there)

    expected = {key: (newest(there, "timestamp"), newest(there, "indexed_at"), len(there))
                for key, there in by(inside(documents, window, "indexed_at"), "gateway_id", "sensor_id").items()}
    found = {(gateway["key"], sensor["key"]): (sensor["measured"]["value"], sensor["arrived"]["value"], sensor["doc_count"])
             for gateway in Panel("last-seen", *window).answer(opensearch) for sensor in gateway["sensors"]["buckets"]}
    assert found == expected


def test_gaps_have_their_durations_and_losses(opensearch, documents):
    window = WINDOWS["across midnight"]
    expected = {key: (sum(indexed.milliseconds(one["gap_end"]) - indexed.milliseconds(one["gap_start"]) for one in there),
                      sum(one.get("gap_readings_lost", 0) for one in there), len(there))
                for key, there in by([one for one in inside(documents, window) if "gap_reason" in one], "gap_reason", "sensor_id").items()}
    assert expected == {("link_down", "strap"): (90_000, 0, 1), ("evicted", "adi"): (0, 25, 1)}
    found = {(reason["key"], sensor["key"]):
                 (sensor["ended"]["value"] - sensor["began"]["value"], sensor["lost"]["value"], sensor["doc_count"])
             for reason in Panel("gaps", *window).answer(opensearch) for sensor in reason["sensors"]["buckets"]}
    assert found == expected


def test_missing_lines_are_found_per_queue(opensearch, documents):
    queues = {}
    for session in Panel("missing", *ALL).answer(opensearch):
        gateway, queue = session["key"][0], session["key"][1].split("-")[0]
        first, last, there, told = queues.get((gateway, queue), (float("inf"), 0, 0, 0))
        queues[gateway, queue] = (min(first, session["first"]["value"]), max(last, session["last"]["value"]),
                                  there + session["doc_count"], told + session["announced"]["value"])
    found = {gateway: (last - first + 1 - there, told) for (gateway, _), (first, last, there, told) in queues.items()}
    assert found == {"living-room": (25 + len(MISSING), 25), "gym": (0, 0)}


@pytest.mark.parametrize("name", panels.NAMES)
def test_a_filter_of_the_dashboard_reaches_the_panel(name):
    asked = Panel(name, *ALL).spec["data"]["url"]["body"]["query"]["bool"]
    assert [place in asked[clause] for place, clause in zip(panels.FILTERS, ("must", "filter", "must_not"), strict=True)] == [True] * 3


@pytest.mark.parametrize("name", panels.NAMES)
def test_a_month_is_not_too_many_buckets(opensearch, documents, name):
    Panel(name, datetime(2025, 7, 1, tzinfo=UTC), datetime(2025, 8, 1, tzinfo=UTC)).answer(opensearch)


@pytest.mark.parametrize("name", panels.NAMES)
def test_the_picture_shows_every_sensor(opensearch, documents, name):
    panel = Panel(name, *WINDOWS["across midnight"])
    answer = panel.answer(opensearch)
    picture = panel.drawn(answer)
    shown = {"gaps": {"link_down", "evicted"}, "lag": {"living-room"}, "missing": {"living-room", "00000000000000aa"},
             "last-seen": {"living-room", "adi", "strap"}}.get(name, {"adi", "strap"})
    assert [word for word in shown if f">{word}<" not in picture] == []
    assert "NaN" not in picture
    assert "undefined" not in picture


@pytest.mark.parametrize("name", panels.NAMES)
def test_a_picture_of_nothing_is_drawn_too(opensearch, documents, name):
    panel = Panel(name, datetime(2025, 1, 1, tzinfo=UTC), datetime(2025, 1, 2, tzinfo=UTC))
    answer = panel.answer(opensearch)
    assert answer == []
    assert panel.drawn(answer).startswith("<svg")
