"""A record of a disk, and what a power cut at any place of it may leave. Pure, but for reading the record.

A disk keeps what was written before a flush that it answered. Of what came after, it may keep anything: whole writes
or single sectors of them, in any order, of a sector that was written twice either.
"""

import json
import os
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recorder import ENTRY, FLUSHED, MARKED, WRITTEN

SECTOR, BLOCK = 512, 4096
# ext4 writes its superblock in place and cannot do without: it takes for granted that these two sectors are not torn.
SUPERBLOCK = range(1024, 2048)
ZEROS = bytes(BLOCK)
Write = tuple[int, bytes]  # offset, data


@dataclass(frozen=True)
class Case:
    """One power cut: after entry `position` of the record, with a `fate` of what was not flushed, drawn by `seed`."""

    position: int
    fate: str
    seed: int

    def __str__(self) -> str:
        return f"{self.position}:{self.fate}:{self.seed}"

    @staticmethod
    def parse(text: str) -> "Case":
        position, fate, seed = text.split(":")
        return Case(int(position), fate, int(seed))


@dataclass
class Image:
    """The bytes of a disk; blocks of zeros are left out, as most are."""

    size: int
    blocks: dict[int, bytes]

    @staticmethod
    def of(data: bytes) -> "Image":
        blocks = {at: data[at : at + BLOCK] for at in range(0, len(data), BLOCK)}
        return Image(len(data), {at: block for at, block in blocks.items() if block != ZEROS})

    def apply(self, writes: list[Write]) -> None:
        for offset, data in writes:
            end = offset + len(data)
            for at in range(offset // BLOCK * BLOCK, end, BLOCK):
                start, stop = max(at, offset), min(at + BLOCK, end)
                old = self.blocks.get(at, ZEROS)
                self.blocks[at] = old[: start - at] + data[start - offset : stop - offset] + old[stop - at :]

    def save(self, path: Path) -> None:
        with path.open("wb", buffering=0) as file:
            file.truncate(self.size)
            for at, block in self.blocks.items():
                os.pwrite(file.fileno(), block, at)


class Trace:
    """What a recorder took down: the disk as it was at first, then entries."""

    def __init__(self, folder: Path) -> None:
        self.first = (folder / "disk.img").read_bytes()
        self.entries = list(_entries((folder / "record").read_bytes()))
        kinds = [kind for kind, _, _ in self.entries]
        self.flushes = [place for place, kind in enumerate(kinds) if kind == FLUSHED]
        # Between two of these, something was written that a cut can take.
        self.spans = [
            (before, flush)
            for before, flush in zip([-1, *self.flushes], [*self.flushes, len(kinds)], strict=True)
            if WRITTEN in kinds[before + 1 : flush]
        ]

    def marks(self, start: int, end: int) -> list[dict[str, Any]]:
        """What was said between two places."""
        return [json.loads(data) for kind, _, data in self.entries[start:end] if kind == MARKED]

    def writes(self, start: int, end: int) -> list[Write]:
        return [(offset, data) for kind, offset, data in self.entries[start:end] if kind == WRITTEN]

    def cases(self, count: int, seed: int, first: int = 0) -> list[Case]:
        """`count` of them at places after entry `first`: every span in turn, each time with the next fate."""
        draw = random.Random(seed)
        spans = [span for span in self.spans if span[0] >= first]
        draw.shuffle(spans)
        cases = []
        for number in range(count):
            before, flush = spans[number % len(spans)]
            fate = list(FATES)[(number + number // len(spans)) % len(FATES)]
            # What was acknowledged last is known best just before the next flush.
            position = flush if fate == "nothing" else draw.randint(before + 1, flush)
            cases.append(Case(position, fate, draw.randrange(1 << 30)))
        return sorted(cases, key=lambda case: case.position)


class Disk:
    """The disk at a place of the record that only goes forward."""

    def __init__(self, trace: Trace) -> None:
        self.trace, self.durable, self.flushed = trace, Image.of(trace.first), -1

    def cut(self, case: Case) -> Image:
        """What is left of it."""
        flushed = max((place for place in self.trace.flushes if place < case.position), default=-1)
        self.durable.apply(self.trace.writes(self.flushed + 1, flushed + 1))
        self.flushed = flushed
        left = Image(self.durable.size, dict(self.durable.blocks))
        left.apply(FATES[case.fate](self.trace.writes(flushed + 1, case.position), random.Random(case.seed)))
        return left


def _in_sectors(write: Write) -> list[Write]:
    """What a disk writes whole or not at all."""
    offset, data = write
    cuts = [at for at in range(offset, offset + len(data), SECTOR) if at not in SUPERBLOCK[1:]]
    return [
        (start, data[start - offset : end - offset])
        for start, end in zip(cuts, [*cuts[1:], offset + len(data)], strict=True)
    ]


def _nothing(_writes: list[Write], _draw: random.Random) -> list[Write]:
    return []


def _torn(writes: list[Write], draw: random.Random) -> list[Write]:
    """The first writes whole, the beginning of the next."""
    if not writes:
        return []
    whole = draw.randrange(len(writes))
    sectors = _in_sectors(writes[whole])
    return [*writes[:whole], *sectors[: draw.randint(0, len(sectors))]]


def _reordered(writes: list[Write], draw: random.Random) -> list[Write]:
    """Some writes whole, in another order."""
    return draw.sample(writes, draw.randint(0, len(writes)))


def _sectors(chance: float) -> Callable[[list[Write], random.Random], list[Write]]:
    """Each sector of each write by chance; of two that overlap, either may be the later."""

    def fate(writes: list[Write], draw: random.Random) -> list[Write]:
        kept = [sector for write in writes for sector in _in_sectors(write) if draw.random() < chance]
        draw.shuffle(kept)
        return kept

    return fate


FATES: dict[str, Callable[[list[Write], random.Random], list[Write]]] = {
    "nothing": _nothing,
    "half": _sectors(0.5),
    "torn": _torn,
    "most": _sectors(0.9),
    "reordered": _reordered,
    "few": _sectors(0.1),
}


def _entries(record: bytes) -> Iterator[tuple[bytes, int, bytes]]:
    at = 0
    while at < len(record):
        kind, offset, length = ENTRY.unpack_from(record, at)
        at += ENTRY.size
        yield kind, offset, record[at : at + length]
        at += length
