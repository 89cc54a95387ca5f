"""Scenario 5: Kinesis cannot be reached, or answers badly."""

from collections.abc import Callable

from lab import Lab
from scenario import scenario
from strap import recording

UNREACHABLE = "the sink cannot be reached; everything is kept"
THROTTLES = "the sink takes no more for now"
FAILS = "; everything is kept, trying again every few seconds"
ACCEPTS = "the sink accepts again"
# Fast enough for a recording to pass in seconds; an emulated link takes it.
FAST_S = 0.05


@scenario("5.1")
def a_whole_recording_offline(lab: Lab) -> None:
    """Kinesis unreachable for the whole of a recording, then back"""
    lab.kinesis.down = True
    lab.ready()
    lab.strap.play(recording(240), period=FAST_S, repeat=False)
    lab.wait(lambda: not lab.strap.state()["playing"], "the recording is over")
    sent = lab.strap.state()["sent"]
    lab.wait(lambda: lab.status()["totals"]["queued"] == sent, "all of it is queued")
    assert not lab.kinesis.readings(), "nothing can have been delivered"
    assert "the sink cannot be reached" in lab.machine.sh("systemctl show --property=StatusText hr-gatewayd")
    lab.kinesis.down = False
    account = lab.balanced()
    assert len(account.readings) == sent, f"{sent} were sent, {len(account.readings)} arrived"
    times = [reading["timestamp"] for reading in account.readings]
    assert times == sorted(times), "in order of their sequence, the readings are in order of time"
    assert len(lab.said(UNREACHABLE)) == 1, "once said that it cannot be reached, and that everything is kept"
    assert len(lab.said(ACCEPTS)) == 1, "once said that it is back"


@scenario("5.2")
def bad_answers(lab: Lab) -> None:
    """refusals, throttling, late answers, lost answers, a cut cable: each said once, nothing lost"""
    lab.ready(more='[drain]\nrequest_timeout = "3s"')
    lab.strap.play()
    lab.arrive(5)
    kinesis = lab.kinesis
    # What goes wrong, and how it is put right: the sink cannot be reached, but where it throttles.
    troubles: dict[str, tuple[Callable[[], None], Callable[[], None]]] = {
        "InternalFailure": (lambda: fail(lab, 500, "InternalFailure"), lambda: succeed(lab)),
        "ServiceUnavailable": (lambda: fail(lab, 503, "ServiceUnavailable"), lambda: succeed(lab)),
        "throttling": (lambda: fail(lab, 400, "ProvisionedThroughputExceededException"), lambda: succeed(lab)),
        "late answers": (lambda: setattr(kinesis, "delay_s", 5.0), lambda: setattr(kinesis, "delay_s", 0.0)),
        "lost answers": (
            lambda: setattr(kinesis, "accept_then_cut", True),
            lambda: setattr(kinesis, "accept_then_cut", False),
        ),
        "a cut cable": (lab.machine.cut_network, lab.machine.restore_network),
    }
    for times, (name, (begin, end)) in enumerate(troubles.items(), start=1):
        begin()
        lab.wait(lambda n=times: len(lab.said(FAILS)) >= n, f"{name}: said")
        received = lab.status()["totals"]["received"]
        lab.wait(lambda n=received: lab.status()["totals"]["received"] >= n + 5, f"{name}: readings are still taken")
        end()
        lab.wait(lambda n=times: len(lab.said(ACCEPTS)) >= n, f"{name}: over")
        lab.arrive(5)
        said = len(lab.said(FAILS)), len(lab.said(ACCEPTS))
        assert said == (times, times), f"{name}: said once when it begins, and once when it ends"
    said = len(lab.said(UNREACHABLE)), len(lab.said(THROTTLES))
    assert said == (len(troubles) - 1, 1), "throttling is told as throttling, and nothing else is"
    kinesis.fail_rate = 0.5
    lab.arrive(10)
    assert kinesis.failed_entries, "half of the entries fail"
    kinesis.fail_rate = 0.0
    assert len(lab.said(FAILS)) == len(troubles), "entries that fail and then do not are no outage"
    lab.balanced(duplicates=True)


def fail(lab: Lab, status: int, code: str) -> None:
    lab.kinesis.error = (status, code)


def succeed(lab: Lab) -> None:
    lab.kinesis.error = None
