"""Scenario 7: a machine without a battery clock."""

import time
from datetime import UTC, datetime

from lab import Lab
from scenario import scenario

LONG_AGO = "2019-01-01T00:00:00"
# A notification's way through an emulated machine, and the steps of its clock.
TOLERANCE_S = 2.0
# As Kinesis refuses a call that was signed at a wrong time.
SKEW_MAX_S = 300


@scenario("7")
def wrong_clock(lab: Lab) -> None:
    """boots in 2019 and never sees time: marked; boots again, then time arrives: corrected, then synchronized"""
    lab.ntp.on = False
    lab.kinesis.skew_max_s = SKEW_MAX_S
    lab.machine.rtc, lab.machine.network = LONG_AGO, False
    lab.boot(cold=True, synchronized=False)
    lab.attach()
    lab.install()
    lab.configure(more='[drain]\nblocked_delay_max = "1s"')
    lab.start()
    lab.subscribed()
    lab.strap.play()
    lab.wait(lambda: lab.status()["totals"]["queued"] >= 20, "the boot that never sees time has recorded")
    lab.strap.stop()
    first = settled(lab)
    lab.machine.sh("sync")
    lab.machine.kill()

    lab.machine.power_on()
    lab.attach()
    lab.subscribed()
    lab.strap.play()
    lab.wait(lambda: lab.status()["totals"]["queued"] >= first + 20, "the other boot has recorded")
    lab.machine.restore_network()
    lab.wait(lambda: lab.said("check the clock"), "Kinesis refuses what is signed in 2019, and that is said")
    lab.ntp.on = True
    lab.arrive(first + 20)
    lab.wait(lambda: lab.said("the clock is synchronized; queued readings of this boot"), "that time arrived is said")
    offset = time.time() - time.monotonic()
    synchronized_from = len(lab.strap.sent())
    lab.arrive(20)
    account = lab.balanced()

    sent = {entry["serial"]: entry["at"] + offset for entry in lab.strap.sent()}
    late = {entry["serial"] for entry in lab.strap.sent()[synchronized_from:]}
    for place, reading in enumerate(account.readings):
        serial, clock = reading["energy_expended_kj"], reading["clock"]
        if place < first:
            assert clock == "unsynchronized", f"of a boot that never saw time: {reading}"
            continue
        assert clock == "synchronized" or clock == "corrected" and serial not in late, f"time had arrived: {reading}"
        error = seconds(reading["timestamp"]) - sent[serial]
        assert abs(error) < TOLERANCE_S, f"{error:.1f} s from when it was sent: {reading}"
    clocks = [reading["clock"] for reading in account.readings]
    assert clocks[first:].count("corrected") >= 20, f"what waited was corrected: {clocks}"
    order = ["unsynchronized", "corrected", "synchronized"]
    assert clocks == sorted(clocks, key=order.index), f"in this order: {clocks}"
    assert lab.gaps("clock_unsynchronized"), "a gap record tells of the time without time"


def settled(lab: Lab) -> int:
    """How many readings there are once no more come."""
    sent = lab.strap.state()["sent"]
    lab.wait(lambda: lab.status()["totals"]["received"] == sent, "all are taken")
    return sent


def seconds(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp.replace("Z", "+00:00")).astimezone(UTC).timestamp()
