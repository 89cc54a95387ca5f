"""The judge of a power cut. Pure, and knows the contract only: nothing of how the queue keeps it.

It was told what was offered, what append returned for, and what was delivered before the cut. It is shown what comes
out of the store that was opened again: ledger, queued lines, dead letters; and the same after a few more readings.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

Line = dict[str, Any]
# Time may be told better at a second try (`clock: corrected`); all else of an id is for ever.
CHANGING = ("timestamp", "clock", "gap_start", "gap_end")
CONTENT = ("sensor_id", "heart_rate", "energy_expended_kj", "rr_intervals_ms")
PARTS = ("delivered", "queued", "dead_lettered", "evicted")
# Readings that are appended after the power is back.
MORE = 3


@dataclass
class Known:
    """What was said before the cut. A reading is known by the serial number that it carries as Energy Expended."""

    offered: dict[int, Line] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    acknowledged_count: int = 0
    # Delivered, or given up with the sink's words: out of the gateway. By id, by serial, by place.
    gone: dict[str, Line] = field(default_factory=dict)
    serials: dict[int, str] = field(default_factory=dict)
    places: set[int] = field(default_factory=set)
    faults: list[str] = field(default_factory=list)

    def hear(self, mark: dict[str, Any]) -> None:
        for reading in mark.get("offered", []):
            self.offered[reading["energy_expended_kj"]] = reading
        self.acknowledged.update(mark.get("acknowledged", []))
        self.acknowledged_count = max(self.acknowledged_count, mark.get("acknowledged_count", 0))
        lines = [json.loads(text) for text in mark.get("delivered", []) + mark.get("refused", [])]
        self.faults += [*self.twice(lines), *self.made_up(lines)]
        for line in lines:
            self.gone[line["reading_id"]] = line
            self.places.add(line["sequence"])
            if "heart_rate" in line:
                self.serials[line["energy_expended_kj"]] = line["reading_id"]

    def twice(self, lines: list[Line]) -> Iterator[str]:
        """Ids that stand for two readings, among `lines` and what is gone; readings that have two ids."""
        ids, serials = dict[str, Line](), dict[int, str]()
        for line in lines:
            name = line["reading_id"]
            first = self.gone.get(name) or ids.setdefault(name, line)
            if _lasting(first) != _lasting(line):
                yield f"one id stands for two: {first} and {line}"
            if "heart_rate" in line:
                serial = line["energy_expended_kj"]
                other = self.serials.get(serial) or serials.setdefault(serial, name)
                if other != name:
                    yield f"reading {serial} has two ids: {other} and {name}"

    def made_up(self, lines: list[Line]) -> Iterator[str]:
        """Readings that came out otherwise than they went in, or never did."""
        for line in lines:
            offered = self.offered.get(line.get("energy_expended_kj", -1))
            if "heart_rate" in line and (offered is None or any(line.get(key) != offered[key] for key in CONTENT)):
                yield f"{line} came out, and what went in was {offered}"


def _lasting(line: Line) -> Line:
    return {key: value for key, value in line.items() if key not in CHANGING}


@dataclass
class Store:
    """What came out of it."""

    status: dict[str, Any]
    queued: list[Line]
    dead: list[Line]

    @property
    def lines(self) -> list[Line]:
        return self.queued + self.dead


def judge(known: Known, printed: list[Any]) -> list[str]:
    """What is wrong; nothing, if all is well."""
    aside = [line["set_aside"] for line in printed if isinstance(line, dict) and "set_aside" in line]
    faults = [*known.faults, *(f"the store was set aside as {path}" for path in aside)]
    if "appended" not in printed:
        return [*faults, "the store did not open and take readings to the end"]
    middle = printed.index("appended")
    before, after = _store(printed[:middle]), _store(printed[middle:])
    faults += [*_ledger(before), *_ledger(after), *_lost(known, before)]
    faults += [*known.twice(before.lines), *known.made_up(before.lines), *_goes_on(known, before, after)]
    return faults


def _store(printed: list[Any]) -> Store:
    told = [line for line in printed if isinstance(line, dict)]
    status = next(line["status"] for line in told if "status" in line)
    queued = [json.loads(line["line"]) for line in told if "line" in line]
    dead = [json.loads(line["dead_letter"]["line"]) for line in told if "dead_letter" in line]
    return Store(status, queued, dead)


def _ledger(store: Store) -> Iterator[str]:
    if not store.status["balances"]:
        yield "the store says that its ledger does not balance"
    for row in store.status["sensors"]:
        for kind in ("readings", "other_records"):
            name, account = f"{row['sensor']}'s {kind}", row[kind]
            if account["received"] != sum(account[part] for part in PARTS):
                yield f"{name} do not balance: {account}"
            for part, lines in (("queued", store.queued), ("dead_lettered", store.dead)):
                of_it = [line for line in lines if line["sensor_id"] == row["sensor"]]
                count = sum(("heart_rate" in line) == (kind == "readings") for line in of_it)
                if account[part] != count:
                    yield f"{name}: {account[part]} are counted as {part}, {count} come out"


def _lost(known: Known, store: Store) -> Iterator[str]:
    lost = known.acknowledged - known.serials.keys() - {line.get("energy_expended_kj") for line in store.lines}
    if lost:
        yield f"{len(lost)} acknowledged readings are nowhere, the first is number {min(lost)}"
    received = sum(row["readings"]["received"] for row in store.status["sensors"])
    if received < known.acknowledged_count:
        yield f"{known.acknowledged_count} readings were acknowledged, {received} are known"
    # What is missing in the sequence was in the gateway, and is lost, acknowledged or not.
    places = known.places | {line["sequence"] for line in store.lines}
    if holes := set(range(1, max(places, default=0) + 1)) - places:
        yield f"the sequence has {len(holes)} holes, the first at {min(holes)}"


def _goes_on(known: Known, before: Store, after: Store) -> Iterator[str]:
    old = known.gone.keys() | {line["reading_id"] for line in before.lines}
    new = [line for line in after.queued if line["reading_id"] not in old]
    last = max(known.places | {line["sequence"] for line in before.lines}, default=0)
    places = [line["sequence"] for line in new]
    if places != list(range(last + 1, last + 1 + MORE)):
        yield f"the sequence ended at {last}; {MORE} more readings were given {places}"
    if gone := {line["reading_id"] for line in before.lines} - {line["reading_id"] for line in after.lines}:
        yield f"{len(gone)} items went when readings were appended"
    # Whatever state the disk came back to: what an opening gives begins as nothing before did.
    epochs, before_them = ({name.rsplit("-", 1)[0] for name in names} for names in ([line["reading_id"] for line in new], old))
    if shared := epochs & before_them:
        yield f"ids of before the cut go on: {sorted(shared)}"
