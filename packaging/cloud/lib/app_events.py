"""Events of an app that nobody used: sessions as walks through a Markov decision process whose policy is fixed.

With a fixed policy such a process is a Markov chain: TRANSITIONS says, for each event, what follows it and how often.
What must hold: the same plan gives the same events, byte for byte, on any Python and any machine, so nothing here draws
from a random generator, uses a float or looks at a clock: each draw is a hash of the seed, the session and the place in
it. Events come in the order of time, and only the sessions that are under way are in memory.
"""

import hashlib
import heapq
import json
from collections.abc import Iterator
from datetime import date, timedelta
from fractions import Fraction
from typing import NamedTuple

START = "session_start"
# Per cent. What nothing follows ends the session.
TRANSITIONS = {
    "session_start": {"overview_opened": 100},
    "overview_opened": {"live_opened": 40, "history_opened": 40, "session_end": 20},
    "history_opened": {"overview_opened": 70, "session_end": 30},
    "live_opened": {"overview_opened": 90, "session_end": 10},
    "session_end": {},
}
SCHEMA_VERSION = 1
SESSIONS_PER_USER = 5
STAY_MS_MIN, STAY_MS_MAX = 1_000, 60_000  # From one event of a session to the next.
COPY_BLOCK_EVENTS = 1_000  # A copy comes after its original, and not more than about as many events later.
# Firehose holds 500 partitions open at once; each day has one for every name.
DAYS_MAX = 90
DAY_MS = 86_400_000


class Chain:
    """The table of transitions, looked through once: what it says is the proof of what `follower` gives."""

    def __init__(self, transitions: dict[str, dict[str, int]], start: str) -> None:
        for name, row in transitions.items():
            if row and sum(row.values()) != 100:
                raise ValueError(f"what follows {name} sums to {sum(row.values())} and not to 100")
            if any(share <= 0 for share in row.values()):
                raise ValueError(f"what follows {name} has a share that is not above 0")
            if not row.keys() <= transitions.keys():
                raise ValueError(f"what follows {name} is not in the table: {sorted(row.keys() - transitions.keys())}")
        if start not in transitions:
            raise ValueError(f"{start} is not in the table")
        ending = {name for name, row in transitions.items() if not row}
        while more := {name for name, row in transitions.items() if row.keys() & ending} - ending:
            ending |= more
        if ending != transitions.keys():
            raise ValueError(f"a session would never end after {', '.join(sorted(transitions.keys() - ending))}")
        self.start, self.transitions = start, transitions

    def follower(self, name: str, drawn: int) -> "str | None":
        """What follows, for a number from 0 to 99; None after the end."""
        for follower, share in self.transitions[name].items():
            if drawn < share:
                return follower
            drawn -= share
        return None


CHAIN = Chain(TRANSITIONS, START)


class Plan(NamedTuple):
    """What to generate. `planned` makes one that holds."""

    sessions: int
    seed: int
    duplicates: Fraction
    first: date
    days: int


def planned(sessions: int, seed: int, duplicates: str, first: str, days: int) -> Plan:
    """The plan of these words; a ValueError says which of them is none."""
    if sessions < 1:
        raise ValueError("there must be one session at least")
    if not 1 <= days <= DAYS_MAX:
        raise ValueError(f"days are from 1 to {DAYS_MAX}: more would be more partitions than Firehose holds open")
    try:
        share = Fraction(duplicates)
    except (ValueError, ZeroDivisionError):
        share = Fraction(-1)
    if not 0 <= share <= 1:
        raise ValueError(f"a share of duplicates is from 0 to 1, such as 0.01, not {duplicates}")
    try:
        day = date.fromisoformat(first)
        day + timedelta(days + 1)  # A session goes on over the last midnight.
    except (ValueError, OverflowError):
        raise ValueError(f"a day is written as 2025-07-01, not {first}") from None
    return Plan(sessions, seed, share, day, days)


class Event(NamedTuple):
    """One line, and whether it was there before."""

    name: str
    day: str
    user_id: str
    line: str
    copy: bool = False


