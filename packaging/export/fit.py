#!/usr/bin/env python3
"""FIT files of watches as a recording that `hr-gatewayd demo --replay` plays; RR-Intervals where the watch logged them.

    packaging/export/fit.py RUN.fit [RIDE.fit ...] >runs.csv

Needs fitdecode (pip install fitdecode). Each file becomes a session of its own. A heart rate that the watch marked as
invalid is left out, and so is what has none. Exit status: 1 if a file is no FIT file, or has no heart rate.
"""

import csv
import sys
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

RR_S_MAX = 65.0  # 65.535 marks a place of an hrv message that is not used.
HEART_RATES = range(1, 255)  # 255 is "invalid".


class NotUsable(Exception):
    """A file, and what is wrong with it."""


def messages(path: Path) -> Iterator[tuple[str, dict[str, object]]]:
    """Name and fields of each data message, in the file's order."""
    try:
        import fitdecode
    except ImportError:
        raise NotUsable("fitdecode is missing: pip install fitdecode") from None
    try:
        with fitdecode.FitReader(path) as reader:
            for frame in reader:
                if isinstance(frame, fitdecode.FitDataMessage):
                    yield frame.name, {field.name: field.value for field in frame.fields}
    except fitdecode.FitError as error:
        raise NotUsable(f"{path}: is no whole FIT file: {error}") from error
    except OSError as error:
        raise NotUsable(f"{path}: {error.strerror}") from error


def rows(path: Path) -> Iterator[dict[str, str]]:
    """One for each heart rate; the intervals that the watch logged since the one before."""
    began: datetime | None = None
    intervals: list[str] = []
    for name, fields in messages(path):
        if name == "hrv":
            times = fields.get("time") or ()
            times = times if isinstance(times, (tuple, list)) else (times,)
            intervals += [f"{time * 1000:.0f}" for time in times if time is not None and 0 < time < RR_S_MAX]
        rate, at = fields.get("heart_rate"), fields.get("timestamp")
        if name != "record" or not isinstance(at, datetime) or rate not in HEART_RATES:
            continue
        began = began or at
        offset = (at - began).total_seconds()
        yield {"recording": path.stem, "offset_s": f"{offset:.3f}", "heart_rate_bpm": str(rate), "rr_ms": " ".join(intervals)}
        intervals = []


def main(paths: list[str]) -> int:
    if not paths or paths[0] in ("-h", "--help"):
        print(__doc__.strip())
        return 0 if paths else 2
    writer = csv.DictWriter(sys.stdout, ["recording", "offset_s", "heart_rate_bpm", "rr_ms"], lineterminator="\n")
    writer.writeheader()
    failed = False
    for path in map(Path, paths):
        try:
            written = 0
            for row in rows(path):
                writer.writerow(row)
                written += 1
            if not written:
                raise NotUsable(f"{path}: has no heart rate")
        except NotUsable as error:
            print(f"fit.py: {error}", file=sys.stderr)
            failed = True
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except BrokenPipeError:
        sys.exit(1)
