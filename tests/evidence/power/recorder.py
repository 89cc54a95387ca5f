"""A disk that remembers: one file, served by FUSE, that takes down every write and flush in the order it gets them.

A loop device makes a block device of the file, so that the kernel's own file system stands on it. The kernel turns a
flush of that device (and a forced write) into an fsync of the file, and answers it only when this program has: what
was written before a flush in the record is on the disk after it, and nothing else need be.

A second file, `marks`, goes into the same record. Who writes a line there and gets an answer knows that all that the
disk has received before stands before it: so "append returned" has its place between the writes.
"""

import ctypes
import os
import struct
import sys
from contextlib import suppress
from pathlib import Path

# linux/fuse.h names these.
LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC = 1, 2, 3, 4, 14, 15, 16, 17, 18, 20
FLUSH, INIT, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET = 25, 26, 34, 36, 38, 42
ASYNC_READ, BIG_WRITES, MAX_PAGES, DIRECT_IO = 1 << 0, 1 << 5, 1 << 22, 1 << 0
PAGES_MAX = 256
REQUEST_BYTES_MAX = PAGES_MAX * 4096 + 4096
ENOENT, ENOSYS = 2, 38
ROOT, DISK, MARKS = 1, 2, 3
NAMES = {b"disk": DISK, b"marks": MARKS}
FOREVER_S = 1 << 30
# One entry of the record: its kind, the offset and length of what was written, then the bytes.
ENTRY = struct.Struct("<cQI")
WRITTEN, FLUSHED, MARKED = b"W", b"F", b"M"


class Recorder:
    """Serves the disk at `folder` until it is unmounted, and writes the record to `record`."""

    def __init__(self, folder: Path, image: bytes, record: Path) -> None:
        self.image, self.record = bytearray(image), record.open("wb")
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        options = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0".encode()
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.mount(b"recorder", os.fsencode(folder), b"fuse", 0, options):
            raise OSError(ctypes.get_errno(), "mount the recorder")

    def serve(self) -> None:
        while True:
            try:
                request = os.read(self.fuse, REQUEST_BYTES_MAX)
            except OSError:  # unmounted
                break
            _, operation, unique, node = struct.unpack_from("<IIQQ", request)
            if operation == DESTROY:
                break
            if operation in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            error, answer = self.answer(operation, node, memoryview(request)[40:])
            with suppress(FileNotFoundError):  # who asked was killed, or the mount is going
                os.write(self.fuse, struct.pack("<IiQ", 16 + len(answer), -error, unique) + answer)
        self.record.close()

    def answer(self, operation: int, node: int, body: memoryview) -> tuple[int, bytes]:
        if operation == WRITE:
            _, offset, length = struct.unpack_from("<QQI", body)
            self.write(node, offset, bytes(body[40 : 40 + length]))
            return 0, struct.pack("<II", length, 0)
        if operation == READ:
            _, offset, length = struct.unpack_from("<QQI", body)
            return 0, bytes(self.image[offset : offset + length]) if node == DISK else b""
        if operation == FSYNC:
            if node == DISK:
                self.record.write(ENTRY.pack(FLUSHED, 0, 0))
            return 0, b""
        if operation == LOOKUP:
            found = NAMES.get(bytes(body).rstrip(b"\0"))
            entry = struct.pack("<QQQQII", found or 0, 0, FOREVER_S, FOREVER_S, 0, 0)
            return (0, entry + self.attributes(found)) if found else (ENOENT, b"")
        if operation in (GETATTR, SETATTR):
            return 0, struct.pack("<QII", FOREVER_S, 0, 0) + self.attributes(node)
        if operation == OPEN:
            return 0, struct.pack("<QII", 0, DIRECT_IO, 0)
        if operation == INIT:
            _, _, readahead = struct.unpack_from("<III", body)
            flags = ASYNC_READ | BIG_WRITES | MAX_PAGES
            return 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, readahead, flags, 16, 12, PAGES_MAX * 4096, 1, PAGES_MAX, 0, 0)
        return (0, b"") if operation in (RELEASE, FLUSH, ACCESS) else (ENOSYS, b"")

    def write(self, node: int, offset: int, data: bytes) -> None:
        kind = WRITTEN if node == DISK else MARKED
        if kind == WRITTEN:
            self.image[offset : offset + len(data)] = data
        self.record.write(ENTRY.pack(kind, offset, len(data)))
        self.record.write(data)

    def attributes(self, node: int) -> bytes:
        mode, size = (0o040700, 0) if node == ROOT else (0o100600, len(self.image) if node == DISK else 0)
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0, 4096, 0)


if __name__ == "__main__":
    folder, image, record = map(Path, sys.argv[1:])
    recorder = Recorder(folder, image.read_bytes(), record)
    print("ready", flush=True)
    recorder.serve()