def events(plan: Plan, chain: Chain = CHAIN) -> Iterator[Event]:
    """All events, each block followed by its copies. Of n events floor(n * share) come twice, none more often."""
    unique = copies = 0
    block: list[Event] = []
    for event in unique_events(plan, chain):
        yield event
        block.append(event)
        if len(block) == COPY_BLOCK_EVENTS:
            due = int((unique + len(block)) * plan.duplicates) - copies
            yield from copied(plan.seed, block, unique, due)
            unique, copies = unique + len(block), copies + due
            block.clear()
    yield from copied(plan.seed, block, unique, int((unique + len(block)) * plan.duplicates) - copies)


def copied(seed: int, block: list[Event], before: int, count: int) -> Iterator[Event]:
    """So many of the block's events, in their order: those whose numbers have the lowest hashes."""
    places = sorted(range(len(block)), key=lambda place: digest(seed, "copy", before + place))
    for place in sorted(places[:count]):
        yield block[place]._replace(copy=True)


def unique_events(plan: Plan, chain: Chain = CHAIN) -> Iterator[Event]:
    """Each event once. Sessions begin evenly over the days; one that is under way at the last midnight goes on."""
    under_way: list[tuple[int, int, int, str, str, str]] = []
    first_ms = (plan.first - date(1970, 1, 1)).days * DAY_MS
    for session in range(plan.sessions):
        time_ms, session_id, user_id = beginning(plan, session)
        time_ms += first_ms
        while under_way and under_way[0][0] < time_ms:
            yield step(plan.seed, chain, under_way)
        heapq.heappush(under_way, (time_ms, session, 0, chain.start, session_id, user_id))
    while under_way:
        yield step(plan.seed, chain, under_way)


def beginning(plan: Plan, session: int) -> tuple[int, str, str]:
    """When a session begins, in ms after the first midnight, its id and its user's. The next one begins no sooner."""
    drawn = digest(plan.seed, "session", session)
    span_ms = plan.days * DAY_MS
    time_ms = (session * span_ms + (number(drawn, 16) * span_ms >> 64)) // plan.sessions
    user = number(drawn, 24) % max(1, plan.sessions // SESSIONS_PER_USER)
    return time_ms, uuid(drawn), uuid(digest(plan.seed, "user", user))


def step(seed: int, chain: Chain, under_way: list[tuple[int, int, int, str, str, str]]) -> Event:
    """The earliest event; what follows it in its session takes its place."""
    time_ms, session, position, name, session_id, user_id = under_way[0]
    drawn = digest(seed, "event", session, position)
    timestamp = written(time_ms)
    follower = chain.follower(name, number(drawn, 16) % 100)
    if follower is None:
        heapq.heappop(under_way)
    else:
        later_ms = time_ms + STAY_MS_MIN + number(drawn, 24) % (STAY_MS_MAX - STAY_MS_MIN + 1)
        heapq.heapreplace(under_way, (later_ms, session, position + 1, follower, session_id, user_id))
    line = {"timestamp": timestamp, "event_name": name, "event_id": uuid(drawn), "session_id": session_id,
            "user_id": user_id, "position": position, "schema_version": SCHEMA_VERSION}
    return Event(name, timestamp[:10], user_id, json.dumps(line, separators=(",", ":")))


def digest(*words: object) -> bytes:
    """32 bytes that only these words give. The modulo of 8 of them favours nothing that anyone could count."""
    return hashlib.sha256("/".join(map(str, words)).encode()).digest()


def number(drawn: bytes, place: int) -> int:
    return int.from_bytes(drawn[place:place + 8], "big")


def uuid(drawn: bytes) -> str:
    """The first 16 bytes as a UUID of version 8, which RFC 9562 leaves to whoever makes it."""
    bits = int.from_bytes(drawn[:16], "big") & ~(0xF << 76 | 0x3 << 62) | 0x8 << 76 | 0x2 << 62
    text = f"{bits:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def written(time_ms: int) -> str:
    """A time as on the wire: RFC 3339 UTC of 24 characters."""
    days, ms = divmod(time_ms, DAY_MS)
    day = date(1970, 1, 1) + timedelta(days)
    seconds, ms = divmod(ms, 1_000)
    return f"{day}T{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{ms:03}Z"
