"""Gateways that never were: NDJSON lines as src/wire.rs writes them, from a fixed seed.

What must hold: `Gateway` numbers its lines without holes, as the daemon does; what a test takes away, repeats or delays
it does to the lines afterwards, knowingly.
"""

import csv
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

Line = dict[str, Any]
RECORDINGS = Path(__file__).resolve().parents[3] / "shared" / "data"


def written(time: datetime) -> str:
    """A time as on the wire."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03}Z"


class Gateway:
    """One queue: an epoch, a sequence, and what it wrote."""

    def __init__(self, name: str, epoch: str) -> None:
        self.name, self.epoch, self.sequence = name, epoch, 0
        self.sessions: dict[str, int] = {}
        self.lines: list[Line] = []

    def line(self, sensor: str, time: datetime, clock: str = "synchronized", **fields: Any) -> Line:
        """The next line. `timestamp` and `heart_rate` first; what is absent is not there."""
        session = self.sessions.setdefault(sensor, self.sequence)
        line: Line = {"timestamp": written(time)}
        if "heart_rate" in fields:
            line["heart_rate"] = fields.pop("heart_rate")
        line |= {"reading_id": f"{self.epoch}-{self.sequence}", "gateway_id": self.name, "sensor_id": sensor,
                 "session_id": f"{self.epoch}-s{session}", "sequence": self.sequence}
        line |= fields | {"clock": clock, "schema_version": 1}
        self.sequence += 1
        self.lines.append(line)
        return line

    def gap(self, sensor: str, start: datetime, end: datetime, reason: str, lost: int = 0) -> Line:
        fields = {"gap_readings_lost": lost} if lost else {}
        return self.line(sensor, end, gap_reason=reason, gap_start=written(start), gap_end=written(end), **fields)

    def lose(self, count: int) -> None:
        """Sequences that were given and then evicted."""
        self.sequence += count

    def session(self, sensor: str) -> None:
        """What follows is a new session of this sensor."""
        self.sessions.pop(sensor, None)


def heart(random_: random.Random, mean_bpm: float) -> Iterator[tuple[int, list[float]]]:
    """A second at a time: the rate, and the RR-Intervals that ended in it, in the wire's 1/1024 s as milliseconds."""
    bpm, ends_ms, now_ms = mean_bpm, 0.0, 0.0
    while True:
        now_ms += 1000
        bpm += random_.gauss(0, 0.6) + (mean_bpm - bpm) * 0.02
        intervals = []
        while True:
            ticks = round(max(60000 / bpm + random_.gauss(0, 25), 250) * 1.024)
            if ends_ms + ticks / 1.024 > now_ms:
                break
            ends_ms += ticks / 1.024
            intervals.append(ticks * 1000 / 1024)
        yield round(bpm), intervals


def records(lines: list[Line], at_most: int = 20) -> Iterator[bytes]:
    """Stream records: lines of one sensor, packed."""
    packed: dict[str, list[Line]] = {}
    for line in lines:
        waiting = packed.setdefault(line["sensor_id"], [])
        waiting.append(line)
        if len(waiting) == at_most:
            yield as_record(packed.pop(line["sensor_id"]))
    yield from map(as_record, packed.values())


def as_record(lines: list[Line]) -> bytes:
    return b"".join(json.dumps(line, separators=(",", ":")).encode() + b"\n" for line in lines)


def recording(name: str) -> list[tuple[float, int]]:
    """A watch's recording as offset in s and bpm, where the recordings are at hand."""
    path = RECORDINGS / name
    if not path.exists():
        return []
    with path.open() as file:
        return [(float(row["offset_s"]), int(row["heart_rate_bpm"])) for row in csv.DictReader(file)]


def recorded_intervals() -> list[float]:
    path = RECORDINGS / "garmin-rr-intervals.csv"
    if not path.exists():
        return []
    with path.open() as file:
        return [float(row["rr_ms"]) for row in csv.DictReader(file)]


def small_fleet(seed: int = 20250715) -> list[Line]:
    """What the queries are tried on: two gateways, three sensors, a few days, each kind of trouble once."""
    random_ = random.Random(seed)
    start = datetime(2025, 7, 15, 23, 50, tzinfo=UTC)
    home, gym = Gateway("living-room", "00000000000000aa"), Gateway("gym", "00000000000000bb")
    one, two = heart(random_, 62), heart(random_, 140)
    for second in range(2400):  # Two sensors share a queue; the session crosses midnight UTC.
        time = start + timedelta(seconds=second, milliseconds=random_.randrange(200))
        bpm, rr = next(one)
        home.line("adi", time, heart_rate=bpm, sensor_contact=True, **({"rr_intervals_ms": rr} if rr else {}))
        if second == 700:
            home.gap("strap", time - timedelta(seconds=90), time, "link_down")
        if second == 900:
            home.lose(25)
            home.gap("adi", time, time, "evicted", lost=25)
        if second % 2 == 0 and not 610 < second < 700:  # Silent while its link was down.
            bpm, rr = next(two)
            home.line("strap", time, heart_rate=bpm, rr_intervals_ms=rr if second != 1200 else [250.0, 2500.0, *rr])
        if second == 1500:
            home.session("adi")
    # The night the clocks go back in Berlin, and the one they go forward: a reading every 10 s, without RR-Intervals.
    for first in (datetime(2025, 10, 25, 23, 0, tzinfo=UTC), datetime(2025, 3, 29, 23, 0, tzinfo=UTC)):
        gym.session("bike")
        for step in range(6 * 60 * 4):
            gym.line("bike", first + timedelta(seconds=10 * step), heart_rate=90 + step % 60, energy_expended_kj=step)
    for offset_s, bpm in recording("garmin-fenix2-run-47min.csv"):
        gym.line("fenix", datetime(2025, 7, 20, 6, 0, tzinfo=UTC) + timedelta(seconds=offset_s), heart_rate=bpm)
    beats, time = recorded_intervals(), datetime(2025, 7, 21, 6, 0, tzinfo=UTC)
    for rr in beats:
        time += timedelta(milliseconds=rr)
        gym.line("rr-strap", time, heart_rate=round(60000 / rr), rr_intervals_ms=[rr])
    gym.line("bike", datetime(1970, 1, 1, tzinfo=UTC), clock="unsynchronized", heart_rate=99)
    return home.lines + gym.lines
