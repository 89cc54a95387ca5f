"""Scenario 8: the disk is nearly full, full, read-only."""

from typing import Any

from lab import SERVICE, Lab
from scenario import scenario
from strap import recording

FILL = "/root/fill"
MIB = 1 << 20
# As configured; an append is refused below a quarter of it.
HEADROOM_MIB = 64
# By force, as a failing card does it, over files that are open. The kernel has its say on the console, so with a pause
# before and after, and no more than that.
READ_ONLY = (
    "sync; echo 1 >/proc/sys/kernel/printk; sleep 1; echo u >/proc/sysrq-trigger; "
    "until grep -q ' / ext4 ro' /proc/mounts; do sleep 0.1; done"
)
QUEUE = f'[queue]\ndisk_headroom = "{HEADROOM_MIB} MiB"'


@scenario("8.1")
def full_disk(lab: Lab) -> None:
    """disk nearly full: nothing is lost; then full: counted, said, marked by a gap record; it recovers"""
    lab.ready(more=QUEUE)
    lab.strap.play(recording(), period=0.1)
    lab.arrive(10)
    leave_free(lab, HEADROOM_MIB // 2)
    lab.wait(lambda: lab.said("the disk is nearly full: the queue no longer grows"), "the warning")
    # What flows takes no room.
    lab.arrive(50)
    assert totals(lab)["evicted"] == 0, f"nothing is lost while Kinesis takes it: {totals(lab)}"

    leave_free(lab, HEADROOM_MIB // 8)
    said = lab.wait(lambda: lab.said("the queue is full (the disk is nearly full)"), "the error")
    assert said[0]["PRIORITY"] == "3" and "make room" in said[0]["MESSAGE"], f"an error says what to do: {said}"
    lab.wait(lambda: "THE QUEUE IS FULL" in status_text(lab), "the status says so")
    lab.wait(lambda: totals(lab)["evicted"] >= 10, "readings are counted as lost")
    # Not a byte: others have taken the rest.
    leave_free(lab, 0)
    evicted = totals(lab)["evicted"]
    lab.wait(lambda: totals(lab)["evicted"] >= evicted + 20, "it goes on")
    assert restarts(lab) == 0 and lab.strap.state()["subscribed"], "and stands it"

    leave_free(lab, None)
    lab.wait(lambda: lab.said("the queue has room again"), "it is over, and said")
    lab.arrive(20)
    lab.strap.stop()
    lost = totals(lab)["evicted"]
    account = lab.balanced(lost=lost)
    assert account.missed == lost, f"{lost} are counted as lost, {account.missed} did not arrive"
    gaps = lab.gaps("evicted")
    assert len(gaps) == 1 and gaps[0]["gap_start"] < gaps[0]["gap_end"], f"one gap record tells of it: {gaps}"
    assert restarts(lab) == 0, "no crash"
    assert len(lab.said("the queue is full")) == 1, "said once"


@scenario("8.2")
def full_with_a_backlog(lab: Lab) -> None:
    """no byte left with a backlog and Kinesis back: what is queued is delivered, nothing breaks"""
    lab.kinesis.down = True
    lab.ready(more=QUEUE)
    lab.strap.play(recording(), period=0.05)
    lab.wait(lambda: totals(lab)["queued"] >= 150, "150 readings are queued")
    leave_free(lab, 0)
    lab.wait(lambda: totals(lab)["evicted"] >= 20, "new ones are refused")
    lab.kinesis.down = False
    lab.arrive(150)
    leave_free(lab, None)
    lab.wait(lambda: lab.said("the queue has room again"), "it is over")
    lab.strap.stop()
    lost = totals(lab)["evicted"]
    account = lab.balanced(lost=lost)
    assert account.missed == lost, f"{lost} are counted as lost, {account.missed} did not arrive"
    assert restarts(lab) == 0, "no crash"


@scenario("8.3")
def read_only_disk(lab: Lab) -> None:
    """read-only: it ends with a plain line, and a restart of systemd's own finds it mended"""
    lab.kinesis.down = True
    lab.ready()
    lab.strap.play()
    lab.wait(lambda: totals(lab)["queued"] >= 20, "20 readings are queued")
    # The journal is on the same disk: into memory with it, or the words could not be read.
    lab.machine.sh("journalctl --relinquish-var")
    with lab.may_miss():
        lab.machine.sh(READ_ONLY)
        lab.wait(lambda: restarts(lab) >= 2, "it ends, and systemd starts it again")
        lab.machine.sh("mount -o remount,rw /")
        lab.subscribed()
    errors = [str(entry["MESSAGE"]) for entry in lab.journal() if entry["PRIORITY"] == "3"]
    assert any("read-only" in words.lower() for words in errors), f"an error says that the disk is read-only: {errors}"
    assert not lab.said("set aside"), "the store is sound"
    lab.kinesis.down = False
    lab.arrive(25)
    lab.balanced()


def leave_free(lab: Lab, mib: int | None) -> None:
    """Fills the disk until so much is free to the daemon; None: gives all of it back."""
    if mib is None:
        lab.machine.sh(f"rm {FILL}")
        return
    free = f"$(( $(stat -f -c '%a * %S' /) - {mib * MIB} ))"
    size = f"$(( $(stat -c %s {FILL} 2>/dev/null || echo 0) + {free} ))"
    # The file only grows: what is left free goes to the file system's own needs.
    lab.machine.sh(f"fallocate -l {size} {FILL}; sync")


def totals(lab: Lab) -> dict[str, Any]:
    return lab.status()["totals"]


def status_text(lab: Lab) -> str:
    return lab.machine.sh(f"systemctl show --property=StatusText --value {SERVICE}")


def restarts(lab: Lab) -> int:
    return int(lab.machine.sh(f"systemctl show --property=NRestarts --value {SERVICE}"))
