"""One virtual machine: Debian's kernel, bluetoothd, systemd and dpkg under QEMU's software emulation.

Commands go in over the serial console, files over a shared folder, HCI over further serial ports to the
simulated radio, and the guest's 10.0.2.2 is the host's loopback. A machine starts warm (from a state saved after
a boot, half a second) or cold; its disk outlives `kill` and `power_on`, so a power cut can be survived.
Every process is a child of ours, and ended by its own handle.
"""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Software emulation on busy cores: generous, as it only bounds what hangs.
BOOT_TIMEOUT_S = 300
COMMAND_TIMEOUT_S = 120
SHARE = "/mnt/share"

COMMAND_LINE = (
    "root=/dev/vda rw quiet loglevel=3 mitigations=off audit=0 random.trust_cpu=on systemd.show_status=false"
)


@dataclass(frozen=True)
class Arch:
    """What differs from one architecture to the other."""

    name: str
    qemu: list[str]  # the program, the board and its serial ports
    command_line: str
    controller_ttys: tuple[str, ...]  # the guest's names of the ports that HCI goes over


ARCHES = {
    "amd64": Arch(
        "amd64",
        [
            "qemu-system-x86_64", "-M", "q35,usb=off", "-cpu", "Nehalem",
            "-device", "isa-serial,chardev=console,index=0", "-device", "isa-serial,chardev=hci0,index=1",
            "-device", "pci-serial,chardev=hci1",
        ],
        "console=ttyS0 tsc=reliable",
        ("ttyS1", "ttyS2"),
    ),
    "arm64": Arch(
        "arm64",
        [
            "qemu-system-aarch64", "-M", "virt,gic-version=3", "-cpu", "cortex-a53",
            "-serial", "chardev:console", "-device", "pci-serial,chardev=hci0",
        ],
        "console=ttyAMA0",
        ("ttyS0",),
    ),
}  # fmt: skip


class GuestError(Exception):
    """A command in the guest failed, or its answer did not come."""


