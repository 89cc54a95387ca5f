"""The peripherals in the air: what they are, where they are, and which faults they show.

A Sensor outlives every restart of the pretend bluetoothd; so do its bond and its call counters.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from dbus_fast import DBusError

if TYPE_CHECKING:
    from bluetoothd import Device


def uuid16(number: str) -> str:
    """The 128-bit form of a 16-bit UUID, as BlueZ writes it."""
    return f"0000{number}-0000-1000-8000-00805f9b34fb"


HEART_RATE_SERVICE = uuid16("180d")
HEART_RATE_MEASUREMENT = uuid16("2a37")


def bluez_error(name: str, text: str) -> DBusError:
    return DBusError(f"org.bluez.Error.{name}", text)


class CharacteristicSpec(NamedTuple):
    handle: int
    uuid: str
    flags: list[str]
    value: bytes


class ServiceSpec(NamedTuple):
    handle: int
    uuid: str
    characteristics: list[CharacteristicSpec]


@dataclass
class Sensor:
    """One BLE peripheral, heard by every adapter that is not deaf to it, linked to at most one."""

    address: str
    name: str
    battery: int | None = None
    location: int | None = None
    manufacturer: str | None = None
    model: str | None = None
    rssi: int = -50
    bond_required: bool = False
    advertises_heart_rate: bool = True
    address_type: str = "random"
    gap_name: str | None = None  # read over the link; None: as advertised

    in_range: bool = True
    advertising: bool = True
    hearing: dict[str, int | None] = field(default_factory=dict)  # hciN -> RSSI there; None: deaf
    manufacturer_data: dict[int, bytes] = field(default_factory=dict)  # by company; advertised
    link: "Device | None" = None
    bonds: set[str] = field(default_factory=set)  # addresses of the adapters it is bonded to
    stale: set[str] = field(default_factory=set)  # of those whose stored attribute table is wrong
    acquired: bool = False  # by AcquireNotify of another program
    calls: Counter[str] = field(default_factory=Counter)
    failures_due: Counter[str] = field(default_factory=Counter)
    greeting: bytes = b""  # sent at once when subscribed to, before StartNotify is answered
    hung: set[str] = field(default_factory=set)
    released: asyncio.Event = field(default_factory=asyncio.Event)

    def loudness(self, hci: str) -> int | None:
        """The RSSI with which hciN hears it; None: it does not."""
        return self.hearing.get(hci, self.rssi)

    def audible_to(self, hci: str) -> bool:
        """Whether hciN hears it now. A linked peripheral does not advertise."""
        heard = self.in_range and self.advertising and self.loudness(hci) is not None
        return heard and self.link is None

    def advertised_uuids(self) -> list[str]:
        return [HEART_RATE_SERVICE] if self.advertises_heart_rate else []

    def drop(self) -> None:
        if self.link is not None:
            self.link.link_lost()

    def hang(self, operation: str) -> None:
        """Make `operation` (connect, notify, pair) wait; "none" lets all that wait go on."""
        if operation == "none":
            self.hung.clear()
            self.released.set()
        else:
            self.hung.add(operation)
            self.released.clear()

    async def gate(self, operation: str) -> None:
        """Where a call of `operation` meets the faults asked for: first hang, then fail."""
        while operation in self.hung:
            await self.released.wait()
        if self.failures_due[operation] > 0:
            self.failures_due[operation] -= 1
            raise bluez_error("Failed", f"mock: {operation} fails as ordered")

    def gatt(self) -> list[ServiceSpec]:
        """The attribute table; handles are fixed, as those of a strap are over reconnects."""
        heart_rate = [CharacteristicSpec(0x1A, HEART_RATE_MEASUREMENT, ["notify"], b"")]
        if self.location is not None:
            body_location = bytes([self.location])
            heart_rate.append(CharacteristicSpec(0x1D, uuid16("2a38"), ["read"], body_location))
        services = [ServiceSpec(0x19, HEART_RATE_SERVICE, heart_rate)]
        if self.battery is not None:
            level = CharacteristicSpec(
                0x21, uuid16("2a19"), ["read", "notify"], bytes([self.battery])
            )
            services.append(ServiceSpec(0x20, uuid16("180f"), [level]))
        texts = [(0x31, "2a29", self.manufacturer), (0x33, "2a24", self.model)]
        information = [
            CharacteristicSpec(handle, uuid16(number), ["read"], text.encode())
            for handle, number, text in texts
            if text is not None
        ]
        if information:
            services.append(ServiceSpec(0x30, uuid16("180a"), information))
        return services
