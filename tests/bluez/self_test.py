#!/usr/bin/env python3
"""Checks the mock against its README, over a private bus and with no Rust at all.

Prints one line per check that fails and `N passed, N failed` at the end.
"""

import asyncio
import os
import sys
import time
import traceback

from dbus_fast import Message, Variant

import self_test_adapters
import self_test_sensors
from self_test_harness import (
    ADAPTER,
    AGENTS,
    CHARACTERISTIC,
    DEVICE,
    FAILED,
    HCI0,
    IN_PROGRESS,
    Client,
    Mock,
    another_client,
    device_path,
    heart_rate,
    private_bus,
    refused,
    until,
)

TEMPORARY_TIMEOUT_S = 3.0
BURST_VALUES = 24_000
BURST_VALUES_PER_S_MIN = 2_000

UNKNOWN_OBJECT = "org.freedesktop.DBus.Error.UnknownObject"


async def devices_appear_by_discovery_only(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} Sim_Strap rssi=-61")
    assert device_path(a) not in await client.objects()
    await refused(client.call(device_path(a), DEVICE, "Connect"), UNKNOWN_OBJECT)
    await client.call(HCI0, ADAPTER, "StartDiscovery")
    await refused(client.call(HCI0, ADAPTER, "StartDiscovery"), IN_PROGRESS)
    await asyncio.sleep(1.4)
    added = [m for m in client.signals if m.member == "InterfacesAdded"]
    assert [(m.path, m.body[0]) for m in added] == [("/", device_path(a))]
    changes = [m.body[1] for m in client.signals if m.path == device_path(a)]
    assert len([c for c in changes if "RSSI" in c]) == 2
    assert await client.get(device_path(a), DEVICE, "Name") == "Sim Strap"
    assert await client.get(device_path(a), DEVICE, "RSSI") == -61
    await client.call(HCI0, ADAPTER, "StopDiscovery")
    missing = "org.freedesktop.DBus.Error.InvalidArgs"
    await refused(client.get(device_path(a), DEVICE, "RSSI"), missing)
    await refused(client.call(HCI0, ADAPTER, "StopDiscovery"), FAILED)


async def unseen_devices_expire(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} Strap")
    path = await client.find(a)
    await asyncio.sleep(TEMPORARY_TIMEOUT_S - 0.7)
    assert path in await client.objects()
    await asyncio.sleep(1.2)
    assert path not in await client.objects()
    assert client.signals[-1].member == "InterfacesRemoved"
    assert client.signals[-1].body == [path, [DEVICE]]


async def a_filter_hides_what_it_does_not_want(mock: Mock, client: Client, a: str) -> None:
    b = a[:-1] + "F"
    await mock.do(f"sensor {a} Strap")
    await mock.do(f"sensor {b} Watch hrs=no")
    wanted = {"UUIDs": Variant("as", ["0000180d-0000-1000-8000-00805f9b34fb"])}
    await client.call(HCI0, ADAPTER, "SetDiscoveryFilter", "a{sv}", wanted)
    await client.find(a)
    assert device_path(b) not in await client.objects()
    async with another_client() as other:
        await other.find(b)


