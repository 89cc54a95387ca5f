"""Plays power cuts: puts the disk together as the cut left it, has the kernel mount it, opens the store, judges."""

import json
import multiprocessing
import os
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from disk import loop_device, mounted
from judge import Known, judge
from trace import Case, Disk, Image, Trace

ROOT = Path(__file__).resolve().parents[3]
STORE = ROOT / "target/debug/examples/store"
QUEUE = "gateway/queue"
MEMORY = Path("/dev/shm")
# An unmount waits longer than it works.
PLAYERS = 2 * (os.cpu_count() or 1)
OPEN_S_MAX = 60


@dataclass
class Verdict:
    """What came of a case. `mended`: the file system needed its check before it could be mounted."""

    case: Case
    faults: list[str] = field(default_factory=list)
    mended: bool = False


def play_all(folder: Path, cases: list[Case]) -> Iterator[Verdict]:
    """All of them, as they get done."""
    size = max(1, len(cases) // (4 * PLAYERS))
    parts = [cases[at : at + size] for at in range(0, len(cases), size)]
    with multiprocessing.Pool(PLAYERS, initializer=_read, initargs=(folder,)) as pool:
        for verdicts in pool.imap_unordered(_play_part, parts):
            yield from verdicts


def play_one(folder: Path, case: Case) -> Verdict:
    """A single one."""
    _read(folder)
    return _play_part([case])[0]


def _read(folder: Path) -> None:
    global trace  # each player's own
    trace = Trace(folder)


def _play_part(cases: list[Case]) -> list[Verdict]:
    disk, known, heard, verdicts = Disk(trace), Known(), 0, []
    for case in cases:
        for mark in trace.marks(heard, case.position):
            known.hear(mark)
        heard = case.position
        verdicts.append(_play(case, disk.cut(case), known))
    return verdicts


def _play(case: Case, image: Image, known: Known) -> Verdict:
    verdict = Verdict(case)
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="power-cut-") as scratch:
        file, folder = Path(scratch, "disk.img"), Path(scratch, "mnt")
        folder.mkdir()
        image.save(file)
        with loop_device(file) as device:
            try:
                verdict.faults = _open(device, folder, known)
            except OSError:
                # As at a real boot, which checks first.
                status = subprocess.run(["e2fsck", "-p", device], capture_output=True).returncode
                verdict.mended = True
                if status > 1:
                    verdict.faults = [f"e2fsck -p ends with {status}"]
                else:
                    verdict.faults = _open(device, folder, known)
    return verdict


def _open(device: str, folder: Path, known: Known) -> list[str]:
    with mounted(device, folder):
        try:
            opened = subprocess.run([STORE, "open", folder / QUEUE], capture_output=True, timeout=OPEN_S_MAX)
        except subprocess.TimeoutExpired:
            return [f"the store did not open within {OPEN_S_MAX} s"]
    printed = [json.loads(line) for line in opened.stdout.splitlines()]
    faults = judge(known, printed)
    if opened.returncode:
        faults.append(f"exit {opened.returncode}: {opened.stderr.decode()}")
    return faults
