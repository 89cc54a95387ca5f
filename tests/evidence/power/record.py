"""Takes down what the real queue does to a disk, alone or in the real daemon."""

import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import disk
from replay import MEMORY, QUEUE, STORE

HERE = Path(__file__).parent
# Serial numbers of one life begin here after those of the life before.
LIFE = 10_000
APPENDS = 220
# On a gateway the file system is not the queue's alone: others have it written out between any two steps.
SYNC_PAUSE_S_MAX = 0.1


class Recording:
    """A mounted disk whose writes are taken down."""

    def __init__(self, marks: Path, mount: Path) -> None:
        self.marks, self.mount, self.queue = marks, mount, mount / QUEUE
        self.marks_file = os.open(marks, os.O_WRONLY)

    def mark(self, **said: Any) -> None:
        """Has its place in the record when it returns."""
        line = json.dumps(said).encode()
        assert os.write(self.marks_file, line) == len(line), "a mark is one write"

    @contextmanager
    def written_out_by_others(self) -> Iterator[None]:
        ended, mount = threading.Event(), os.open(self.mount, os.O_RDONLY)

        def write_out() -> None:
            while not ended.wait(random.uniform(0, SYNC_PAUSE_S_MAX)):
                disk.libc.syncfs(mount)

        thread = threading.Thread(target=write_out)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
            os.close(mount)


@contextmanager
def recording(folder: Path) -> Iterator[Recording]:
    """Into `folder`: the disk at first, and the record."""
    folder.mkdir(parents=True)
    image, record = folder / "disk.img", folder / "record"
    disk.make_image(image)
    with tempfile.TemporaryDirectory(dir=MEMORY, prefix="recording-") as scratch:
        served, mount = Path(scratch, "served"), Path(scratch, "mount")
        served.mkdir()
        mount.mkdir()
        command = [sys.executable, "-B", HERE / "recorder.py", served, image, record]
        recorder = subprocess.Popen(command, stdout=subprocess.PIPE)
        try:
            assert recorder.stdout and recorder.stdout.readline() == b"ready\n", "the recorder serves"
            with disk.loop_device(served / "disk") as device, disk.mounted(device, mount):
                taken_down = Recording(served / "marks", mount)
                yield taken_down
                os.close(taken_down.marks_file)
        finally:
            disk.unmount(served)
            recorder.wait()


def queue_alone(folder: Path, lives: int, fault: str = "") -> None:
    """The queue's own code, which says at once what append returned for. Every other life has company."""
    with recording(folder) as on:
        for life in range(lives):
            command = [STORE, "work", on.queue, on.marks, str(1 + life * LIFE), str(APPENDS)]
            work = subprocess.Popen(command, env={**os.environ, "INJECT_FAULT": fault})
            if life % 2:
                with on.written_out_by_others():
                    work.wait()
            assert work.wait() == 0, "the work is done"