async def gatt_objects_are_there_after_connect(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S battery=87 location=1 manufacturer=Polar_Oy model=H10")
    path = await client.find(a)
    await client.call(path, DEVICE, "Connect")
    assert await client.get(path, DEVICE, "ServicesResolved")
    found = {p: o[CHARACTERISTIC] for p, o in (await client.objects()).items()
             if p.startswith(path) and CHARACTERISTIC in o}
    values = {}
    for char, properties in found.items():
        if "read" in properties["Flags"].value:
            read = await client.call(char, CHARACTERISTIC, "ReadValue", "a{sv}", {})
            values[properties["UUID"].value[4:8]] = bytes(read)
    assert values == {"2a38": b"\1", "2a19": b"W", "2a29": b"Polar Oy", "2a24": b"H10"}
    assert found[heart_rate(path)]["Flags"].value == ["notify"]
    await client.call(path, DEVICE, "Connect")
    assert (await mock.do(f"stats {a}"))["connect"] == 2


async def every_value_arrives_once_per_session(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    assert await mock.do(f"notify {a} 0648") == 0
    device, char = await client.subscribe(a)
    await refused(client.call(char, CHARACTERISTIC, "StartNotify"), IN_PROGRESS)
    assert await mock.do(f"notify {a} 0648 0649") == 2
    async with another_client() as other:
        await other.call(char, CHARACTERISTIC, "StartNotify")
        assert await mock.do(f"notify {a} 064a") == 2

    async def other_forgotten() -> bool:
        return (await mock.do(f"stats {a}"))["notify_sessions"] == 1

    await until(other_forgotten, 1)
    assert await mock.do(f"notify {a} 064b") == 1
    await asyncio.sleep(0.1)
    assert client.values(char) == [b"\6\x48", b"\6\x49", b"\6\x4a", b"\6\x4a", b"\6\x4b"]
    await client.call(char, CHARACTERISTIC, "StopNotify")
    await refused(client.call(char, CHARACTERISTIC, "StopNotify"), FAILED)
    assert await mock.do(f"notify {a} 064c") == 0


async def sessions_outlive_a_lost_link(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device, char = await client.subscribe(a)
    await mock.do(f"drop {a}")
    assert not await client.get(device, DEVICE, "Connected")
    assert not await client.get(device, DEVICE, "ServicesResolved")
    assert char in await client.objects() and await mock.do(f"notify {a} 0648") == 0
    await refused(client.call(char, CHARACTERISTIC, "ReadValue", "a{sv}", {}),
                  "org.bluez.Error.NotSupported")
    await client.call(device, DEVICE, "Connect")
    assert await mock.do(f"notify {a} 0648") == 1, "resumes without StartNotify"
    await client.call(char, CHARACTERISTIC, "StartNotify")
    assert await mock.do(f"notify {a} 0648") == 2, "the old session and the new one"
    await refused(client.call(char, CHARACTERISTIC, "StartNotify"), IN_PROGRESS)
    await client.call(device, DEVICE, "Disconnect")
    await client.call(device, DEVICE, "Connect")
    assert await mock.do(f"notify {a} 0648") == 0
    await client.call(char, CHARACTERISTIC, "StartNotify")
    assert await mock.do(f"notify {a} 0648") == 1
    stats = await mock.do(f"stats {a}")
    assert stats == {"connect": 3, "disconnect": 1, "start_notify": 4, "stop_notify": 0, "pair": 0,
                     "remove": 0, "connected": True, "via": "hci0", "notify_sessions": 1,
                     "paired": False}


async def out_of_range_and_silent_are_unreachable(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device, _ = await client.subscribe(a)
    for gone, back in ((f"range {a} out", f"range {a} in"),
                       (f"advertise {a} off", f"advertise {a} on")):
        await mock.do(gone)
        assert not await client.get(device, DEVICE, "Connected")
        client.signals.clear()
        await client.call(HCI0, ADAPTER, "StartDiscovery")
        began = time.monotonic()
        await refused(client.call(device, DEVICE, "Connect"), FAILED)
        assert 0.9 < time.monotonic() - began < 1.5
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        assert not [m for m in client.signals if m.path == device], "seen by discovery"
        await mock.do(back)
        await client.call(device, DEVICE, "Connect")


async def a_hung_call_holds_up_nobody_else(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device = await client.find(a)
    await mock.do(f"hang {a} connect")
    hung = asyncio.ensure_future(client.call(device, DEVICE, "Connect"))
    await asyncio.sleep(0.3)
    assert not hung.done() and not await client.get(device, DEVICE, "Connected")
    await mock.do(f"hang {a} none")
    await hung
    await mock.do(f"hang {a} notify")
    async with another_client() as other:
        given_up = asyncio.ensure_future(
            other.call(heart_rate(device), CHARACTERISTIC, "StartNotify")
        )
        await asyncio.sleep(0.2)
        given_up.cancel()
    hung = asyncio.ensure_future(client.call(heart_rate(device), CHARACTERISTIC, "StartNotify"))
    await asyncio.sleep(0.2)
    assert not hung.done()
    await mock.do(f"hang {a} none")
    await hung
    assert (await mock.do(f"stats {a}"))["notify_sessions"] == 1, "one caller has left"


async def a_subscription_that_hung_comes_with_the_next_link(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S")
    device = await client.find(a)
    await client.call(device, DEVICE, "Connect")
    await mock.do(f"hang {a} notify")
    start = (heart_rate(device), CHARACTERISTIC, "StartNotify")
    hung = asyncio.ensure_future(client.call(*start))
    await asyncio.sleep(0.1)
    await client.call(device, DEVICE, "Disconnect")
    await mock.do(f"hang {a} none")
    await client.call(device, DEVICE, "Connect")
    assert await mock.do(f"notify {a} 0648") == 1, "nobody asked on this link"
    await client.call(*start)
    assert await mock.do(f"notify {a} 0648") == 1, "and asking makes it no second one"
    assert not hung.done()
    hung.cancel()


async def disconnect_cancels_a_hung_connect(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device = await client.find(a)
    await mock.do(f"hang {a} connect")
    hung = asyncio.ensure_future(client.call(device, DEVICE, "Connect"))
    await asyncio.sleep(0.1)
    await client.call(device, DEVICE, "Disconnect")
    await mock.do(f"hang {a} none")
    await refused(hung, FAILED)
    assert not (await mock.do(f"stats {a}"))["connected"]


async def ordered_failures_come_and_end(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device = await client.find(a)
    await mock.do(f"fail {a} connect 2")
    await mock.do(f"fail {a} notify 1")
    await refused(client.call(device, DEVICE, "Connect"), FAILED)
    await refused(client.call(device, DEVICE, "Connect"), FAILED)
    await client.call(device, DEVICE, "Connect")
    await refused(client.call(heart_rate(device), CHARACTERISTIC, "StartNotify"), FAILED)
    await client.call(heart_rate(device), CHARACTERISTIC, "StartNotify")


async def a_bond_needs_an_agent(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S bond=required")
    device = await client.find(a)
    await client.call(device, DEVICE, "Connect")
    start = (heart_rate(device), CHARACTERISTIC, "StartNotify")
    async with another_client() as other:
        hung = asyncio.ensure_future(other.call(*start))
        await asyncio.sleep(0.3)
        assert not hung.done(), "nobody agreed to bond"
        hung.cancel()
    await refused(client.call(device, DEVICE, "Pair"), "org.bluez.Error.AuthenticationFailed")
    agent = "/my/agent"
    async with another_client() as other:
        await other.call("/org/bluez", AGENTS, "RegisterAgent", "os", agent, "NoInputNoOutput")
        await refused(client.call(device, DEVICE, "Pair"), "org.bluez.Error.AuthenticationFailed")
    await client.call("/org/bluez", AGENTS, "RegisterAgent", "os", agent, "NoInputNoOutput")
    await client.call("/org/bluez", AGENTS, "RequestDefaultAgent", "o", agent)
    await client.call(device, DEVICE, "Pair")
    assert await client.get(device, DEVICE, "Paired")
    await refused(client.call(device, DEVICE, "Pair"), "org.bluez.Error.AlreadyExists")
    await client.call(*start)
    await client.call("/org/bluez", AGENTS, "UnregisterAgent", "o", agent)
    await mock.do(f"drop {a}")
    await asyncio.sleep(TEMPORARY_TIMEOUT_S + 0.3)
    assert await client.get(device, DEVICE, "Paired"), "a paired device does not expire"
    await client.call(HCI0, ADAPTER, "RemoveDevice", "o", device)
    assert not [path for path in await client.objects() if path.startswith(device)]
    stats = await mock.do(f"stats {a}")
    assert (stats["paired"], stats["remove"], stats["pair"]) == (False, 1, 4)


async def a_demanded_bond_is_made_unasked_if_the_first_agent_agrees(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S bond=required")
    device = await client.find(a)
    client.bus.add_message_handler(
        lambda m: Message.new_method_return(m) if m.member == "RequestAuthorization" else None
    )
    await client.call("/org/bluez", AGENTS, "RegisterAgent", "os", "/my/agent", "NoInputNoOutput")
    async with another_client() as other:
        await other.call(device, DEVICE, "Connect")
        await other.call(heart_rate(device), CHARACTERISTIC, "StartNotify")
    assert await client.get(device, DEVICE, "Paired")


async def a_hung_pairing_can_be_cancelled(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device = await client.find(a)
    await client.call(device, DEVICE, "Connect")
    await refused(client.call(device, DEVICE, "CancelPairing"), "org.bluez.Error.DoesNotExist")
    await mock.do(f"hang {a} pair")
    hung = asyncio.ensure_future(client.call(device, DEVICE, "Pair"))
    await asyncio.sleep(0.1)
    await client.call(device, DEVICE, "CancelPairing")
    await mock.do(f"hang {a} none")
    await refused(hung, "org.bluez.Error.AuthenticationCanceled")


async def a_new_address_is_a_new_device(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    old, _ = await client.subscribe(a)
    b = a[:-1] + "E"
    await mock.do(f"readdress {a} {b}")
    assert not await client.get(old, DEVICE, "Connected")
    await refused(client.call(old, DEVICE, "Connect"), FAILED)
    await client.call(await client.find(b), DEVICE, "Connect")
    assert (await mock.do(f"stats {b}"))["connect"] == 3
    assert (await mock.answer(f"stats {a}")).startswith("error ")


async def an_adapter_without_power_does_nothing(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device, _ = await client.subscribe(a)
    await client.call(HCI0, ADAPTER, "StartDiscovery")
    before = await mock.do("adapter-stats hci0")
    assert before["discovering"] and before["powered"]
    await mock.do("adapter hci0 power off")
    assert not await client.get(device, DEVICE, "Connected")
    assert not await client.get(HCI0, ADAPTER, "Discovering")
    not_ready = "org.bluez.Error.NotReady"
    await refused(client.call(HCI0, ADAPTER, "StartDiscovery"), not_ready)
    await refused(client.call(device, DEVICE, "Connect"), not_ready)
    client.signals.clear()
    await client.put(HCI0, ADAPTER, "Powered", Variant("b", True))
    assert client.signals[-1].body[1]["Powered"].value
    await client.put(HCI0, ADAPTER, "Alias", Variant("s", "door"))
    assert await client.get(HCI0, ADAPTER, "Alias") == "door"
    after = await mock.do("adapter-stats hci0")
    assert after["power_cycles"] == before["power_cycles"] + 1
    await client.call(device, DEVICE, "Connect")


async def adapters_come_and_go(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    await mock.do("adapter hci1 add")
    hci1 = "/org/bluez/hci1"
    device = await client.find(a, hci1)
    await client.call(device, DEVICE, "Connect")
    await mock.do("adapter hci1 remove")
    assert not [path for path in await client.objects() if path.startswith(hci1)]
    assert not (await mock.do(f"stats {a}"))["connected"]
    gone = [m.body[0] for m in client.signals if m.member == "InterfacesRemoved"]
    assert gone[-2:] == [device, hci1], "children before their parent"
    await client.call(await client.find(a), DEVICE, "Connect")


async def a_caller_that_leaves_ends_its_discovery(mock: Mock, client: Client, a: str) -> None:
    async with another_client() as other:
        await other.call(HCI0, ADAPTER, "StartDiscovery")
        assert await client.get(HCI0, ADAPTER, "Discovering")

    async def idle() -> bool:
        return not await client.get(HCI0, ADAPTER, "Discovering")

    await until(idle, 1)


async def of_two_discoveries_at_once_one_is_never_answered(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S")
    start = (HCI0, ADAPTER, "StartDiscovery")
    async with another_client() as other:
        hung = asyncio.ensure_future(other.call(*start))
        await asyncio.sleep(0.02)
        await client.call(*start)
        await asyncio.sleep(0.3)
        assert not hung.done()
        await refused(other.call(*start), IN_PROGRESS)
        await refused(other.call(HCI0, ADAPTER, "StopDiscovery"), IN_PROGRESS)
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        assert await client.get(HCI0, ADAPTER, "Discovering"), "the hung one's goes on"
        await client.call(*start)
        await client.call(HCI0, ADAPTER, "StopDiscovery")
        hung.cancel()

    async def idle() -> bool:
        return not await client.get(HCI0, ADAPTER, "Discovering")

    await until(idle, 1)


async def a_restart_forgets_the_objects(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    device, char = await client.subscribe(a)
    await mock.do(f"hang {a} notify")
    hung = asyncio.ensure_future(client.call(char, CHARACTERISTIC, "StartNotify"))
    await asyncio.sleep(0.1)
    await mock.do("restart")
    await refused(hung, "org.freedesktop.DBus.Error.NoReply")
    await mock.do(f"hang {a} none")
    assert set(await client.objects()) == {"/org/bluez", HCI0}
    assert [m.body[0] for m in client.signals if m.member == "InterfacesAdded"][-1] == HCI0
    assert await client.get(HCI0, ADAPTER, "Powered")
    await refused(client.call(device, DEVICE, "Connect"), UNKNOWN_OBJECT)
    await client.subscribe(a)
    assert await mock.do(f"notify {a} 0648") == 1


async def the_clock_is_what_the_test_says(mock: Mock, client: Client, a: str) -> None:
    name, path = "org.freedesktop.timedate1", "/org/freedesktop/timedate1"
    for state, expected in ((None, True), ("unsynchronized", False), ("synchronized", True)):
        if state:
            await mock.do(f"clock {state}")
        assert await client.get(path, name, "NTPSynchronized", to=name) is expected


async def nonsense_gets_one_line_of_error(mock: Mock, client: Client, a: str) -> None:
    for line in ("", "fly", "stats", f"drop {a}", "sensor x y", f"notify {a} zz", "clock late",
                 "adapter hci0 add", f"sensor {a} S colour=red", f"hang {a} lunch"):
        answer = await mock.answer(line)
        assert answer.startswith("error "), f"{line!r} -> {answer!r}"


async def a_burst_arrives_whole_and_in_order(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    _, char = await client.subscribe(a)
    values = [number.to_bytes(4, "big") for number in range(BURST_VALUES)]
    began = time.monotonic()
    line = f"notify {a} " + " ".join(value.hex() for value in values)
    assert await mock.do(line) == BURST_VALUES
    per_s = BURST_VALUES / (time.monotonic() - began)
    print(f"burst: {per_s:.0f} values/s")

    async def all_there() -> bool:
        return len(client.values(char)) == BURST_VALUES

    await until(all_there, 20)
    assert client.values(char) == values
    assert per_s >= BURST_VALUES_PER_S_MIN


CHECKS = [
    check
    for module in (sys.modules[__name__], self_test_sensors, self_test_adapters)
    for check in vars(module).values()
    if asyncio.iscoroutinefunction(check) and check.__annotations__.get("mock") is Mock
]


async def main() -> int:
    passed = failed = 0
    async with private_bus():
        mock = Mock()
        timeout = {"MOCK_TEMPORARY_TIMEOUT_S": str(TEMPORARY_TIMEOUT_S)}
        await mock.start(os.environ | timeout)
        for number, check in enumerate(CHECKS):
            try:
                async with another_client() as client, asyncio.timeout(60):
                    await check(mock, client, f"C0:FF:EE:00:{number:02X}:00")
                passed += 1
            except Exception:
                failed += 1
                print(f"FAILED {check.__name__}\n{traceback.format_exc()}")
        assert await mock.answer("quit") == "ok"
        assert await asyncio.wait_for(mock.process.wait(), 5) == 0
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
