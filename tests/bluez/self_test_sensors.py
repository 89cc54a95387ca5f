"""Checks of what sensors are called, advertise and refuse, and of other programs at them."""

import asyncio

from dbus_fast import Variant

from self_test_harness import (
    ADAPTER,
    CHARACTERISTIC,
    DEVICE,
    FAILED,
    HCI0,
    HCI1,
    Client,
    Mock,
    another_client,
    device_path,
    discovery,
    heart_rate,
    refused,
    second_adapter,
    until,
)

ANT, APPLE = 0x006B, 0x004C
NO_LINK = "le-connection-abort-by-local"


async def a_name_may_hold_anything(mock: Mock, client: Client, a: str) -> None:
    await mock.do(rf"sensor {a} \x1b[31mRed_\x07\x5f\x0d\x0a\u202Etxt\xe9")
    expected = "\x1b[31mRed \x07_\r\n\u202etxt\xe9"
    assert await client.get(await client.find(a), DEVICE, "Name") == expected
    for name in (r"a\x00b", r"a\ud800b"):
        assert (await mock.answer(f"rename {a} {name}")).startswith("error ")


async def an_address_is_random_unless_told(mock: Mock, client: Client, a: str) -> None:
    b = a[:-1] + "B"
    await mock.do(f"sensor {a} S")
    await mock.do(f"sensor {b} S type=public")
    assert await client.get(await client.find(a), DEVICE, "AddressType") == "random"
    assert await client.get(await client.find(b), DEVICE, "AddressType") == "public"


async def a_new_name_shows_at_the_next_sighting(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} Old")
    device = await client.find(a)
    await mock.do(f"rename {a} New_Name")
    assert await client.get(device, DEVICE, "Name") == "Old"
    async with discovery(client):
        await shows(client, device, "Name", "New Name")
        await asyncio.sleep(0.6)
    assert client.changes(device, "Name") == client.changes(device, "Alias") == ["New Name"]


async def the_gap_name_hides_the_advertised_one(mock: Mock, client: Client, a: str) -> None:
    await mock.do(rf"sensor {a} HR gap=HR\x2d12_34")
    device = await client.find(a)
    assert await client.get(device, DEVICE, "Name") == "HR"
    await client.call(device, DEVICE, "Connect")
    assert await client.get(device, DEVICE, "Name") == "HR-12 34"
    await mock.do(f"drop {a}")
    await mock.do(f"rename {a} Other")
    async with discovery(client):
        await heard(client, device)
    assert client.changes(device, "Name") == client.changes(device, "Alias") == ["HR-12 34"]
    await client.call(HCI0, ADAPTER, "RemoveDevice", "o", device)
    assert await client.get(await client.find(a), DEVICE, "Name") == "Other", "a new object"


