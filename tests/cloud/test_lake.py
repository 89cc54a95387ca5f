"""Every view and named query on a lake as Firehose lays it out, each answer against one computed without SQL."""

from collections import Counter, defaultdict
from datetime import UTC, date, datetime, timedelta
from statistics import fmean
from zoneinfo import ZoneInfo

import pytest

import fleet
import lake
import template as cfn

ALL_DAYS = ["2025-03-01", "2025-10-31"]


def at(line):
    return datetime.fromisoformat(line["timestamp"])


def readings(delivered):
    return [line for line in delivered.lines if "heart_rate" in line]


def query(engine, name, *parameters):
    return engine.rows(lake.filled(name, *parameters))


def naive(value):
    """A time without zone, as either engine answers it."""
    return value if isinstance(value, datetime) else datetime.fromisoformat(value)


def test_a_late_reading_lies_on_the_day_it_was_measured(delivered):
    days = {path.parent.name for path in delivered.root.glob("heart_rate_data/*/*.parquet")}
    assert days == {f"date={max(line['timestamp'][:10], '2025-03-01')}" for line in delivered.lines}


def test_a_line_that_does_not_fit_the_table_is_refused_alone(delivered):
    assert delivered.firehose.refused == [delivered.poison]


def test_unique_readings_are_each_reading_once_and_whole(engine, delivered):
    rows = engine.rows('SELECT * FROM hr_readings_unique ORDER BY reading_id')
    truth = sorted(readings(delivered), key=lambda line: line["reading_id"])
    assert [row["reading_id"] for row in rows] == [line["reading_id"] for line in truth]
    for row, line in zip(rows, truth, strict=True):
        assert naive(row["measured_at"]).replace(tzinfo=UTC) == at(line)
        for column in ("heart_rate", "gateway_id", "sensor_id", "session_id", "sequence", "sensor_contact", "clock"):
            assert row[column] == line.get(column), column
    if isinstance(engine, lake.Duck):
        assert [row["rr_intervals_ms"] for row in rows] == [line.get("rr_intervals_ms") for line in truth]


def test_minutes(engine, delivered):
    truth = defaultdict(list)
    for line in readings(delivered):
        truth[line["sensor_id"], at(line).replace(second=0, microsecond=0, tzinfo=None)].append(line["heart_rate"])
    rows = engine.rows('SELECT * FROM hr_minutes')
    assert len(rows) == len(truth)
    for row in rows:
        rates = truth[row["sensor_id"], naive(row["minute"])]
        assert (row["readings"], row["lowest"], row["highest"]) == (len(rates), min(rates), max(rates))
        assert row["mean"] == pytest.approx(fmean(rates))


def test_sessions_are_whole_across_midnight(engine, delivered):
    truth = defaultdict(list)
    for line in readings(delivered):
        if line["timestamp"] > "2025":
            truth[line["session_id"], line["sensor_id"]].append(line)
    rows = query(engine, "sessions", "2025-03-02", ALL_DAYS[1])
    assert len(rows) == len(truth)
    assert any(naive(row["began_at"]).date() != naive(row["ended_at"]).date() for row in rows)
    for row in rows:
        lines = truth[row["session_id"], row["sensor_id"]]
        rates = [line["heart_rate"] for line in lines]
        assert (row["readings"], row["lowest"], row["highest"]) == (len(rates), min(rates), max(rates))
        assert row["mean"] == pytest.approx(fmean(rates))
        assert naive(row["began_at"]).replace(tzinfo=UTC) == min(map(at, lines))
        assert naive(row["ended_at"]).replace(tzinfo=UTC) == max(map(at, lines))


@pytest.mark.parametrize(
    ("zone", "begin", "end", "hours"),
    [
        ("Asia/Kolkata", "2025-07-16 05:25", "2025-07-16 05:45", 1 / 3),
        ("Europe/Berlin", "2025-10-26 01:00", "2025-10-26 04:00", 4),  # 02:00 to 03:00 comes twice.
        ("Europe/Berlin", "2025-03-30 01:00", "2025-03-30 04:00", 2),  # 02:00 to 03:00 never comes.
        ("UTC", "2025-07-20 06:00", "2025-07-20 07:00", 1),
    ],
)
def test_range_in_a_window_of_local_time(engine, delivered, zone, begin, end, hours):
    local = [datetime.fromisoformat(time).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC) for time in (begin, end)]
    assert local[1] - local[0] == timedelta(hours=hours)
    truth = defaultdict(list)
    for line in readings(delivered):
        if local[0] <= at(line) < local[1]:
            truth[line["sensor_id"]].append(line)
    rows = query(engine, "heart_rate_range", begin, end, zone)
    assert [row["sensor_id"] for row in rows] == sorted(truth)
    assert rows or not fleet.RECORDINGS.exists()
    for row in rows:
        lines = truth[row["sensor_id"]]
        rates = [line["heart_rate"] for line in lines]
        assert (row["readings"], row["lowest"], row["highest"]) == (len(rates), min(rates), max(rates))
        assert row["difference"] == max(rates) - min(rates)
        assert row["mean"] == pytest.approx(fmean(rates))
        first, last = (f(map(at, lines)).astimezone(ZoneInfo(zone)) for f in (min, max))
        assert row["first_local"] == f"{first:%Y-%m-%d %H:%M:%S}"
        assert row["last_local"] == f"{last:%Y-%m-%d %H:%M:%S}"


