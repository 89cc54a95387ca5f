"""What a fault looks like from outside: to who reads the journal, and to who reads the data."""

from datetime import datetime
from typing import Any

from lab import Lab
from strap import Strap

ERROR, WARNING, INFO = "3", "4", "6"
# Between a strap's clock and the guest's: what an emulated machine beside a compiler may dawdle.
DAWDLE_S = 5.0


def journal_says(lab: Lab, text: str, priority: str, strap: Strap | None = None, times: int = 1) -> None:
    """Waits for the line, and checks its level, its sensor, and that it was said so often."""
    name = (strap or lab.strap).name

    def said() -> list[dict[str, Any]]:
        return [entry for entry in lab.said(text) if entry.get("SENSOR") == name]

    found = lab.wait(lambda: len(entries := said()) >= times and entries, f"the journal says `{text}` of {name}")
    assert len(found) == times, f"`{text}` was said {len(found)} times, not {times}"
    assert {entry["PRIORITY"] for entry in found} == {priority}, f"`{text}` has another level: {found[0]}"


def gap_is_told(lab: Lab, reason: str, at_least_s: float, strap: Strap | None = None, times: int = 1) -> None:
    """Waits for the gap record of this reason that is the sensor's first, second, …: it must span from a reading to
    the next one, and be as long as the strap was unheard."""
    strap = strap or lab.strap

    def newest() -> dict[str, Any] | None:
        own = [gap for gap in lab.gaps(reason) if gap["sensor_id"] == strap.name]
        return max(own, key=lambda gap: gap["sequence"]) if len(own) >= times else None

    gap = lab.wait(newest, f"a gap record that says {reason}")
    lines = [line for line in lab.kinesis.readings() if line["sensor_id"] == strap.name and "heart_rate" in line]
    before = max((line for line in lines if line["sequence"] < gap["sequence"]), key=lambda line: line["sequence"])
    after = lab.wait(lambda: _next(lab, gap), "the reading that ended the gap")
    assert gap["gap_start"] == before["timestamp"], f"{gap} does not begin at {before}"
    assert gap["gap_end"] == gap["timestamp"] == after["timestamp"], f"{gap} does not end at {after}"
    told_s = _seconds(gap["gap_end"]) - _seconds(gap["gap_start"])
    at = {entry["serial"]: entry["at"] for entry in strap.sent()}
    true_s = at[after["energy_expended_kj"]] - at[before["energy_expended_kj"]]
    assert told_s >= at_least_s and abs(told_s - true_s) < DAWDLE_S, f"{told_s:.1f} s are told, {true_s:.1f} s were"


def _next(lab: Lab, gap: dict[str, Any]) -> dict[str, Any] | None:
    later = [
        line
        for line in lab.kinesis.readings()
        if line["sensor_id"] == gap["sensor_id"] and "heart_rate" in line and line["sequence"] > gap["sequence"]
    ]
    return min(later, key=lambda line: line["sequence"], default=None)


def _seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
