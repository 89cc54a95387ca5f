"""Remote GATT services and characteristics, and who is notified of their values."""

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from dbus_fast import DBusError, Variant

from object_server import Interface, method
from sensor import HEART_RATE_MEASUREMENT, CharacteristicSpec, bluez_error

if TYPE_CHECKING:
    from device import Device


class Service(Interface):
    name = "org.bluez.GattService1"

    def __init__(self, device: "Device", handle: int, uuid: str) -> None:
        super().__init__(device.server, f"{device.path}/service{handle:04x}")
        self.device = device
        self.uuid = uuid

    def properties(self) -> dict[str, Variant]:
        return {
            "UUID": Variant("s", self.uuid),
            "Device": Variant("o", self.device.path),
            "Primary": Variant("b", True),
            "Includes": Variant("ao", []),
        }


class NotifySession(NamedTuple):
    client: str
    link: int  # the link it was started on


class Characteristic(Interface):
    name = "org.bluez.GattCharacteristic1"

    def __init__(self, device: "Device", service_path: str, spec: CharacteristicSpec) -> None:
        super().__init__(device.server, f"{service_path}/char{spec.handle:04x}")
        self.device = device
        self.service_path = service_path
        self.spec = spec
        self.cached: bytes | None = None
        self.sessions: list[NotifySession] = []
        self.begun: set[str] = set()  # callers whose StartNotify is pending, or was when the link went
        self.resumed: set[str] = set()  # those of them that BlueZ subscribed by itself on a later link

    @property
    def is_heart_rate(self) -> bool:
        return self.spec.uuid == HEART_RATE_MEASUREMENT

    def properties(self) -> dict[str, Variant]:
        properties = {
            "UUID": Variant("s", self.spec.uuid),
            "Service": Variant("o", self.service_path),
            "Flags": Variant("as", self.spec.flags),
            "MTU": Variant("q", 517),
        }
        if self.cached is not None:
            properties["Value"] = Variant("ay", self.cached)
        if "notify" in self.spec.flags:
            properties["Notifying"] = Variant("b", bool(self.sessions))
        return properties

    @method("ReadValue", takes="a{sv}", returns="ay")
    async def read_value(self, _sender: str, _options: dict[str, Variant]) -> bytes:
        self._require_flag("read")
        if not self.device.connected:
            raise bluez_error("Failed", "Not connected")
        self.cached = self.spec.value
        self.changed("Value")
        return self.cached

    @method("StartNotify")
    async def start_notify(self, sender: str) -> None:
        self._require_flag("notify")
        device, sensor = self.device, self.device.sensor
        if self.is_heart_rate:
            sensor.calls["start_notify"] += 1
            if sensor.acquired:
                raise bluez_error("NotPermitted", "Notify acquired")
            link = device.links if device.connected else None
            self.begun.add(sender)
            try:
                await sensor.gate("notify")
                if device.connected and device.stale:
                    raise bluez_error("Failed", "Operation failed with ATT error: 0x0a")
            except DBusError:
                self.begun.discard(sender)
                raise
            if device.connected and sensor.bond_required and not device.paired:
                await device.bond_unasked()
            if sender in self.server.departed:  # gave up while the call hung
                return
            if link is not None and (link != device.links or not device.connected):
                await asyncio.Event().wait()  # the link under the call went: no answer, ever
            self.begun.discard(sender)
            if sender in self.resumed:
                self.resumed.discard(sender)
                return
        session = NotifySession(sender, device.links)
        if device.connected and session in self.sessions:
            raise bluez_error("InProgress", "In Progress")
        self.sessions.append(session)
        self.changed("Notifying")
        if self.is_heart_rate and sensor.greeting:
            await self.push([sensor.greeting])

    @method("StopNotify")
    async def stop_notify(self, sender: str) -> None:
        if self.is_heart_rate:
            self.device.sensor.calls["stop_notify"] += 1
            self.begun.discard(sender)
            self.resumed.discard(sender)
        for session in self.sessions:
            if session.client == sender:
                self.sessions.remove(session)
                self.changed("Notifying")
                return
        raise bluez_error("Failed", "No notify session started")

    def resume(self) -> None:
        """On a new link BlueZ subscribes for those whose StartNotify the last one left pending.

        With a stale table it fails to, and to resume the sessions there are, and tells nobody.
        """
        if self.is_heart_rate and self.device.stale:
            self.begun.clear()
            self.end_sessions()
            return
        if "notify" in self.device.sensor.hung:
            return
        for client in self.begun - self.server.departed:
            self.sessions.append(NotifySession(client, self.device.links))
            self.resumed.add(client)
        self.begun.clear()

    def end_sessions(self, client: str | None = None) -> None:
        """End every session of one client, or of all."""
        self.resumed = set() if client is None else self.resumed - {client}
        kept = [s for s in self.sessions if client is not None and s.client != client]
        if kept != self.sessions:
            self.sessions = kept
            self.changed("Notifying")

    async def push(self, values: list[bytes]) -> int:
        """Notify each value once per session, and return how many signals that made."""
        signals = 0
        device = self.device
        for value in values:
            await self.server.room_for_more()
            if not device.resolved or (device.sensor.bond_required and not device.paired):
                break
            for _ in self.sessions:
                self.cached = value
                self.server.properties_changed(self, {"Value": Variant("ay", value)}, [])
                signals += 1
        return signals

    def _require_flag(self, flag: str) -> None:
        if flag not in self.spec.flags:
            raise bluez_error("NotSupported", "Operation is not supported")
