"""Scenario 9: restarts, asked for and not."""

import faults
from lab import SERVICE, Lab
from scenario import scenario
from strap import recording


@scenario("9.1")
def reboot_with_a_full_queue(lab: Lab) -> None:
    """reboot with a full queue"""
    lab.kinesis.down = True
    lab.ready()
    lab.strap.play(recording(), period=0.05)
    lab.wait(lambda: lab.status()["totals"]["queued"] >= 200, "200 readings are queued")
    lab.strap.stop()
    sent = lab.strap.state()["sent"]
    lab.wait(lambda: lab.status()["totals"]["received"] == sent, "all that was sent is taken")
    lab.reboot()
    lab.attach()
    lab.subscribed()
    after = lab.status()["totals"]
    assert after["queued"] == sent and after["delivered"] == 0, f"all {sent} are still there: {after}"
    lab.strap.play()
    lab.kinesis.down = False
    lab.arrive(sent + 20)
    account = lab.balanced()
    assert [gap["gap_reason"] for gap in account.gaps].count("gateway_down") == 1, f"the gap is told of: {account.gaps}"


@scenario("9.2")
def hung_task(lab: Lab) -> None:
    """a task that hangs is named, and systemd restarts the daemon until it hangs no more"""
    lab.ready()
    lab.strap.play()
    lab.arrive(5)
    faults.inject(lab, "drainer-hangs", "WatchdogSec=8")
    with lab.may_miss():
        lab.start()
        lab.wait(lambda: restarts(lab) >= 2, "systemd has restarted it twice")
        lab.wait(lambda: lab.status()["totals"]["queued"] > 0, "what is received meanwhile is kept")
        faults.heal(lab)
        lab.start()
        lab.subscribed()
    named = [entry for entry in lab.said("standing still: drainer") if entry["PRIORITY"] == "3"]
    assert len(named) >= 2, f"each time, an error names the task: {named}"
    lab.arrive(10)
    lab.balanced()


def restarts(lab: Lab) -> int:
    return int(lab.machine.sh(f"systemctl show --property=NRestarts --value {SERVICE}"))
