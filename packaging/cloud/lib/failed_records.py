"""An object that Firehose wrote under errors/: one JSON document a line, the record itself in `rawData`, base64.

What must hold: reading and writing back an object changes nothing but what was asked for; a line's own text never
appears in a message, since it is health data.
"""

import base64
import binascii
import gzip
import json
import re
import zlib
from dataclasses import dataclass, replace

GZIP_MAGIC = b"\x1f\x8b"
NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")  # As src/reading.rs has it.
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


class Unreadable(Exception):
    """The object is compressed, and broken."""


@dataclass(frozen=True)
class Failed:
    """One document: where it stands, what it says, and the lines of its record."""

    place: int
    document: dict | None
    lines: tuple[bytes, ...]
    text: bytes  # The document as it was read, if it could not be taken apart.

    def keeping(self, lines: list[bytes]) -> "Failed":
        return replace(self, lines=tuple(lines))

    def written(self) -> bytes:
        if self.document is None:
            return self.text
        raw = base64.b64encode(b"".join(line + b"\n" for line in self.lines)).decode()
        return json.dumps(self.document | {"rawData": raw}, separators=(",", ":")).encode()


def unpacked(body: bytes) -> tuple[bytes, bool]:
    """The object's text, and whether it was compressed."""
    if not body.startswith(GZIP_MAGIC):
        return body, False
    try:
        return gzip.decompress(body), True
    except (OSError, EOFError, zlib.error) as error:
        raise Unreadable from error


def packed(body: bytes, compressed: bool) -> bytes:
    return gzip.compress(body, mtime=0) if compressed else body


def read(body: bytes) -> list[Failed]:
    found = []
    for place, text in enumerate(body.split(b"\n"), start=1):
        if not text.strip():
            continue
        try:
            document = json.loads(text)
            raw = base64.b64decode(document["rawData"], validate=True)
        except (ValueError, KeyError, TypeError, binascii.Error):
            found.append(Failed(place, None, (), text))
            continue
        found.append(Failed(place, document, tuple(line for line in raw.split(b"\n") if line.strip()), text))
    return found


def written(documents: list[Failed]) -> bytes:
    return b"".join(document.written() + b"\n" for document in documents)


def reading(line: bytes) -> dict | None:
    """The line's fields, if it is one that the table takes."""
    try:
        fields = json.loads(line)
    except ValueError:
        return None
    if not isinstance(fields, dict):
        return None
    texts = all(isinstance(fields.get(name), str) for name in ("timestamp", "reading_id", "sensor_id", "gateway_id"))
    if not texts or not TIMESTAMP.fullmatch(fields["timestamp"]) or not NAME.fullmatch(fields["sensor_id"]):
        return None
    rate = fields.get("heart_rate")
    return fields if rate is None or isinstance(rate, int) and not isinstance(rate, bool) else None
