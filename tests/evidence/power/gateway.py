"""Takes down what the whole daemon does to a disk: a pretend BlueZ, the real `hr-gatewayd run`, a Kinesis of ours.

Append is inside the daemon. What it returned for is known from what the daemon says to `queue status`: appends come
one at a time, so when the count of received readings changes, what it was before has been acknowledged.
"""

import json
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from record import Recording, recording
from replay import ROOT

sys.path.append(str(ROOT / "tests/vm"))
from kinesis import Kinesis  # noqa: E402

DAEMON = ROOT / "target/debug/hr-gatewayd"
PYTHON = ROOT / "target/test-venv/bin/python"
STRAPS = {"strap": "C0:FF:EE:00:00:01", "watch": "C0:FF:EE:00:00:02"}
BURSTS, BURST_MAX, PAUSE_S_MAX = 130, 4, 0.03
STATUS_PAUSE_S = 0.02
WAIT_S = 60
CONTACT_ENERGY_RR = 0b11110
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "test",
    "AWS_SECRET_ACCESS_KEY": "test",
    "AWS_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
CONFIG = """
[gateway]
id = "evidence"
[clock]
synchronization = "trusted"
[queue]
path = "{queue}"
disk_headroom = "16 MiB"
[kinesis]
stream = "hr-kinesis-stream"
endpoint = "http://127.0.0.1:{port}"
[drain]
retry_delay_max = "200ms"
"""
SENSOR = '[[sensor]]\nid = "{}"\naddress = "{}"\n'


class TellingKinesis(Kinesis):
    """Says what it accepted before it answers."""

    def __init__(self, on: Recording, log: Path) -> None:
        self.on, self.order = on, threading.Lock()
        super().__init__(log)

    def put_records(self, body: dict[str, Any]) -> dict[str, Any]:
        with self.order:
            before = len(self.lines)
            answer = super().put_records(body)
            self.on.mark(delivered=self.lines[before:])
        return answer


