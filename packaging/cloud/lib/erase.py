#!/usr/bin/env python3
"""The inner part of erase-sensor.sh: place by place, then all of them asked again.

    erase.py SENSOR [--dry-run]     where things are is in the environment

What must hold: what a place still has is found out by asking it, never from what was done; a place that fails does not
keep the others from being erased; nothing of another sensor goes.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass

import erase_index
import erase_objects
import erase_tables
from aws_cli import AwsError


@dataclass(frozen=True)
class Place:
    """Somewhere that readings are kept: how many of the sensor's it has, and how to be rid of them."""

    name: str
    count: Callable[[], int]
    erase: Callable[[], None]


def places(sensor: str) -> list[Place]:
    """In the order in which they are erased: what feeds another comes before it."""
    bucket, endpoint = os.environ["LAKE_BUCKET"], os.environ["ENDPOINT"]
    tables = erase_tables.Tables(sensor)
    found = []
    for prefix in ("errors/", "replayed/", "raw/arrived="):
        objects = erase_objects.Objects(bucket, os.environ["LAKE_PREFIX"] + prefix, sensor, documents=not prefix.startswith("raw/"))
        found.append(Place(f"{prefix.partition('/')[0]}/ (lines)", objects.count, objects.erase))
    found.append(Place("landed Parquet (lines)", tables.landed, tables.erase_landed))
    if os.environ["STATE_MACHINE"] or tables.has_curated():
        found.append(Place("curated table (rows)", tables.curated, tables.erase_curated))
    if endpoint:
        index = erase_index.Index(endpoint, sensor)
        found.append(Place("index (documents)", index.count, index.erase))
    return found


def attempted(place: str, action: Callable[[], int | None]) -> int | None:
    try:
        return action()
    except Exception as error:  # Whatever it is, the other places are asked all the same.
        print(f"{place}: {error}", file=sys.stderr)
        return None


def main(sensor: str, *options: str) -> int:
    found = places(sensor)
    if "--dry-run" in options:
        counts = {place.name: attempted(place.name, place.count) for place in found}
        for name, number in counts.items():
            print(f"{name:<24} {'could not be asked' if number is None else number}")
        return 1 if None in counts.values() else 0
    failed = []
    try:
        with erase_tables.maintenance_paused():
            before = {place.name: attempted(place.name, place.count) for place in found}
            for place in found:
                print(f"erasing: {place.name}", flush=True)
                try:
                    place.erase()
                except Exception as error:
                    failed.append(place.name)
                    print(f"{place.name}: {error}", file=sys.stderr)
            print("erasing: results of earlier queries", flush=True)
            erase_objects.delete_all(os.environ["LAKE_BUCKET"], os.environ["LAKE_PREFIX"] + "athena-results/")
            after = {place.name: attempted(place.name, place.count) for place in found}
    except AwsError as error:
        print(f"erase-sensor.sh: {error}", file=sys.stderr)
        return 1
    print(f"\n{'place':<24} {'found':>10} {'left':>10}")
    for name, number in after.items():
        print(f"{name:<24} {shown(before[name]):>10} {shown(number):>10}")
    if failed or any(number != 0 for number in after.values()):
        print("Not all is erased: put right what is said above, and run the same command again.")
        return 1
    print("Nothing is left in these places.")
    return 0


def shown(number: int | None) -> str:
    return "unknown" if number is None else str(number)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
