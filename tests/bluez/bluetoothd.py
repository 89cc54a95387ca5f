"""One run of a pretend bluetoothd: the org.bluez objects, from taking the name to losing it.

What must survive a restart (sensors, bonds, counters) is in the World handed in.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from dbus_fast import Message, MessageType, Variant

from device import Device
from object_server import Interface, ObjectServer, method
from sensor import Sensor, bluez_error

# How long the kernel takes to begin discovery.
START_DISCOVERY_S = 0.1
FIRST_SIGHT_S = 0.1
SIGHT_INTERVAL_S = 0.5


@dataclass
class AdapterRecord:
    """What is known of hciN across restarts, and while it is unplugged."""

    present: bool = True
    calls: Counter[str] = field(default_factory=Counter)


@dataclass
class World:
    temporary_timeout_s: float
    sensors: dict[str, Sensor] = field(default_factory=dict)
    adapters: dict[str, AdapterRecord] = field(default_factory=dict)


class Bluetoothd:
    def __init__(self, world: World) -> None:
        self.world = world
        self.server = ObjectServer("org.bluez")
        self.server.on_client_left = self.client_left
        self.agents: dict[str, str] = {}  # caller's unique name -> its agent's path
        self.adapters: dict[str, Adapter] = {}

    async def start(self) -> None:
        self.server.add(AgentManager(self))
        await self.server.start()
        # It has its name before it asks the kernel for adapters, so each is announced.
        for name, record in self.world.adapters.items():
            if record.present:
                self.add_adapter(name)

    async def stop(self) -> None:
        await self.server.stop()
        for name in list(self.adapters):
            self.remove_adapter(name)

    def add_adapter(self, name: str) -> None:
        self.adapters[name] = Adapter(self, name)
        self.server.add(self.adapters[name])

    def remove_adapter(self, name: str) -> None:
        adapter = self.adapters.pop(name)
        adapter.set_powered(False)
        for device in list(adapter.devices.values()):
            adapter.remove(device)
        self.server.remove(adapter.path)

    def devices(self) -> list[Device]:
        return [device for adapter in self.adapters.values() for device in adapter.devices.values()]

    async def agent_agrees(self, device: str) -> bool:
        """Asks the agent that was registered first, as nobody asked for this bond."""
        if not self.agents:
            return False
        client, path = next(iter(self.agents.items()))
        ask = Message(client, path, "org.bluez.Agent1", "RequestAuthorization", signature="o", body=[device])
        reply = await self.server.bus.call(ask)
        return reply.message_type is MessageType.METHOD_RETURN

    def client_left(self, client: str) -> None:
        """BlueZ watches its callers: whatever one held ends when it leaves the bus."""
        self.agents.pop(client, None)
        for adapter in self.adapters.values():
            adapter.end_discovery(client)
        for device in self.devices():
            for characteristic in device.characteristics:
                characteristic.end_sessions(client)


class AgentManager(Interface):
    name = "org.bluez.AgentManager1"

    def __init__(self, daemon: Bluetoothd) -> None:
        super().__init__(daemon.server, "/org/bluez")
        self.daemon = daemon

    @method("RegisterAgent", takes="os")
    async def register(self, sender: str, path: str, _capability: str) -> None:
        if sender in self.daemon.agents:
            raise bluez_error("AlreadyExists", "Already Exists")
        self.daemon.agents[sender] = path

    @method("UnregisterAgent", takes="o")
    async def unregister(self, sender: str, path: str) -> None:
        self._require(sender, path)
        del self.daemon.agents[sender]

    @method("RequestDefaultAgent", takes="o")
    async def request_default(self, sender: str, path: str) -> None:
        self._require(sender, path)

    def _require(self, sender: str, path: str) -> None:
        if self.daemon.agents.get(sender) != path:
            raise bluez_error("DoesNotExist", "Does Not Exist")


class Adapter(Interface):
    name = "org.bluez.Adapter1"

    def __init__(self, daemon: Bluetoothd, hci: str) -> None:
        super().__init__(daemon.server, f"/org/bluez/{hci}")
        self.daemon = daemon
        self.hci = hci
        self.calls = daemon.world.adapters[hci].calls
        self.powered = True
        self.alias = ""
        self.devices: dict[str, Device] = {}
        self.filters: dict[str, dict[str, Any]] = {}  # caller's unique name -> its filter
        self.discoverers: list[str] = []  # in the order of their calls
        self.unanswered: set[str] = set()  # those of them whose call is pending
        self.scan: asyncio.Task | None = None

    def properties(self) -> dict[str, Variant]:
        return {
            "Address": Variant("s", f"00:1A:7D:DA:71:{0x13 + int(self.hci[3:]):02X}"),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", "mock"),
            "Alias": Variant("s", self.alias or "mock"),
            "Class": Variant("u", 0),
            "Powered": Variant("b", self.powered),
            "Discoverable": Variant("b", False),
            "DiscoverableTimeout": Variant("u", 180),
            "Pairable": Variant("b", True),
            "PairableTimeout": Variant("u", 0),
            "Discovering": Variant("b", self.scan is not None),
            "UUIDs": Variant("as", []),
        }

    def set_property(self, name: str, value: Any) -> None:
        if name == "Powered":
            if value and not self.powered:
                self.calls["power_cycles"] += 1
            self.set_powered(value)
        elif name == "Alias":
            self.alias = value
            self.changed("Alias")
        else:
            super().set_property(name, value)

    def set_powered(self, powered: bool) -> None:
        if powered == self.powered:
            return
        if not powered:
            for device in self.devices.values():
                device.link_lost()
            for client in list(self.discoverers):
                self.end_discovery(client)
            self.filters.clear()
        self.powered = powered
        self.changed("Powered")

    @method("SetDiscoveryFilter", takes="a{sv}")
    async def set_discovery_filter(self, sender: str, wanted: dict[str, Variant]) -> None:
        self.require_power()
        self.filters[sender] = {key: variant.value for key, variant in wanted.items()}

    @method("StartDiscovery")
    async def start_discovery(self, sender: str) -> None:
        self.calls["start_discovery"] += 1
        self.require_power()
        if sender in self.discoverers:
            raise bluez_error("InProgress", "Operation already in progress")
        self.discoverers.append(sender)
        if self.scan is None:
            self.unanswered.add(sender)
            await asyncio.sleep(START_DISCOVERY_S)
            if sender not in self.discoverers:
                raise bluez_error("NotReady", "Resource Not Ready")
            if sender != self.discoverers[-1]:
                # The kernel's one answer goes to the newest caller; this one hears nothing, ever.
                await asyncio.Event().wait()
            self.unanswered.discard(sender)
        if self.scan is None:
            self.scan = asyncio.create_task(self._scan())
            self.changed("Discovering")

    @method("StopDiscovery")
    async def stop_discovery(self, sender: str) -> None:
        self.calls["stop_discovery"] += 1
        self.require_power()
        if sender not in self.discoverers:
            raise bluez_error("Failed", "No discovery started")
        if sender in self.unanswered:
            raise bluez_error("InProgress", "Operation already in progress")
        self.end_discovery(sender)

    @method("RemoveDevice", takes="o")
    async def remove_device(self, _sender: str, path: str) -> None:
        for device in self.devices.values():
            if device.path == path:
                device.sensor.calls["remove"] += 1
                device.sensor.bonds.discard(self.hci)
                self.remove(device)
                return
        raise bluez_error("DoesNotExist", "Does Not Exist")

    def remove(self, device: Device) -> None:
        device.link_lost()
        device.forget_expiry()
        del self.devices[device.address]
        self.server.remove(device.path)

    def end_discovery(self, client: str) -> None:
        if client not in self.discoverers:
            return
        self.discoverers.remove(client)
        self.unanswered.discard(client)
        self.filters.pop(client, None)
        if self.discoverers or self.scan is None:
            return
        self.scan.cancel()
        self.scan = None
        for device in self.devices.values():
            device.set_rssi(None)
        self.changed("Discovering")

    async def _scan(self) -> None:
        await asyncio.sleep(FIRST_SIGHT_S)
        while True:
            for sensor in self.daemon.world.sensors.values():
                if sensor.audible and any(self._wants(c, sensor) for c in self.discoverers):
                    self._sighted(sensor)
            await asyncio.sleep(SIGHT_INTERVAL_S)

    def _wants(self, client: str, sensor: Sensor) -> bool:
        """Filters of several callers add up; one without a filter wants everything."""
        wanted = self.filters.get(client, {})
        uuids = wanted.get("UUIDs")
        pattern = wanted.get("Pattern", "")
        return (
            (not uuids or any(uuid in sensor.advertised_uuids() for uuid in uuids))
            and sensor.rssi >= wanted.get("RSSI", -127)
            and (sensor.address.startswith(pattern) or sensor.name.startswith(pattern))
        )

    def _sighted(self, sensor: Sensor) -> None:
        device = self.devices.get(sensor.address)
        if device is None:
            device = self.devices[sensor.address] = Device(self, sensor)
            self.server.add(device)
        else:
            device.sensor = sensor
            device.set_rssi(sensor.rssi)
        device.restart_expiry()

    def require_power(self) -> None:
        if not self.powered:
            raise bluez_error("NotReady", "Resource Not Ready")
