"""Faults put into the daemon on purpose, by INJECT_FAULT, to which its debug build alone listens."""

import subprocess
from pathlib import Path

from lab import SERVICE, Lab
from machine import ROOT

DEBUG_DAEMON = ROOT / "target/debug/hr-gatewayd"
DROP_IN = f"/etc/systemd/system/{SERVICE}.service.d/fault.conf"
GUEST_DAEMON = "/opt/hr-gatewayd-debug"


def stripped(program: Path, folder: Path) -> Path:
    """A copy without its symbols, which are most of it."""
    copy = folder / f"{program.name}.stripped"
    subprocess.run(["strip", "-o", copy, program], check=True)
    return copy


def inject(lab: Lab, fault: str, service: str = "") -> None:
    """Has the service run the debug build with `fault` from its next start on; `service`: more of the unit's keys."""
    assert DEBUG_DAEMON.exists(), f"no {DEBUG_DAEMON.relative_to(ROOT)}, which alone has faults: cargo build makes it"
    lab.machine.put(stripped(DEBUG_DAEMON, lab.folder), GUEST_DAEMON)
    drop_in = f"[Service]\nExecStart=\nExecStart={GUEST_DAEMON} run\nEnvironment=INJECT_FAULT={fault}\n{service}\n"
    lab.machine.put(drop_in, DROP_IN)
    lab.machine.sh(f"chmod 755 {GUEST_DAEMON} && systemctl daemon-reload && sync")


def heal(lab: Lab) -> None:
    """The packaged daemon again, from its next start on."""
    lab.machine.sh(f"rm {DROP_IN} && systemctl daemon-reload")
