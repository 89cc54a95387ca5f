#!/usr/bin/env python3
"""Prints the saved objects of OpenSearch Dashboards as NDJSON, to be imported: setup.sh does it.

Each panel is a Vega-Lite specification in panels/ with its query in it, dashboards.json says which stand where, and an
index pattern has the fields of its index template. What all panels have in common stands here.
"""

import json
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SCHEMA = "https://vega.github.io/schema/vega-lite/v5.json"  # A name: nothing is fetched from there.
CONFIG = {
    "kibana": {"hideWarnings": True},  # That a range without readings has no extent is no warning to anybody.
    "view": {"stroke": None},
    "axis": {"labelFontSize": 12, "titleFontSize": 12, "gridColor": "#eceff1", "domainColor": "#b0bec5", "tickColor": "#b0bec5"},
    "legend": {"labelFontSize": 12, "symbolType": "circle", "symbolOpacity": 1},
    "text": {"fontSize": 12},
}
TIME_FIELD = {"hr-readings": "timestamp", "hr-minutes": "minute"}
TYPE_OF = {"keyword": "string", "boolean": "boolean", "date": "date"}  # Everything else is a number.

Saved = dict[str, Any]


def spec(panel: str) -> Saved:
    """The panel's whole specification."""
    return {"$schema": SCHEMA, "config": CONFIG} | json.loads((HERE / "panels" / f"{panel}.json").read_text())


def fields(template: str) -> dict[str, Saved]:
    """The fields that a template declares, by their names."""
    text = (HERE / "templates" / f"{template}.json").read_text().replace("@REPLICAS@", "0").replace("@SHARDS@", "1")
    return json.loads(text)["template"]["mappings"]["properties"]


def index_pattern(name: str) -> Saved:
    known = [
        {"name": field, "type": TYPE_OF.get(kind["type"], "number"), "esTypes": [kind["type"]], "count": 0, "scripted": False,
         "searchable": kind.get("index", True), "aggregatable": True, "readFromDocValues": True}
        for field, kind in fields(name).items()
    ]
    attributes = {"title": f"{name}-*", "timeFieldName": TIME_FIELD[name], "fields": json.dumps(known)}
    return saved("index-pattern", name, attributes, "7.6.0")


def visualization(panel: str, title: str) -> Saved:
    specification = spec(panel)
    state = {"title": title, "type": "vega", "aggs": [], "params": {"spec": json.dumps(specification, indent=2)}}
    attributes = {"title": f"hr: {title}", "description": specification["description"], "version": 1, "uiStateJSON": "{}",
                  "visState": json.dumps(state), "kibanaSavedObjectMeta": {"searchSourceJSON": source()}}
    return saved("visualization", f"hr-{panel}", attributes, "7.10.0")


def dashboard(name: str, description: Saved) -> Saved:
    panels, references = [], []
    for place, panel in enumerate(description["panels"]):
        grid = {key: panel[key] for key in "xywh"} | {"i": str(place)}
        panels.append({"panelIndex": str(place), "gridData": grid, "version": "2.19.0", "embeddableConfig": {},
                       "title": panel["title"], "panelRefName": f"panel_{place}"})
        references.append({"name": f"panel_{place}", "type": "visualization", "id": f"hr-{panel['panel']}"})
    attributes = {
        "title": description["title"], "description": description["description"], "version": 1, "hits": 0,
        "panelsJSON": json.dumps(panels), "optionsJSON": json.dumps({"useMargins": True, "hidePanelTitles": False}),
        "timeRestore": True, "timeFrom": description["from"], "timeTo": "now",
        "refreshInterval": {"pause": False, "value": 1000 * description["refresh_s"]},
        "kibanaSavedObjectMeta": {"searchSourceJSON": source()},
    }
    return saved("dashboard", name, attributes, "7.9.3") | {"references": references}


def source() -> str:
    return json.dumps({"query": {"language": "kuery", "query": ""}, "filter": []})


def saved(kind: str, name: str, attributes: Saved, migrated: str) -> Saved:
    return {"type": kind, "id": name, "attributes": attributes, "references": [], "migrationVersion": {kind: migrated}}


def objects() -> list[Saved]:
    """All of them: what others refer to comes first."""
    dashboards = json.loads((HERE / "dashboards.json").read_text())
    titles = {panel["panel"]: panel["title"] for one in dashboards.values() for panel in one["panels"]}
    return [
        *map(index_pattern, TIME_FIELD),
        *(visualization(panel, title) for panel, title in titles.items()),
        *(dashboard(name, description) for name, description in dashboards.items()),
    ]


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(__doc__)
    for one in objects():
        print(json.dumps(one))
