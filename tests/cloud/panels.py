"""A dashboard's panels outside of OpenSearch Dashboards: their queries run as it runs them, their pictures drawn.

What must hold: `asked` replaces the variables as Dashboards' own parser of Vega's data does (its
opensearch_query_parser.ts): an automatic interval is rounded as there, and where the dashboard has no filter set, the
places for filters are empty.
"""

import copy
import importlib.util
import json
import os
import subprocess
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from fleet import written
from indexed import milliseconds
from search import ROOT, Client

FOLDER = ROOT / "packaging" / "cloud" / "opensearch"
DRAW = Path(__file__).parent / "vega" / "draw.js"
MODULES = ROOT / "target" / "cloud-vega" / "node_modules"
FILTERS = [f"%dashboard_context-{clause}_clause%" for clause in ("must", "filter", "must_not")]
ROUNDED = [  # At most so many ms: this interval.
    (500, "100ms"), (5000, "1s"), (7500, "5s"), (15000, "10s"), (45000, "30s"), (180000, "1m"), (450000, "5m"), (1200000, "10m"),
    (2700000, "30m"), (7200000, "1h"), (21600000, "3h"), (86400000, "12h"), (604800000, "24h"), (1814400000, "1w"),
    (3628800000, "30d"),
]
NAMES = sorted(path.stem for path in (FOLDER / "panels").glob("*.json"))


def dashboard() -> ModuleType:
    """dashboard.py, which makes the saved objects."""
    spec = importlib.util.spec_from_file_location("dashboard", FOLDER / "dashboard.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


class Panel:
    """A panel as it is saved, seen from `start` to `end`."""

    def __init__(self, name: str, start: datetime, end: datetime) -> None:
        objects = {one["id"]: one for one in dashboard().objects() if one["type"] == "visualization"}
        self.start, self.end = start, end
        self.spec = json.loads(json.loads(objects[f"hr-{name}"]["attributes"]["visState"])["params"]["spec"])

    def asked(self) -> dict[str, Any]:
        """The query's body, its variables replaced."""
        return self._replaced(copy.deepcopy(self.spec["data"]["url"]["body"]))

    def answer(self, node: Client) -> list[Any]:
        """What the panel's data is."""
        found = node.search(self.spec["data"]["url"]["index"], self.asked())
        assert not found["timed_out"] and not found["_shards"]["failed"]
        for name in self.spec["data"]["format"]["property"].split("."):
            found = found[name]
        return found

    def drawn(self, answer: list[Any], width: int = 900, height: int = 320) -> str:
        """As SVG."""
        spec = self.spec | {"data": {"values": answer}}
        environment = os.environ | {"NODE_PATH": str(MODULES), "TZ": "UTC"}
        run = subprocess.run(["node", DRAW, str(width), str(height)], input=json.dumps(spec), capture_output=True, text=True,
                             env=environment)
        assert run.returncode == 0, run.stderr
        return run.stdout

    def _replaced(self, part: Any) -> Any:
        if isinstance(part, list):
            return [self._replaced(item) for item in part if item not in FILTERS]
        if not isinstance(part, dict):
            return part
        bound = {"min": self.start, "max": self.end}
        match part.get("%timefilter%"):
            case True:
                return {"gte": written(self.start), "lte": written(self.end), "format": "strict_date_optional_time"}
            case "min" | "max" as side:
                return milliseconds(written(bound[side]))
        if "%autointerval%" in part:
            slot_ms = (self.end - self.start).total_seconds() * 1000 / part["%autointerval%"]
            return next((text for limit, text in ROUNDED if slot_ms <= limit), "1y")
        return {name: self._replaced(value) for name, value in part.items()}


def put_templates(node: Any) -> None:
    """The index templates, as setup.sh fills them for one node."""
    for name in ("hr-readings", "hr-minutes"):
        text = (FOLDER / "templates" / f"{name}.json").read_text().replace("@REPLICAS@", "0").replace("@SHARDS@", "1")
        node.put(f"_index_template/{name}", json.loads(text))
