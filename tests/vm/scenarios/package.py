"""Scenario 1.3: the package goes up, down and away over a full queue."""

import subprocess
from pathlib import Path

from lab import SERVICE, Lab
from scenario import scenario
from strap import recording

DATA = "/var/lib/hr-gatewayd"
FORMAT_MARK = f"{DATA}/queue/hr-gatewayd.described"


@scenario("1.3")
def upgrade_and_downgrade(lab: Lab) -> None:
    """upgrade with a full queue; downgrade refused if the store is newer; remove keeps the data, purge does not"""
    lab.kinesis.down = True
    lab.ready()
    lab.strap.play(recording(), period=0.05)
    lab.wait(lambda: lab.status()["totals"]["queued"] >= 100, "100 readings are queued")
    later = later_version(lab.deb, lab.folder)
    with lab.may_miss():
        lab.install(later)
        assert installed(lab) == "0.1.1"
        lab.subscribed()
    upgraded = lab.status()["totals"]
    assert upgraded["queued"] >= 100 and upgraded["delivered"] == 0, f"nothing was lost: {upgraded}"

    ours = lab.machine.sh(f"cat {FORMAT_MARK}")
    lab.machine.sh(f"echo 200 >{FORMAT_MARK}")
    started = running_since(lab)
    code, words = lab.machine.run(f"cp /mnt/share/{lab.deb.name} /root/; dpkg -i /root/{lab.deb.name}")
    assert code and "has format 200" in words and "DOWNGRADING" in words, f"dpkg said {code}: {words}"
    assert installed(lab) == "0.1.1" and running_since(lab) == started, "the later version is untouched, and runs"
    lab.machine.sh(f"echo {ours} >{FORMAT_MARK}")

    with lab.may_miss():
        # Of a store that it can read, it is an upgrade like any other.
        lab.install()
        assert installed(lab) == "0.1.0"
        lab.subscribed()
    lab.kinesis.down = False
    lab.arrive(upgraded["received"] + 10)
    with lab.may_miss():
        lab.machine.sh(f"dpkg --remove {SERVICE}")
        lab.machine.sh(f"test -f {DATA}/queue/db")
        lab.install()
        lab.start()
        lab.subscribed()
    lab.arrive(10)
    lab.balanced()
    lab.machine.sh(f"dpkg --purge {SERVICE}")
    left = lab.machine.sh(f"find {DATA} /etc/hr-gatewayd 2>/dev/null; true")
    assert not left, f"a purge left {left}"


def later_version(package: Path, folder: Path) -> Path:
    """The same package as 0.1.1."""
    tree, later = folder / "later", folder / package.name.replace("0.1.0", "0.1.1")
    subprocess.run(["dpkg-deb", "-R", package, tree], check=True)
    control = tree / "DEBIAN/control"
    control.write_text(control.read_text().replace("Version: 0.1.0", "Version: 0.1.1"))
    subprocess.run(["dpkg-deb", "-Zgzip", "-z1", "-b", tree, later], check=True, stdout=subprocess.DEVNULL)
    return later


def installed(lab: Lab) -> str:
    return lab.machine.sh(f"dpkg-query --show --showformat='${{Version}}' {SERVICE}")


def running_since(lab: Lab) -> str:
    shown = lab.machine.sh(f"systemctl show --property=ActiveState,ExecMainStartTimestampMonotonic {SERVICE}")
    assert "ActiveState=active" in shown, shown
    return shown
