"""Scenario 1: the package, from nothing to nothing."""

import json

from lab import SERVICE, Lab
from scenario import scenario


@scenario("1", arches=("amd64", "arm64"))
def first_install(lab: Lab) -> None:
    """first install, scan, configure, start, readings in Kinesis, stop, purge"""
    lab.boot()
    lab.attach()
    lab.install()
    nearby = json.loads(lab.machine.get("hr-gatewayd scan --for 5s --json"))
    heard = [device["name"] for device in nearby if device["heart_rate"]]
    assert heard == [lab.strap.name], f"the scan found {nearby}"
    lab.configure()
    lab.start()
    lab.subscribed()
    lab.strap.play()
    lab.arrive(20)
    lab.balanced()
    lab.stop()
    lab.machine.sh(f"dpkg --remove {SERVICE}")
    lab.machine.sh("test -d /var/lib/hr-gatewayd/queue")
    lab.machine.sh(f"dpkg --purge {SERVICE}")
    left = lab.machine.sh("find /var/lib/hr-gatewayd /etc/hr-gatewayd /var/lib/private/hr-gatewayd 2>/dev/null; true")
    assert not left, f"a purge left {left}"
