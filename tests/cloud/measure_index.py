"""Prints how many bytes a reading and a minute take in the index: what sizing.py reckons with. run.sh --measure-index.

The indexer's real binary writes what gateways with one, three and ten sensors sent, which they number in a random order each
second, as notifications come; a real OpenSearch holds it, merged.
"""

import json
import random
from datetime import timedelta
from typing import Any

import fleet
from indexing import START
from runtime_api import ROOT, Indexer, build, event
from search import OpenSearch

READINGS = 200_000
BATCH_LINES = 10_000


def lines(sensors: int) -> list[fleet.Line]:
    gateway, order = fleet.Gateway("living-room", "00000000000000aa"), random.Random(1)
    hearts = [fleet.heart(random.Random(sensor), 70) for sensor in range(sensors)]
    made = []
    for second in range(READINGS // sensors):
        for sensor in order.sample(range(sensors), sensors):
            rate, intervals = next(hearts[sensor])
            more = {"rr_intervals_ms": intervals} if intervals else {}
            made.append(gateway.line(f"sensor-{sensor}", START + timedelta(seconds=second), heart_rate=rate, **more))
    return made


def bytes_each(node: OpenSearch, indices: str) -> float:
    # What was merged is deleted once nothing reads it any more.
    for call in ("_flush?force=true", "_forcemerge?max_num_segments=1", "_flush?force=true", "_refresh"):
        node.post(f"{indices}/{call}")
    held: Any = node.get(f"{indices}/_stats/store,docs")["_all"]["primaries"]
    return held["store"]["size_in_bytes"] / held["docs"]["count"]


def main() -> None:
    binary = build()
    with OpenSearch() as node:
        for template in sorted((ROOT / "packaging" / "cloud" / "opensearch" / "templates").glob("*.json")):
            node.put(f"_index_template/{template.stem}",
                     json.loads(template.read_text().replace("@REPLICAS@", "0").replace("@SHARDS@", "1")))
        print("sensors of a gateway   bytes a reading   bytes a minute")
        for sensors in (1, 3, 10):
            node.delete("hr-*")
            sent = lines(sensors)
            with Indexer(binary, node.url) as indexer:
                for first in range(0, len(sent), BATCH_LINES):
                    indexer.invoke(event(fleet.records(sent[first:first + BATCH_LINES])))
            print(f"{sensors:>20} {bytes_each(node, 'hr-readings-*'):>17.1f} {bytes_each(node, 'hr-minutes-*'):>16.1f}", flush=True)


if __name__ == "__main__":
    main()
