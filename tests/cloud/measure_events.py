"""JSON against Parquet on the app events of 100,000 sessions, 1 % of them twice: prints the README's tables of them.

The lines are those of `generate-events.sh` without options. They are delivered twice: all in one buffer, as when they
are put at once, and in Firehose's intervals, as they would come from phones. Bytes read are those of the column chunks
and partitions that a reader must touch; in JSON by day the names are not apart, so a reader touches the whole day.
"""

import gzip
import json
import sys
import tempfile
from collections.abc import Iterator
from datetime import datetime
from itertools import groupby
from pathlib import Path

import lake
import measure
import template as cfn

sys.path.insert(0, str(cfn.CLOUD / "lib"))
import app_events  # noqa: E402

SESSIONS = 100_000
BUFFER_S = 900
MIB = 1 << 20
NAME, DAY = "live_opened", "2025-07-05"
COLUMNS = {"users of a name on a day": {"user_id"}, "events of a name on a day": {"event_id"}}
PLACE = {"Bucket": "the-lake", "KeyArn": "arn:the-key", "DatabaseName": "hr_data", "TopicArn": "arn:the-topic"}
# What the data set that this one was made after was said to take as JSON and as Parquet.
SEED_MIB = (44.1, 39.5)


def records(lines: list[str]) -> Iterator[bytes]:
    yield from ("\n".join(lines[at:at + 100]).encode() for at in range(0, len(lines), 100))


def interval(line: str) -> int:
    return int(datetime.fromisoformat(json.loads(line)["timestamp"]).timestamp()) // BUFFER_S


def row(name: str, objects: int, size: int, lines: int) -> None:
    print(f"| {name} | {objects:,} | {size:,} | {size / MIB:.1f} | {size / lines:.1f} |")


def stored(root: Path) -> list[Path]:
    return sorted(root.glob("app_events/*/*/*.parquet"))


def main() -> None:
    plan = app_events.planned(SESSIONS, 1, "0.01", "2025-07-01", 10)
    events = list(app_events.events(plan))
    lines = [event.line for event in events]
    unique = sum(not event.copy for event in events)
    text = "\n".join(lines).encode() + b"\n"
    print(f"{SESSIONS:,} sessions, {unique:,} events, {len(lines) - unique:,} of them a second time\n")
    print(f"| {len(lines):,} lines as | objects | bytes | MiB | a line |\n| --- | --- | --- | --- | --- |")
    row("NDJSON", 1, len(text), len(lines))
    row("NDJSON, GZIP", 1, len(gzip.compress(text, 6)), len(lines))
    places: dict[tuple[str, str], list[str]] = {}
    for event in events:
        places.setdefault((event.name, event.day), []).append(event.line + "\n")
    apart = sum(len(gzip.compress("".join(inside).encode(), 6)) for inside in places.values())
    row("NDJSON, GZIP, by name and day", len(places), apart, len(lines))
    with tempfile.TemporaryDirectory() as folder:
        for compression in ("GZIP", "SNAPPY"):
            root = Path(folder) / compression
            firehose = lake.Firehose(root, cfn.load("events"), **PLACE, EventCompression=compression)
            firehose.deliver(records(lines))
            assert not firehose.refused
            files = stored(root)
            row(f"Parquet, {compression}, at once", len(files), sum(file.stat().st_size for file in files), len(lines))
        root = Path(folder) / "intervals"
        firehose = lake.Firehose(root, cfn.load("events"), **PLACE)
        for _, inside in groupby(lines, interval):
            firehose.deliver(records(list(inside)))
        files = stored(root)
        row(f"Parquet, GZIP, as in {BUFFER_S} s", len(files), sum(file.stat().st_size for file in files), len(lines))
        json_mib, parquet_mib = SEED_MIB
        print(f"| the seed's: JSON {json_mib} MiB, Parquet {parquet_mib} MiB | | | | |")
        print("\n| query | reads of Parquet | of NDJSON by day | share |\n| --- | --- | --- | --- |")
        whole = sum(len(event.line) + 1 for event in events if event.day == DAY)
        for name, columns in COLUMNS.items():
            place = Path(folder) / f"GZIP/app_events/event_name={NAME}/date={DAY}"
            read = sum(measure.chunk_bytes(file, columns) for file in place.iterdir())
            print(f"| {name} | {read:,} | {whole:,} | {100 * read / whole:.2f} % |")


if __name__ == "__main__":
    main()
