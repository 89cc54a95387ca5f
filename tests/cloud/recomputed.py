"""What windows and alerts have to be, computed from the lines without SQL and without a stream."""

from collections import defaultdict
from datetime import UTC, datetime, timedelta
from statistics import fmean
from typing import Any

from fleet import Line, written

CLOCKS = ["synchronized", "corrected", "unsynchronized"]
MINUTE = timedelta(minutes=1)
MONITOR_WINDOW = timedelta(seconds=75)

Window = tuple[str, str, int]


def taken(line: Line) -> datetime:
    return datetime.strptime(line["timestamp"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)


def readings(lines: list[Line], now: datetime, correct_days: int = 3) -> list[Line]:
    """One line per reading, of its copies the best; without what is too old or ahead."""
    oldest, newest = now - timedelta(days=correct_days) + timedelta(hours=2), now + timedelta(hours=1)
    best: dict[str, Line] = {}
    for line in sorted(lines, key=lambda line: (CLOCKS.index(line["clock"]), line["timestamp"])):
        if line.get("heart_rate", 0) > 0 and oldest < taken(line) < newest:
            best.setdefault(line["reading_id"], line)
    return list(best.values())


def windows(lines: list[Line], minutes: int) -> dict[Window, dict[str, Any]]:
    """Windows of so many minutes, one beginning with each minute."""
    rates: dict[tuple[str, datetime], list[int]] = defaultdict(list)
    for line in lines:
        minute = taken(line).replace(second=0, microsecond=0)
        for back in range(minutes):
            rates[line["sensor_id"], minute - back * MINUTE].append(line["heart_rate"])
    return {
        (sensor, written(start), minutes):
            {"readings": len(each), "lowest": min(each), "mean": fmean(each), "highest": max(each)}
        for (sensor, start), each in rates.items()
    }


def alerts(lines: list[Line], above_bpm: int = 150) -> dict[str, str]:
    """The first reading of each episode, by the monitor's rule; and the reading that the rule's window began with."""
    of_sensor: dict[str, list[tuple[datetime, Line]]] = defaultdict(list)
    for line in lines:
        if line.get("sensor_contact") is not False:
            of_sensor[line["sensor_id"]].append((taken(line), line))
    found = {}
    for sensor, timed in of_sensor.items():
        timed.sort(key=lambda one: one[0])
        before, oldest = False, 0
        for newest, (time, line) in enumerate(timed):
            while timed[oldest][0] < time - MONITOR_WINDOW:
                oldest += 1
            recent, began = timed[oldest:newest + 1], timed[oldest][0]
            lowest = min(one["heart_rate"] for _, one in recent)
            above = lowest > above_bpm and len(recent) >= 6 and time - began >= MINUTE
            if above and not before:
                found[f"{sensor}@{line['timestamp']}"] = written(began)
            before = above
    return found
