"""The radio process as a scenario sees it: `Radio` starts it, `Strap` is one of its straps.

A strap's attributes are read by `state()`: connected, linked_by (the controllers' addresses), subscribed, encrypted,
advertising, address, in_range, playing, requests, connections, subscriptions, pairings, sent; and the last
advertised_at, connected_at and subscribed_at, as time.monotonic() has it.
"""

import csv
import json
import socket
import subprocess
import time
from itertools import islice
from pathlib import Path
from typing import Any

from machine import ROOT, stop_child, venv_python

HERE = Path(__file__).resolve().parent
RECORDING = ROOT / "../shared/data/garmin-fenix2-run-47min.csv"
# The gateway's controllers; hci0 is the first to be attached.
CONTROLLERS = ("00:1A:7D:DA:71:13", "00:1A:7D:DA:71:14")
# Slow enough for an emulated machine, fast enough for a test.
PERIOD_S = 0.25


class Radio:
    """The air. It outlives the machine's power cycles, and so do its straps' bonds and logs."""

    def __init__(self, folder: Path, hci_sockets: list[Path], straps: dict[str, str]) -> None:
        self.control = folder / "radio.sock"
        ends = [f"--hci={hci}={address}" for hci, address in zip(hci_sockets, CONTROLLERS, strict=False)]
        ends += [f"--strap={name}={address}" for name, address in straps.items()]
        with (folder / "radio.log").open("ab") as log:
            self.process = subprocess.Popen(
                [venv_python(), "-B", str(HERE / "radio.py"), f"--control={self.control}", *ends],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        self.folder = folder
        self.connection = self._connect()
        self.stream = self.connection.makefile("rw")
        self.straps = {name: Strap(self, name, address) for name, address in straps.items()}

    def _connect(self) -> socket.socket:
        deadline = time.monotonic() + 60
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.control))
                return connection
            except OSError:
                connection.close()
                if self.process.poll() is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"the radio did not start; see {self.folder}/radio.log") from None
                time.sleep(0.02)

    def do(self, command: str, **arguments: Any) -> Any:
        self.stream.write(json.dumps({"do": command, **arguments}) + "\n")
        self.stream.flush()
        reply = json.loads(self.stream.readline() or '{"error": "the radio has ended"}')
        if "error" in reply:
            raise RuntimeError(f"radio, {command}: {reply['error']}")
        return reply["ok"]

    def attached(self, controller: int) -> bool:
        """Whether this controller of the gateway's is joined to the machine."""
        return bool(self.do("state")["attached"][controller])

    def plug(self, controller: int) -> None:
        self.do("plug", controller=controller)

    def unplug(self, controller: int) -> None:
        """Pulls a controller out; its links are lost."""
        self.do("unplug", controller=controller)

    def lose(self, rate: float, seed: int = 0) -> None:
        """From now on this part of all packets is lost on the air, as air.py says."""
        self.do("loss", rate=rate, seed=seed)

    def close(self) -> None:
        stop_child(self.process)
        self.connection.close()


class Strap:
    """One strap. peripheral.py says what each command does to it."""

    def __init__(self, radio: Radio, name: str, address: str) -> None:
        self.radio, self.name, self.address = radio, name, address

    def _do(self, command: str, **arguments: Any) -> Any:
        return self.radio.do(command, strap=self.name, **arguments)

    def state(self) -> dict[str, Any]:
        return self._do("state")

    def sent(self, start: int = 0) -> list[dict[str, Any]]:
        """Every notification that truly went to a subscribed central: serial, hr, rr, contact, raw, at."""
        return self._do("sent", start=start)

    def send(self, hr: int, **more: Any) -> int | None:
        """One value now (rr=[1/1024 s], contact=True|False|None, wide=, energy=); its serial, if it was heard."""
        return self._do("send", hr=hr, **more)

    def raw(self, value: str) -> bool:
        """Any bytes, in hex; whether they were heard."""
        return self._do("raw", value=value)

    def play(self, values: list[dict[str, Any]] | None = None, period: float = PERIOD_S, repeat: bool = True) -> None:
        """One of `values` (the arguments of `send`) each period; by default a real recording, over and over."""
        self._do("play", values=values or recording(), period=period, repeat=repeat)

    def stop(self) -> None:
        self._do("stop")

    def quiet(self, on: bool = True) -> None:
        self._do("quiet", on=on)

    def hang(self, on: bool = True) -> None:
        self._do("hang", on=on)

    def drop(self, reason: int = 0x13) -> None:
        self._do("drop", reason=reason)

    def out_of_range(self, supervision_s: float = 2.0) -> None:
        self._do("range", on=False, supervision_s=supervision_s)

    def in_range(self) -> None:
        self._do("range", on=True)

    def advertise(self, on: bool) -> None:
        self._do("advertise", on=on)

    def demand_encryption(self, on: bool = True) -> None:
        self._do("encryption", on=on)

    def forget_bonds(self) -> None:
        self._do("forget")

    def new_address(self) -> str:
        return self._do("new_address")


def recording(count: int = 400) -> list[dict[str, Any]]:
    """The first values of a run recorded by a watch (or, without the recordings, of a made one), with RR-Intervals."""
    if RECORDING.exists():
        with RECORDING.open() as file:
            rates = [int(row["heart_rate_bpm"]) for row in islice(csv.DictReader(file), count)]
    else:
        rates = [70 + abs(i % 160 - 80) for i in range(count)]
    # A beat each 60/rate seconds, one interval or two in a notification, as at 1 Hz.
    return [{"hr": rate, "rr": [60 * 1024 // rate] * (1 + rate // 100)} for rate in rates]
