"""The curated table hr_readings in a real Trino: what the merge leaves is one row per reading_id, computed without SQL.

What must hold: the table is the same whatever the order, number and ending of the runs; nothing that landed is missed.
What this cannot tell: where Athena departs from Trino 406. Athena alone knows TBLPROPERTIES, OPTIMIZE and VACUUM: their
text is held against the documented grammar, and Trino's own optimize, expire_snapshots and remove_orphan_files are run.
"""

import itertools
import random
import re
import shutil
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest
import sqlglot

import fleet
import lake
import template as cfn

DOUBT = ["synchronized", "corrected", "unsynchronized"]
TABLE = "iceberg.hr_data.hr_readings"
START = datetime(2025, 7, 1, 6, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ALL_DAYS = {"FIRST_DAY": "0001-01-01", "LAST_DAY": "9999-12-31", "MERGED_UNTIL": ""}


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    with lake.Trino(tmp_path_factory.mktemp("curated"), FirstDay="2025-03-01") as engine:
        yield engine


@pytest.fixture
def place(engine):
    """An empty lake, its delivery, and the curated table as it is when it was just made."""
    shutil.rmtree(engine.root / "heart_rate_data")
    shutil.rmtree(engine.root / "curated", ignore_errors=True)
    (engine.root / "heart_rate_data").mkdir()
    engine.create()
    landed = []

    def deliver(lines, arrived):
        firehose.deliver(fleet.records(lines), arrived)
        landed.extend(lines)

    firehose = lake.Firehose(engine.root, FirstDay="2025-03-01")
    yield SimpleNamespace(deliver=deliver, landed=landed, objects=lambda: sorted(engine.root.glob("heart_rate_data/*/*")))
    engine.ask(f"DROP TABLE {TABLE}")


def worn(start=START, seconds=60, epoch="00000000000000aa", **fields):
    """A sensor worn for so long: its gateway, which has the lines."""
    gateway = fleet.Gateway("attic", epoch)
    for second in range(seconds):
        gateway.line("adi", start + timedelta(seconds=second), heart_rate=60 + second % 40, rr_intervals_ms=[1000.0, 985.3515625], **fields)
    return gateway


def at(text):
    return datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None) if text else None


def truth(lines):
    """One row per id: of the copy whose time is to be trusted most, and of those the earliest."""
    best = {}
    for line in sorted(lines, key=lambda line: (DOUBT.index(line["clock"]), line["timestamp"])):
        best.setdefault(line["reading_id"], line)
    columns = [name for name in lake.curated_columns() if name not in ("copies_day", "landed", "merged_until")]
    times = {"measured_at": "timestamp", "gap_start": "gap_start", "gap_end": "gap_end"}
    return {id_: {name: at(line.get(times[name])) if name in times else line.get(name) for name in columns} for id_, line in best.items()}


def kept(engine):
    rows = {row["reading_id"]: row for row in engine.rows("SELECT * FROM hr_readings")}
    for row in rows.values():
        row.update({name: at(row[name] and f"{row[name]}+00:00") for name in ("measured_at", "gap_start", "gap_end")})
        del row["copies_day"], row["landed"], row["merged_until"]
    return rows


def snapshot(engine):
    """The table's state: a run that changes nothing makes no new one."""
    return engine.rows('SELECT snapshot_id FROM iceberg.hr_data."hr_readings$snapshots" ORDER BY committed_at DESC LIMIT 1')


def check(engine, lines):
    """The table against the lines, and its ledger against the lake's."""
    assert engine.rows("SELECT count(*) AS n FROM hr_readings") == [{"n": len({line["reading_id"] for line in lines})}]
    assert kept(engine) == truth(lines)
    columns = ("gateway_id", "epoch", "sequences", "first_sequence", "last_sequence", "lost")
    ledger = engine.rows(lake.filled("ledger", "2000-01-01", "2999-12-31"))
    assert [{name: row[name] for name in columns} for row in ledger] == engine.rows(
        "SELECT gateway_id, split_part(reading_id, '-', 1) AS epoch, count(*) AS sequences, min(sequence) AS first_sequence, "
        "max(sequence) AS last_sequence, sum(coalesce(gap_readings_lost, 0)) AS lost "
        "FROM hr_readings GROUP BY 1, 2 ORDER BY 1, 2")


