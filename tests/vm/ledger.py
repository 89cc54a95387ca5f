"""The closing account of a scenario. Pure: what the gateway says, what Kinesis holds, and what the straps sent.

What must hold: every account balances; Kinesis holds what was counted as delivered, each id once; the sequence has
no holes; each reading is one that its strap sent, unaltered and in order; each notification that was sent is there,
but for those in the windows that the scenario declared, and, where it says so, those that a gap record stands for.
"""

from collections import Counter
from dataclasses import dataclass
from typing import Any

Line = dict[str, Any]


@dataclass
class Account:
    """What came of it, for a scenario that wants to say more."""

    readings: list[Line]
    gaps: list[Line]
    missed: int


def check(
    status: Line,
    lines: list[Line],
    sent: dict[str, list[Line]],
    windows: list[tuple[float, float]],
    duplicates: bool,
    lost: int,
    in_gaps: bool = False,
) -> Account:
    """Raises an AssertionError that names what does not add up."""
    assert status["balances"], f"the ledger does not balance: {status}"
    by_id = {line["reading_id"]: line for line in lines}
    if not duplicates:
        twice = [name for name, count in Counter(line["reading_id"] for line in lines).items() if count > 1]
        assert not twice, f"{len(twice)} ids came more than once: {twice[:5]}"
    held = sorted(by_id.values(), key=lambda line: line["sequence"])
    gone = sum(s["readings"][column] for s in status["sensors"] for column in ("dead_lettered", "evicted"))
    assert gone == lost, f"{gone} readings were given up, not {lost}"
    # What was given up left its place in the sequence empty.
    if not lost:
        places = [line["sequence"] for line in held]
        holes = sorted(set(range(1, len(places) + 1)) ^ set(places))
        assert not holes, f"the sequence does not run from 1 to {len(places)}: see {holes[:10]}"
    readings = [line for line in held if "heart_rate" in line]
    others = [line for line in held if "heart_rate" not in line]
    gaps = [line for line in others if "gap_reason" in line]
    missed = 0
    for sensor in status["sensors"]:
        name = sensor["sensor"]
        for kind, of_kind in (("readings", readings), ("other_records", others)):
            there = sum(line["sensor_id"] == name for line in of_kind)
            counted = sensor[kind]["delivered"]
            assert there == counted, f"{name}: {counted} {kind} count as delivered, Kinesis holds {there}"
        own = [reading for reading in readings if reading["sensor_id"] == name]
        told = [gap["sequence"] for gap in gaps if gap["sensor_id"] == name] if in_gaps else []
        missed += _check_sensor(name, own, sent[name], windows, told, lost)
        _check_malformed(name, sensor["malformed"], sent[name], windows)
    unheard = sent.keys() - {sensor["sensor"] for sensor in status["sensors"]}
    for name in unheard:
        assert all(_excused(entry, windows) for entry in sent[name]), f"{name} sent, and the gateway knows nothing of it"
    return Account(readings, gaps, missed)


def _check_sensor(
    name: str, readings: list[Line], sent: list[Line], windows: list, gaps: list[int], lost: int
) -> int:
    """One strap's readings against what it sent; returns how many were excused. `gaps`: sequences of gap records that
    excuse what was sent between the readings on either side."""
    expected = [entry for entry in sent if entry["hr"] is not None]
    matched: dict[int, int] = {}  # places, and the sequences of their readings
    at = 0
    for reading in readings:
        # In order, so that each is searched for after the one before it.
        place = next((i for i in range(at, len(expected)) if _same(reading, expected[i])), None)
        assert place is not None, f"{name} never sent (or not once, or not in this order) {reading}"
        matched[place] = reading["sequence"]
        at = place + 1
    missing = [place for place in range(len(expected)) if place not in matched]
    unexcused = [
        expected[place]
        for place in missing
        if not _excused(expected[place], windows) and not _told(place, matched, gaps)
    ]
    assert len(unexcused) <= lost, (
        f"{name}: {len(unexcused)} of {len(expected)} sent notifications are missing: {unexcused[:5]}"
    )
    return len(missing)


def _told(place: int, matched: dict[int, int], gaps: list[int]) -> bool:
    """Whether a gap record stands between the readings before and after this place."""
    before = max((sequence for at, sequence in matched.items() if at < place), default=None)
    after = min((sequence for at, sequence in matched.items() if at > place), default=None)
    return before is not None and after is not None and any(before < gap < after for gap in gaps)


def _same(reading: Line, entry: Line) -> bool:
    return (
        reading.get("energy_expended_kj") == entry["serial"]
        and reading["heart_rate"] == entry["hr"]
        and reading.get("sensor_contact") == entry["contact"]
        and reading.get("rr_intervals_ms", []) == [rr * 1000 / 1024 for rr in entry["rr"]]
    )


def _check_malformed(name: str, counted: int, sent: list[Line], windows: list) -> None:
    raw = [entry for entry in sent if entry["hr"] is None]
    surely = sum(not _excused(entry, windows) for entry in raw)
    assert surely <= counted <= len(raw), f"{name} sent {len(raw)} malformed values, {counted} were counted"


def _excused(entry: Line, windows: list[tuple[float, float]]) -> bool:
    return any(began <= entry["at"] <= ended for began, ended in windows)