class Bluez:
    """tests/bluez/mock_bluez.py on a bus of its own, in `folder`."""

    def __init__(self, folder: Path) -> None:
        bus, config = folder / "bus.sock", folder / "bus.conf"
        config.write_text((ROOT / "tests/bluez/bus.conf").read_text().replace("BUS_SOCKET", str(bus)))
        with (folder / "bus.log").open("wb") as log:
            command = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"]
            self.bus = subprocess.Popen(command, stderr=log)
        wait(bus.exists, "the bus")
        self.environment = {**os.environ, **ENVIRONMENT, "DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={bus}"}
        self.mock = subprocess.Popen(
            [PYTHON, "-B", ROOT / "tests/bluez/mock_bluez.py"],
            env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.mock.stdout and self.mock.stdout.readline() == "ready\n", "the pretend BlueZ is ready"

    def tell(self, command: str) -> Any:
        assert self.mock.stdin and self.mock.stdout
        self.mock.stdin.write(command + "\n")
        self.mock.stdin.flush()
        answer = self.mock.stdout.readline()
        assert answer.startswith("ok"), f"{command} was answered {answer}"
        return json.loads(answer[2:]) if answer[2:].strip() else None

    def subscribed(self) -> bool:
        stats = [self.tell(f"stats {address}") for address in STRAPS.values()]
        return all(one["connected"] and one["notify_sessions"] == 1 for one in stats)

    def close(self) -> None:
        for process in (self.mock, self.bus):
            process.kill()
            process.wait()


def wait(holds: Callable[[], Any], what: str) -> None:
    """For a state, never for an edge."""
    deadline = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < deadline, f"waited {WAIT_S} s for {what}"
        time.sleep(0.05)


class Watcher:
    """Asks the daemon, as `hr-gatewayd queue status` does, and marks what is sure to be acknowledged."""

    def __init__(self, on: Recording) -> None:
        self.on, self.ended, self.received = on, threading.Event(), 0
        self.thread = threading.Thread(target=self._watch)
        self.thread.start()

    def _watch(self) -> None:
        while not self.ended.wait(STATUS_PAUSE_S):
            received = self._ask()
            if received is not None and received > self.received:
                self.on.mark(acknowledged_count=self.received)
                self.received = received

    def _ask(self) -> int | None:
        try:
            with socket.socket(socket.AF_UNIX) as asking, asking.makefile("rwb") as talk:
                asking.settimeout(WAIT_S)
                asking.connect(f"{self.on.queue}.sock")
                talk.write(b'"status"\n')
                talk.flush()
                status = json.loads(talk.readline())["status"]
        except (OSError, ValueError):
            return None  # the daemon is not there (yet)
        return sum(row["readings"]["received"] for row in status["sensors"])

    def close(self) -> None:
        self.ended.set()
        self.thread.join()


@contextmanager
def gateway(bluez: Bluez, config: Path, log_path: Path, fault: str) -> Iterator[subprocess.Popen[bytes]]:
    """The daemon, in one of its lives, from its subscriptions on; dead at the end."""
    environment = {**bluez.environment, "HR_GATEWAYD_CONFIG": str(config), "INJECT_FAULT": fault}
    with log_path.open("ab") as log:
        daemon = subprocess.Popen([DAEMON, "run"], env=environment, stderr=log)
    try:
        wait(bluez.subscribed, "the gateway's subscriptions")
        yield daemon
    finally:
        daemon.kill()
        daemon.wait()


def whole_daemon(folder: Path, lives: int, fault: str = "") -> None:
    """Straps send, Kinesis is well, down, failing or ambiguous, and the daemon stops or is killed."""
    with tempfile.TemporaryDirectory(prefix="gateway-") as scratch, recording(folder) as on:
        config = Path(scratch, "config.toml")
        kinesis, bluez, watcher = TellingKinesis(on, folder / "kinesis.log"), Bluez(Path(scratch)), Watcher(on)
        try:
            text = CONFIG.format(queue=on.queue, port=kinesis.server.server_port)
            config.write_text(text + "".join(SENSOR.format(*strap) for strap in STRAPS.items()))
            for name, address in STRAPS.items():
                bluez.tell(f"sensor {address} {name}")
            serial = 1
            for life in range(lives):
                kinesis.down, kinesis.accept_then_cut = life % 4 == 1, life % 4 == 3
                kinesis.fail_rate = 0.3 if life % 4 == 2 else 0
                with gateway(bluez, config, folder / "daemon.log", fault) as daemon, on.written_out_by_others():
                    serial = play(on, bluez, serial)
                    if life % 2 == 0:
                        daemon.terminate()
                        daemon.wait()
        finally:
            watcher.close()
            bluez.close()
            kinesis.close()


def play(on: Recording, bluez: Bluez, serial: int) -> int:
    """Both straps send, from reading `serial` on; returns the next."""
    draw = random.Random(serial)
    for _ in range(BURSTS):
        name = draw.choice(list(STRAPS))
        readings = [reading(name, serial + n) for n in range(draw.randint(1, BURST_MAX))]
        serial += len(readings)
        on.mark(offered=[content for content, _ in readings])
        bluez.tell(f"notify {STRAPS[name]} {' '.join(payload for _, payload in readings)}")
        time.sleep(draw.uniform(0, PAUSE_S_MAX))
    return serial


def reading(strap: str, serial: int) -> tuple[dict[str, Any], str]:
    """What must come out, and the notification in hexadecimal digits."""
    rate, rr = 40 + serial % 180, 600 + serial % 700
    payload = bytes([CONTACT_ENERGY_RR, rate]) + serial.to_bytes(2, "little") + rr.to_bytes(2, "little")
    content = {"sensor_id": strap, "heart_rate": rate, "energy_expended_kj": serial, "rr_intervals_ms": [rr * 1000 / 1024]}
    return content, payload.hex()
