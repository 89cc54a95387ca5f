"""A Kinesis of our own on 127.0.0.1: PutRecords (awsJson 1.1 over plain http), with failures as a scenario wants them.

Answers as tests/support/fake_kinesis.rs does, and keeps every accepted line, each as often as it was accepted.
"""

import base64
import json
import random
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

GUEST_ADDRESS = "10.0.2.2"
HASH_KEY_MAX = (1 << 128) - 1


class Kinesis:
    """`down`: connections are cut; `delay_s`: each answer comes late; `error`: (status, code) of each whole call;
    `fail_rate`: of the entries, as InternalFailure; `accept_then_cut`: accepted, and never answered;
    `skew_max_s`: a call that was signed further from the true time is refused. `key_ids` are those that signed."""

    def __init__(self, log: Path) -> None:
        self.down, self.delay_s, self.fail_rate, self.accept_then_cut = False, 0.0, 0.0, False
        self.error: tuple[int, str] | None = None
        self.skew_max_s, self.key_ids = float("inf"), set[str]()
        self.lines: list[str] = []
        self.calls, self.failed_entries = 0, 0
        self.random, self.lock, self.log = random.Random(1), threading.Lock(), log
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def endpoint(self) -> str:
        """As the guest reaches it."""
        return f"http://{GUEST_ADDRESS}:{self.server.server_port}"

    def readings(self) -> list[dict[str, Any]]:
        """Every accepted line, gap records too, in order of acceptance."""
        with self.lock:
            lines = list(self.lines)
        return [json.loads(line) for line in lines]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()

    def note(self, text: str) -> None:
        with self.log.open("a") as log:
            log.write(f"{time.monotonic():.3f} {text}\n")

    def verdict(self, headers: Mapping[str, str], body: dict[str, Any]) -> tuple[int, str] | None:
        """Why the call as a whole is refused, if it is."""
        signed = datetime.strptime(headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        self.key_ids.add(headers["authorization"].split("Credential=")[1].split("/")[0])
        if abs(signed.timestamp() - time.time()) > self.skew_max_s:
            return 400, "InvalidSignatureException"
        # What `check --online` asks with, so that nothing is written.
        if any(int(entry.get("ExplicitHashKey", 0)) > HASH_KEY_MAX for entry in body["Records"]):
            return 400, "InvalidArgumentException"
        return self.error

    def put_records(self, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one call; what it accepts is kept."""
        entries, results = body["Records"], []
        assert body["StreamName"] and 1 <= len(entries) <= 500, "a call has at most 500 entries"
        with self.lock:
            for entry in entries:
                if self.random.random() < self.fail_rate:
                    self.failed_entries += 1
                    results.append({"ErrorCode": "InternalFailure", "ErrorMessage": "as scripted"})
                    continue
                data = base64.b64decode(entry["Data"]).decode()
                assert data.endswith("\n") and entry["PartitionKey"], "a line ends in a newline"
                self.lines.extend(data.splitlines())
                results.append({"SequenceNumber": str(len(self.lines)), "ShardId": "shardId-000000000000"})
        failed = sum("ErrorCode" in result for result in results)
        self.note(f"{len(entries)} entries, {failed} failed, {len(self.lines)} lines so far")
        return {"FailedRecordCount": failed, "Records": results}


def _handler_of(kinesis: Kinesis) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            kinesis.calls += 1
            if kinesis.down:
                return self._cut()
            time.sleep(kinesis.delay_s)
            error = kinesis.verdict(self.headers, body)
            if error is not None:
                status, code = error
                kinesis.note(f"refused with {code}")
                return self._send(status, {"__type": code, "message": "as scripted"})
            answer = kinesis.put_records(body)
            return self._cut() if kinesis.accept_then_cut else self._send(200, answer)

        def _cut(self) -> None:
            kinesis.note("cut")
            self.close_connection = True

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            text = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/x-amz-json-1.1")
            self.send_header("content-length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def handle(self) -> None:
            try:
                super().handle()
            except ConnectionError:
                kinesis.note("the gateway hung up")

        def log_message(self, *_: Any) -> None:
            """Its own log tells more."""

    return Handler
