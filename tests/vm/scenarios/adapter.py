"""Scenarios 3 and 4.3: what becomes of bluetoothd, the adapter, the controller and the daemon itself."""

from lab import ADAPTER_POWERED, SERVICE, Lab
from proof import ERROR, INFO, WARNING, gap_is_told, journal_says
from scenario import scenario

SOON = '[session]\ngap_after = "2s"'
NO_ADAPTER = "no Bluetooth adapter; waiting for one"
LOST = "link to the sensor lost; looking for it again"
BACK = "sensor connected; readings flow"


@scenario("3.1")
def bluetoothd_restarted_and_killed(lab: Lab) -> None:
    """bluetoothd restarted; killed"""
    lab.ready(SOON)
    lab.strap.play()
    lab.arrive(8)
    for times, end in enumerate(("systemctl restart bluetooth", "systemctl kill -s KILL bluetooth"), start=1):
        with lab.may_miss():
            lab.machine.sh(end)
            lab.machine.sh("systemctl start bluetooth")
            _flows_again(lab, times + 1)
        lab.arrive(8)
        gap_is_told(lab, "adapter_gone", 2, times=times)
    journal_says(lab, LOST, WARNING, times=2)
    lab.balanced()


@scenario("3.2")
def adapter_off_and_controller_out(lab: Lab) -> None:
    """adapter powered off and on; controller unplugged and plugged"""
    lab.ready(SOON)
    lab.strap.play()
    lab.arrive(8)
    power = "busctl set-property org.bluez /org/bluez/hci0 org.bluez.Adapter1 Powered b"
    # The gateway switches on what it needs, mostly before there is a gap.
    lab.machine.sh(f"{power} false")
    _flows_again(lab, 2)
    lab.arrive(8)
    before = lab.gaps()
    assert {gap["gap_reason"] for gap in before} <= {"adapter_gone"}, f"a gap, if it came to one, tells why: {before}"
    # What the strap sends in that moment is lost in the controller.
    lab.strap.stop()
    lab.all_arrived()
    lab.detach()
    journal_says(lab, NO_ADAPTER, WARNING)
    lab.attach()
    lab.strap.play()
    _flows_again(lab, 3)
    lab.arrive(8)
    gap_is_told(lab, "adapter_gone", 2, times=len(before) + 1)
    assert "true" in lab.machine.sh(ADAPTER_POWERED)
    lab.balanced()


@scenario("3.3")
def daemon_killed(lab: Lab) -> None:
    """the daemon killed while connected, and started again by systemd"""
    lab.ready(SOON)
    lab.strap.play()
    lab.arrive(8)
    with lab.may_miss():
        lab.machine.sh(f"systemctl kill -s KILL {SERVICE}")
        _flows_again(lab, 2)
    lab.arrive(8)
    gap_is_told(lab, "gateway_down", 2)
    assert lab.strap.state()["subscriptions"] == 2, "one subscription by each daemon"
    assert lab.strap.state()["connections"] == 1, "the link of the dead daemon is used, not made anew"
    # What Kinesis took and the dead daemon did not note goes out again, under the same id.
    account = lab.balanced(duplicates=True)
    sessions = {line["session_id"] for line in account.readings}
    assert len(sessions) == 1, f"a short stop does not end a session: {sessions}"


@scenario("3.4")
def link_of_a_killed_daemon(lab: Lab) -> None:
    """the link that a killed daemon left is closed by the next; one that another program made meanwhile is not"""
    lab.ready()
    _kill_for_good(lab)
    assert lab.strap.state()["connected"], "BlueZ keeps the link"
    lab.start()
    lab.subscribed()
    lab.stop()
    lab.wait(lambda: not lab.strap.state()["connected"], "the link that the dead daemon left is closed")
    lab.start()
    lab.subscribed()
    _kill_for_good(lab)
    lab.strap.drop()
    lab.wait(lambda: not lab.strap.state()["connected"], "the link has ended")
    device = f"/org/bluez/hci0/dev_{lab.addresses[lab.strap.name].replace(':', '_')}"
    lab.machine.sh(f"busctl call org.bluez {device} org.bluez.Device1 Connect")
    lab.start()
    lab.subscribed()
    lab.stop()
    state = lab.strap.state()
    assert state["connected"] and not state["subscribed"], f"the other program's link stands: {state}"
    assert state["connections"] == 3, f"one link more than the two of the daemons: {state}"


def _kill_for_good(lab: Lab) -> None:
    lab.machine.sh(f"systemctl kill -s KILL {SERVICE}")
    lab.machine.sh(f"systemctl stop {SERVICE}")
    lab.wait(lambda: not lab.strap.state()["subscribed"], "the subscription ends with who made it")


def _flows_again(lab: Lab, times: int) -> None:
    journal_says(lab, BACK, INFO, times=times)
    lab.subscribed()


@scenario("4.3")
def adapter_blocked_by_rfkill(lab: Lab) -> None:
    """the only adapter blocked by rfkill and unblocked: named in the journal and by `check --online`"""
    lab.ready(SOON)
    lab.strap.play()
    lab.arrive(8)
    # What `rfkill block bluetooth` does, which the guest does not have.
    switch = "/sys/class/bluetooth/hci0/rfkill*/soft"
    lab.machine.sh(f"echo 1 | tee {switch}")
    journal_says(lab, "the Bluetooth adapter is blocked by rfkill", ERROR)
    code, found = lab.machine.run(f"{SERVICE} check --online")
    named = [line for line in found.splitlines() if line.startswith("FAIL  adapter:")]
    assert code == 1 and len(named) == 1 and "blocked by rfkill" in named[0], f"it exited with {code}: {found}"
    lab.machine.sh(f"echo 0 | tee {switch}")
    _flows_again(lab, 2)
    lab.arrive(8)
    gap_is_told(lab, "adapter_gone", 2)
    # Until its controller is reset the strap does not know that nobody listens.
    lab.balanced(in_gaps=True)
