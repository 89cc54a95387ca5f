"""A small SNTP server on 127.0.0.1:123, which the guest reaches as 10.0.2.2: the scenario says when time arrives."""

import socket
import struct
import threading
import time

SINCE_1900_S = 2_208_988_800
PORT = 123


class Ntp:
    """Answers while `on`, `offset_s` away from the true time."""

    def __init__(self) -> None:
        self.on, self.offset_s = True, 0.0
        self.answered, self.closed = 0, False
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            self.socket.bind(("127.0.0.1", PORT))
        except OSError as error:
            raise RuntimeError(
                f"UDP port {PORT} of 127.0.0.1 cannot be bound ({error}): run as root, beside no NTP server"
            ) from error
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closed = True
        # Wakes the thread, which a close alone does not.
        self.socket.sendto(b"", self.socket.getsockname())
        self.thread.join()
        self.socket.close()

    def _serve(self) -> None:
        while not self.closed:
            request, client = self.socket.recvfrom(512)
            if self.on and len(request) >= 48:
                self.socket.sendto(self._answer(request), client)
                self.answered += 1

    def _answer(self, request: bytes) -> bytes:
        now = time.time() + self.offset_s
        stamp = struct.pack(">II", int(now) + SINCE_1900_S & 0xFFFFFFFF, int(now % 1 * (1 << 32)))
        version = request[0] & 0x38
        # Server, stratum 1, as exact as it gets; reference, origin (what the client sent), receive, transmit.
        header = struct.pack(">BBbbII4s", version | 4, 1, 6, -20, 0, 0, b"LOCL")
        return header + stamp + request[40:48] + stamp + stamp
