"""Measures how long a strap that begins to advertise waits for its subscription, and how many tries that takes.

A figure and no test. The gateway knows the strap and looks for it. Each time the strap is off for a while and comes
back; a try is a connection request on the air, lost or not. `air.py` says what loss does.
"""

import math
import random
import statistics
import time
from dataclasses import dataclass
from functools import partial

from lab import Lab
from scenario import Scenario

LOSSES = (0.0, 0.1, 0.3)
TRIES_MAX = 2
# So long the strap is off, at random: the gateway's search is then anywhere in its course.
OFF_S = (3.0, 8.0)


@dataclass
class Connect:
    seconds: float
    tries: int


def measuring(count: int) -> Scenario:
    line = f"time to connect, {count} times for each loss"
    return Scenario("-", "connects", line, partial(_measure, count=count), 1, 1, ("amd64",), False)


def _measure(lab: Lab, count: int) -> None:
    lab.ready()
    lab.strap.play()
    lab.arrive(1)
    chance = random.Random(count)
    print("     loss  connects  median    90 %   worst  within two tries  tries", flush=True)
    for loss in LOSSES:
        assert lab.radio is not None
        lab.radio.lose(loss, seed=count)
        _print(loss, [_connect(lab, chance.uniform(*OFF_S)) for _ in range(count)])
    lab.radio.lose(0.0)
    lab.balanced(in_gaps=True)


def _connect(lab: Lab, off_s: float) -> Connect:
    strap = lab.strap
    strap.advertise(False)
    strap.drop()
    lab.wait(lambda: not strap.state()["connected"], "the link has ended")
    tries, back_at = strap.state()["requests"], time.monotonic() + off_s
    lab.wait(lambda: time.monotonic() >= back_at, "the time off is over")
    strap.advertise(True)
    lab.subscribed()
    state = strap.state()
    # The gateway counts a connect as good when a reading came.
    lab.arrive(1)
    return Connect(state["subscribed_at"] - state["advertised_at"], state["requests"] - tries)


def _print(loss: float, connects: list[Connect]) -> None:
    seconds = sorted(connect.seconds for connect in connects)
    most = seconds[math.ceil(0.9 * len(seconds)) - 1]
    soon = sum(connect.tries <= TRIES_MAX for connect in connects) / len(connects)
    tries = sum(connect.tries for connect in connects)
    print(
        f"     {loss:4.0%}  {len(connects):8}  {statistics.median(seconds):4.1f} s  {most:4.1f} s  {seconds[-1]:4.1f} s"
        f"  {soon:16.0%}  {tries:5}",
        flush=True,
    )
