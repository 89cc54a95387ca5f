"""org.bluez.Adapter1: discovery, power, and which links the controller takes."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dbus_fast import Variant

from device import Device
from object_server import Interface, method
from sensor import Sensor, bluez_error

if TYPE_CHECKING:
    from bluetoothd import Bluetoothd

# How long the kernel takes to begin discovery.
START_DISCOVERY_S = 0.1
FIRST_SIGHT_S = 0.1
SIGHT_INTERVAL_S = 0.5


def default_address(hci: str) -> str:
    return f"00:1A:7D:DA:71:{0x13 + int(hci[3:]):02X}"


@dataclass
class AdapterRecord:
    """What is known of hciN across restarts, and while it is unplugged."""

    address: str
    present: bool = True
    blocked: bool = False  # by rfkill
    slots: int | None = None  # how many links it takes at once
    failures_due: int = 0  # how many Connects are yet to fail
    calls: Counter[str] = field(default_factory=Counter)


class Adapter(Interface):
    name = "org.bluez.Adapter1"

    def __init__(self, daemon: "Bluetoothd", hci: str) -> None:
        super().__init__(daemon.server, f"/org/bluez/{hci}")
        self.daemon = daemon
        self.hci = hci
        self.record = daemon.world.adapters[hci]
        self.address = self.record.address
        self.calls = self.record.calls
        self.powered = not self.record.blocked
        self.alias = ""
        self.devices: dict[str, Device] = {}
        self.filters: dict[str, dict[str, Any]] = {}  # caller's unique name -> its filter
        self.discoverers: list[str] = []  # in the order of their calls
        self.unanswered: set[str] = set()  # those of them whose call is pending
        self.scan: asyncio.Task | None = None

    @property
    def power_state(self) -> str:
        if self.record.blocked:
            return "off-blocked"
        return "on" if self.powered else "off"

    @property
    def links(self) -> int:
        return sum(device.connected for device in self.devices.values())

    @property
    def has_slot(self) -> bool:
        return self.record.slots is None or self.links < self.record.slots

    def properties(self) -> dict[str, Variant]:
        return {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", "public"),
            "Name": Variant("s", "mock"),
            "Alias": Variant("s", self.alias or "mock"),
            "Class": Variant("u", 0),
            "Powered": Variant("b", self.powered),
            "PowerState": Variant("s", self.power_state),
            "Discoverable": Variant("b", False),
            "DiscoverableTimeout": Variant("u", 180),
            "Pairable": Variant("b", True),
            "PairableTimeout": Variant("u", 0),
            "Discovering": Variant("b", self.scan is not None),
            "UUIDs": Variant("as", []),
        }

    def set_property(self, name: str, value: Any) -> None:
        if name == "Powered":
            self._power_by_client(value)
        elif name == "Alias":
            self.alias = value
            self.changed("Alias")
        else:
            super().set_property(name, value)

    def _power_by_client(self, powered: bool) -> None:
        if powered == self.powered:
            return
        if self.record.blocked:
            self.calls["refused"] += 1
            raise bluez_error("Blocked", "Blocked through rfkill")
        if powered:
            self.calls["power_cycles"] += 1
        passing = Variant("s", "off-enabling" if powered else "on-disabling")
        self.server.properties_changed(self, {"PowerState": passing}, [])
        self.set_powered(powered)

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
        self.changed("Powered", "PowerState")

    def set_blocked(self, blocked: bool) -> None:
        self.record.blocked = blocked
        if self.powered:
            self.set_powered(False)
        else:
            self.changed("PowerState")

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
                device.sensor.bonds.discard(self.address)
                device.sensor.stale.discard(self.address)
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
            device.discovery_ended()
        self.changed("Discovering")

    async def _scan(self) -> None:
        await asyncio.sleep(FIRST_SIGHT_S)
        while True:
            for sensor in self.daemon.world.sensors.values():
                self.hear(sensor)
            await asyncio.sleep(SIGHT_INTERVAL_S)

    def hear(self, sensor: Sensor) -> None:
        """One advertisement, which shows if discovery runs, reaches the sensor, and wants it."""
        if self.scan is None or not sensor.audible_to(self.hci):
            return
        if not any(self._wants(client, sensor) for client in self.discoverers):
            return
        wanted = (self.filters.get(client, {}) for client in self.discoverers)
        duplicates_wanted = any(each.get("DuplicateData", False) for each in wanted)
        device = self.devices.get(sensor.address) or Device(self, sensor)
        changed = device.hear(sensor, duplicates_wanted)
        if device.address in self.devices:
            device.changed(*changed)
        else:
            self._add(device)
        device.restart_expiry()

    def _add(self, device: Device) -> None:
        self.devices[device.address] = device
        self.server.add(device)

    def _wants(self, client: str, sensor: Sensor) -> bool:
        """Filters of several callers add up; one without a filter wants everything."""
        wanted = self.filters.get(client, {})
        uuids = wanted.get("UUIDs")
        pattern = wanted.get("Pattern", "")
        return (
            (not uuids or any(uuid in sensor.advertised_uuids() for uuid in uuids))
            and sensor.loudness(self.hci) >= wanted.get("RSSI", -127)
            and (sensor.address.startswith(pattern) or sensor.name.startswith(pattern))
        )

    def link_from_elsewhere(self, sensor: Sensor) -> None:
        """Another program's link; it needs no discovery here, as that program had its own."""
        if sensor.address not in self.devices:
            self._add(Device(self, sensor))
        self.devices[sensor.address].link_from_elsewhere(sensor)

    def require_power(self) -> None:
        if not self.powered:
            raise bluez_error("NotReady", "Resource Not Ready")
