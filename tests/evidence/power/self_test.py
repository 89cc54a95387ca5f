#!/usr/bin/env python3
"""Shows the judge of the power cuts a store that is well, then one broken rule at a time: it must see each."""

import json
import sys
from collections.abc import Callable
from typing import Any

sys.dont_write_bytecode = True
from judge import MORE, Known, judge  # noqa: E402

Lines = list[dict[str, Any]]
EPOCH, NEXT_EPOCH = "00000000000000aa", "00000000000000bb"
AFTERWARDS = 60_000


def content(serial: int) -> dict[str, Any]:
    return {"sensor_id": "strap", "heart_rate": 40 + serial, "energy_expended_kj": serial, "rr_intervals_ms": [800.0]}


def line(serial: int, sequence: int, epoch: str = EPOCH) -> dict[str, Any]:
    named = {"reading_id": f"{epoch}-{sequence}", "sequence": sequence}
    return {"timestamp": "2025-07-15T17:10:33.123Z", "clock": "corrected", **content(serial), **named}


class Scene:
    """Five readings: one delivered, one dead, three queued; the fifth was not acknowledged yet."""

    def __init__(self) -> None:
        self.delivered, self.dead = [line(1, 1)], [line(2, 2)]
        self.queued = [line(serial, serial) for serial in (3, 4, 5)]
        self.more = [line(AFTERWARDS + n, 6 + n, NEXT_EPOCH) for n in range(MORE)]
        self.account: dict[str, int] = {}
        self.balances, self.aside, self.acknowledged_count = True, False, 4

    def faults(self) -> list[str]:
        known = Known()
        known.hear({"offered": [content(serial) for serial in range(1, 6)]})
        known.hear({"acknowledged": [1, 2, 3, 4], "acknowledged_count": self.acknowledged_count})
        known.hear({"delivered": [json.dumps(one) for one in self.delivered]})
        printed: list[Any] = [{"set_aside": "queue.damaged"}] if self.aside else []
        printed += [*self.report(self.queued), "appended", *self.report(self.queued + self.more)]
        return judge(known, printed)

    def report(self, queued: Lines) -> Lines:
        parts = {"delivered": 1, "queued": len(queued), "dead_lettered": len(self.dead), "evicted": 0}
        account = {"received": sum(parts.values()), **parts, **self.account}
        nothing = dict.fromkeys(account, 0)
        row = {"sensor": "strap", "readings": account, "other_records": nothing}
        dead = [{"dead_letter": {"line": json.dumps(one)}} for one in self.dead]
        status = {"status": {"balances": self.balances, "sensors": [row]}}
        return [status, *({"line": json.dumps(one)} for one in queued), *dead]


def well(_: Scene) -> None:
    pass


def told_better_at_a_second_try(scene: Scene) -> None:
    scene.queued.append(dict(scene.delivered[0], clock="synchronized", timestamp="2026-01-01T00:00:00.000Z"))


def loses_what_was_acknowledged(scene: Scene) -> None:
    del scene.queued[1:]
    scene.more = [line(AFTERWARDS + n, 4 + n) for n in range(MORE)]


def has_a_hole(scene: Scene) -> None:
    scene.queued[2] = line(5, 7)
    scene.more = [line(AFTERWARDS + n, 8 + n) for n in range(MORE)]


def alters_a_reading(scene: Scene) -> None:
    scene.queued[0]["heart_rate"] += 1


def makes_one_up(scene: Scene) -> None:
    scene.queued.append(line(9, 6))
    scene.more = [line(AFTERWARDS + n, 7 + n) for n in range(MORE)]


def gives_a_reading_two_ids(scene: Scene) -> None:
    scene.queued.append(line(3, 6))
    scene.more = [line(AFTERWARDS + n, 7 + n) for n in range(MORE)]


def gives_an_id_to_two(scene: Scene) -> None:
    scene.queued[0] = line(3, 1)


def forgets_the_sequence(scene: Scene) -> None:
    scene.more = [line(AFTERWARDS + n, 4 + n) for n in range(MORE)]


def skips_in_the_sequence(scene: Scene) -> None:
    scene.more = [line(AFTERWARDS + n, 7 + n) for n in range(MORE)]


def goes_on_with_the_ids_of_before(scene: Scene) -> None:
    for one in scene.more:
        one["reading_id"] = one["reading_id"].replace(NEXT_EPOCH, EPOCH)


def is_set_aside(scene: Scene) -> None:
    scene.aside = True


def does_not_balance(scene: Scene) -> None:
    scene.account = {"received": 9}


def says_that_it_does_not_balance(scene: Scene) -> None:
    scene.balances = False


def counts_what_is_not_there(scene: Scene) -> None:
    scene.account = {"received": 6, "queued": 4}


def received_less_than_it_said(scene: Scene) -> None:
    scene.acknowledged_count = 6


WELL: list[Callable[[Scene], None]] = [well, told_better_at_a_second_try]
# And what the judge must say of it.
BROKEN: dict[Callable[[Scene], None], str] = {
    loses_what_was_acknowledged: "1 acknowledged readings are nowhere",
    has_a_hole: "the sequence has 2 holes, the first at 5",
    alters_a_reading: "what went in was",
    makes_one_up: "what went in was None",
    gives_a_reading_two_ids: "reading 3 has two ids",
    gives_an_id_to_two: "one id stands for two",
    forgets_the_sequence: "3 more readings were given",
    skips_in_the_sequence: "3 more readings were given",
    goes_on_with_the_ids_of_before: "ids of before the cut go on",
    is_set_aside: "was set aside as queue.damaged",
    does_not_balance: "do not balance",
    says_that_it_does_not_balance: "says that its ledger does not balance",
    counts_what_is_not_there: "4 are counted as queued, 3 come out",
    received_less_than_it_said: "6 readings were acknowledged, 5 are known",
}


def main() -> int:
    wrong = 0
    for change in [*WELL, *BROKEN]:
        scene = Scene()
        change(scene)
        faults, expected = scene.faults(), BROKEN.get(change)
        right = any(expected in fault for fault in faults) if expected else not faults
        if not right:
            wrong += 1
            print(f"a store that {change.__name__}: the judge says {faults or 'nothing'}")
    print(f"{len(BROKEN)} broken rules shown, {wrong} judged wrongly")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
