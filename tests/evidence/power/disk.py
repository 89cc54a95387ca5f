"""Loop devices and mounts of Linux, as far as the power cuts need them. For root."""

import ctypes
import fcntl
import os
import struct
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# linux/loop.h names these.
LOOP_CTL_GET_FREE, LOOP_CONFIGURE, LOOP_CLR_FD = 0x4C82, 0x4C0A, 0x4C01
EBUSY, MNT_DETACH = 16, 2
# The smallest on which `queue.disk_headroom` leaves the daemon room.
IMAGE_BYTES = 48 << 20
# A small journal (the smallest for 4 KiB blocks), so that it wraps often; nothing left to a kernel thread for later,
# which would add writes that are none of the queue's.
MAKE_FILE_SYSTEM = ["mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-m", "0", "-N", "256", "-E",
                    "lazy_itable_init=0,lazy_journal_init=0,nodiscard"]  # fmt: skip
TRIES, PAUSE_S = 200, 0.01

libc = ctypes.CDLL(None, use_errno=True)


def make_image(path: Path) -> None:
    """An empty ext4 file system as Debian makes it, but small."""
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run([*MAKE_FILE_SYSTEM, path], check=True)


@contextmanager
def loop_device(image: Path) -> Iterator[str]:
    """A block device over `image`."""
    file = os.open(image, os.O_RDWR)
    try:
        device, handle = _attach(file)
    finally:
        os.close(file)
    try:
        yield device
    finally:
        fcntl.ioctl(handle, LOOP_CLR_FD)
        os.close(handle)


def _attach(file: int) -> tuple[str, int]:
    control = os.open("/dev/loop-control", os.O_RDWR)
    try:
        for _ in range(TRIES):
            device = f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}"
            handle = os.open(device, os.O_RDWR)
            try:
                # struct loop_config: the file, the block size, and nothing else set.
                fcntl.ioctl(handle, LOOP_CONFIGURE, struct.pack("<II232x64x", file, 0))
                return device, handle
            except OSError as error:
                os.close(handle)
                if error.errno != EBUSY:  # taken by somebody else in between
                    raise
    finally:
        os.close(control)
    raise OSError(EBUSY, "no loop device is free")


@contextmanager
def mounted(device: str, folder: Path) -> Iterator[Path]:
    """The file system on `device`, at `folder`."""
    if libc.mount(device.encode(), os.fsencode(folder), b"ext4", 0, None):
        raise OSError(ctypes.get_errno(), f"mount {device}")
    try:
        yield folder
    finally:
        unmount(folder)


def unmount(folder: Path) -> None:
    for _ in range(TRIES):
        if libc.umount2(os.fsencode(folder), 0) == 0:
            return
        if ctypes.get_errno() != EBUSY:
            break
        time.sleep(PAUSE_S)
    raise OSError(ctypes.get_errno(), f"unmount {folder}")