def test_zones_count_what_was_measured_and_no_more(engine, delivered):
    sessions = defaultdict(list)
    for line in readings(delivered):
        if "2025-07" < line["timestamp"] < "2025-08":
            sessions[line["sensor_id"], line["session_id"]].append(line)
    truth = Counter()
    for (sensor, _), lines in sessions.items():
        lines.sort(key=lambda line: (at(line), line["sequence"]))
        for line, following in zip(lines, [*lines[1:], None]):
            span = min(5000, round((at(following) - at(line)) / timedelta(milliseconds=1))) if following else 0
            percent = 100 * line["heart_rate"] / 190
            truth[sensor, 1 + sum(percent >= limit for limit in (60, 70, 80, 90))] += span
    rows = query(engine, "zones", "2025-07-01", "2025-07-31", 190)
    assert {(row["sensor_id"], row["zone"]): round(row["seconds"] * 1000) for row in rows} == dict(truth)


def test_resting_rate_is_of_the_local_day(engine, delivered):
    zone = ZoneInfo("Asia/Kolkata")
    minutes = defaultdict(list)
    for line in readings(delivered):
        minutes[line["sensor_id"], at(line).replace(second=0, microsecond=0)].append(line["heart_rate"])
    stretches = defaultdict(list)
    for (sensor, minute), rates in minutes.items():
        stretches[sensor, minute - timedelta(minutes=minute.minute % 5)].append(rates)
    truth = defaultdict(list)
    for (sensor, began), parts in stretches.items():
        day = began.astimezone(zone).date()
        if len(parts) == 5 and date(2025, 7, 15) <= day <= date(2025, 7, 20):
            truth[sensor, day].append((fmean(rate for rates in parts for rate in rates), began))
    rows = query(engine, "resting_rate", "2025-07-15", "2025-07-20", "Asia/Kolkata")
    assert len(rows) == len(truth) > 0
    for row in rows:
        day = row["local_day"] if isinstance(row["local_day"], date) else date.fromisoformat(row["local_day"])
        mean, began = min(truth[row["sensor_id"], day])
        assert row["resting"] == pytest.approx(mean)
        assert naive(row["began_at"]).replace(tzinfo=UTC) == began


def test_gaps(engine, delivered):
    rows = query(engine, "gaps", *ALL_DAYS)
    assert [tuple(row.values()) for row in rows] == [
        ("living-room", "adi", "evicted", 1, 0.0, 0.0, 25),
        ("living-room", "strap", "link_down", 1, 90.0, 90.0, 0),
    ]


def test_the_ledger_says_what_is_missing_and_what_came_twice(engine, delivered):
    rows = {row["gateway_id"]: row for row in query(engine, "ledger", *ALL_DAYS)}
    kept = Counter(line["gateway_id"] for line in delivered.lines)
    assert {gateway: row["sequences"] for gateway, row in rows.items()} == kept
    assert sum(row["arrived"] for row in rows.values()) == len(delivered.lines) + delivered.repeated
    assert sum(row["duplicates"] for row in rows.values()) == delivered.repeated
    assert (rows["living-room"]["missing"], rows["living-room"]["lost"], rows["living-room"]["unexplained"]) == (29, 25, 4)
    assert (rows["gym"]["missing"], rows["gym"]["unexplained"], rows["gym"]["ids_on_several_days"]) == (0, 0, 0)


def test_missing_sequences_are_named(engine, delivered):
    evicted = next(line["sequence"] for line in delivered.lines if line.get("gap_reason") == "evicted")
    rows = query(engine, "missing_sequences", *ALL_DAYS)
    truth = sorted([(1000, 1002, 3), (evicted - 25, evicted - 1, 25), (2000, 2000, 1)])
    assert [(row["first_missing"], row["last_missing"], row["missing"]) for row in rows] == truth


def test_a_clock_that_was_never_set_hides_no_reading(engine):
    rows = engine.rows("SELECT clock, measured_at FROM hr_readings_unique WHERE \"date\" = '2025-03-01'")
    assert [(row["clock"], naive(row["measured_at"]).year) for row in rows] == [("unsynchronized", 1970)]


def blocks(language):
    """The README's examples."""
    return [part.split("```")[0] for part in (cfn.CLOUD / "README.md").read_text().split(f"```{language}\n")[1:]]


def test_the_readmes_example_runs(delivered, duck, tmp_path, monkeypatch):
    (tmp_path / "lake").symlink_to(delivered.root)
    monkeypatch.chdir(tmp_path)
    (statement,) = blocks("sql")
    counts = Counter(line["sensor_id"] for line in readings(delivered))
    assert {row[0]: row[1] for row in duck.connection.execute(statement).fetchall()} == counts


def test_an_id_on_two_days_is_counted(tmp_path):
    gateway = fleet.Gateway("attic", "00000000000000cc")
    line = gateway.line("adi", datetime(2025, 7, 14, 23, 0, tzinfo=UTC), clock="unsynchronized", heart_rate=70)
    firehose = lake.Firehose(tmp_path)
    firehose.deliver([fleet.as_record([line, line | {"timestamp": "2025-07-15T01:00:00.000Z", "clock": "corrected"}])])
    row, = query(lake.Duck(tmp_path), "ledger", *ALL_DAYS)
    assert (row["sequences"], row["duplicates"], row["ids_on_several_days"]) == (1, 1, 1)
