"""Lambda's Runtime API on 127.0.0.1, and the indexer's real binary behind it.

What must hold: one invocation at a time, as Lambda does it; an invocation that the binary does not answer by its
deadline fails the test, and is not waited for.
"""

import base64
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
PREFIX = "/2018-06-01/runtime/"
SHARD = "shardId-000000000000"
FUNCTION = "arn:aws:lambda:eu-central-1:123456789012:function:hr-indexer"
STREAM = "arn:aws:kinesis:eu-central-1:123456789012:stream/hr-kinesis-stream"


class Server(ThreadingHTTPServer):
    """On a free port, in threads of its own. That the function is gone at the end is no error."""

    daemon_threads = True

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        super().__init__(("127.0.0.1", 0), handler)
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *arguments: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(*arguments)

    def stop(self) -> None:
        self.shutdown()
        self.server_close()


class InvocationError(Exception):
    """The function said that it failed: `errorType` and `errorMessage`."""


def build(name: str = "hr-indexer") -> Path:
    """The binary of this machine's architecture, for development."""
    subprocess.run(["cargo", "build", "--quiet", "--locked", "--package", "hr-indexer"], cwd=ROOT, check=True)
    return ROOT / "target" / "debug" / name


def event(records: Iterable[bytes], first: int = 0, **window: Any) -> dict[str, Any]:
    """A batch, as Lambda hands it over. `first` is the number of its first record; in a tumbling window `state`,
    `final` and `early` say how that stands."""
    batch: dict[str, Any] = {"Records": [{
        "kinesis": {"kinesisSchemaVersion": "1.0", "partitionKey": "a", "sequenceNumber": sequence_number(number),
                    "data": base64.b64encode(data).decode(), "approximateArrivalTimestamp": 1752599433.123},
        "eventSource": "aws:kinesis", "eventVersion": "1.0", "eventID": f"{SHARD}:{sequence_number(number)}",
        "eventName": "aws:kinesis:record", "invokeIdentityArn": "arn:aws:iam::123456789012:role/indexer",
        "awsRegion": "eu-central-1", "eventSourceARN": STREAM,
    } for number, data in enumerate(records, first)]}
    if window:
        batch |= {"window": {"start": "2025-07-15T17:10:00Z", "end": "2025-07-15T17:11:00Z"},
                  "state": window.get("state", {}), "shardId": SHARD, "eventSourceARN": STREAM,
                  "isFinalInvokeForWindow": window.get("final", False), "isWindowTerminatedEarly": window.get("early", False)}
    return batch


def sequence_number(number: int) -> str:
    """Of the shard's record `number`."""
    return str(49_590_338_271_490_256_608_559_692_538_361_571_095_921_575_989_136_588_898 + number)


def failures(result: dict[str, Any]) -> list[int]:
    """The numbers of the records that an answer reports."""
    return [int(item["itemIdentifier"]) - int(sequence_number(0)) for item in result["batchItemFailures"]]


class NotStarted(Exception):
    """The function did not ask for an invocation; what it said."""


class Function:
    """A running function. `command` comes before the binary: an emulator, if it needs one."""

    def __init__(self, binary: Path, variables: dict[str, str], command: Iterable[str] = ()) -> None:
        self.events: queue.Queue[tuple[str, bytes, float]] = queue.Queue()
        self.results: dict[str, queue.Queue[tuple[str, Any]]] = {}
        self.asked = threading.Event()
        self.server = Server(self._handler())
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{self.server.server_port}", "AWS_LAMBDA_FUNCTION_NAME": "hr-indexer",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256", "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST", "AWS_REGION": "eu-central-1",
            "AWS_ACCESS_KEY_ID": "AKIDEXAMPLE", "AWS_SECRET_ACCESS_KEY": "not-a-secret", "AWS_SESSION_TOKEN": "not-a-token",
            "PATH": os.environ["PATH"], **variables,
        }
        self.output = tempfile.TemporaryFile("w+")
        began = time.monotonic()
        self.process = subprocess.Popen([*command, binary], env=environment, stdout=self.output, stderr=self.output)
        while not self.asked.wait(0.1):
            if self.process.poll() is not None or time.monotonic() - began > 30:
                self.stop()
                raise NotStarted(self.log())
        self.init_ms = (time.monotonic() - began) * 1000

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        function = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                assert self.path == f"{PREFIX}invocation/next", self.path
                function.asked.set()
                request, body, deadline = function.events.get()
                self.send_response(200)
                self.send_header("Lambda-Runtime-Aws-Request-Id", request)
                self.send_header("Lambda-Runtime-Deadline-Ms", str(round(deadline * 1000)))
                self.send_header("Lambda-Runtime-Invoked-Function-Arn", FUNCTION)
                self._end(body)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                *_, request, kind = self.path.split("/")
                function.results[request].put((kind, json.loads(body)))
                self.send_response(202)
                self._end(b"")

            def _end(self, body: bytes) -> None:
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        return Handler

    def invoke(self, payload: Any, timeout_s: float = 60) -> Any:
        """What the function answers; `InvocationError` if it says that it failed."""
        request = str(uuid.uuid4())
        results = self.results[request] = queue.Queue()
        self.events.put((request, json.dumps(payload).encode(), time.time() + timeout_s))
        kind, answer = results.get(timeout=timeout_s)
        if kind == "error":
            raise InvocationError(f"{answer['errorType']}: {answer['errorMessage']}")
        return answer

    def log(self) -> str:
        """All that it has written."""
        self.output.seek(0)
        return self.output.read()

    def peak_kib(self) -> int:
        """The most memory that it ever had."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmHWM:")[1].split()[0])

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


class Indexer(Function):
    """The indexer, which writes to the OpenSearch at `endpoint`."""

    def __init__(self, binary: Path, endpoint: str, command: Iterable[str] = (), retention_days: int = 400) -> None:
        super().__init__(binary, {"OPENSEARCH_ENDPOINT": endpoint, "READINGS_RETENTION_DAYS": str(retention_days)}, command)
