"""org.bluez.Device1: a peripheral as one adapter knows it, and the link to it."""

import asyncio
from typing import TYPE_CHECKING, Any

from dbus_fast import DBusError, Variant

from gatt import Characteristic, Service
from object_server import Interface, method
from sensor import Sensor, bluez_error

if TYPE_CHECKING:
    from adapter import Adapter

RESOLVE_SERVICES_S = 0.1
PAIRING_S = 0.1
# Real BlueZ tries for much longer; tests have no use for the wait.
UNREACHABLE_S = 1.0


def no_link() -> DBusError:
    """BlueZ's one answer, whatever the kernel's reason was (src/device.c, att_connect_cb)."""
    return bluez_error("Failed", "le-connection-abort-by-local")


class Device(Interface):
    name = "org.bluez.Device1"

    def __init__(self, adapter: "Adapter", sensor: Sensor) -> None:
        super().__init__(
            adapter.server, f"{adapter.path}/dev_{sensor.address.replace(':', '_')}"
        )
        self.adapter = adapter
        self.sensor = sensor
        self.address = sensor.address
        self.name_shown = sensor.name
        self.gap_name_read = False
        self.rssi: int | None = None
        self.manufacturer_data: dict[int, bytes] = {}
        self.connected = self.connecting = self.resolved = False
        self.trusted = self.blocked = False
        self.alias = ""
        self.uuids = sensor.advertised_uuids()
        self.characteristics: list[Characteristic] = []
        self.links = 0  # counts links made; the number of the present or the last one
        self.disconnects = self.pairings_cancelled = self.pairings_pending = 0
        self.expiry: asyncio.TimerHandle | None = None

    @property
    def paired(self) -> bool:
        return self.adapter.address in self.sensor.bonds

    @property
    def stale(self) -> bool:
        """Whether the attribute table that BlueZ stored is not the sensor's."""
        return self.adapter.address in self.sensor.stale

    def properties(self) -> dict[str, Variant]:
        properties = {
            "Address": Variant("s", self.address),
            "AddressType": Variant("s", self.sensor.address_type),
            "Name": Variant("s", self.name_shown),
            "Alias": Variant("s", self.alias or self.name_shown),
            "Adapter": Variant("o", self.adapter.path),
            "Paired": Variant("b", self.paired),
            "Bonded": Variant("b", self.paired),
            "Trusted": Variant("b", self.trusted),
            "Blocked": Variant("b", self.blocked),
            "LegacyPairing": Variant("b", False),
            "Connected": Variant("b", self.connected),
            "ServicesResolved": Variant("b", self.resolved),
            "UUIDs": Variant("as", self.uuids),
        }
        if self.rssi is not None:
            properties["RSSI"] = Variant("n", self.rssi)
        if self.manufacturer_data:
            heard = {number: Variant("ay", data) for number, data in self.manufacturer_data.items()}
            properties["ManufacturerData"] = Variant("a{qv}", heard)
        return properties

    def set_property(self, name: str, value: Any) -> None:
        if name not in ("Alias", "Trusted", "Blocked"):
            super().set_property(name, value)
        setattr(self, name.lower(), value)
        self.changed(name)

    def hear(self, sensor: Sensor, duplicates_wanted: bool) -> list[str]:
        """Take over what an advertisement says; returns the properties to be announced."""
        self.sensor = sensor
        self.rssi = sensor.loudness(self.adapter.hci)
        announced = ["RSSI"]
        if not self.gap_name_read:
            announced += self._show_name(sensor.name)
        heard = sensor.manufacturer_data
        if duplicates_wanted and heard:
            self.manufacturer_data = dict(heard)
            announced.append("ManufacturerData")
        elif heard.items() - self.manufacturer_data.items():
            self.manufacturer_data |= heard
            announced.append("ManufacturerData")
        return announced

    def _show_name(self, name: str) -> list[str]:
        if name == self.name_shown:
            return []
        self.name_shown = name
        return ["Name"] if self.alias else ["Name", "Alias"]

    def discovery_ended(self) -> None:
        if self.rssi is not None:
            self.rssi = None
            self.changed("RSSI")

    def forget_expiry(self) -> None:
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def restart_expiry(self) -> None:
        """Start BlueZ's TemporaryTimeout anew, where it applies: not linked and not paired."""
        self.forget_expiry()
        if not self.connected and not self.paired:
            timeout_s = self.adapter.daemon.world.temporary_timeout_s
            loop = asyncio.get_running_loop()
            self.expiry = loop.call_later(timeout_s, self.adapter.remove, self)

    def link_lost(self) -> None:
        """The link is gone; GATT objects and notify sessions stay, as BlueZ leaves them."""
        if self.connected:
            self.connected = self.resolved = False
            self.sensor.link = None
            self.changed("ServicesResolved", "Connected")
            self.restart_expiry()

    @method("Connect")
    async def connect(self, _sender: str) -> None:
        self.sensor.calls["connect"] += 1
        disconnects = self.disconnects
        await self.sensor.gate("connect")
        if disconnects != self.disconnects:
            raise bluez_error("Failed", "le-connection-canceled")
        if self.connecting:
            raise bluez_error("InProgress", "In Progress")
        await self._establish_link()

    @method("Disconnect")
    async def disconnect(self, _sender: str) -> None:
        self.sensor.calls["disconnect"] += 1
        await self.sensor.gate("disconnect")
        self.disconnects += 1
        for characteristic in self.characteristics:
            characteristic.end_sessions()
        self.link_lost()

    @method("Pair")
    async def pair(self, sender: str) -> None:
        self.sensor.calls["pair"] += 1
        cancelled = self.pairings_cancelled
        self.pairings_pending += 1
        try:
            await self.sensor.gate("pair")
            if cancelled == self.pairings_cancelled:
                if sender not in self.adapter.daemon.agents:
                    raise bluez_error("AuthenticationFailed", "Authentication Failed")
                if self.paired:
                    raise bluez_error("AlreadyExists", "Already Exists")
                await self._establish_link()
                await asyncio.sleep(PAIRING_S)
        finally:
            self.pairings_pending -= 1
        if cancelled != self.pairings_cancelled:
            raise bluez_error("AuthenticationCanceled", "Authentication Canceled")
        if not self.connected:
            raise bluez_error("AuthenticationFailed", "Authentication Failed")
        self.sensor.bonds.add(self.adapter.address)
        self.changed("Paired", "Bonded")
        if self.sensor.failures_due["answer"] > 0:
            self.sensor.failures_due["answer"] -= 1
            self.sensor.drop()
            raise bluez_error("Failed", "Operation canceled")

    @method("CancelPairing")
    async def cancel_pairing(self, _sender: str) -> None:
        if not self.pairings_pending:
            raise bluez_error("DoesNotExist", "Does Not Exist")
        self.pairings_cancelled += 1

    async def bond_unasked(self) -> None:
        """What BlueZ does when a peripheral demands encryption: it pairs if the first agent agrees. If none does,
        the call that met the demand stays unanswered."""
        daemon = self.adapter.daemon
        if not await daemon.agent_agrees(self.path):
            await asyncio.Event().wait()
        await asyncio.sleep(PAIRING_S)
        self.sensor.bonds.add(self.adapter.address)
        self.changed("Paired", "Bonded")

    async def _establish_link(self) -> None:
        if self.adapter.devices.get(self.address) is not self:  # removed while the call hung
            raise bluez_error("DoesNotExist", "Does Not Exist")
        if self.connected:
            return
        self.adapter.require_power()
        if self.adapter.record.failures_due > 0:
            self.adapter.record.failures_due -= 1
            raise no_link()
        self.connecting = True
        try:
            here = self.sensor.address == self.address
            if not (here and self.sensor.audible_to(self.adapter.hci)):
                await asyncio.sleep(UNREACHABLE_S)
                raise no_link()
            if not self.adapter.has_slot:
                raise no_link()
            self._link_made()
            link = self.links
            await asyncio.sleep(RESOLVE_SERVICES_S)
            if not self.connected or self.links != link:
                raise no_link()
            self._resolve_services()
        finally:
            self.connecting = False

    def link_from_elsewhere(self, sensor: Sensor) -> None:
        self.sensor = sensor
        self._link_made()
        self._resolve_services()

    def _link_made(self) -> None:
        self.forget_expiry()
        self.links += 1
        self.connected = True
        self.sensor.link = self
        self.changed("Connected")

    def _resolve_services(self) -> None:
        services = self.sensor.gatt()
        if not self.characteristics:
            for spec in services:
                service = Service(self, spec.handle, spec.uuid)
                chars = [Characteristic(self, service.path, c) for c in spec.characteristics]
                self.server.add(service, *chars)
                self.characteristics += chars
        for characteristic in self.characteristics:
            characteristic.resume()
        self.uuids = [spec.uuid for spec in services]
        self.resolved = True
        self.changed("UUIDs", "ServicesResolved")
        if self.sensor.gap_name is not None:
            self._read_gap_name(self.sensor.gap_name)

    def _read_gap_name(self, name: str) -> None:
        self.gap_name_read = True
        if announced := self._show_name(name):
            self.changed(*announced)
