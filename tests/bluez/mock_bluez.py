#!/usr/bin/env python3
"""A pretend org.bluez (and timedate1) on a private system bus, steered over stdin.

Tests of the gateway run against it without a radio. stdout carries `ready`, then exactly one
answer line for each command line: `ok [json]` or `error TEXT`. Logs go to stderr. The commands
are the `do_…` methods below; README.md lists them.
"""

import asyncio
import inspect
import json
import logging
import os
import sys
from typing import Any

from dbus_fast import Variant

from adapter import Adapter, AdapterRecord, default_address
from arguments import (
    CommandError,
    choose,
    parse_adapter,
    parse_address,
    parse_company,
    parse_option,
    parse_text,
)
from bluetoothd import Bluetoothd, World
from gatt import Characteristic
from object_server import Interface, ObjectServer
from sensor import Sensor

COMMAND_BYTES_MAX = 16 * 1024 * 1024  # one notify line may carry a whole test's values
RESTART_S = 0.3
TEMPORARY_TIMEOUT_S = 30.0  # BlueZ's default


class TimeDate(Interface):
    """The one property by which the gateway learns whether the clock can be trusted."""

    name = "org.freedesktop.timedate1"

    def __init__(self, server: ObjectServer) -> None:
        super().__init__(server, "/org/freedesktop/timedate1")
        self.synchronized = True

    def properties(self) -> dict[str, Variant]:
        return {"NTPSynchronized": Variant("b", self.synchronized)}