@dataclass
class Machine:
    """`folder` takes the run's disk, sockets, shared folder and console log.

    `root_drive` replaces the disk (a `-drive` value without id and if, such as a VolatileDisk gives);
    `extra_drives` become vdb, vdc, …; `rtc` is the hardware clock at power on (`2019-01-01T00:00:00`).
    """

    folder: Path
    arch: str = "amd64"
    memory_mib: int = 640
    root_drive: str | None = None
    extra_drives: list[str] = field(default_factory=list)
    rtc: str | None = None
    network: bool = True

    def __post_init__(self) -> None:
        self.kind = ARCHES[self.arch]
        self.image = ROOT / "target/vm" / self.arch
        self.share = self.folder / "share"
        self.share.mkdir(parents=True, exist_ok=True)
        self.qemu: subprocess.Popen[bytes] | None = None
        self.console: socket.socket | None = None
        self.numbered = 0

    @property
    def hci_sockets(self) -> list[Path]:
        return [self.folder / f"hci{number}.sock" for number in range(len(self.kind.controller_ttys))]

    def start_warm(self) -> None:
        """Goes on from the saved state, which is made first if it is missing or older than the image."""
        assert self.root_drive is None and not self.extra_drives and self.rtc is None, "a saved state has its own"
        saved = self._saved_state()
        self._overlay(saved / "disk.qcow2", "qcow2")
        self._launch("-incoming", f"exec:cat {saved}/state")
        self._await_status("paused", "running", "prelaunch")
        if not self.network:
            self.cut_network()
        self.qmp("cont")
        self._settle()

    def start_cold(self) -> None:
        """Boots, on a new disk."""
        if self.root_drive is None:
            self._overlay(self.image / "root.ext4", "raw")
        self.power_on()

    def power_on(self) -> None:
        """Boots from the disk as it is."""
        self._launch()
        if not self.network:
            self.cut_network()
        self._await_boot()
        self._settle()

    def reboot(self) -> None:
        """An orderly reboot; returns when the console is back."""
        self._send("systemctl --no-block reboot")
        self._await_boot()
        self._settle()

    def kill(self) -> None:
        """Takes the power away. What the guest had not synced is lost."""
        if self.console is not None:
            self.console.close()
            self.console = None
        if self.qemu is not None:
            self.qemu.kill()
            self.qemu.wait()
            self.qemu = None

    def run(self, command: str, timeout: float = COMMAND_TIMEOUT_S) -> tuple[int, str]:
        """Exit code and output (stdout and stderr) of a shell command in the guest, as root."""
        number = self._send(command)
        self._read_until(b"@@BEGIN %d\n" % number, timeout)
        output = self._read_until(b"@@END %d " % number, timeout)
        code = self._read_until(b"\n", timeout)
        return int(code), output.decode(errors="replace").rstrip("\n")

    def sh(self, command: str, timeout: float = COMMAND_TIMEOUT_S) -> str:
        """As `run`, but a failure raises with the output."""
        code, output = self.run(command, timeout)
        if code:
            raise GuestError(f"`{command}` exited with {code}: {output[-2000:]}")
        return output

    def put(self, source: Path | str, guest_path: str) -> None:
        """Copies a file (or a text) into the guest, durably: an operator's file is older than the power cut."""
        handover = self.share / "handover"
        if isinstance(source, Path):
            shutil.copyfile(source, handover)
        else:
            handover.write_text(source)
        self.sh(f"install -D -m 644 {SHARE}/handover {guest_path} && sync")

    def get(self, command: str, timeout: float = COMMAND_TIMEOUT_S) -> str:
        """The stdout of a command that writes much: over the shared folder, not over the console."""
        self.sh(f"( {command} ) >{SHARE}/output", timeout)
        return (self.share / "output").read_text(errors="replace")

    def cut_network(self) -> None:
        self.qmp("set_link", name="net0", up=False)

    def restore_network(self) -> None:
        self.qmp("set_link", name="net0", up=True)

    def set_clock(self) -> None:
        """Gives the guest the host's time, as a battery-backed clock would."""
        self.sh(f"date -s @{time.time():.3f}")

    def qmp(self, command: str, **arguments: Any) -> Any:
        """One command to QEMU itself."""
        with self._connect("qmp.sock") as connection, connection.makefile("rw") as stream:
            stream.readline()
            answer: dict[str, Any] = {}
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                stream.write(json.dumps(request) + "\n")
                stream.flush()
                answer = json.loads(stream.readline())
                while "event" in answer:
                    answer = json.loads(stream.readline())
        if "error" in answer:
            raise GuestError(f"qmp {command}: {answer['error']['desc']}")
        return answer["return"]

    def _overlay(self, base: Path, kind: str) -> None:
        create = ["qemu-img", "create", "-q", "-f", "qcow2", "-F", kind, "-b", str(base)]
        subprocess.run([*create, str(self.folder / "disk.qcow2")], check=True)

    def _launch(self, *more: str) -> None:
        assert self.qemu is None, "the machine is on"
        for name in ("console.sock", "qmp.sock", *(hci.name for hci in self.hci_sockets)):
            (self.folder / name).unlink(missing_ok=True)
        # The file outlives QEMU, as what the guest wrote to a disk outlives its power.
        root = self.root_drive or f"file={self.folder}/disk.qcow2,format=qcow2,cache=writeback"
        arguments = [
            *self.kind.qemu, "-accel", "tcg,thread=multi", "-smp", "2", "-m", str(self.memory_mib),
            "-nodefaults", "-no-user-config", "-display", "none",
            "-kernel", f"{self.image}/vmlinuz", "-initrd", f"{self.image}/initrd.gz",
            "-append", f"{COMMAND_LINE} {self.kind.command_line}",
            "-object", "rng-random,filename=/dev/urandom,id=rng0", "-device", "virtio-rng-pci,rng=rng0",
            "-chardev", f"socket,id=console,path={self.folder}/console.sock,server=on,wait=off",
            "-qmp", f"unix:{self.folder}/qmp.sock,server=on,wait=off",
            "-netdev", "user,id=net0", "-device", "virtio-net-pci,netdev=net0,romfile=",
            "-virtfs", f"local,path={self.share},mount_tag=share,security_model=none",
        ]  # fmt: skip
        for number, hci in enumerate(self.hci_sockets):
            arguments += ["-chardev", f"socket,id=hci{number},path={hci},server=on,wait=off"]
        if self.rtc is not None:
            arguments += ["-rtc", f"base={self.rtc}"]
        for number, drive in enumerate([root, *self.extra_drives]):
            arguments += ["-drive", f"{drive},if=none,id=disk{number}"]
            arguments += ["-device", f"virtio-blk-pci,drive=disk{number}"]
        with (self.folder / "qemu.log").open("ab") as log:
            # In a session of its own, so that a Ctrl-C reaches the harness first.
            self.qemu = subprocess.Popen(
                [*arguments, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self.buffer = b""
        self.console = self._connect("console.sock")

    def _connect(self, name: str) -> socket.socket:
        deadline = time.monotonic() + 30
        while True:
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(str(self.folder / name))
                return connection
            except OSError:
                connection.close()
                if self.qemu is None or self.qemu.poll() is not None or time.monotonic() > deadline:
                    raise GuestError(f"no QEMU at {name}: {self._log_end()}") from None
                time.sleep(0.02)

    def _log_end(self) -> str:
        log = self.folder / "qemu.log"
        return log.read_text(errors="replace")[-500:] if log.exists() else "it is off"

    def _await_boot(self) -> None:
        self._read_until(b"@@READY ", BOOT_TIMEOUT_S)
        self._read_until(b"\n", COMMAND_TIMEOUT_S)

    def _settle(self) -> None:
        # The share cannot be mounted while a state is saved, so it is mounted at every start.
        self.sh(f"mountpoint -q {SHARE} || mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share {SHARE}")

    def _await_status(self, *wanted: str) -> None:
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while self.qmp("query-status")["status"] not in wanted:
            if time.monotonic() > deadline:
                raise GuestError("the saved state was not restored")
            time.sleep(0.02)

    def _send(self, command: str) -> int:
        assert self.console is not None, "the machine is off"
        self.numbered += 1
        line = base64.b64encode(command.encode()).decode()
        self.console.sendall(f"{self.numbered} {line}\n".encode())
        return self.numbered

    def _read_until(self, mark: bytes, timeout: float) -> bytes:
        """What the console says up to `mark`, which is taken too."""
        assert self.console is not None, "the machine is off"
        deadline = time.monotonic() + timeout
        while mark not in self.buffer:
            ready, _, _ = select.select([self.console], [], [], max(0, deadline - time.monotonic()))
            data = self.console.recv(65536) if ready else b""
            if not data:
                why = "the console was closed" if ready else f"no answer within {timeout:.0f} s"
                raise GuestError(f"{why}, awaiting {mark!r}; it said: {self.buffer[-1500:].decode(errors='replace')}")
            with (self.folder / "console.log").open("ab") as log:
                log.write(data)
            self.buffer += data.replace(b"\r\n", b"\n")
        found, self.buffer = self.buffer.split(mark, 1)
        return found

    def _saved_state(self) -> Path:
        saved = self.image / "snap"
        # Another image, QEMU, or set of devices makes another state.
        sources = [(self.image / "stamp").read_bytes(), Path(__file__).read_bytes()]
        sources.append(subprocess.run([self.kind.qemu[0], "--version"], capture_output=True, check=True).stdout)
        stamp = b"".join(sources)
        # Two runs may come to need it at once.
        with (self.image / "snap.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (saved / "stamp").exists() or (saved / "stamp").read_bytes() != stamp:
                self._make_saved_state(saved)
                (saved / "stamp").write_bytes(stamp)
        return saved

    def _make_saved_state(self, saved: Path) -> None:
        shutil.rmtree(saved, ignore_errors=True)
        saved.mkdir()
        machine = Machine(saved, self.arch, self.memory_mib)
        try:
            machine.start_cold()
            machine.sh(f"systemctl start bluetooth; umount {SHARE}; sync")
            machine._save(saved / "state")
        finally:
            machine.kill()

    def _save(self, file: Path) -> None:
        self.qmp("stop")
        self.qmp("migrate-set-parameters", **{"max-bandwidth": 1 << 33})
        self.qmp("migrate", uri=f"exec:cat > {file}")
        deadline = time.monotonic() + BOOT_TIMEOUT_S
        while (status := self.qmp("query-migrate").get("status")) != "completed":
            if status == "failed" or time.monotonic() > deadline:
                raise GuestError(f"the state was not saved: {status}")
            time.sleep(0.05)


def stop_child(child: subprocess.Popen[Any], timeout_s: float = 10) -> None:
    """Ends a process of ours: asked first, then killed."""
    if child.poll() is None:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def venv_python() -> str:
    """The Python that has Bumble."""
    return os.fspath(ROOT / "target/vm-venv/bin/python")
