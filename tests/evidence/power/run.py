#!/usr/bin/env python3
"""Cuts the power of the queue's disk thousands of times, without a machine to boot.

What the real queue and the real daemon write to a disk is taken down, each write and flush; then the disk is put
together as a cut at some place would have left it, the kernel mounts it, the real code opens the store, and a judge
that knows only the contract looks at what comes out. For root; `packaging/test.sh evidence` builds what it needs.

    run.py                      some hundreds of cuts, and the same with the queue's second sync taken out
    run.py --cuts 10000         the long form: at every flush of the record, and between
    run.py --again FOLDER CASE  one case of a record that was kept
"""

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

sys.dont_write_bytecode = True
from gateway import whole_daemon  # noqa: E402
from record import queue_alone  # noqa: E402
from replay import ROOT, Verdict, play_all, play_one  # noqa: E402
from trace import FATES, Case, Disk, Trace  # noqa: E402

WORK = ROOT / "target/evidence/power"
FAULT = "no-second-sync"
CUTS, LIVES = 600, 4
# Each life is some hundred flushes; a long form has so many that each is cut at several times.
CUTS_PER_LIFE = 700
# So many that one of them finds the planted fault, or the judge is blind.
CUTS_PLANTED = 60
SHOWN_MAX = 5


def main() -> int:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--cuts", type=int, default=CUTS, help="of each of the two records half")
    arguments.add_argument("--seed", type=int, help="of the cuts; by default another each time")
    arguments.add_argument("--again", nargs=2, metavar=("FOLDER", "CASE"))
    chosen = arguments.parse_args()
    if os.geteuid():
        sys.exit("mounting takes root")
    if chosen.again:
        return again(Path(chosen.again[0]), Case.parse(chosen.again[1]))
    seed = chosen.seed if chosen.seed is not None else time.time_ns() % 1_000_000
    lives = max(LIVES, chosen.cuts // 2 // CUTS_PER_LIFE)
    shutil.rmtree(WORK, ignore_errors=True)
    failed = 0
    recorders: dict[str, Callable[..., None]] = {"queue": queue_alone, "gateway": whole_daemon}
    for name, take_down in recorders.items():
        failed += not survives(name, take_down, lives, chosen.cuts // 2, seed)
        failed += not finds_the_loss(f"{name}-planted", take_down, seed)
    total = 2 * len(recorders)
    print(f"{total - failed} passed, {failed} failed")
    return 1 if failed else 0


def survives(name: str, take_down: Callable[..., None], lives: int, cuts: int, seed: int) -> bool:
    """Takes down, cuts, and tells; keeps the record if something is wrong."""
    folder = WORK / name
    began = time.monotonic()
    take_down(folder, lives)
    recorded = time.monotonic()
    trace = Trace(folder)
    wrong = 0
    mended = 0
    for verdict in play_all(folder, trace.cases(cuts, seed)):
        mended += verdict.mended
        if verdict.faults:
            wrong += 1
            if wrong <= SHOWN_MAX:
                tell(folder, trace, verdict)
    print(
        f"{name}: {len(trace.spans)} spans between flushes recorded in {recorded - began:.0f} s; {cuts} cuts (seed {seed}) "
        f"in {time.monotonic() - recorded:.0f} s: {wrong} wrong, {mended} file systems checked before mounting"
    )
    return not wrong


def finds_the_loss(name: str, take_down: Callable[..., None], seed: int) -> bool:
    """With the queue's second sync taken out a loss must be found."""
    folder = WORK / name
    take_down(folder, 2, FAULT)
    verdicts = sorted(play_all(folder, Trace(folder).cases(CUTS_PLANTED, seed)), key=lambda verdict: verdict.case.seed)
    found = [number for number, verdict in enumerate(verdicts, 1) if verdict.faults]
    if not found:
        print(f"{name}: {CUTS_PLANTED} cuts without the second sync, and no loss was seen: the judge is blind")
        return False
    print(f"{name}: without the second sync {len(found)} of {CUTS_PLANTED} cuts lose; the first is cut {found[0]}")
    shutil.rmtree(folder)
    return True


def tell(folder: Path, trace: Trace, verdict: Verdict) -> None:
    """What is wrong, and the command that shows it again; the disk is kept, as the record is, until the next run."""
    image = folder / f"{verdict.case}.img"
    Disk(trace).cut(verdict.case).save(image)
    here = Path(__file__).resolve().relative_to(ROOT)
    print("\n".join(f"    {fault}" for fault in verdict.faults))
    print(f"  the disk as the cut left it: {image.relative_to(ROOT)}")
    print(f"  again: python3 {here} --again {folder.relative_to(ROOT)} {verdict.case}", flush=True)


def again(folder: Path, case: Case) -> int:
    """One case of a record that was kept."""
    assert case.fate in FATES, f"a fate is one of {', '.join(FATES)}"
    verdict = play_one(folder, case)
    print("\n".join(verdict.faults) or "nothing is wrong")
    return 1 if verdict.faults else 0


if __name__ == "__main__":
    sys.exit(main())
