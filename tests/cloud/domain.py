"""An OpenSearch domain as setup.sh meets it: a real node, and before it what no registry here has.

What must hold: index management, alerting, notifications and Dashboards are stood in for, each with the rules that
setup.sh depends on, as their sources of 2.19 have them; every other call goes to the node as it is. `calls` is what was
asked, `stored` what is kept.
"""

import base64
import json
import re
import threading
import urllib.error
import urllib.request
import uuid
from email import message_from_bytes
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

USER, PASSWORD = "hr-admin", 'quo"te back\\slash Dollar$1'
SESSION = "security_authentication=a-session"

Answer = tuple[int, Any]


class Domain:
    """In front of the node at `url`. `lacks` names plugins that it has not."""

    def __init__(self, url: str, lacks: tuple[str, ...] = ()) -> None:
        self.node, self.lacks = url, lacks
        self.calls: list[str] = []
        self.stored: dict[str, dict[str, Any]] = {"policies": {}, "channels": {}, "monitors": {}, "objects": {}}
        self.policy_calls: list[tuple[str, str, str]] = []
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        self.thread = threading.Thread(target=self.server.serve_forever, daemon=True)

    def __enter__(self) -> "Domain":
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    def answer(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        self.calls.append(f"{method} {path}")
        if path.startswith("_dashboards/") and "dashboards" not in self.lacks:
            return self._dashboards(path, headers, body)
        expected = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
        if headers["Authorization"] != f"Basic {expected}":
            return 401, {"error": "Unauthorized"}
        for plugin, pattern, handle in (
            ("ism", r"_plugins/_ism/policies/([^?]+)(?:\?(.*))?", self._policy),
            ("ism", r"_plugins/_ism/(add|change_policy)/(.+)", self._apply),
            ("notifications", r"_plugins/_notifications/configs(?:/(.+))?", self._channel),
            ("alerting", r"_plugins/_alerting/monitors(?:/(.+))?", self._monitor),
        ):
            if (found := re.fullmatch(pattern, path)) and plugin not in self.lacks:
                return handle(method, json.loads(body or b"{}"), *found.groups())
        return self._forward(method, path, headers, body)

    def _policy(self, method: str, body: Any, name: str, version: str | None) -> Answer:
        kept = self.stored["policies"].get(name)
        if method == "GET":
            return (200, kept) if kept else (404, {"error": "Policy not found"})
        expected = f"if_seq_no={kept['_seq_no']}&if_primary_term={kept['_primary_term']}" if kept else None
        if version != expected:
            return 409, {"error": "version conflict"}
        number = kept["_seq_no"] + 1 if kept else 7
        self.stored["policies"][name] = {"_id": name, "_seq_no": number, "_primary_term": 1, "policy": body["policy"]}
        return (200 if kept else 201), self.stored["policies"][name]

    def _apply(self, _: str, body: Any, how: str, indices: str) -> Answer:
        if body["policy_id"] not in self.stored["policies"]:
            return 404, {"error": "Could not find policy"}
        self.policy_calls.append((how, indices, body["policy_id"]))
        return 200, {"updated_indices": 1, "failures": False, "failed_indices": []}

    def _channel(self, method: str, body: Any, name: str | None) -> Answer:
        channels = self.stored["channels"]
        if method == "PUT":
            if name not in channels:
                return 404, {"error": f"NotificationConfig {name} not found"}
            channels[name] = body["config"]
            return 200, {"config_id": name}
        if body["config_id"] in channels:
            return 409, {"error": "version conflict, document already exists"}
        channels[body["config_id"]] = body["config"]
        return 200, {"config_id": body["config_id"]}

    def _monitor(self, method: str, body: Any, name: str | None) -> Answer:
        monitors = self.stored["monitors"]
        if name == "_search":
            if not monitors:
                return 404, {"error": "no such index [.opendistro-alerting-config]"}
            wanted = body["query"]["term"]["monitor.name.keyword"]
            return 200, {"hits": {"hits": [{"_id": key} for key, one in monitors.items() if one["name"] == wanted]}}
        if method == "PUT" and name not in monitors:
            return 404, {"error": "Monitor not found"}
        channels = {action["destination_id"] for trigger in body["triggers"] for action in trigger["bucket_level_trigger"]["actions"]}
        if not channels <= set(self.stored["channels"]):
            return 400, {"error": "no such channel"}
        key = name or uuid.uuid4().hex
        monitors[key] = body
        return (200 if name else 201), {"_id": key}

    def _dashboards(self, path: str, headers: Any, body: bytes) -> Answer:
        """A password is for its login alone: with any other call it is refused (OpenSearch-Dashboards issue 5146)."""
        if path == "_dashboards/auth/login":
            right = json.loads(body) == {"username": USER, "password": PASSWORD} and headers["osd-xsrf"]
            return (200, {"username": USER}) if right else (401, {"error": "Unauthorized"})
        if headers["Authorization"] or headers["Cookie"] != SESSION:
            return 401, {"error": "Unauthorized"}
        return self._import(path, headers, body)

    def _import(self, path: str, headers: Any, body: bytes) -> Answer:
        if path != "_dashboards/api/saved_objects/_import?overwrite=true":
            return 404, {"error": "Not Found"}
        if not headers["osd-xsrf"] or headers["securitytenant"] != "global":
            return 400, {"error": "Request must contain a osd-xsrf header."}
        form = message_from_bytes(b"Content-Type: " + headers["Content-Type"].encode() + b"\r\n\r\n" + body)
        objects = [json.loads(line) for line in form.get_payload()[0].get_payload(decode=True).splitlines()]
        known = {(one["type"], one["id"]) for one in objects}
        for one in objects:
            lost = [to for to in one["references"] if (to["type"], to["id"]) not in known]
            if lost:
                return 200, {"success": False, "errors": lost}
            self.stored["objects"][f"{one['type']}:{one['id']}"] = one["attributes"]
        return 200, {"success": True, "successCount": len(objects)}

    def _forward(self, method: str, path: str, headers: Any, body: bytes) -> Answer:
        content = {"Content-Type": headers["Content-Type"]} if headers["Content-Type"] else {}
        request = urllib.request.Request(f"{self.node}/{path}", body or None, content, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    def _handler(domain) -> type[BaseHTTPRequestHandler]:  # noqa: N805
        class Handler(BaseHTTPRequestHandler):
            def handle_any(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"] or 0))
                status, answer = domain.answer(self.command, self.path[1:], self.headers, body)
                data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
                self.send_response(status)
                if self.path == "/_dashboards/auth/login" and status == 200:
                    self.send_header("Set-Cookie", f"{SESSION}; HttpOnly; Path=/_dashboards")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_PUT = do_POST = do_DELETE = handle_any

            def log_message(self, *_: object) -> None:
                pass

        return Handler
