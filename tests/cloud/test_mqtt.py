"""What a gateway hears, through a real broker: Home Assistant's discovery, values, availability."""

import json
import socket
import stat
import subprocess
import sys
import time
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest

OBSERVER = Path(__file__).parents[2] / "packaging/mqtt/hr-gatewayd-mqtt"

# A gateway as the observer sees it: tests/gateway/glance.rs holds the real one to this form.
GATEWAY = r"""#!/bin/sh
case $1 in
status)
    [ -e "$0.up" ] || exit 1
    echo '{"gateway": "pi", "sensors": [{"sensor": "adi", "wanted": true, "streams": true, "battery_percent": 87, "rssi_dbm": -61},
        {"sensor": "gone", "wanted": false, "streams": false, "battery_percent": null, "rssi_dbm": null}]}'
    ;;
tail)
    [ -e "$0.up" ] || exit 1
    echo '{"sensor": "adi", "at_ms": 1, "kind": "state", "battery_percent": 87, "rssi_dbm": null}'
    while [ -e "$0.up" ]; do
        echo '{"sensor": "adi", "at_ms": 2, "kind": "reading", "heart_rate": 72, "contact": true}'
        sleep 0.2
    done
    ;;
esac
"""


@pytest.fixture
def broker(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = tmp_path / "mosquitto.conf"
    config.write_text(f"listener {port} 127.0.0.1\nallow_anonymous true\n")
    process = subprocess.Popen(["mosquitto", "-c", config], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 10
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            break
        except ConnectionRefusedError:
            assert time.monotonic() < deadline, "mosquitto does not listen"
            time.sleep(0.1)
    yield port
    process.terminate()
    process.wait()


def wait_for(what, seconds=20):
    deadline = time.monotonic() + seconds
    while not (value := what()):
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)
    return value


def test_home_assistant_finds_each_sensor_and_knows_when_it_is_away(broker, tmp_path):
    gateway = tmp_path / "gateway"
    gateway.write_text(GATEWAY)
    gateway.chmod(gateway.stat().st_mode | stat.S_IXUSR)
    up = tmp_path / "gateway.up"
    up.touch()
    seen = {}
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2)
    client.on_message = lambda _client, _data, message: seen.__setitem__(message.topic, message.payload.decode())
    client.connect("127.0.0.1", broker)
    client.subscribe("#")
    client.loop_start()
    arguments = ["--broker", "127.0.0.1", "--port", str(broker), "--gateway", str(gateway)]
    observer = subprocess.Popen([sys.executable, OBSERVER, *arguments])
    try:
        wait_for(lambda: seen.get("hr-gatewayd/pi/adi/heart_rate") == "72")
        wait_for(lambda: seen.get("hr-gatewayd/pi/adi/battery") == "87")
        assert seen["hr-gatewayd/pi/availability"] == seen["hr-gatewayd/pi/adi/availability"] == "online"
        assert seen["hr-gatewayd/pi/adi/contact"] == "ON"
        found = json.loads(seen["homeassistant/sensor/hr_pi_adi_heart_rate/config"])
        assert found["state_topic"] == "hr-gatewayd/pi/adi/heart_rate" and found["unit_of_measurement"] == "bpm"
        assert [it["topic"] for it in found["availability"]] == ["hr-gatewayd/pi/availability", "hr-gatewayd/pi/adi/availability"]
        assert not any("gone" in topic for topic in seen), "what is not configured any more is not shown"
        # The gateway ends.
        up.unlink()
        wait_for(lambda: seen["hr-gatewayd/pi/adi/availability"] == "offline")
        # And the observer: the broker says so for it.
        observer.kill()
        wait_for(lambda: seen["hr-gatewayd/pi/availability"] == "offline", 40)
    finally:
        observer.kill()
        observer.wait()
        client.loop_stop()