class Mock:
    def __init__(self, world: World) -> None:
        self.world = world
        self.daemon = Bluetoothd(world)
        self.time_server = ObjectServer("org.freedesktop.timedate1")
        self.time_date = TimeDate(self.time_server)

    async def start(self) -> None:
        self.time_server.add(self.time_date)
        await self.time_server.start()
        await self.daemon.start()

    async def stop(self) -> None:
        await self.daemon.stop()
        await self.time_server.stop()

    async def answer(self, line: str) -> str:
        """Carry out one command line; whatever goes wrong becomes the answer."""
        name, *arguments = line.split() or [""]
        command = getattr(self, "do_" + name.replace("-", "_"), None)
        try:
            if command is None:
                raise CommandError(f"unknown command {name!r}")
            try:
                inspect.signature(command).bind(*arguments)
            except TypeError as error:
                raise CommandError(f"{name}: {error}") from None
            result = await command(*arguments)
        except (CommandError, ValueError) as error:
            return f"error {error}"
        except Exception as error:
            logging.exception("command failed: %.200s", line)
            return "error " + f"{name}: {error!r}".replace("\n", " ")
        return "ok" if result is None else f"ok {json.dumps(result)}"

    async def do_sensor(self, address: str, name: str, *options: str) -> None:
        address = self.unused(address)
        fields = dict(parse_option(option) for option in options)
        hci = fields.pop("paired", None)
        sensor = Sensor(address, parse_text(name), **fields)
        if hci is not None:
            sensor.bonds.add(self.world.address_of(hci))
        self.world.sensors[address] = sensor

    async def do_rename(self, address: str, name: str) -> None:
        self.sensor(address).name = parse_text(name)

    async def do_hear(self, address: str, hci: str, loudness: str) -> None:
        sensor = self.sensor(address)
        parse_adapter(hci)
        if loudness == "default":
            sensor.hearing.pop(hci, None)
        elif loudness == "deaf":
            sensor.hearing[hci] = None
            if sensor.link is not None and sensor.link.adapter.hci == hci:
                sensor.drop()
        else:
            sensor.hearing[hci] = int(loudness)

    async def do_manufacturer_data(self, address: str, company: str, data: str) -> None:
        sensor, number = self.sensor(address), parse_company(company)
        if data == "none":
            sensor.manufacturer_data.pop(number, None)
        else:
            sensor.manufacturer_data[number] = bytes.fromhex(data)
        for adapter in self.daemon.adapters.values():
            adapter.hear(sensor)

    async def do_foreign_link(self, address: str, hci: str) -> None:
        sensor, adapter = self.sensor(address), self.adapter(hci)
        if not (adapter.powered and adapter.has_slot and sensor.audible_to(hci)):
            raise CommandError(f"{hci} cannot link {address} now")
        adapter.link_from_elsewhere(sensor)

    async def do_acquired(self, address: str, switch: str) -> None:
        self.sensor(address).acquired = choose(switch, {"on": True, "off": False})

    async def do_stale(self, address: str, hci: str) -> None:
        self.sensor(address).stale.add(self.world.address_of(parse_adapter(hci)))

    async def do_notify(self, address: str, *values: str) -> int:
        device = self.sensor(address).link
        payloads = [bytes.fromhex(value) for value in values]
        for characteristic in device.characteristics if device else ():
            if characteristic.is_heart_rate:
                return await characteristic.push(payloads)
        return 0

    async def do_greet(self, address: str, value: str) -> None:
        self.sensor(address).greeting = bytes.fromhex(value)

    async def do_drop(self, address: str) -> None:
        self.sensor(address).drop()

    async def do_range(self, address: str, where: str) -> None:
        sensor = self.sensor(address)
        sensor.in_range = choose(where, {"in": True, "out": False})
        if not sensor.in_range:
            sensor.drop()

    async def do_advertise(self, address: str, switch: str) -> None:
        sensor = self.sensor(address)
        sensor.advertising = choose(switch, {"on": True, "off": False})
        if not sensor.advertising:
            sensor.drop()

    async def do_hang(self, address: str, operation: str) -> None:
        operations = ("connect", "disconnect", "notify", "pair", "none")
        self.sensor(address).hang(choose(operation, {name: name for name in operations}))

    async def do_fail(self, address: str, operation: str, times: str) -> None:
        operation = choose(operation, {name: name for name in ("connect", "notify", "answer")})
        self.sensor(address).failures_due[operation] = int(times)

    async def do_readdress(self, address: str, other: str) -> None:
        sensor = self.sensor(address)
        other = self.unused(other)
        sensor.drop()
        sensor.bonds.clear()
        sensor.stale.clear()
        del self.world.sensors[sensor.address]
        sensor.address = other
        self.world.sensors[other] = sensor

    async def do_adapter(self, hci: str, action: str, argument: str = "") -> None:
        if action == "add":
            self.add_adapter(parse_adapter(hci), argument)
            return
        adapter = self.adapter(hci)
        match action, argument:
            case "remove", "":
                adapter.record.present = False
                self.daemon.remove_adapter(hci)
            case "power", "on" | "off":
                if adapter.record.blocked:
                    raise CommandError(f"{hci} is blocked")
                adapter.set_powered(argument == "on")
            case "block" | "unblock", "":
                adapter.set_blocked(action == "block")
            case "slots", "none":
                adapter.record.slots = None
            case "slots", _:
                adapter.record.slots = int(argument)
            case "fails", _:
                adapter.record.failures_due = int(argument)
            case _:
                raise CommandError(f"an adapter cannot {action} {argument}")

    def add_adapter(self, hci: str, address: str) -> None:
        if hci in self.daemon.adapters:
            raise CommandError(f"{hci} is there already")
        address = parse_address(address) if address else default_address(hci)
        if any(adapter.address == address for adapter in self.daemon.adapters.values()):
            raise CommandError(f"there is an adapter {address} already")
        known = self.world.adapters.get(hci, AdapterRecord(address))
        self.world.adapters[hci] = AdapterRecord(address, calls=known.calls)
        self.daemon.add_adapter(hci)

    async def do_restart(self) -> None:
        await self.daemon.stop()
        await asyncio.sleep(RESTART_S)
        self.daemon = Bluetoothd(self.world)
        await self.daemon.start()

    async def do_stats(self, address: str) -> dict[str, Any]:
        sensor = self.sensor(address)
        counted = ("connect", "disconnect", "start_notify", "stop_notify", "pair", "remove")
        return {
            **{name: sensor.calls[name] for name in counted},
            "connected": sensor.link is not None,
            "via": None if sensor.link is None else sensor.link.adapter.hci,
            "notify_sessions": sum(len(c.sessions) for c in self.heart_rates(sensor)),
            "paired": bool(sensor.bonds),
        }

    async def do_adapter_stats(self, hci: str) -> dict[str, Any]:
        if hci not in self.world.adapters:
            raise CommandError(f"there never was an adapter {hci}")
        calls = self.world.adapters[hci].calls
        adapter = self.daemon.adapters.get(hci)
        return {
            "start_discovery": calls["start_discovery"],
            "stop_discovery": calls["stop_discovery"],
            "powered": adapter is not None and adapter.powered,
            "discovering": adapter is not None and bool(adapter.discoverers),
            "power_cycles": calls["power_cycles"],
            "refused": calls["refused"],
            "links": 0 if adapter is None else adapter.links,
        }

    async def do_clock(self, state: str) -> None:
        self.time_date.synchronized = choose(state, {"synchronized": True, "unsynchronized": False})

    def sensor(self, address: str) -> Sensor:
        try:
            return self.world.sensors[address.upper()]
        except KeyError:
            raise CommandError(f"no sensor {address}") from None

    def adapter(self, hci: str) -> Adapter:
        try:
            return self.daemon.adapters[hci]
        except KeyError:
            raise CommandError(f"no adapter {hci}") from None

    def unused(self, word: str) -> str:
        address = parse_address(word)
        if address in self.world.sensors:
            raise CommandError(f"sensor {address} is there already")
        return address

    def heart_rates(self, sensor: Sensor) -> list[Characteristic]:
        return [
            characteristic
            for device in self.daemon.devices()
            if device.sensor is sensor
            for characteristic in device.characteristics
            if characteristic.is_heart_rate
        ]


async def main() -> None:
    logging.basicConfig(level=os.environ.get("MOCK_LOG", "WARNING"), stream=sys.stderr)
    timeout_s = float(os.environ.get("MOCK_TEMPORARY_TIMEOUT_S", TEMPORARY_TIMEOUT_S))
    mock = Mock(World(timeout_s, adapters={"hci0": AdapterRecord(default_address("hci0"))}))
    await mock.start()
    print("ready", flush=True)

    commands = asyncio.StreamReader(limit=COMMAND_BYTES_MAX)
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(commands), sys.stdin
    )
    while line := (await commands.readline()).decode():
        if line.strip() == "quit":
            print("ok", flush=True)
            break
        print(await mock.answer(line), flush=True)
    await mock.stop()


if __name__ == "__main__":
    asyncio.run(main())
