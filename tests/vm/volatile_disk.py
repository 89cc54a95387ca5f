"""A disk with a volatile write cache, served over NBD, to cut the power of.

Writes stay in memory until the guest flushes them (or forces a write through); `cut` then loses what was not
flushed: all of it, or each sector by chance, which also tears and reorders writes, as real cards do.
"""

import random
import socket
import struct
import threading
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

SECTOR = 512
# The NBD protocol, fixed newstyle; its document names these.
OPTION_EXPORT_NAME, OPTION_INFO, OPTION_GO = 1, 6, 7
READ, WRITE, DISCONNECT, FLUSH = 0, 1, 2, 3
FLAG_FUA = 1
HAS_FLAGS, SEND_FLUSH, SEND_FUA = 1, 4, 8
FLAGS = HAS_FLAGS | SEND_FLUSH | SEND_FUA
REPLY_MAGIC = 0x3E889045565A9
REPLY_ACK, REPLY_INFO, REPLY_UNSUPPORTED = 1, 3, 0x80000001


@dataclass
class Cut:
    """What a power cut did, in sectors, and how busy the disk had been."""

    lost: int
    kept: int
    writes: int
    flushes: int


class VolatileDisk:
    """Serves `image` at `socket_path` until it is cut."""

    def __init__(self, image: Path, socket_path: Path, seed: int) -> None:
        self.file = image.open("r+b")
        self.size = image.stat().st_size
        self.socket_path = socket_path
        self.dirty: dict[int, bytes] = {}
        self.random, self.lock, self.dead = random.Random(seed), threading.Lock(), False
        self.writes = self.flushes = 0
        socket_path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(socket_path))
        self.listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def drive(self) -> str:
        """For Machine's `root_drive` or `extra_drives`."""
        return f"file=nbd+unix:///?socket={self.socket_path},format=raw,cache=writeback"

    def cut(self, keep: float = 0.0) -> Cut:
        """The power goes: each unflushed sector survives with the chance `keep`. Kill the machine first."""
        with self.lock:
            self.dead = True
            kept = [offset for offset in self.dirty if self.random.random() < keep]
            lost = len(self.dirty) - len(kept)
            self._apply(kept)
            self.dirty.clear()
            self.listener.close()
            self.file.close()
            return Cut(lost, len(kept), self.writes, self.flushes)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client:
                self._negotiate(client)
                while self._answer(client):
                    pass
        except (EOFError, OSError):
            pass  # the machine was killed, as it is meant to be

    def _negotiate(self, client: socket.socket) -> None:
        client.sendall(b"NBDMAGICIHAVEOPT" + struct.pack(">H", 3))
        _receive(client, 4)
        while True:
            _, option, length = struct.unpack(">8sII", _receive(client, 16))
            _receive(client, length)
            if option == OPTION_EXPORT_NAME:
                return client.sendall(struct.pack(">QH", self.size, FLAGS))
            if option not in (OPTION_INFO, OPTION_GO):
                client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_UNSUPPORTED, 0))
                continue
            info = struct.pack(">HQH", 0, self.size, FLAGS)
            client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_INFO, len(info)) + info)
            client.sendall(struct.pack(">QIII", REPLY_MAGIC, option, REPLY_ACK, 0))
            if option == OPTION_GO:
                return None

    def _answer(self, client: socket.socket) -> bool:
        _, flags, command, handle, offset, length = struct.unpack(">IHHQQI", _receive(client, 28))
        data = _receive(client, length) if command == WRITE else b""
        answer = b""
        with self.lock:
            if self.dead or command == DISCONNECT:
                return False
            if command == READ:
                answer = self._read(offset, length)
            elif command == WRITE:
                self.writes += 1
                for at in range(0, length, SECTOR):
                    self.dirty[offset + at] = data[at : at + SECTOR]
                if flags & FLAG_FUA:
                    self._apply(range(offset, offset + length, SECTOR))
            elif command == FLUSH:
                self.flushes += 1
                self._apply(list(self.dirty))
        client.sendall(struct.pack(">IIQ", 0x67446698, 0, handle) + answer)
        return True

    def _read(self, offset: int, length: int) -> bytes:
        self.file.seek(offset)
        data = bytearray(self.file.read(length))
        for at in range(0, length, SECTOR):
            if (sector := self.dirty.get(offset + at)) is not None:
                data[at : at + SECTOR] = sector
        return bytes(data)

    def _apply(self, offsets: Iterable[int]) -> None:
        for offset in offsets:
            if (sector := self.dirty.pop(offset, None)) is not None:
                self.file.seek(offset)
                self.file.write(sector)
        self.file.flush()


def _receive(client: socket.socket, length: int) -> bytes:
    data = bytearray()
    while len(data) < length:
        part = client.recv(length - len(data))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
