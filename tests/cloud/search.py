"""A real OpenSearch of one node, on 127.0.0.1 and for as long as a `with` lasts.

What must hold: nothing of a run is left when it ends, neither the process nor its folder. OpenSearch refuses to run as
root; as root it runs as nobody, who may read the working copy wherever it lies.
"""

import base64
import json
import os
import shutil
import subprocess
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
HOME = next((ROOT / "target" / "cloud-opensearch").glob("opensearch-*"), None)
WITH_US = ["setpriv", "--pdeathsig=TERM"]  # It ends with whoever started it, however that ends.
NOBODY = ["--reuid=65534", "--regid=65534", "--clear-groups", "--inh-caps=+dac_override", "--ambient-caps=+dac_override"]
START_S_MAX = 180
SETTINGS = {
    "discovery.type": "single-node",
    "network.host": "127.0.0.1",
    "http.port": 0,
    "transport.port": 0,
    "node.portsfile": True,  # logs/http.ports says which port it found free.
    "cluster.routing.allocation.disk.threshold_enabled": False,  # A full disk is not what is tried here.
    "plugins.security.disabled": True,
}


class Refused(Exception):
    """An answer that is not 2xx: its status, and its body as JSON or text."""

    def __init__(self, status: int, answer: Any) -> None:
        super().__init__(f"{status}: {json.dumps(answer)[:1000]}")
        self.status, self.answer = status, answer


class Client:
    """Speaks to one endpoint, as `user` if there is one. A `body` of text is sent as NDJSON, anything else as JSON."""

    def __init__(self, url: str, user: str | None = None, password: str = "") -> None:
        self.url = url
        self.headers = {}
        if user is not None:
            self.headers["Authorization"] = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()

    def call(self, method: str, path: str, body: Any = None) -> Any:
        headers = dict(self.headers)
        if isinstance(body, str):
            headers["Content-Type"] = "application/x-ndjson"
        elif body is not None:
            headers["Content-Type"], body = "application/json", json.dumps(body)
        data = None if body is None else body.encode()
        request = urllib.request.Request(f"{self.url}/{path}", data, headers, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return _json(answer.read())
        except urllib.error.HTTPError as error:
            raise Refused(error.code, _json(error.read())) from None

    def get(self, path: str) -> Any:
        return self.call("GET", path)

    def put(self, path: str, body: Any) -> Any:
        return self.call("PUT", path, body)

    def post(self, path: str, body: Any = None) -> Any:
        return self.call("POST", path, body)

    def delete(self, path: str) -> Any:
        return self.call("DELETE", path)

    def search(self, index: str, body: Any) -> Any:
        return self.post(f"{index}/_search", body)

    def bulk(self, actions: list[Any]) -> Any:
        """Lines of `_bulk`, as objects; what they changed can be searched on return."""
        answer = self.post("_bulk?refresh=true", "".join(json.dumps(action) + "\n" for action in actions))
        refused = [item for item in answer["items"] if next(iter(item.values()))["status"] >= 300]
        assert not refused, refused[:3]
        return answer

    def clear(self) -> None:
        """Nothing of ours is left: a test file begins with this, as the node is shared."""
        self.delete("hr-*")
        for template in self.get("_index_template")["index_templates"]:
            if template["name"].startswith("hr-"):
                self.delete(f"_index_template/{template['name']}")

    def count(self, index: str) -> int:
        """Documents that can be searched, after a refresh."""
        self.post(f"{index}/_refresh")
        return self.get(f"{index}/_count")["count"]


class OpenSearch(Client):
    """The server. `settings` are added to its opensearch.yml, `files` to the folder that this is in."""

    def __init__(self, settings: dict[str, Any] | None = None, files: dict[str, str] | None = None,
                 user: str | None = None, password: str = "") -> None:
        if HOME is None:
            raise FileNotFoundError("target/cloud-opensearch: tests/cloud/run.sh brings it")
        self.folder = Path(tempfile.mkdtemp(prefix="node-", dir=HOME.parent))
        config = self.folder / "config"
        shutil.copytree(HOME / "config", config)
        paths = {"path.data": str(self.folder / "data"), "path.logs": str(self.folder / "logs")}
        for name, text in (files or {}).items():
            (config / name).parent.mkdir(parents=True, exist_ok=True)
            (config / name).write_text(text)
        (config / "opensearch.yml").write_text(json.dumps(SETTINGS | paths | (settings or {})))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("OPENSEARCH_")}
        environment |= {"OPENSEARCH_PATH_CONF": str(config), "OPENSEARCH_TMPDIR": str(self.folder),
                        "OPENSEARCH_JAVA_HOME": _java_home(), "OPENSEARCH_JAVA_OPTS": "-Xms512m -Xmx512m -XX:TieredStopAtLevel=1"}
        command = [*WITH_US, str(HOME / "bin" / "opensearch")]
        if os.geteuid() == 0:
            command[2:2] = NOBODY
            for path in [self.folder, *self.folder.rglob("*")]:
                os.chown(path, 65534, 65534)
        self.output = (self.folder / "output").open("wb")
        self.process = subprocess.Popen(command, cwd=self.folder, env=environment, stdout=self.output, stderr=subprocess.STDOUT)
        super().__init__("", user, password)
        try:
            self._wait()
        except BaseException:
            self.stop()
            raise

    def _wait(self) -> None:
        ports, deadline = self.folder / "logs" / "http.ports", time.monotonic() + START_S_MAX
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise RuntimeError(f"OpenSearch ended: {self._last_words()}")
            if ports.exists() and (address := ports.read_text().split()):
                self.url = f"http://{address[0]}"
                try:
                    self.get("_cluster/health?wait_for_status=yellow&timeout=1s")
                    return
                except (Refused, OSError):
                    pass
            time.sleep(0.1)
        raise TimeoutError(f"OpenSearch does not answer: {self._last_words()}")

    def _last_words(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-3000:]

    def stop(self) -> None:
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.output.close()
        shutil.rmtree(self.folder)

    def __enter__(self) -> "OpenSearch":
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def _java_home() -> str:
    return str(Path(shutil.which("java")).resolve().parents[1])


def _json(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError:
        return data.decode(errors="replace")
