"""Scenario 4: several straps at once."""

import time

from lab import Lab
from proof import INFO, WARNING, gap_is_told, journal_says
from scenario import scenario
from strap import CONTROLLERS, recording

SOON = '[bluetooth]\nsilence_max = "8s"\n[session]\ngap_after = "4s"'
# Four minutes of a run in one.
RECORDED, RECORDED_PERIOD_S = 240, 0.25
# 10 s on real hardware; an emulated machine beside a compiler takes its time.
TAKEN_OVER_S_MAX = 60


@scenario("4", straps=3)
def three_straps_one_hung(lab: Lab) -> None:
    """three straps at once, one of them hung: the others are not held up"""
    lab.ready(SOON)
    one, hung, three = lab.straps
    for strap in lab.straps:
        strap.play()
    lab.arrive(10)
    hung.hang()
    journal_says(lab, "the sensor is connected and sends nothing", WARNING, hung)
    # While its link stands and answers nothing, another is dropped: it must not have to wait.
    three.drop()
    lab.wait(lambda: three.state()["connections"] == 2, "the dropped strap is connected again")
    lab.subscribed(one, three)
    lab.arrive(20, one, three)
    assert one.state()["connections"] == 1, "the first was left alone"
    # BlueZ resumes by itself a subscription that the gateway gave up, before the gateway listens.
    with lab.may_miss():
        hung.hang(False)
        lab.subscribed(hung)
        journal_says(lab, "sensor connected; readings flow", INFO, hung, times=2)
    lab.arrive(10, hung)
    gap_is_told(lab, "sensor_silent", 8, hung)
    lab.balanced()


@scenario("4.1", straps=3)
def scans_beside_the_daemon(lab: Lab) -> None:
    """three straps looked for while three scans run beside the daemon: nobody hangs"""
    lab.boot()
    lab.attach()
    lab.install()
    lab.configure()
    scans = "for n in 1 2 3; do hr-gatewayd scan --for 3s & done; jobs -p >/tmp/scans"
    each = "for scan in $(cat /tmp/scans); do wait $scan || exit 1; done"
    lab.machine.sh(f"{scans}; systemctl restart hr-gatewayd; {each}")
    lab.subscribed()
    for strap in lab.straps:
        strap.play()
    lab.arrive(8)
    assert [strap.state()["subscriptions"] for strap in lab.straps] == [1, 1, 1], "subscribed to once"
    lab.balanced()


@scenario("4.2", straps=10, controllers=2)
def ten_straps_over_two_adapters(lab: Lab) -> None:
    """ten straps over two adapters, one pulled out in the middle: the other takes over"""
    lab.ready('[session]\ngap_after = "2s"')
    by = {address: [s for s in lab.straps if s.state()["linked_by"] == [address]] for address in CONTROLLERS}
    doomed, other = CONTROLLERS
    orphans = by[doomed]
    assert orphans and by[other], f"both adapters are used: {by}"
    for strap in lab.straps:
        strap.play(recording(RECORDED), period=RECORDED_PERIOD_S, repeat=False)
    lab.wait(lambda: lab.straps[0].state()["sent"] >= RECORDED / 3, "a third of the recording is over")
    pulled_at = time.monotonic()
    lab.detach(CONTROLLERS.index(doomed))
    for strap in orphans:
        left_s = max(1, pulled_at + TAKEN_OVER_S_MAX - time.monotonic())
        lab.wait(lambda s=strap: s.state()["linked_by"] == [other], f"{strap.name} is linked by the other", left_s)
    lab.subscribed()
    states = [strap.state() for strap in orphans]
    for what, at in (("linked", "connected_at"), ("subscribed to", "subscribed_at")):
        after = sorted(state[at] - pulled_at for state in states)
        each = ", ".join(f"{seconds:.1f}" for seconds in after)
        print(f"     {len(orphans)} of {len(lab.straps)} straps {what} by the other adapter after {each} s", flush=True)
    for strap in by[other]:
        assert strap.state()["connections"] == 1, f"{strap.name}, on the other adapter, was left alone"
    lab.wait(lambda: not any(s.state()["playing"] for s in lab.straps), "the recording is over")
    for strap in orphans:
        gap_is_told(lab, "adapter_gone", 2, strap)
    account = lab.balanced(in_gaps=True)
    print(f"     {len(account.readings)} readings, {account.missed} lost with the adapter and told of", flush=True)
