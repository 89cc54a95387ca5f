"""What an index holds of a gateway's lines, by the same rule as hr-indexer, written a second time and without it.

What must hold: a line is one document of its UTC month, its id is the reading's; a minute is counted from the documents.
"""

import math
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

from fleet import Line, written
from search import Client

RR_MS = (300, 2000)  # What counts as a beat.
RR_BREAK_MS = 3000  # Readings further apart have no successive beats.
ACTIONS_MAX = 20_000  # Lines of one `_bulk` call.


def milliseconds(text: str) -> int:
    """A time of the wire, since 1970."""
    since = datetime.fromisoformat(text) - datetime(1970, 1, 1, tzinfo=UTC)
    return since // timedelta(milliseconds=1)


def month(text: str) -> str:
    return text[:7].replace("-", ".") if "2020" <= text[:4] <= "2099" else "undated"


def document(line: Line, lag_ms: int = 1500) -> Line:
    """The line as it is indexed, `lag_ms` after it was measured."""
    indexed_at = datetime.fromisoformat(line["timestamp"]) + timedelta(milliseconds=lag_ms)
    return line | {"indexed_at": written(indexed_at), "lag_ms": lag_ms}


def minutes(lines: list[Line]) -> dict[tuple[str, str], dict[str, Any]]:
    """By sensor and minute, as on the wire up to the minute."""
    of: dict[tuple[str, str], list[Line]] = defaultdict(list)
    for line in {line["reading_id"]: line for line in lines}.values():
        of[line["sensor_id"], line["timestamp"][:16]].append(line)
    found = {}
    for (sensor, minute), there in of.items():
        rates = [line["heart_rate"] for line in there if "heart_rate" in line]
        if not rates:
            continue
        last = max((line for line in there if "heart_rate" in line), key=lambda line: (line["timestamp"], line["sequence"]))
        squares = [difference ** 2 for difference in differences(there)]
        found[sensor, minute] = {
            "minute": f"{minute}:00.000Z", "sensor_id": sensor, "gateway_id": last["gateway_id"], "readings": len(rates),
            "heart_rate_min": min(rates), "heart_rate_mean": sum(rates) / len(rates), "heart_rate_max": max(rates),
            "rr_differences": len(squares),
        } | ({"rmssd_ms": math.sqrt(sum(squares) / len(squares))} if squares else {})
    return found


def differences(lines: list[Line]) -> list[float]:
    """Of successive RR-Intervals: in one session, across no gap record, both plausible."""
    found: list[float] = []
    before: tuple[Line, float] | None = None
    for line in sorted(lines, key=lambda line: (line["gateway_id"], line["reading_id"].rsplit("-", 1)[0], line["sequence"])):
        if "heart_rate" not in line or (before and not _follows(before[0], line)):
            before = None
        intervals = [] if "heart_rate" not in line else line.get("rr_intervals_ms", [])
        chain = [before[1], *intervals] if before else intervals
        found += [later - earlier for earlier, later in pairwise(chain) if all(RR_MS[0] <= rr <= RR_MS[1] for rr in (earlier, later))]
        before = (line, intervals[-1]) if intervals else before
    return found


def _follows(earlier: Line, later: Line) -> bool:
    apart = abs(milliseconds(later["timestamp"]) - milliseconds(earlier["timestamp"]))
    return earlier["session_id"] == later["session_id"] and apart <= RR_BREAK_MS


def index(node: Client, documents: list[Line]) -> None:
    """Into `node`: the documents, and the minutes that they are."""
    actions: list[Any] = []
    for one in documents:
        actions += [{"index": {"_index": f"hr-readings-{month(one['timestamp'])}", "_id": one["reading_id"]}}, one]
    for (sensor, minute), sums in minutes(documents).items():
        actions += [{"index": {"_index": f"hr-minutes-{month(minute)}", "_id": f"{sensor}|{minute}Z"}}, sums]
    for first in range(0, len(actions), ACTIONS_MAX):
        node.bulk(actions[first:first + ACTIONS_MAX])