async def a_bond_may_be_there_before(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S bond=required paired=hci0")
    assert device_path(a) not in await client.objects()
    assert (await mock.do(f"stats {a}"))["paired"]
    device, _ = await client.subscribe(a)
    assert await client.get(device, DEVICE, "Paired")
    async with second_adapter(mock):
        await mock.do(f"drop {a}")
        assert not await client.get(await client.find(a, HCI1), DEVICE, "Paired")
    await client.call(HCI0, ADAPTER, "RemoveDevice", "o", device)
    assert not await client.get(await client.find(a), DEVICE, "Paired")


async def manufacturer_data_comes_with_each_sighting_if_duplicates_are_wanted(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S")
    await mock.do(f"manufacturer-data {a} 006b 7200082338")
    async with discovery(client, DuplicateData=Variant("b", True)):
        device = device_path(a)
        await until(lambda: is_there(client, device), 1)
        shown = await client.get(device, DEVICE, "ManufacturerData")
        assert plain(shown) == {ANT: bytes.fromhex("7200082338")}
        assert not client.changes(device, "ManufacturerData"), "InterfacesAdded has it"
        await asyncio.sleep(1.2)
        assert len(client.changes(device, "ManufacturerData")) == 2
        await mock.do(f"manufacturer-data {a} 006b none")
        await mock.do(f"manufacturer-data {a} 004C 10")
        await client.signals_settled()
        last = client.changes(device, "ManufacturerData")[-1]
        assert plain(last) == {APPLE: b"\x10"}, "all that was heard last"
        await mock.do(f"manufacturer-data {a} 004c none")
        assert plain(await client.get(device, DEVICE, "ManufacturerData")) == plain(last)


async def manufacturer_data_comes_when_it_changed_otherwise(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S")
    await mock.do(f"manufacturer-data {a} 006b 01")
    device = await client.find(a)
    for wanted in ({}, {"DuplicateData": Variant("b", False)}):
        client.signals.clear()
        async with discovery(client, **wanted):
            await heard(client, device)
            assert not client.changes(device, "ManufacturerData")
            await mock.do(f"manufacturer-data {a} 006b 02")
            await mock.do(f"manufacturer-data {a} 006b 02")
            await mock.do(f"manufacturer-data {a} 006b 01")
            await client.signals_settled()
            changes = client.changes(device, "ManufacturerData")
            assert [plain(change) for change in changes] == [{ANT: b"\2"}, {ANT: b"\1"}]
        await mock.do(f"manufacturer-data {a} 006b 01")
    async with another_client() as other, discovery(other, DuplicateData=Variant("b", True)):
        async with discovery(client):
            client.signals.clear()
            await heard(client, device)
            assert client.changes(device, "ManufacturerData"), "one caller wants duplicates"
    assert (await mock.answer(f"manufacturer-data {a} 1006b 01")).startswith("error ")


async def another_programs_link_is_a_link(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S gap=Gap")
    device = device_path(a)
    await mock.do(f"foreign-link {a} hci0")
    assert await client.get(device, DEVICE, "Connected")
    assert await client.get(device, DEVICE, "ServicesResolved")
    assert await client.get(device, DEVICE, "Name") == "Gap"
    assert heart_rate(device) in await client.objects()
    stats = await mock.do(f"stats {a}")
    assert (stats["connected"], stats["via"], stats["notify_sessions"]) == (True, "hci0", 0)
    assert (await mock.answer(f"foreign-link {a} hci0")).startswith("error "), "linked already"
    await client.call(device, DEVICE, "Connect")
    await client.call(heart_rate(device), CHARACTERISTIC, "StartNotify")
    assert await mock.do(f"notify {a} 0648") == 1
    await mock.do(f"drop {a}")
    assert not await client.get(device, DEVICE, "Connected")
    await mock.do(f"foreign-link {a} hci0")
    await client.call(device, DEVICE, "Disconnect")
    stats = await mock.do(f"stats {a}")
    assert (stats["connect"], stats["disconnect"], stats["via"]) == (1, 1, None)
    assert (await mock.answer(f"foreign-link {a} hci7")).startswith("error ")


async def what_another_program_acquired_cannot_be_subscribed_to(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S battery=87")
    device = await client.find(a)
    await client.call(device, DEVICE, "Connect")
    await mock.do(f"acquired {a} on")
    start = (heart_rate(device), CHARACTERISTIC, "StartNotify")
    await refused(client.call(*start), "org.bluez.Error.NotPermitted", "Notify acquired")
    battery = device + "/service0020/char0021"
    await client.call(battery, CHARACTERISTIC, "StartNotify")
    await mock.do(f"acquired {a} off")
    await client.call(*start)
    assert (await mock.do(f"stats {a}"))["start_notify"] == 2


async def a_stale_attribute_table_lasts_until_the_device_is_removed(
    mock: Mock, client: Client, a: str
) -> None:
    await mock.do(f"sensor {a} S paired=hci0")
    device, char = await client.subscribe(a)
    await mock.do(f"stale {a} hci0")
    await mock.do(f"drop {a}")
    await client.call(device, DEVICE, "Connect")
    assert await mock.do(f"notify {a} 0648") == 0, "BlueZ could not resume"
    start = (char, CHARACTERISTIC, "StartNotify")
    for _ in range(2):
        text = "Operation failed with ATT error: 0x0a"
        await refused(client.call(*start), FAILED, text)
    await mock.do("restart")
    await client.find(a)
    await client.call(device, DEVICE, "Connect")
    await refused(client.call(*start), FAILED, text)
    await client.call(HCI0, ADAPTER, "RemoveDevice", "o", device)
    await client.subscribe(a)
    assert await mock.do(f"notify {a} 0648") == 1


async def an_adapter_may_be_deaf_to_a_sensor(mock: Mock, client: Client, a: str) -> None:
    await mock.do(f"sensor {a} S rssi=-60")
    device = await client.find(a)
    await mock.do(f"hear {a} hci0 deaf")
    async with discovery(client):
        client.signals.clear()
        await refused(client.call(device, DEVICE, "Connect"), FAILED, NO_LINK)
        assert not client.changes(device, "RSSI")
        await mock.do(f"hear {a} hci0 -71")
        await heard(client, device)
        await shows(client, device, "RSSI", -71)
        await mock.do(f"hear {a} hci0 default")
        await shows(client, device, "RSSI", -60)
    await client.call(device, DEVICE, "Connect")
    await mock.do(f"hear {a} hci0 deaf")
    assert not await client.get(device, DEVICE, "Connected")
    assert (await mock.answer(f"hear {a} hci0 loud")).startswith("error ")


async def is_there(client: Client, path: str) -> bool:
    return path in await client.objects()


async def shows(client: Client, device: str, name: str, value: str | int) -> None:
    async def is_so() -> bool:
        return await client.get(device, DEVICE, name) == value

    await until(is_so, 2)


async def heard(client: Client, device: str) -> None:
    """Wait for a sighting later than what the client has been told so far."""
    before = len(client.changes(device, "RSSI"))

    async def again() -> bool:
        return len(client.changes(device, "RSSI")) > before

    await until(again, 2)


def plain(data: dict[int, Variant]) -> dict[int, bytes]:
    return {company: bytes(value.value) for company, value in data.items()}
