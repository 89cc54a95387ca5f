"""One simulated heart-rate strap: what it is, what it measures, and which faults it shows.

Each notification carries a serial number (as Energy Expended), and what was truly sent, to a subscribed central in
range, is kept: so each reading that arrives anywhere can be told apart, and each that does not is known.
"""

import asyncio
import struct
import time
from typing import Any

from air import Air, PiController
from bumble import att, gatt, hci
from bumble.core import AdvertisingData
from bumble.device import Connection, Device, DeviceConfiguration
from bumble.host import Host
from bumble.pairing import PairingConfig, PairingDelegate
from bumble.profiles.battery_service import BatteryService
from bumble.profiles.device_information_service import DeviceInformationService
from bumble.profiles.heart_rate_service import HeartRateService

ADVERTISING_INTERVAL_MS = 100
APPEARANCE_HEART_RATE_BELT = 0x0341
CONTACT_SUPPORTED, CONTACT_DETECTED, ENERGY, RR, WIDE = 4, 2, 8, 16, 1


class Raw(bytes):
    """Bytes that Bumble's typed characteristic takes as they are."""


def measurement(
    hr: int, serial: int | None, rr: list[int] | None = None, contact: bool | None = True, wide: bool = False
) -> bytes:
    """The characteristic's value; `rr` in units of 1/1024 s, `contact` None: not supported."""
    flags = WIDE if wide or hr > 255 else 0
    value = struct.pack("<H" if flags & WIDE else "<B", hr)
    if contact is not None:
        flags |= CONTACT_SUPPORTED | (CONTACT_DETECTED if contact else 0)
    if serial is not None:
        flags |= ENERGY
        value += struct.pack("<H", serial)
    if rr:
        flags |= RR
        value += struct.pack(f"<{len(rr)}H", *rr)
    return bytes([flags]) + value


