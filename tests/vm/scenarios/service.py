"""Scenarios 1.1 and 1.2: the service as systemd and journald see it."""

from lab import CONFIG, SERVICE, Lab
from scenario import scenario

# systemd-analyze counts in tenths: 1.5 of 10.
EXPOSURE_TENTHS_MAX = 15
MINUTE_AT_1_HZ = 60
PRIORITIES = {"3", "4", "6"}


@scenario("1.1")
def without_configuration(lab: Lab) -> None:
    """without a configuration it says what to write where, and takes it up on reload; hardened; its journal"""
    lab.boot()
    lab.attach()
    lab.install()
    lab.wait(lambda: shown(lab, "StatusText"), "the service has a status")
    assert shown(lab, "ActiveState") == "active"
    told = [entry for entry in lab.journal() if int(entry["PRIORITY"]) <= 4 and f"into {CONFIG}" in entry["MESSAGE"]]
    assert len(told) == 1 and "[[sensor]]" in told[0]["MESSAGE"], f"one line says what to write where: {told}"
    assert f"into {CONFIG}" in shown(lab, "StatusText"), shown(lab, "StatusText")
    lab.configure()
    lab.machine.sh(f"systemctl reload {SERVICE}")
    lab.subscribed()
    lab.strap.play(period=0.1)
    # Kinesis sees whose keys signed: those that LoadCredential handed over, which it does at a start only.
    refused = lab.wait(lambda: lab.said("the sink refuses the gateway: give the gateway credentials"), "no keys yet")
    assert "systemctl restart" in refused[0]["MESSAGE"], f"it says how to hand them over: {refused}"
    with lab.may_miss():
        lab.start()
        lab.subscribed()
    lab.arrive(10)
    assert lab.kinesis.key_ids == {"test"}, f"signed with {lab.kinesis.key_ids}"
    lab.wait(lambda: "1 of 1 sensors streaming" in shown(lab, "StatusText"), "the status says so")
    # As hard as it is, and doing its whole job.
    lab.machine.sh(f"systemd-analyze security --no-pager --threshold={EXPOSURE_TENTHS_MAX} {SERVICE}")
    before = len(lab.journal())
    lab.arrive(MINUTE_AT_1_HZ)
    quiet = lab.journal()[before:]
    assert not quiet, f"an uneventful minute needs no line: {[entry['MESSAGE'] for entry in quiet]}"
    own = lab.journal(f"SENSOR={lab.strap.name}")
    assert any("session begins" in entry["MESSAGE"] for entry in own), f"found by sensor: {own}"
    entries = [entry for entry in lab.journal() if entry["SYSLOG_IDENTIFIER"] == SERVICE]
    assert {entry["PRIORITY"] for entry in entries} <= PRIORITIES, "only errors, warnings and information"
    # A wrong file is refused where it is asked for, and what is in force stays.
    lab.machine.sh(f"cp {CONFIG} /root/good; echo 'stream = 1 =' >>{CONFIG}; systemctl reload {SERVICE}")
    refused = lab.wait(lambda: lab.said("the configuration stays as it was"), "a wrong configuration is refused")
    assert refused[0]["PRIORITY"] == "3" and CONFIG in refused[0]["MESSAGE"], f"an error names the file: {refused}"
    lab.machine.sh(f"cp /root/good {CONFIG}")
    lab.arrive(5)
    lab.balanced()


@scenario("1.2")
def failing_starts(lab: Lab) -> None:
    """a wrong configuration ends with 78 and stays ended; a failing disk is tried again, ever more slowly"""
    lab.ready()
    lab.strap.play()
    lab.arrive(5)
    with lab.may_miss():
        lab.machine.sh(f"cp {CONFIG} /root/good; sed -i 's/^stream/steam/' {CONFIG}")
        assert lab.machine.run(f"systemctl restart {SERVICE}")[0], "a restart with a wrong configuration fails"
        assert shown(lab, "ExecMainStatus") == "78" and shown(lab, "ActiveState") == "failed"
        assert shown(lab, "NRestarts") == "0", "only somebody who mends the file helps"
        words = lab.said("steam")
        assert words and "stream" in words[-1]["MESSAGE"], f"the journal names the key and what is allowed: {words}"
        lab.machine.sh(f"cp /root/good {CONFIG}; cd /var/lib/hr-gatewayd && mv queue aside && touch queue")
        lab.machine.run(f"systemctl restart {SERVICE}")
        lab.wait(lambda: int(shown(lab, "NRestarts")) >= 4, "systemd has restarted it four times")
        lab.machine.sh("cd /var/lib/hr-gatewayd && rm queue && mv aside queue")
        lab.subscribed()
    failed = [int(entry["__MONOTONIC_TIMESTAMP"]) for entry in lab.journal() if entry.get("EXIT_CODE") == "1"]
    failed = [at for at in failed if at]
    waits = [(later - earlier) / 1e6 for earlier, later in zip(failed, failed[1:], strict=False)]
    assert len(waits) >= 3 and waits[-1] > waits[0] + 2, f"the delays grow: {waits}"
    lab.arrive(10)
    lab.balanced()


def shown(lab: Lab, key: str) -> str:
    return lab.machine.sh(f"systemctl show --property={key} --value {SERVICE}")
