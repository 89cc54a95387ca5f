"""Between the indexer and OpenSearch: notes each call, and answers some of them itself, as a test says."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

from runtime_api import Server


@dataclass
class Call:
    """One POST, as it came."""

    path: str
    headers: dict[str, str]
    body: bytes

    def operations(self) -> list[bytes]:
        """Of a `_bulk`: each operation's lines, one for a deletion and two for the rest."""
        operations, lines = [], iter(self.body.splitlines(keepends=True))
        for action in lines:
            operations.append(action if b'"delete"' in action[:12] else action + next(lines))
        return operations


Script = Callable[[Call], Any]


@dataclass
class Proxy:
    """`script` gives a status to answer with, or a list of indices: the operations of a bulk that are answered with
    429 while the rest goes through; or None, and the call goes through."""

    target: str
    script: Script = lambda call: None
    calls: list[Call] = field(default_factory=list)

    def __enter__(self) -> "Proxy":
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                call = Call(self.path, dict(self.headers), body)
                proxy.calls.append(call)
                status, answer = proxy.answer(call)
                self.send_response(status)
                self.send_header("Content-Length", str(len(answer)))
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *_: object) -> None:
                pass

        self.server = Server(Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        return self

    def __exit__(self, *_: object) -> None:
        self.server.stop()

    def answer(self, call: Call) -> tuple[int, bytes]:
        verdict = self.script(call)
        if isinstance(verdict, int):
            return verdict, b'{"error": {"type": "scripted_exception", "reason": "quotes sensor forerunner"}}'
        if not verdict:
            return self.forward(call.path, call.body)
        operations = call.operations()
        passing = b"".join(lines for index, lines in enumerate(operations) if index not in verdict)
        status, answer = self.forward(call.path, passing) if passing else (200, b'{"items": []}')
        answered = iter(json.loads(answer)["items"])
        throttled = {"index": {"status": 429, "error": {"type": "rejected_execution_exception"}}}
        items = [throttled if index in verdict else next(answered) for index in range(len(operations))]
        return status, json.dumps({"items": items}).encode()

    def forward(self, path: str, body: bytes) -> tuple[int, bytes]:
        connection = http.client.HTTPConnection(urlsplit(self.target).netloc, timeout=60)
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        answer = response.status, response.read()
        connection.close()
        return answer
