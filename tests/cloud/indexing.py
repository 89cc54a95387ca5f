"""What the indexer's tests have in common: the binary, an empty index with its templates, readings, and what is found.

The fixtures are for the modules that import them.
"""

import json
import random
from datetime import UTC, datetime, timedelta

import pytest

import fleet
from runtime_api import ROOT, Indexer, build

START = datetime(2025, 7, 15, 17, 10, tzinfo=UTC)


@pytest.fixture(scope="module")
def binary():
    return build()


@pytest.fixture(scope="module")
def node(opensearch):
    """With the index templates of the domain."""
    opensearch.clear()
    for template in sorted((ROOT / "packaging" / "cloud" / "opensearch" / "templates").glob("*.json")):
        opensearch.put(f"_index_template/{template.stem}", json.loads(template.read_text().replace("@REPLICAS@", "0").replace("@SHARDS@", "1")))
    yield opensearch
    opensearch.clear()


@pytest.fixture
def index(node):
    """Without a document."""
    node.delete("hr-*")
    return node


@pytest.fixture
def indexer(binary, index):
    with Indexer(binary, index.url) as function:
        yield function


def readings(count, sensor="forerunner", start=START, gateway=None, seed=1):
    """One a second, with RR-Intervals."""
    gateway = gateway or fleet.Gateway("living-room", "00000000000000aa")
    heart = fleet.heart(random.Random(seed), 70)
    lines = []
    for second in range(count):
        bpm, rr = next(heart)
        lines.append(gateway.line(sensor, start + timedelta(seconds=second, milliseconds=seed), heart_rate=bpm,
                                  **({"rr_intervals_ms": rr} if rr else {})))
    return lines


def documents(index, pattern="hr-readings-*"):
    """All of them: index and document by `_id`; an `_id` in two indices fails."""
    index.post(f"{pattern}/_refresh")
    hits = index.search(pattern, {"size": 10000, "track_total_hits": True})["hits"]
    assert hits["total"]["value"] == len(hits["hits"]) == index.get(f"{pattern}/_count")["count"]
    found = {hit["_id"]: (hit["_index"], hit["_source"]) for hit in hits["hits"]}
    assert len(found) == len(hits["hits"])
    return found


def holds_just(index, lines):
    """One document for each reading, which says what the line says."""
    found = documents(index)
    assert found.keys() == {line["reading_id"] for line in lines}
    for line in lines:
        document = dict(found[line["reading_id"]][1])
        indexed_at = datetime.fromisoformat(document.pop("indexed_at"))
        lag = indexed_at - datetime.fromisoformat(line["timestamp"])
        assert document.pop("lag_ms") == lag / timedelta(milliseconds=1)
        assert document == line


def summary(indexer):
    """The fields of the last invocation's summary."""
    line = [line for line in indexer.log().splitlines() if "Batch indexed" in line][-1]
    return {name: int(value) for name, value in (part.split("=") for part in line.split("Batch indexed ")[1].split())}
