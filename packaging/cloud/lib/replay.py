#!/usr/bin/env python3
"""The inner part of replay.sh: from errors/ to the stream, and then to replayed/.

    replay.py BUCKET STREAM PREFIX [--all] [--dry-run]

What must hold: an object leaves errors/ only after Kinesis gave each of its lines a sequence number; an entry that was
accepted is not sent again in this run; what stays behind is named by object and place, never by content.
"""

import random
import sys
import tempfile
import time
from pathlib import Path

import failed_records
from aws_cli import AwsError, aws, pages, raw_binary

RECORD_LINES_MAX = 100  # Of one sensor, in one record; Firehose takes 500 out of one, and bills it as 5 KB at least.
RECORD_BYTES_MAX = 200_000
CALL_RECORDS_MAX = 500  # PutRecords takes no more entries,
CALL_BYTES_MAX = 4_000_000  # and no more bytes than 5 MiB.
ATTEMPTS_MAX = 10
DELAY_SECONDS_MAX = 10.0
NO_SENSOR = "replayed"  # The partition key of a line that names none; only with --all.


def records(lines: list[tuple[str, str]]) -> list[dict[str, str]]:
    """PutRecords entries: each sensor's lines in their order, several to a record."""
    by_sensor: dict[str, list[list[str]]] = {}
    for sensor, line in lines:
        packs = by_sensor.setdefault(sensor, [[]])
        last = packs[-1]
        if len(last) == RECORD_LINES_MAX or sum(map(len, last)) + len(line) > RECORD_BYTES_MAX:
            packs.append([])
        packs[-1].append(line + "\n")
    return [{"Data": "".join(pack), "PartitionKey": sensor} for sensor, packs in by_sensor.items() for pack in packs]


def calls(entries: list[dict[str, str]]) -> list[list[dict[str, str]]]:
    """The entries in portions that one call takes."""
    portions: list[list[dict[str, str]]] = [[]]
    size = 0
    for entry in entries:
        length = len(entry["Data"].encode()) + len(entry["PartitionKey"])
        if len(portions[-1]) == CALL_RECORDS_MAX or size + length > CALL_BYTES_MAX:
            portions.append([])
            size = 0
        portions[-1].append(entry)
        size += length
    return [portion for portion in portions if portion]


def put(stream: str, entries: list[dict[str, str]]) -> None:
    """Until each entry was accepted; the refused ones again, later each time. Otherwise an AwsError."""
    for attempt in range(ATTEMPTS_MAX):
        request = {"StreamName": stream, "Records": entries}
        answers = aws("kinesis", "put-records", *raw_binary(), request=request)["Records"]
        refused = [(entry, answer) for entry, answer in zip(entries, answers, strict=True) if answer.get("ErrorCode")]
        if not refused:
            return
        entries, code = [entry for entry, _ in refused], refused[0][1]["ErrorCode"]
        time.sleep(random.uniform(0, min(DELAY_SECONDS_MAX, 0.1 * 2**attempt)))
    raise AwsError(f"the stream refused {len(entries)} records {ATTEMPTS_MAX} times ({code}); run this again later")


class Replay:
    def __init__(self, bucket: str, stream: str, lake: str, everything: bool, rehearsal: bool):
        self.bucket, self.stream, self.everything, self.rehearsal = bucket, stream, everything, rehearsal
        self.lake = lake  # The prefix below which all of the stack's objects lie.
        self.sent: dict[str, int] = {}
        self.moved = self.left = 0

    def object(self, key: str) -> None:
        """Sends what can be sent of one object, then moves that."""
        with tempfile.TemporaryDirectory() as folder:
            body, compressed = failed_records.unpacked(self.get(key, Path(folder) / "object"))
            going, staying, lines = self.judged(key, failed_records.read(body))
            name = key.removeprefix(self.lake)
            replayed, kind = f"{self.lake}replayed/{name}", name.rsplit("/", 2)[0]
            self.sent[kind] = self.sent.get(kind, 0) + len(lines)
            if self.rehearsal or not lines:
                return
            for portion in calls(records(lines)):
                put(self.stream, portion)
            if not staying:
                source = {"Bucket": self.bucket, "Key": replayed, "CopySource": f"{self.bucket}/{key}"}
                aws("s3api", "copy-object", request=source)
                aws("s3api", "delete-object", request={"Bucket": self.bucket, "Key": key})
            else:
                for place, rest in ((replayed, going), (key, staying)):
                    file = Path(folder) / "rest"
                    file.write_bytes(failed_records.packed(failed_records.written(rest), compressed))
                    aws("s3api", "put-object", "--bucket", self.bucket, "--key", place, "--body", str(file))
            self.moved += 1

    def get(self, key: str, file: Path) -> bytes:
        aws("s3api", "get-object", "--bucket", self.bucket, "--key", key, str(file))
        return file.read_bytes()

    def judged(self, key: str, documents: list[failed_records.Failed]) -> tuple[list, list, list[tuple[str, str]]]:
        """The documents with what goes, those with what stays, and the lines that go with their partition keys."""
        going, staying, lines = [], [], []
        for document in documents:
            good, bad = [], []
            for line in document.lines:
                fields = failed_records.reading(line)
                sendable = fields is not None or self.everything and is_text(line)
                (good if sendable else bad).append(line)
                if sendable:
                    lines.append((fields["sensor_id"] if fields else NO_SENSOR, line.decode()))
            if good:
                going.append(document.keeping(good))
            if bad or document.document is None:
                staying.append(document.keeping(bad))
                self.left += len(bad) or 1
                why = f"{len(bad)} lines are no readings" if bad else "no document of Firehose's"
                print(f"left: {key}, line {document.place}: {why}")
        return going, staying, lines


def is_text(line: bytes) -> bool:
    """Other bytes the CLI cannot send."""
    try:
        return bool(line.decode())
    except UnicodeDecodeError:
        return False


def main(bucket: str, stream: str, lake: str, prefix: str, *options: str) -> int:
    replay = Replay(bucket, stream, lake, "--all" in options, "--dry-run" in options)
    keys = (one["Key"] for answer in pages("s3api", "list-objects-v2", "--bucket", bucket, "--prefix", lake + prefix)
            for one in answer.get("Contents") or [])
    try:
        # The whole list first: what is written back under errors/ meanwhile is not met again.
        for key in [key for key in keys if not key.endswith("/")]:
            try:
                replay.object(key)
            except failed_records.Unreadable:
                print(f"{key} cannot be unpacked: it stays", file=sys.stderr)
                replay.left += 1
    except AwsError as error:
        print(f"replay.sh: {error}. What was sent so far is done with; run this again for the rest.", file=sys.stderr)
        return 1
    word = "would be sent" if replay.rehearsal else "sent"
    for kind, number in sorted(replay.sent.items()):
        print(f"{kind}: {number} lines {word}")
    print(f"{sum(replay.sent.values())} lines {word}, {replay.moved} objects moved to replayed/, {replay.left} lines left")
    return 1 if replay.left else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
