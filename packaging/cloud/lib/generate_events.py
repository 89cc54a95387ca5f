#!/usr/bin/env python3
"""The inner part of generate-events.sh: NDJSON on standard output, or records on a stream.

    generate_events.py [--sessions N] [--seed N] [--duplicates SHARE] [--from DAY] [--days N] [--stream NAME]

What must hold: a line that was counted as put was given a sequence number; memory is bounded by the sessions that are
under way, however many there are. The lines need Python 3.9, and to put them as much as replay.py does.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from itertools import islice

import app_events

# Of one call, so that a single shard, which takes 1 MB a second, does not refuse most of it.
PORTION_EVENTS = 4_000
# Of a user's id: a user's events stay on one shard in their order, and a record holds the lines of several users.
KEY_CHARACTERS = 2


def write(found: Iterator[app_events.Event]) -> None:
    for event in found:
        sys.stdout.write(event.line + "\n")
    sys.stdout.flush()


def put(found: Iterator[app_events.Event], stream: str) -> None:
    """All of them, in portions; what is refused again, later each time. Otherwise the end, saying how many arrived."""
    import replay  # It takes a newer Python than the lines do.
    from aws_cli import AwsError

    accepted = 0
    try:
        while portion := list(islice(found, PORTION_EVENTS)):
            lines = [(event.user_id[:KEY_CHARACTERS], event.line) for event in portion]
            for call in replay.calls(replay.records(lines)):
                replay.put(stream, call)
            accepted += len(portion)
    except AwsError as error:
        sys.exit(f"generate-events.sh: {error}. {accepted} lines are on {stream}, and up to {PORTION_EVENTS} more. "
                 "The same command puts all of them again: what came twice has the same event_id.")


class Counted:
    """Passes events on and counts them."""

    def __init__(self, found: Iterator[app_events.Event]) -> None:
        self.found, self.unique, self.copies = found, 0, 0

    def __iter__(self) -> Iterator[app_events.Event]:
        for event in self.found:
            self.copies += event.copy
            self.unique += not event.copy
            yield event


def main() -> None:
    parser = argparse.ArgumentParser(prog="generate-events.sh", allow_abbrev=False)
    parser.add_argument("--sessions", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--duplicates", default="0.01", metavar="SHARE")
    parser.add_argument("--from", default="2025-07-01", metavar="DAY", dest="first")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--stream", metavar="NAME")
    options = parser.parse_args()
    try:
        plan = app_events.planned(options.sessions, options.seed, options.duplicates, options.first, options.days)
    except ValueError as error:
        parser.error(str(error))
    counted = Counted(app_events.events(plan))
    if options.stream:
        put(iter(counted), options.stream)
    else:
        write(iter(counted))
    where = f"on {options.stream}" if options.stream else "written"
    print(f"{plan.sessions} sessions: {counted.unique} events and {counted.copies} of them a second time, "
          f"{counted.unique + counted.copies} lines {where}", file=sys.stderr)


if __name__ == "__main__":
    try:
        main()
    except BrokenPipeError:
        os._exit(0)
