"""Lines that no gateway wrote, and clocks that are wrong: what the delivery, the table and the queries make of them."""

from datetime import UTC, datetime, timedelta

import pytest

import fleet
import lake

AT = datetime(2025, 7, 15, 6, 0, tzinfo=UTC)


@pytest.fixture
def firehose(tmp_path):
    return lake.Firehose(tmp_path, FirstDay="2025-03-01")


def line(**fields):
    return fleet.Gateway("gym", "00000000000000ee").line("bike", AT, heart_rate=70) | fields


@pytest.mark.parametrize("foreign", [
    {"timestamp": "2025-07-01 06:00:33"}, {"timestamp": "2025-07-15T06:00:33Z"}, {"timestamp": "Jul 15 2025"},
    {"timestamp": "2025-02-30T06:00:33.000Z"}, {"timestamp": "2025-07-15T25:00:33.000Z"}, {"timestamp": "2025-07-15T06:00:33.000+"},
    {"timestamp": ""}, {"timestamp": None}, {"timestamp": 1752559200}, {"reading_id": None}, {"sensor_id": 7}, {"gateway_id": None},
    {"timestamp": "2025-07-15T06:00:33.abcZ"}, {"timestamp": "2025-07-15T06:00:33.1 3Z"}, {"timestamp": "2025-07-15T06:00:33.+05Z"}, {"reading_id": ""},
])  # fmt: skip
def test_what_no_gateway_writes_is_refused_alone_and_lands_where_it_alarms(firehose, foreign):
    """Firehose puts what has no partition under errors/, and ErrorObjectRule tells of each object there."""
    firehose.deliver([fleet.as_record([line(**foreign), line()])])
    assert len(firehose.refused) == 1 and firehose.objects == 1


def test_the_seeds_own_lines_are_refused_each_and_not_one_row(firehose):
    """A timestamp and a heart rate alone: without ids sixty of them would be one reading."""
    seed = [{"timestamp": (AT + timedelta(seconds=n)).strftime("%Y-%m-%d %H:%M:%S"), "heart_rate": 60 + n} for n in range(60)]
    firehose.deliver([fleet.as_record(seed)])
    assert (len(firehose.refused), firehose.objects) == (60, 0)


@pytest.mark.parametrize("days", [0, 1, 2, 400])
def test_a_clock_that_is_ahead_hides_nothing(tmp_path, days):
    """The table shows days ahead too; the indexer counts what is ahead, and alarms."""
    written = [line(timestamp=fleet.written(datetime.now(UTC) + timedelta(days=days, seconds=n)), reading_id=f"00000000000000ee-{n}")
               for n in range(10)]
    lake.Firehose(tmp_path).deliver([fleet.as_record(written)])
    with lake.Trino(tmp_path) as trino:
        (row,) = trino.rows("SELECT count(*) AS readings FROM hr_readings_unique")
    assert row["readings"] == 10


def test_a_clock_that_was_never_set_and_a_right_one_have_their_day(firehose, tmp_path):
    firehose.deliver([fleet.as_record([line(), line(timestamp="1970-01-01T00:00:09.000Z", clock="unsynchronized")])])
    assert {path.name for path in (tmp_path / "heart_rate_data").iterdir()} == {"date=2025-07-15", "date=2025-03-01"}


def test_a_gap_of_no_time_breaks_no_query(firehose, tmp_path):
    gap = {"heart_rate": None, "gap_reason": "link_down", "gap_start": "soon", "gap_end": fleet.written(AT)}
    firehose.deliver([fleet.as_record([line(**gap)])])
    with lake.Trino(tmp_path, FirstDay="2025-03-01") as trino:
        assert trino.rows(lake.filled("gaps"))[0]["gaps"] == 1
