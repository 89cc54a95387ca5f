"""Scenario 2: what happens to a link, and what comes over it."""

import time

from lab import Lab
from proof import ERROR, INFO, WARNING, gap_is_told, journal_says
from scenario import scenario

BOTH = ("amd64", "arm64")
LOST, BACK = "link to the sensor lost; looking for it again", "sensor connected; readings flow"
AWAY = "sensor not in range; looking for it"


def gap_after(span: str) -> str:
    return f'[session]\ngap_after = "{span}"\n'


@scenario("2.1", arches=BOTH)
def lost_and_found(lab: Lab) -> None:
    """link dropped by the strap, out of range for 2 s, broadcast off and on"""
    lab.ready(gap_after("2s"))
    strap = lab.strap
    strap.play()
    lab.arrive(8)
    # A drop alone may be mended sooner than `gap_after`, the shortest gap there is.
    for links, (lose, gap_s) in enumerate(((strap.drop, None), (_two_seconds_away, 2), (_broadcast_off, 5)), start=2):
        told = len(lab.gaps("link_down"))
        lose() if gap_s is None else lose(lab)
        lab.wait(lambda n=links: strap.state()["connections"] == n, "the gateway connects again")
        lab.subscribed()
        lab.arrive(8)
        if gap_s is not None:
            gap_is_told(lab, "link_down", gap_s, times=told + 1)
    assert strap.state()["subscriptions"] == 4, "one subscription for each link"
    journal_says(lab, LOST, WARNING, times=3)
    journal_says(lab, BACK, INFO, times=4)
    lab.balanced()


def _away(lab: Lab, for_s: float) -> None:
    """Out of range for so long, which loses the link."""
    back_at = time.monotonic() + for_s
    lab.strap.out_of_range(supervision_s=1)
    lab.wait(lambda: not lab.strap.state()["connected"], "the link is lost")
    lab.wait(lambda: time.monotonic() >= back_at, "the time away is over")
    lab.strap.in_range()


def _two_seconds_away(lab: Lab) -> None:
    _away(lab, 2)


def _broadcast_off(lab: Lab) -> None:
    lab.strap.advertise(False)
    lab.strap.drop()
    journal_says(lab, AWAY, INFO)
    lab.strap.advertise(True)


@scenario("2.2")
def a_minute_out_of_range(lab: Lab) -> None:
    """out of range for 60 s: a new session"""
    lab.ready(gap_after("5s") + 'idle_after = "30s"')
    lab.strap.play()
    lab.arrive(8)
    _away(lab, 60)
    lab.subscribed()
    lab.arrive(8)
    gap_is_told(lab, "link_down", 60)
    journal_says(lab, LOST, WARNING)
    journal_says(lab, AWAY, INFO)
    sessions = {line["session_id"] for line in lab.balanced().readings}
    assert len(sessions) == 2, f"a session before and one after, not {sessions}"


@scenario("2.3", arches=BOTH)
def quiet(lab: Lab) -> None:
    """quiet without disconnecting: subscribed to again, then connected again"""
    lab.ready('[bluetooth]\nsilence_max = "4s"\n' + gap_after("3s"))
    strap = lab.strap
    strap.play()
    lab.arrive(8)
    strap.quiet()
    lab.wait(lambda: strap.state()["subscriptions"] == 2, "the gateway subscribes again")
    assert strap.state()["connections"] == 1, "on the same link"
    strap.quiet(False)
    lab.arrive(8)
    gap_is_told(lab, "sensor_silent", 4)
    journal_says(lab, "the sensor is connected and sends nothing; subscribing again", WARNING)
    strap.quiet()
    lab.wait(lambda: strap.state()["connections"] == 2, "the gateway connects again")
    strap.quiet(False)
    lab.subscribed()
    lab.arrive(8)
    gap_is_told(lab, "sensor_silent", 8, times=2)
    assert strap.state()["subscriptions"] == 4, "twice on each link"
    lab.balanced()


@scenario("2.4", arches=BOTH)
def what_comes_over_it(lab: Lab) -> None:
    """malformed notifications, 16-bit values, RR lists, contact lost"""
    lab.ready()
    strap = lab.strap
    malformed = ["", "00", "0150", "0848", "1e4801"]
    for value in malformed:
        strap.raw(value)
        strap.send(72, rr=[853])
    for hr in (1, 255, 256, 300, 65535):
        strap.send(hr)
    strap.send(61, wide=True)
    for rr in ([1], [1024, 1], [0, 65535, 512], list(range(800, 807))):
        strap.send(70, rr=rr)
        strap.send(280, rr=rr, contact=None, energy=False)
    strap.send(71)
    for hr in (71, 30, 30, 30):
        strap.send(hr, contact=hr != 30)
    strap.send(72)
    account = lab.balanced()
    counted = lab.status()["totals"]["malformed"]
    assert counted == len(malformed), f"{counted} of {len(malformed)} malformed notifications were counted"
    assert lab.said("notifications that are no Heart Rate Measurement were dropped")[0]["PRIORITY"] == WARNING
    without = [line["timestamp"] for line in account.readings if line.get("sensor_contact") is False]
    [gap] = account.gaps
    assert (gap["gap_reason"], gap["gap_start"]) == ("no_contact", without[0]), f"{gap}, without contact: {without}"
    assert gap["gap_end"] == account.readings[-1]["timestamp"], f"{gap} ends with the contact's return"


@scenario("2.5", straps=2)
def bonding(lab: Lab) -> None:
    """bonding with and without encryption demanded; a new address after it"""
    lab.boot()
    lab.attach()
    lab.install()
    secret, open_ = lab.straps
    secret.demand_encryption()
    lab.configure()
    lab.start()
    lab.subscribed(open_)
    journal_says(lab, "the sensor demands bonding: set `bond = true`", ERROR, secret)
    assert secret.state()["pairings"] == 0, "nothing is bonded unasked"
    lab.configure(sensor="bond = true")
    lab.machine.sh("systemctl reload hr-gatewayd")
    for strap in lab.straps:
        journal_says(lab, "bonded with the sensor", INFO, strap)
        lab.wait(lambda s=strap: s.state()["encrypted"], "the link is encrypted")
    lab.subscribed()
    for strap in lab.straps:
        strap.play()
    lab.arrive(8)
    for strap in lab.straps:
        strap.advertise(False)
        strap.drop()
        lab.wait(lambda s=strap: not s.state()["connected"], "the link has ended")
        strap.new_address()
        strap.advertise(True)
    lab.subscribed()
    lab.arrive(8)
    assert [strap.state()["pairings"] for strap in lab.straps] == [1, 1], "bonded once"
    lab.balanced()
