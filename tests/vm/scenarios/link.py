"""Scenario 2: what happens to a link, and what comes over it."""

from lab import Lab
from scenario import scenario

BOTH = ("amd64", "arm64")


@scenario("2.1", arches=BOTH)
def dropped_by_the_strap(lab: Lab) -> None:
    """link dropped by the strap"""
    lab.ready()
    lab.strap.play()
    lab.arrive(10)
    lab.strap.drop()
    lab.wait(lambda: lab.strap.state()["connections"] == 2, "the gateway connects again")
    lab.subscribed()
    lab.arrive(10)
    lab.balanced()
