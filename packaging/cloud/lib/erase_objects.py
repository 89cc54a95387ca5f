"""One sensor's lines in the bucket's objects of lines: raw/ (NDJSON), errors/ and replayed/ (Firehose's documents).

What must hold: an object keeps every other line, byte by byte; the rewritten object is there before the old version
goes; each older version is looked into as well, and goes if the sensor is in it.
"""

import json
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import failed_records
from aws_cli import AwsError, aws
from object_versions import OBJECTS_MAX, answers, listed


def holds(line: bytes, sensor: str) -> bool:
    """Whether the line is the sensor's. One that is broken and names it counts as its own."""
    if f'"{sensor}"'.encode() not in line:
        return False
    try:
        fields = json.loads(line)
    except ValueError:
        return True
    return isinstance(fields, dict) and fields.get("sensor_id") == sensor


def without(body: bytes, sensor: str, documents: bool) -> tuple[bytes, int]:
    """The object without the sensor's lines, and how many these were."""
    text, compressed = failed_records.unpacked(body)
    kept, removed = (_without_documents if documents else _without_lines)(text, sensor)
    return (failed_records.packed(kept, compressed) if kept else b"", removed) if removed else (body, 0)


def _without_lines(text: bytes, sensor: str) -> tuple[bytes, int]:
    lines = text.splitlines(keepends=True)
    kept = [line for line in lines if not holds(line, sensor)]
    return b"".join(kept), len(lines) - len(kept)


def _without_documents(text: bytes, sensor: str) -> tuple[bytes, int]:
    kept, removed = [], 0
    for one in failed_records.read(text):
        if one.document is None:
            broken = f'"{sensor}"'.encode() in one.text
            removed += broken
            if not broken:
                kept.append(one)
            continue
        lines = [line for line in one.lines if not holds(line, sensor)]
        removed += len(one.lines) - len(lines)
        if len(lines) == len(one.lines):
            kept.append(one)
        elif lines:
            kept.append(one.keeping(lines))
    return failed_records.written(kept), removed


class Objects:
    def __init__(self, bucket: str, prefix: str, sensor: str, documents: bool):
        self.bucket, self.prefix, self.sensor, self.documents = bucket, prefix, sensor, documents

    def count(self) -> int:
        return sum(removed for *_, removed in self._found())

    def erase(self) -> None:
        for version, latest, kept, _ in self._found():
            if latest and kept:
                self._replace(version["Key"], kept)
            aws("s3api", "delete-object", request={"Bucket": self.bucket, **version})

    def _replace(self, key: str, body: bytes) -> None:
        known = aws("s3api", "head-object", request={"Bucket": self.bucket, "Key": key})
        kind = [word for name, option in (("ContentType", "--content-type"), ("ContentEncoding", "--content-encoding"))
                if known.get(name) for word in (option, known[name])]
        with tempfile.NamedTemporaryFile() as file:
            file.write(body)
            file.flush()
            aws("s3api", "put-object", "--bucket", self.bucket, "--key", key, "--body", file.name, *kind)

    def _found(self) -> Iterator[tuple[dict[str, str], bool, bytes, int]]:
        """Each version with lines of the sensor: which, whether it is the latest, what is kept of it, how many lines go."""
        folders: dict[str, list[dict]] = {}
        for answer in answers(self.bucket, self.prefix):
            # What ends in / is a folder that the console made.
            for entry in (one for one in answer.get("Versions") or [] if not one["Key"].endswith("/")):
                folders.setdefault(entry["Key"].rpartition("/")[0], []).append(entry)
        for folder, entries in folders.items():
            with tempfile.TemporaryDirectory() as place:
                # All that are current at once, side by side: one call for each would take a day for a year of them.
                self._download(folder, place)
                for entry in entries:
                    version = {"Key": entry["Key"], "VersionId": entry["VersionId"]}
                    file = Path(place) / entry["Key"].rpartition("/")[2]
                    if not entry["IsLatest"] or not file.exists():
                        file = Path(place) / ".older"
                        of = ("--bucket", self.bucket, "--key", entry["Key"], "--version-id", entry["VersionId"])
                        aws("s3api", "get-object", *of, str(file))
                    try:
                        kept, removed = without(file.read_bytes(), self.sensor, self.documents)
                    except failed_records.Unreadable as error:
                        raise AwsError(f"{entry['Key']} cannot be unpacked: look into it, and delete it by hand") from error
                    if removed:
                        yield version, entry["IsLatest"], kept, removed

    def _download(self, folder: str, place: str) -> None:
        run = subprocess.run(["aws", "s3", "cp", "--recursive", "--only-show-errors", f"s3://{self.bucket}/{folder}/", place],
                             stdin=subprocess.DEVNULL, capture_output=True, text=True)
        if run.returncode != 0:
            raise AwsError(run.stderr.strip())


def delete_all(bucket: str, prefix: str, old_only: bool = False) -> None:
    """Every version below the prefix, or only those that are no longer current; and the marks of deletion."""
    chosen = []
    for answer in answers(bucket, prefix):
        versions = [one for one in answer.get("Versions") or [] if not (old_only and one["IsLatest"])]
        chosen.append({"Versions": versions, "DeleteMarkers": answer.get("DeleteMarkers")})
    # The whole list first, and versions before marks: without its mark an old version would be current again.
    _delete(bucket, [entry for answer in chosen for entry in listed({"Versions": answer["Versions"]})])
    _delete(bucket, [entry for answer in chosen for entry in listed({"DeleteMarkers": answer["DeleteMarkers"]})])


def delete_object(bucket: str, key: str) -> None:
    """Every version of this one object."""
    entries = [entry for answer in answers(bucket, key) for entry in listed(answer)]
    _delete(bucket, [entry for entry in entries if entry["Key"] == key])


def _delete(bucket: str, entries: list[dict[str, str]]) -> None:
    for begin in range(0, len(entries), OBJECTS_MAX):
        portion = {"Objects": entries[begin : begin + OBJECTS_MAX], "Quiet": True}
        errors = aws("s3api", "delete-objects", request={"Bucket": bucket, "Delete": portion}).get("Errors")
        if errors:
            raise AwsError(f"{len(errors)} objects could not be deleted: {errors[0]['Key']}: {errors[0].get('Code')}")
