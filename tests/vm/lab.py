"""What a scenario is given: a machine, straps, a Kinesis, a clock, and the check that everything is accounted for."""

import json
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ledger
from kinesis import Kinesis
from machine import GuestError, Machine
from ntp import Ntp
from strap import Radio, Strap

T = TypeVar("T")

# Emulated, on busy cores, beside compilers: bounds what hangs, decides nothing.
WAIT_S = 180
SERVICE = "hr-gatewayd"
CONFIG = "/etc/hr-gatewayd/config.toml"
STREAM = "hr-kinesis-stream"
CREDENTIALS = "[default]\naws_access_key_id = test\naws_secret_access_key = test\n"
ADAPTER_POWERED = "busctl get-property org.bluez /org/bluez/hci0 org.bluez.Adapter1 Powered"


class Lab:
    """Straps are called strap-1, strap-2, …, and so are the gateway's sensors."""

    def __init__(
        self, folder: Path, arch: str, deb: Path, straps: int = 1, controllers: int = 1, rounds: int | None = None
    ) -> None:
        self.folder, self.arch, self.deb, self.asked_rounds = folder, arch, deb, rounds
        self.machine = Machine(folder, arch)
        self.addresses = {f"strap-{n}": f"C0:FF:EE:00:00:{n:02X}" for n in range(1, straps + 1)}
        self.controllers = range(controllers)
        self.windows: list[tuple[float, float]] = []
        self.radio: Radio | None = None
        self.kinesis = Kinesis(folder / "kinesis.log")
        self.ntp = Ntp()

    def close(self) -> None:
        self.machine.kill()
        if self.radio is not None:
            self.radio.close()
        self.kinesis.close()
        self.ntp.close()

    @property
    def straps(self) -> list[Strap]:
        assert self.radio is not None, "the radio comes with `attach`"
        return list(self.radio.straps.values())

    @property
    def strap(self) -> Strap:
        return self.straps[0]

    def rounds(self, usual: int) -> int:
        """How often to repeat: as usual, or as often as `--soak` says."""
        return self.asked_rounds or usual

    # Bringing it up, step by step.

    def boot(self, cold: bool = False, synchronized: bool = True) -> None:
        """The machine is up, and knows the time unless told not to."""
        self.machine.start_cold() if cold else self.machine.start_warm()
        if synchronized:
            self.machine.set_clock()
            self.machine.sh("rm -f /run/systemd/timesync/synchronized; systemctl restart systemd-timesyncd")
            self.machine.sh("until [ -e /run/systemd/timesync/synchronized ]; do sleep 0.1; done")

    def attach(self, *controllers: int) -> None:
        """The radio is there, and these controllers (or all) are plugged in and powered."""
        if self.radio is None:
            self.radio = Radio(self.folder, self.machine.hci_sockets, self.addresses)
        for number in controllers or self.controllers:
            self.radio.plug(number)
            self.wait(lambda n=number: self.radio.attached(n), "the controller is joined to the machine")
            self.machine.sh(f"systemctl start controller@{self.machine.kind.controller_ttys[number]}")
            powered = ADAPTER_POWERED.replace("hci0", f"hci{number}")
            self.wait(lambda p=powered: "true" in self.machine.run(p)[1], "the adapter is powered")

    def detach(self, *controllers: int) -> None:
        """These controllers (or all) are pulled out."""
        assert self.radio is not None
        for number in controllers or self.controllers:
            self.radio.unplug(number)
            self.machine.sh(f"systemctl stop controller@{self.machine.kind.controller_ttys[number]}")

    def reboot(self) -> None:
        """An orderly reboot; controllers are out meanwhile, or would talk to nobody. `attach` puts them in."""
        self.detach()
        self.machine.reboot()

    def install(self, deb: Path | None = None) -> str:
        """Installs a package (by default the one under test) with dpkg; returns what dpkg said."""
        package = deb or self.deb
        shutil.copyfile(package, self.machine.share / package.name)
        return self.machine.sh(f"DEBIAN_FRONTEND=noninteractive dpkg -i /mnt/share/{package.name}")

    def configure(self, more: str = "", sensor: str = "") -> None:
        """Writes the configuration; `more` are sections, `sensor` keys for each sensor (`bond = true`)."""
        sections = [f'[gateway]\nid = "vm"\n[kinesis]\nstream = "{STREAM}"\nregion = "eu-central-1"']
        sections += [f'endpoint = "{self.kinesis.endpoint}"', more]
        sections += [f'[[sensor]]\nid = "{name}"\naddress = "{at}"\n{sensor}' for name, at in self.addresses.items()]
        self.machine.put("\n".join(sections) + "\n", CONFIG)
        self.machine.put(CREDENTIALS, "/etc/hr-gatewayd/aws-credentials")

    def start(self) -> None:
        """Starts the daemon (again)."""
        self.machine.sh(f"systemctl restart {SERVICE}")

    def stop(self) -> None:
        self.machine.sh(f"systemctl stop {SERVICE}")

    def ready(self, more: str = "", sensor: str = "", cold: bool = False) -> None:
        """All of it: booted, attached, installed, configured, started, and subscribed to every strap."""
        self.boot(cold)
        self.attach()
        self.install()
        self.configure(more, sensor)
        self.start()
        self.subscribed()

    # Looking and waiting.

    def wait(self, holds: Callable[[], T], what: str, timeout: float = WAIT_S) -> T:
        """Until `holds()` is truthy; returns that. Never for an edge, never by a sleep."""
        deadline = time.monotonic() + timeout
        while not (value := holds()):
            if time.monotonic() > deadline:
                raise AssertionError(f"not within {timeout:.0f} s: {what}")
            time.sleep(0.1)
        return value

    def subscribed(self, *straps: Strap) -> None:
        """Waits until the gateway is subscribed to these straps (or all)."""
        for strap in straps or self.straps:
            self.wait(lambda s=strap: s.state()["subscribed"], f"{strap.name} is subscribed to")

    def arrive(self, count: int, *straps: Strap) -> None:
        """Waits until `count` more readings of each of these straps (or all) have come to Kinesis."""
        wanted = {s.name: self._arrived(s) + count for s in straps or self.straps}
        for strap in straps or self.straps:
            self.wait(
                lambda s=strap: self._arrived(s) >= wanted[s.name],
                f"{count} more readings of {strap.name} in Kinesis (there are {self._arrived(strap)})",
            )

    def all_arrived(self, *straps: Strap) -> None:
        """Waits until all that these straps (or all) have sent is in Kinesis."""
        for strap in straps or self.straps:
            self.wait(lambda s=strap: self._arrived(s) >= s.state()["sent"], f"all of {strap.name} in Kinesis")

    def _arrived(self, strap: Strap) -> int:
        return sum(r["sensor_id"] == strap.name and "heart_rate" in r for r in self.kinesis.readings())

    def gaps(self, reason: str | None = None) -> list[dict[str, Any]]:
        """The gap records that have come to Kinesis."""
        gaps = [line for line in self.kinesis.readings() if "gap_reason" in line]
        return [gap for gap in gaps if reason in (None, gap["gap_reason"])]

    def journal(self, *options: str) -> list[dict[str, Any]]:
        """The daemon's journal (or with `journalctl` options, a part of it) as its fields."""
        text = self.machine.get(f"journalctl --no-pager -u {SERVICE} -o json {' '.join(options)}")
        return [json.loads(line) for line in text.splitlines()]

    def said(self, text: str) -> list[dict[str, Any]]:
        """The daemon's journal entries whose message contains this."""
        return [entry for entry in self.journal() if text in str(entry.get("MESSAGE"))]

    def status(self) -> dict[str, Any]:
        """`hr-gatewayd queue status`, of a running or a stopped daemon."""
        return json.loads(self.machine.get(f"{SERVICE} queue status --json"))

    # The closing account.

    @contextmanager
    def may_miss(self) -> Iterator[None]:
        """What the straps send meanwhile need not arrive (the daemon is dead, the power is out, …)."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.windows.append((began, time.monotonic()))

    def balanced(self, duplicates: bool = False, lost: int = 0, in_gaps: bool = False) -> ledger.Account:
        """Ends a scenario: stops the straps, awaits delivery of all that is queued, and checks every promise.

        `duplicates`: ids may come twice to Kinesis, since a failure was ambiguous. `lost`: so many
        readings were given up by policy (evicted, dead-lettered); their number must be exact. `in_gaps`: what was sent
        may be missing where a gap record of that sensor stands in its place.
        """
        for strap in self.straps:
            strap.stop()
        status = self.wait(self._drained, "the queue is drained")
        sent = {strap.name: strap.sent() for strap in self.straps}
        return ledger.check(status, self.kinesis.readings(), sent, self.windows, duplicates, lost, in_gaps)

    def _drained(self) -> dict[str, Any] | None:
        status = self.status()
        # The last notifications may still be on their way through bluetoothd.
        again = self.status()
        queued = sum(account["queued"] for s in again["sensors"] for account in (s["readings"], s["other_records"]))
        return again if queued == 0 and again["totals"] == status["totals"] else None

    def keep_logs(self, into: Path) -> None:
        """Everything that tells what went wrong."""
        into.mkdir(parents=True, exist_ok=True)
        if self.machine.console is not None:
            try:
                for name, form in (("journal.txt", "short-monotonic"), ("journal.json", "json")):
                    (into / name).write_text(self.machine.get(f"journalctl --no-pager -b all -o {form}", 60))
            except (GuestError, OSError) as error:
                (into / "journal.txt").write_text(f"the machine did not give its journal: {error}\n")
        if self.radio is not None and self.radio.process.poll() is None:
            for strap in self.straps:
                lines = [json.dumps(strap.state()), *map(json.dumps, strap.sent())]
                (into / f"{strap.name}.ndjson").write_text("\n".join(lines) + "\n")
        lines = map(json.dumps, self.kinesis.readings())
        (into / "kinesis.ndjson").write_text("\n".join(lines) + "\n")
        for log in self.folder.glob("*.log"):
            shutil.copy(log, into)
