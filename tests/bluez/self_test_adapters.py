"""Checks of several adapters in one place: what each hears, its power, its links, its address."""

import asyncio

from dbus_fast import Variant

from self_test_harness import (
    ADAPTER,
    DEVICE,
    FAILED,
    HCI0,
    HCI1,
    Client,
    Mock,
    device_path,
    discovery,
    refused,
    second_adapter,
    until,
)

BLOCKED = "org.bluez.Error.Blocked"
NO_LINK = "le-connection-abort-by-local"


async def every_adapter_hears_an_unlinked_sensor(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S rssi=-60")
    await mock.do(f"hear {a} hci1 -40")
    async with second_adapter(mock), discovery(client), discovery(client, HCI1):
        first, second = device_path(a), device_path(a, HCI1)
        await until(lambda: both_there(client, first, second), 2)
        assert await client.get(first, DEVICE, "RSSI") == -60
        assert await client.get(second, DEVICE, "RSSI") == -40
        await client.call(second, DEVICE, "Connect")
        assert (await mock.do(f"stats {a}"))["via"] == "hci1"
        assert not await client.get(first, DEVICE, "Connected")
        client.signals.clear()
        await refused(client.call(first, DEVICE, "Connect"), FAILED, NO_LINK)
        assert not client.changes(first, "RSSI"), "a linked sensor is silent"


async def a_dongle_may_come_back_under_another_name(mock: Mock, client: Client, a: str) -> None:
    dongle = "00:1A:7D:00:00:01"
    async with second_adapter(mock, dongle):
        await mock.do(f"sensor {a} S paired=hci1")
        assert await client.get(HCI1, ADAPTER, "Address") == dongle
        assert (await mock.answer(f"adapter hci2 add {dongle}")).startswith("error ")
        await mock.do("adapter hci1 remove")
        await mock.do(f"adapter hci2 add {dongle}")
        try:
            hci2 = "/org/bluez/hci2"
            assert await client.get(hci2, ADAPTER, "Address") == dongle
            assert await client.get(await client.find(a, hci2), DEVICE, "Paired")
        finally:
            await mock.do("adapter hci2 remove")
        await mock.do("adapter hci1 add")
        assert await client.get(HCI1, ADAPTER, "Address") == "00:1A:7D:DA:71:14"
        assert not await client.get(await client.find(a, HCI1), DEVICE, "Paired")


async def switching_shows_in_the_power_state(mock: Mock, client: Client, a: str) -> None:
    async with second_adapter(mock):
        assert await client.get(HCI1, ADAPTER, "PowerState") == "on"
        await client.put(HCI1, ADAPTER, "Powered", Variant("b", False))
        assert await client.get(HCI1, ADAPTER, "PowerState") == "off"
        await client.put(HCI1, ADAPTER, "Powered", Variant("b", True))
        await mock.do("adapter hci1 power off")
        await client.signals_settled()
        states = client.changes(HCI1, "PowerState")
        assert states == ["on-disabling", "off", "off-enabling", "on", "off"]
        assert client.changes(HCI1, "Powered") == [False, True, False]


async def rfkill_takes_the_power_and_keeps_it(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    async with second_adapter(mock):
        device = await client.find(a, HCI1)
        await client.call(device, DEVICE, "Connect")
        before = await mock.do("adapter-stats hci1")
        assert (before["links"], before["refused"]) == (1, 0)
        await mock.do("adapter hci1 block")
        assert not await client.get(device, DEVICE, "Connected")
        assert not await client.get(HCI1, ADAPTER, "Powered")
        assert await client.get(HCI1, ADAPTER, "PowerState") == "off-blocked"
        power_on = (HCI1, ADAPTER, "Powered", Variant("b", True))
        await refused(client.put(*power_on), BLOCKED, "Blocked through rfkill")
        assert (await mock.answer("adapter hci1 power on")).startswith("error ")
        await client.put(HCI1, ADAPTER, "Powered", Variant("b", False))
        await mock.do("restart")
        assert await client.get(HCI1, ADAPTER, "PowerState") == "off-blocked"
        assert not await client.get(HCI1, ADAPTER, "Powered")
        await mock.do("adapter hci1 unblock")
        await mock.do("adapter hci1 block")
        await mock.do("adapter hci1 unblock")
        await client.signals_settled()
        states = client.changes(HCI1, "PowerState")
        assert states == ["off-blocked", "off", "off-blocked", "off"]
        assert not await client.get(HCI1, ADAPTER, "Powered")
        await client.put(*power_on)
        after = await mock.do("adapter-stats hci1")
        assert (after["links"], after["refused"], after["power_cycles"]) == (
            0, 1, before["power_cycles"] + 1
        )
        await client.call(await client.find(a, HCI1), DEVICE, "Connect")


async def an_adapter_has_so_many_slots(mock: Mock, client: Client, a: str) -> None:
    b = a[:-1] + "B"
    await mock.do(f"sensor {a} S")
    await mock.do(f"sensor {b} S")
    async with second_adapter(mock):
        await mock.do("adapter hci1 slots 1")
        first, second = await client.find(a, HCI1), await client.find(b, HCI1)
        await client.call(first, DEVICE, "Connect")
        await client.call(first, DEVICE, "Connect")
        await refused(client.call(second, DEVICE, "Connect"), FAILED, NO_LINK)
        assert (await mock.answer(f"foreign-link {b} hci1")).startswith("error ")
        assert (await mock.do("adapter-stats hci1"))["links"] == 1
        await client.call(await client.find(b), DEVICE, "Connect")
        await mock.do(f"drop {b}")
        await mock.do("adapter hci1 slots none")
        await client.call(second, DEVICE, "Connect")
        await mock.do("adapter hci1 slots 1")
        assert (await mock.do("adapter-stats hci1"))["links"] == 2, "no link is cut"
        await mock.do(f"drop {a}")
        await refused(client.call(first, DEVICE, "Connect"), FAILED, NO_LINK)
        await mock.do(f"drop {b}")
        await client.call(first, DEVICE, "Connect")


async def an_adapter_fails_as_often_as_ordered(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S")
    async with second_adapter(mock):
        there, elsewhere = await client.find(a, HCI1), await client.find(a)
        await mock.do("adapter hci1 fails 2")
        for _ in range(2):
            async with asyncio.timeout(0.5):
                await refused(client.call(there, DEVICE, "Connect"), FAILED, NO_LINK)
        await client.call(there, DEVICE, "Connect")
        await mock.do(f"drop {a}")
        await mock.do("adapter hci1 fails 1")
        await client.call(elsewhere, DEVICE, "Connect")


async def nonsense_about_adapters_gets_one_line_of_error(
    mock: Mock, client: Client, a: str
) -> None:
    for line in ("adapter hci0 fly", "adapter hci0 power", "adapter hci0 slots many",
                 "adapter hci0 remove now", "adapter usb0 add", "adapter hci9 block",
                 "adapter hci9 add 00:11", f"sensor {a} S paired=usb0", f"sensor {a} S type=odd"):
        answer = await mock.answer(line)
        assert answer.startswith("error "), f"{line!r} -> {answer!r}"
    assert await client.get(HCI0, ADAPTER, "Powered")


async def both_there(client: Client, first: str, second: str) -> bool:
    return {first, second} <= set(await client.objects())