class Peripheral:
    """Commands are its `do_…` methods, as strap.py sends them."""

    def __init__(self, air: Air, name: str, address: str) -> None:
        self.air, self.name = air, name
        self.controller = PiController(name, link=air)
        host = Host()
        host.controller = self.controller
        config = DeviceConfiguration(
            name=name,
            address=hci.Address(address),
            advertising_interval_min=ADVERTISING_INTERVAL_MS,
            advertising_interval_max=ADVERTISING_INTERVAL_MS,
            irk=address.encode()[-16:],
        )
        self.device = Device(config=config, host=host)
        self.device.pairing_config_factory = lambda _: PairingConfig(
            sc=True,
            mitm=False,
            bonding=True,
            delegate=PairingDelegate(PairingDelegate.NO_OUTPUT_NO_INPUT),
            identity_address_type=PairingConfig.AddressType.RANDOM,
        )
        self.heart_rate = gatt.Characteristic(
            gatt.GATT_HEART_RATE_MEASUREMENT_CHARACTERISTIC,
            gatt.Characteristic.Properties.NOTIFY,
            gatt.Characteristic.Permissions(0),
        )
        location = gatt.Characteristic(
            gatt.GATT_BODY_SENSOR_LOCATION_CHARACTERISTIC,
            gatt.Characteristic.Properties.READ,
            gatt.Characteristic.READABLE,
            bytes([HeartRateService.BodySensorLocation.CHEST]),
        )
        service = gatt.Service(gatt.GATT_HEART_RATE_SERVICE, [self.heart_rate, location])
        information = DeviceInformationService(manufacturer_name="Simulated", model_number="HR-1")
        self.device.add_services([information, BatteryService(lambda _: 83), service])
        attributes = self.device.gatt_server.attributes
        after = attributes[attributes.index(self.heart_rate) + 1 :]
        self.cccd = next(a for a in after if a.type == gatt.GATT_CLIENT_CHARACTERISTIC_CONFIGURATION_DESCRIPTOR)
        self.device.advertising_data = bytes(
            AdvertisingData([
                (AdvertisingData.FLAGS, bytes([0x06])),
                (AdvertisingData.COMPLETE_LIST_OF_16_BIT_SERVICE_CLASS_UUIDS, bytes(service.uuid)),
                (AdvertisingData.APPEARANCE, struct.pack("<H", APPEARANCE_HEART_RATE_BELT)),
                (AdvertisingData.COMPLETE_LOCAL_NAME, name.encode()),
            ])
        )
        self.heart_rate.on(self.heart_rate.EVENT_SUBSCRIPTION, self._subscription)
        self.device.on("connection", self._connected)
        self.advertises, self.in_range, self.quiet, self.hung = True, True, False, False
        self.subscriptions, self.connections, self.pairings, self.next_serial = 0, 0, 0, 1
        self.advertised_at, self.connected_at, self.subscribed_at = 0.0, 0.0, 0.0
        self.sent: list[dict[str, Any]] = []
        self.player: asyncio.Task[None] | None = None

    async def switch_on(self) -> None:
        await self.device.power_on()
        await self._advertise()

    def log(self, text: str) -> None:
        print(f"{time.monotonic():.3f} {self.name}: {text}", flush=True)

    def state(self) -> dict[str, Any]:
        links = list(self.device.connections.values())
        return {
            "connected": bool(links),
            "linked_by": [str(link.peer_address).split("/")[0] for link in links],
            "subscribed": any(self._subscribed(link) for link in links),
            "encrypted": any(link.is_encrypted for link in links),
            "advertising": self.device.is_advertising,
            "address": str(self.device.random_address).split("/")[0],
            "in_range": self.in_range,
            "playing": self.player is not None and not self.player.done(),
            "requests": self.air.requests[self.device.random_address],
            "connections": self.connections,
            "subscriptions": self.subscriptions,
            "pairings": self.pairings,
            "sent": len(self.sent),
            "advertised_at": self.advertised_at,
            "connected_at": self.connected_at,
            "subscribed_at": self.subscribed_at,
        }

    async def do_state(self) -> dict[str, Any]:
        return self.state()

    async def do_sent(self, start: int = 0) -> list[dict[str, Any]]:
        return self.sent[start:]

    async def do_send(
        self,
        hr: int,
        rr: list[int] | None = None,
        contact: bool | None = True,
        wide: bool = False,
        energy: bool = True,
    ) -> int | None:
        """One value now; returns its serial number if somebody got it."""
        serial = self.next_serial if energy else None
        value = measurement(hr, serial, rr, contact, wide)
        entry = {"serial": serial, "hr": hr, "rr": rr or [], "contact": contact, "raw": value.hex()}
        if not await self._notify(value, entry):
            return None
        # 0 stays unused, and the number wraps where 16 bits do.
        self.next_serial = self.next_serial % 0xFFFF + 1 if energy else self.next_serial
        return serial

    async def do_raw(self, value: str) -> bool:
        """Any bytes (hex), well-formed or not."""
        return await self._notify(bytes.fromhex(value), {"serial": None, "hr": None, "raw": value})

    async def do_play(self, values: list[dict[str, Any]], period: float, repeat: bool = True) -> None:
        """`values` are `do_send`'s arguments, one each `period` seconds, heard or not."""
        await self.do_stop()

        async def play() -> None:
            due = time.monotonic()
            while True:
                for value in values:
                    await self.do_send(**value)
                    due += period
                    await asyncio.sleep(max(0, due - time.monotonic()))
                if not repeat:
                    return

        self.player = asyncio.create_task(play())

    async def do_stop(self) -> None:
        """Plays no longer."""
        if self.player is not None:
            self.player.cancel()
            self.player = None

    async def do_quiet(self, on: bool) -> None:
        """Linked and subscribed, and nothing comes."""
        self.quiet = on

    async def do_hang(self, on: bool) -> None:
        """Linked, and it answers nothing."""
        self.hung = on
        (self.air.mute.add if on else self.air.mute.discard)(self.controller)

    async def do_drop(self, reason: int = 0x13) -> None:
        """Ends the link; 0x13: by the user."""
        for link in list(self.device.connections.values()):
            await link.disconnect(reason)

    async def do_range(self, on: bool, supervision_s: float = 2.0) -> None:
        """Out of range, the link is lost `supervision_s` later on both sides."""
        self.in_range = on
        if on:
            self.air.out_of_range.discard(self.controller)
            await self._advertise()
            return
        self.air.out_of_range.add(self.controller)
        links = list(self.controller.le_connections.values())
        asyncio.get_running_loop().call_later(supervision_s, self._supervise, links)

    async def do_advertise(self, on: bool) -> None:
        self.advertises = on
        if on:
            await self._advertise()
        elif self.device.is_advertising:
            await self.device.stop_advertising()

    async def do_encryption(self, on: bool) -> None:
        """Whether subscribing demands an encrypted link."""
        demand = att.Attribute.Permissions.WRITE_REQUIRES_ENCRYPTION
        self.cccd.permissions = self.cccd.permissions | demand if on else self.cccd.permissions & ~demand

    async def do_forget(self) -> None:
        """Loses its bonds, as a strap whose battery was changed."""
        await self.device.keystore.delete_all()

    async def do_new_address(self) -> str:
        """A fresh resolvable private address, which only who is bonded can tell to be this strap's."""
        if self.device.is_advertising:
            await self.device.stop_advertising()
        assert not self.device.connections, "an address changes between links only"
        address = hci.Address.generate_private_address(self.device.irk)
        await self.device.send_sync_command(hci.HCI_LE_Set_Random_Address_Command(random_address=address))
        self.device.random_address = address
        await self._advertise()
        return str(address).split("/")[0]

    def _supervise(self, links: list[Any]) -> None:
        still = set(map(id, self.controller.le_connections.values()))
        if any(id(link) in still for link in links):
            self.air.lose(self.controller)

    def _subscribed(self, link: Connection) -> bool:
        cccd = self.device.gatt_server.subscribers.get(link, {}).get(self.heart_rate.handle)
        return bool(cccd and cccd[0] & 1)

    async def _notify(self, value: bytes, entry: dict[str, Any]) -> bool:
        heard = self.in_range and not self.quiet and not self.hung
        links = [link for link in self.device.connections.values() if self._subscribed(link)]
        if not heard or not links:
            return False
        for link in links:
            await self.device.gatt_server.notify_subscriber(link, self.heart_rate, value=Raw(value))
        self.sent.append({**entry, "at": time.monotonic()})
        return True

    async def _advertise(self) -> None:
        if self.advertises and not self.device.is_advertising and not self.device.connections:
            self.advertised_at = time.monotonic()
            await self.device.start_advertising(auto_restart=False)

    def _subscription(self, _link: Any, notify: bool, _indicate: bool) -> None:
        self.subscriptions += notify
        self.subscribed_at = time.monotonic() if notify else self.subscribed_at
        self.log("subscribed" if notify else "unsubscribed")

    def _connected(self, link: Connection) -> None:
        self.connections += 1
        self.connected_at = time.monotonic()
        self.log(f"connected by {link.peer_address}")
        link.on("disconnection", lambda reason: self._disconnected(reason))
        link.on("pairing", lambda _keys: self._paired())
        link.on("connection_encryption_change", lambda: self.log(f"encryption {link.encryption}"))

    def _paired(self) -> None:
        self.pairings += 1
        self.log("paired")

    def _disconnected(self, reason: int) -> None:
        self.log(f"disconnected, reason 0x{reason:02x}")
        asyncio.get_running_loop().create_task(self._advertise())
