#!/usr/bin/env python3
"""Runs the scenarios on virtual machines, one line each; `run.py --list` shows them.

Needs root, and target/vm-venv with requirements.txt; builds the guest when it is missing or old.
"""

import argparse
import fcntl
import importlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

sys.dont_write_bytecode = True
import connects  # noqa: E402
from lab import Lab  # noqa: E402
from machine import ARCHES, ROOT  # noqa: E402
from scenario import SCENARIOS, Scenario  # noqa: E402

HERE = Path(__file__).resolve().parent
WORK = ROOT / "target/vm"


def chosen(args: argparse.Namespace) -> list[Scenario]:
    for file in sorted((HERE / "scenarios").glob("*.py")):
        importlib.import_module(f"scenarios.{file.stem}")
    wanted = [s for s in SCENARIOS if args.arch in s.arches and (s.soaks or not args.soak)]
    if args.names:
        starts = tuple(args.names)
        wanted = [s for s in wanted if s.name.startswith(starts) or s.number in starts or s.number.split(".")[0] in starts]
    return sorted(wanted, key=lambda s: (s.order, s.name))


def newest_package(arch: str) -> Path:
    packages = sorted(ROOT.glob(f"target/debian/hr-gatewayd_*_{arch}.deb"), key=lambda path: path.stat().st_mtime)
    if not packages:
        sys.exit(f"no target/debian/hr-gatewayd_*_{arch}.deb; packaging/build-deb.sh {arch} makes it")
    return packages[-1]


def run(scenario: Scenario, args: argparse.Namespace, deb: Path) -> bool:
    """One scenario in a folder of its own; says how it went."""
    # Short, as the paths of sockets must be.
    folder = Path(tempfile.mkdtemp(prefix="hr-vm-"))
    logs = WORK / "logs" / f"{scenario.number}-{scenario.name}"
    shutil.rmtree(logs, ignore_errors=True)
    began = time.monotonic()
    lab = None
    try:
        lab = Lab(folder, args.arch, deb, scenario.straps, scenario.controllers, args.soak)
        scenario.run(lab)
        failure = None
    except Exception as error:
        failure = error
        logs.mkdir(parents=True)
        (logs / "failure.txt").write_text(traceback.format_exc())
        if lab is not None:
            lab.keep_logs(logs)
    finally:
        if lab is not None:
            lab.close()
        if args.keep:
            print(f"     kept {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)
    took = f"({time.monotonic() - began:.1f} s)"
    if failure is None:
        print(f"ok   {scenario.number} {scenario.line} {took}", flush=True)
    else:
        reason = (str(failure).splitlines() or [""])[0][:300] or repr(failure)
        where = logs.relative_to(ROOT)
        print(f"FAIL {scenario.number} {scenario.line} {took}: {reason}; logs in {where}", flush=True)
    return failure is None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="numbers (2, 2.1) or beginnings of names; by default all")
    parser.add_argument("--list", action="store_true", help="show the scenarios, run none")
    parser.add_argument("--arch", choices=ARCHES, default="amd64")
    parser.add_argument("--deb", type=Path, help="the package; by default the newest in target/debian")
    parser.add_argument("--keep", action="store_true", help="keep each run's folder, with the disk")
    parser.add_argument("--soak", type=int, metavar="N", help="only what can be soaked, N rounds of each")
    parser.add_argument("--connects", type=int, metavar="N", help="no scenario: measure N connects for each loss")
    args = parser.parse_args()
    scenarios = [connects.measuring(args.connects)] if args.connects else chosen(args)
    if args.list:
        for scenario in scenarios:
            print(f"{scenario.number:<5} {scenario.name:<40} {scenario.line}")
        return
    # A kill of ours ends the children too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    deb = args.deb or newest_package(args.arch)
    WORK.mkdir(parents=True, exist_ok=True)
    # Port 123 serves one run: in each network namespace there is one.
    here = os.stat("/proc/self/ns/net").st_ino
    with (WORK / f"lock-{here}").open("w") as lock, (WORK / "lock").open("w") as image_lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fcntl.flock(image_lock, fcntl.LOCK_EX)
        subprocess.run([HERE / "build-image.sh", args.arch], check=True)
        fcntl.flock(image_lock, fcntl.LOCK_UN)
        passed = [run(scenario, args, deb) for scenario in scenarios]
    print(f"{sum(passed)} passed, {len(passed) - sum(passed)} failed")
    sys.exit(not all(passed) or not passed)


if __name__ == "__main__":
    main()