def check_another_run_changes_nothing(engine):
    before = snapshot(engine)
    assert engine.merge()["rows"] == [[0]]
    assert engine.merge(days_back=1)["rows"] == [[0]]
    assert snapshot(engine) == before


def test_the_whole_fleet_with_gaps_and_repetitions_is_merged_once(engine, place):
    lines = fleet.small_fleet()
    place.deliver(lines, datetime(2025, 10, 27, tzinfo=UTC))
    assert engine.merge()["rows"] == [[len(lines)]]
    check_another_run_changes_nothing(engine)
    again = random.Random(5).sample(lines, len(lines) // 20)
    place.deliver(again, datetime(2025, 10, 28, tzinfo=UTC))
    engine.merge()
    check(engine, place.landed)
    check_another_run_changes_nothing(engine)
    assert engine.rows("SELECT count(*) AS gaps, max(gap_readings_lost) AS lost FROM hr_readings WHERE gap_reason IS NOT NULL") == [{"gaps": 2, "lost": 25}]


def test_a_late_arrival_on_an_old_day_is_found_by_the_run_over_all_days(engine, place):
    gateway = worn(START)
    place.deliver(gateway.lines[:40], START)
    engine.merge()
    for day in (20, 40):
        place.deliver(worn(START + day * DAY, 5, epoch=f"{day:016x}").lines, START + day * DAY)
        engine.merge()
    place.deliver(gateway.lines[40:], START + 60 * DAY)
    assert engine.merge(days_back=1)["rows"] == [[0]]
    assert engine.merge()["rows"] == [[20]]
    check(engine, place.landed)


def test_an_object_that_appears_after_younger_ones_is_not_missed(engine, place):
    place.deliver(worn(START, epoch="00000000000000aa").lines, START + 10 * HOUR)
    engine.merge()
    place.deliver(worn(START, epoch="00000000000000bb").lines, START)  # Retried for hours, named after its first record.
    engine.merge()
    check(engine, place.landed)


def test_the_order_of_landing_and_merging_does_not_matter(engine, place):
    """Copies of the same readings with other clocks, in each order, a run after each."""
    copies = [("unsynchronized", datetime(2025, 6, 1, tzinfo=UTC)), ("corrected", START), ("corrected", START + timedelta(milliseconds=7))]
    orders = list(itertools.permutations(copies))
    for step in range(len(copies)):
        for n, order in enumerate(orders):
            clock, start = order[step]
            place.deliver(worn(start, 3, epoch=f"{n:016x}", clock=clock).lines, START + DAY + step * HOUR)
        engine.merge()
        assert kept(engine) == truth(place.landed)
    check(engine, place.landed)
    check_another_run_changes_nothing(engine)
    days = engine.rows("SELECT DISTINCT CAST(measured_at AS date) AS day FROM hr_readings")
    assert days == [{"day": "2025-07-01"}], "a corrected reading has left the day of its wrong clock"


def test_the_hourly_run_brings_what_is_young_and_sure_and_leaves_the_rest_to_the_daily(engine, place):
    now = datetime.now(UTC)
    sure, corrected = worn(now - HOUR).lines, worn(now - HOUR, epoch="00000000000000bb", clock="corrected").lines
    old = worn(now - 9 * DAY, epoch="00000000000000cc").lines
    place.deliver([*sure, *corrected, *old], now)
    assert engine.merge(days_back=1)["rows"] == [[len(sure)]]
    assert kept(engine) == truth(sure)
    assert engine.merge(days_back=1)["rows"] == [[0]]
    assert engine.rows("SELECT count(*) AS n FROM hr_readings WHERE merged_until IS NOT NULL") == [{"n": 0}]
    place.deliver(worn(now - 9 * DAY, epoch="00000000000000dd").lines, now - 8 * DAY)
    engine.merge()
    check(engine, place.landed)
    check_another_run_changes_nothing(engine)


def test_the_watermark_moves_though_the_hourly_runs_left_nothing_to_insert(engine, place):
    now = datetime.now(UTC)
    place.deliver(worn(now - HOUR).lines, now)
    engine.merge(days_back=1)
    engine.merge()
    assert engine.rows(f"SELECT max(merged_until) = TIMESTAMP '{now:%Y-%m-%d %H:%M:%S}' AS so FROM hr_readings") == [{"so": True}]
    check(engine, place.landed)


def test_a_run_that_fails_leaves_the_table_as_it_was(engine, place):
    place.deliver(worn(START).lines, START)
    engine.merge()
    before, rows = snapshot(engine), kept(engine)
    place.deliver(worn(START + DAY, epoch="00000000000000bb").lines, START + DAY)
    broken = place.objects()[-1]
    whole = broken.read_bytes()
    place.deliver(worn(START + 2 * DAY, epoch="00000000000000cc").lines, START + 2 * DAY)
    broken.write_bytes(whole[:200] + bytes(len(whole) - 400) + whole[-200:])
    with pytest.raises(lake.Refused):
        engine.merge()
    assert (snapshot(engine), kept(engine)) == (before, rows)
    broken.write_bytes(whole)
    engine.merge()
    check(engine, place.landed)


def test_lines_that_are_no_reading_stay_in_the_lake_and_stop_nothing(engine, place):
    good = worn(START).lines
    nameless = worn(START, 1).lines[0] | {"reading_id": None}
    timeless = worn(START, 1, epoch="00000000000000bb").lines[0] | {"timestamp": "2025-07-01 some time"}
    place.deliver([*good, nameless, timeless], START)
    engine.merge()
    assert kept(engine) == truth(good)


def test_a_lake_older_than_its_table_is_caught_up_with_in_parts_that_athena_can_write(engine, place):
    for day in range(102):
        place.deliver(worn(START + day * DAY, 2, epoch=f"{day:016x}").lines, START + day * DAY)
    with pytest.raises(lake.Refused, match="100 open writers"):
        engine.ask(lake.curated("merge", DAYS_BACK=0, LANDED_AFTER="1970-01-01-00-00-00", LANDED_UNTIL="9999-12-31-00-00-00", **ALL_DAYS))
    rows = engine.merge_all()
    assert sum(rows) == 204 and max(rows) <= 60
    check(engine, place.landed)


def test_a_gateway_that_drains_more_days_than_athena_can_write_is_brought_in_parts(engine, place):
    place.deliver(worn(START, 5).lines, START)
    engine.merge()
    gateway = fleet.Gateway("attic", "00000000000000bb")
    for day in range(130):
        gateway.line("adi", START + (day + 1) * DAY, heart_rate=60)
    place.deliver(gateway.lines, START + 131 * DAY)  # At once.
    # A run that ends after its first round loses nothing: the next one begins again.
    assert engine.merge()["rows"] == [[29]]  # And a day that is there.
    assert engine.merge_all() == [0, 30, 30, 30, 11]
    check(engine, place.landed)
    check_another_run_changes_nothing(engine)


def test_days_whose_readings_all_change_their_clock_are_as_few_as_athena_can_write(engine, place):
    wrong, right, sure = (fleet.Gateway("attic", f"{epoch:016x}") for epoch in (0xbb, 0xbb, 0xcc))
    for day in range(35):
        wrong.line("adi", START + day * DAY, heart_rate=60, clock="unsynchronized")
        right.line("adi", START + (day + 1) * DAY, heart_rate=60, clock="corrected")
        sure.line("adi", START + (day + 1) * DAY, heart_rate=60)
    place.deliver(wrong.lines, START + 90 * DAY)
    engine.merge_all()
    place.deliver(right.lines + sure.lines, START + 91 * DAY)
    engine.merge_all()
    check(engine, place.landed)


def test_a_first_day_that_is_made_earlier_doubles_nothing(engine, place):
    """What lay under it before it was May's is looked at again for a week, and so is what lands in May's own days then."""
    late = lake.Firehose(engine.root, FirstDay="2025-07-01")
    may = worn(datetime(2025, 5, 10, 6, 0, tzinfo=UTC), 5, epoch=f"{1:016x}").lines
    late.deliver(fleet.records(may), datetime(2025, 7, 2, tzinfo=UTC))
    engine.merge_all()
    days = fleet.Gateway("attic", f"{2:016x}")
    for day in range(40):
        days.line("adi", datetime(2025, 5, 25, 6, 0, tzinfo=UTC) + day * DAY, heart_rate=60)
    place.deliver([*days.lines, *may[:2]], datetime(2025, 7, 5, tzinfo=UTC))
    engine.merge_all()
    check(engine, may + days.lines)


def test_the_run_over_all_days_opens_the_days_that_landed_and_the_rows_of_other_clocks(engine, place):
    for day in (0, 60, 120):
        gateway = worn(START + day * DAY, 5, epoch=f"{day:016x}")
        gateway.line("adi", START + day * DAY + HOUR, heart_rate=70, clock="corrected")
        place.deliver(gateway.lines, START + day * DAY)
        engine.merge_all()
    others = [path for path in engine.root.glob("curated/**/*.parquet") if "copies_day=2025-08-30" in str(path)]
    assert len(others) == 1
    others[0].rename(engine.root / "aside")
    place.deliver(worn(START, 8, epoch=f"{0:016x}").lines, START + 180 * DAY)
    engine.ask(lake.curated("merge", DAYS_BACK=0, LANDED_AFTER="2025-12-20-00-00-00", LANDED_UNTIL="2025-12-31-00-00-00",
                            FIRST_DAY="2025-07-01", LAST_DAY="2025-07-01", MERGED_UNTIL=""))
    (engine.root / "aside").rename(others[0])
    check(engine, place.landed)


def test_landings_that_change_nothing_do_not_hold_up_what_comes_after_them(engine, place):
    place.deliver(worn(START, 5).lines, START)
    engine.merge_all()
    place.deliver(worn(START, 5, clock="unsynchronized").lines, START + 10 * DAY)  # Copies with a worse clock.
    place.deliver(worn(START + 50 * DAY, 5, epoch="00000000000000bb").lines, START + 50 * DAY)
    assert engine.merge_all() == [0, 5]
    check(engine, place.landed)
    place.deliver(worn(START + 51 * DAY, 5, epoch="00000000000000cc").lines, START + 51 * DAY)
    engine.merge_all()
    check(engine, place.landed)


def test_a_clock_that_is_ahead_does_not_move_the_watermark_ahead(engine, place):
    now = datetime.now(UTC)
    place.deliver(worn(now + 400 * DAY, 5, epoch="00000000000000cc", clock="unsynchronized").lines, now - 2 * HOUR)
    engine.merge()
    place.deliver(worn(now - HOUR, 5).lines, now - HOUR)
    engine.merge()
    check(engine, place.landed)
    check_another_run_changes_nothing(engine)


def test_what_was_erased_is_gone_and_what_was_rewritten_stays(engine, place):
    gateway = worn(START)
    for second in range(30):
        gateway.line("guest", START + timedelta(seconds=second), heart_rate=99)
    place.deliver(gateway.lines, START)
    engine.merge()
    stay = [line for line in gateway.lines if line["sensor_id"] != "guest"]
    object_, = place.objects()
    rewritten = object_.parent / f"rewritten-{START:%Y-%m-%d-%H-%M-%S}-"
    object_.unlink()
    place.landed.clear()
    place.deliver(stay, START)
    rewritten.mkdir()
    place.objects()[0].rename(rewritten / "20251121_part")
    engine.ask(lake.curated("erase", SENSOR_ID="guest"))
    check(engine, stay)
    engine.ask(f"ALTER TABLE {TABLE} EXECUTE optimize")
    engine.ask(f"ALTER TABLE {TABLE} EXECUTE expire_snapshots(retention_threshold => '0s')")
    engine.ask(f"ALTER TABLE {TABLE} EXECUTE remove_orphan_files(retention_threshold => '0s')")
    check(engine, stay)
    data = [path.read_bytes() for path in engine.root.glob("curated/**/*.parquet")]
    assert data and not any(b"guest" in one for one in data)
    engine.ask("DELETE FROM hr_readings")
    (rewritten / "20251121_part").rename(rewritten.parent / "20251121_part")
    engine.merge()
    assert kept(engine) == {}, "an object without a time in its name is not the merge's"


def test_optimizing_makes_one_file_a_day_and_changes_no_row(engine, place):
    for hour in range(6):
        place.deliver(worn(START + hour * HOUR, 20, epoch=f"{hour:016x}").lines, START + hour * HOUR)
        engine.merge()
    before = kept(engine)
    files = 'SELECT count(*) AS n FROM iceberg.hr_data."hr_readings$files"'
    assert engine.rows(files) == [{"n": 6}]
    engine.ask(f"ALTER TABLE {TABLE} EXECUTE optimize")
    assert engine.rows(files) == [{"n": 1}]
    assert kept(engine) == before
    check(engine, place.landed)


def test_a_query_over_one_day_opens_the_files_of_that_day_alone(engine, place):
    for day in range(3):
        place.deliver(worn(START + day * DAY, epoch=f"{day:016x}").lines, START + day * DAY)
    engine.merge()
    files = list(engine.root.glob("curated/**/*.parquet"))
    assert len(files) == 3
    for path in files:
        if "2025-07-02" not in str(path):
            path.unlink()
    count = "SELECT count(heart_rate) AS n FROM hr_readings"
    day = " WHERE measured_at >= TIMESTAMP '2025-07-02 00:00:00' AND measured_at < TIMESTAMP '2025-07-03 00:00:00'"
    assert engine.rows(count + day) == [{"n": 60}]
    with pytest.raises(lake.Refused):
        engine.rows(count)


def plan(engine, days_back):
    return engine.rows(f"EXPLAIN {lake.curated('merge', DAYS_BACK=days_back, LANDED_AFTER='2025-07-01-00-00-00', LANDED_UNTIL='2025-07-02-00-00-00', **ALL_DAYS)}")[0]["Query Plan"]


def test_the_run_over_all_days_opens_an_object_for_its_name_alone(engine, place):
    """A condition on a column beside the one on "$path" would have every object's column read (seen)."""
    condition, = re.findall(r"hr_table, filterPredicate = (.*)\]", plan(engine, 0))
    assert set(re.findall(r'"([a-z$_]+?)(?:_\d+)?"', condition)) - {"$literal$"} == {"$path"}
    kept_scan = plan(engine, 0).split("hr_readings$data")[-1].split("Fragment")[0]
    assert set(re.findall(r"(\w+) := \d+:", kept_scan)) == {"measured_at", "reading_id", "clock", "copies_day", "merged_until"}


def test_the_hourly_run_reads_two_days_of_either_table(engine, place):
    text = plan(engine, 1)
    today = datetime.now(UTC).date()
    days = re.search(r"date:string:PARTITION_KEY\n\W*:: (\[.*\])", text)[1]
    assert re.findall(r"\[([\d-]+)\]", days) == [str(today + day * DAY) for day in (-1, 0, 1)]
    assert re.search(rf"measured_at := .*\n\W*:: \[\[{today - DAY} 00:00:00.000000, <max>\)\]", text)


def test_the_columns_are_those_of_the_lake(engine):
    template = cfn.load()
    table = cfn.resolved(template, template["Resources"]["Table"]["Properties"])["TableInput"]["StorageDescriptor"]["Columns"]
    times = {"timestamp": "measured_at"}
    wire = {times.get(c["Name"], c["Name"]): lake.ICEBERG.get(c["Type"], c["Type"]) for c in table}
    wire |= {name: "timestamp(6)" for name in ("measured_at", "gap_start", "gap_end")}
    assert lake.curated_columns() == wire | {"copies_day": "date", "landed": "timestamp(6)", "merged_until": "timestamp(6)"}


@pytest.mark.parametrize(
    ("name", "grammar"),
    [
        ("create", r"CREATE TABLE IF NOT EXISTS \w+ \(\n(    \w+ [\w<>]+,?\n)+\)\nPARTITIONED BY \((day|month|hour)\(\w+\)(, \w+)*\)\n"
                   r"LOCATION 's3://[^']+/'\nTBLPROPERTIES \(\n(    '\w+' = '\w+',?\n)+\)"),
        ("optimize", r"OPTIMIZE \w+ REWRITE DATA USING BIN_PACK"),
        ("vacuum", r"VACUUM \w+"),
    ],
)
def test_what_athena_alone_knows_keeps_to_the_documented_grammar(name, grammar):
    text = lake.curated(name)
    assert re.fullmatch(grammar, text)
    if name == "create":
        assert isinstance(sqlglot.parse_one(text, read="athena"), sqlglot.exp.Create)
        known = {"table_type", "format", "write_compression", "optimize_rewrite_delete_file_threshold", "vacuum_max_snapshot_age_seconds"}
        assert set(re.findall(r"'(\w+)' =", text)) == known


@pytest.mark.parametrize("path", sorted((cfn.CLOUD / "curated").glob("*.sql")), ids=lambda path: path.stem)
def test_a_file_says_what_it_does_and_what_it_reads(path):
    header = cfn.renderer().header(path.read_text())
    assert header[0].endswith(".")
    assert path.stem == "create" or any(line.startswith("Reads") for line in header)
