"""Scenario 4: several straps at once."""

from lab import Lab
from proof import INFO, WARNING, gap_is_told, journal_says
from scenario import scenario

SOON = '[bluetooth]\nsilence_max = "8s"\n[session]\ngap_after = "4s"'


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
