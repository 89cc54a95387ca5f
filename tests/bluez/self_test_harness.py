"""What the self tests stand on: a private bus, the mock as a process, callers on the bus."""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from dbus_fast import BusType, DBusError, Message, MessageType, Variant
from dbus_fast.aio import MessageBus

HERE = Path(__file__).resolve().parent

ADAPTER, DEVICE = "org.bluez.Adapter1", "org.bluez.Device1"
CHARACTERISTIC, AGENTS = "org.bluez.GattCharacteristic1", "org.bluez.AgentManager1"
HCI0, HCI1 = "/org/bluez/hci0", "/org/bluez/hci1"
FAILED, IN_PROGRESS = "org.bluez.Error.Failed", "org.bluez.Error.InProgress"


class Client:
    """One caller on the bus, as one bluer session is; keeps every signal of org.bluez."""

    def __init__(self) -> None:
        self.signals: list[Message] = []

    async def connect(self) -> "Client":
        self.bus = await MessageBus(bus_type=BusType.SYSTEM).connect()
        self.bus.add_message_handler(self._keep)
        bus = "org.freedesktop.DBus"
        match = "type='signal',sender='org.bluez'"
        await self.call("/org/freedesktop/DBus", bus, "AddMatch", "s", match, to=bus)
        return self

    def _keep(self, message: Message) -> None:
        if message.message_type is MessageType.SIGNAL and message.path != "/org/freedesktop/DBus":
            self.signals.append(message)

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        *body: Any,
        to: str = "org.bluez",
    ) -> Any:
        message = Message(to, path, interface, member, signature=signature, body=list(body))
        reply = await self.bus.call(message)
        if reply.message_type is MessageType.ERROR:
            raise DBusError(reply.error_name, str(reply.body))
        return reply.body[0] if reply.body else None

    async def get(self, path: str, interface: str, name: str, to: str = "org.bluez") -> Any:
        properties = "org.freedesktop.DBus.Properties"
        return (await self.call(path, properties, "Get", "ss", interface, name, to=to)).value

    async def put(self, path: str, interface: str, name: str, value: Variant) -> None:
        properties = "org.freedesktop.DBus.Properties"
        await self.call(path, properties, "Set", "ssv", interface, name, value)

    async def signals_settled(self) -> None:
        """Everything that org.bluez sent until now has arrived: its answer comes after it."""
        await self.objects()

    async def objects(self) -> dict[str, Any]:
        manager = "org.freedesktop.DBus.ObjectManager"
        return await self.call("/", manager, "GetManagedObjects")

    async def find(self, address: str, hci: str = HCI0) -> str:
        """Discover until the device is there; returns its path."""
        path = device_path(address, hci)
        await self.call(hci, ADAPTER, "StartDiscovery")
        try:
            await until(lambda: self._has(path), 2)
        finally:
            await self.call(hci, ADAPTER, "StopDiscovery")
        return path

    async def _has(self, path: str) -> bool:
        return path in await self.objects()

    async def subscribe(self, address: str) -> tuple[str, str]:
        """Discover, connect, start notifying; returns both objects' paths."""
        device = await self.find(address)
        await self.call(device, DEVICE, "Connect")
        await self.call(heart_rate(device), CHARACTERISTIC, "StartNotify")
        return device, heart_rate(device)

    def values(self, path: str) -> list[bytes]:
        return [bytes(value) for value in self.changes(path, "Value")]

    def changes(self, path: str, name: str) -> list[Any]:
        """What PropertiesChanged said of one property, in its order."""
        changes = (m.body[1] for m in self.signals if m.path == path)
        return [changed[name].value for changed in changes if name in changed]


class Mock:
    """The process under test and its command line."""

    async def start(self, environment: dict[str, str]) -> None:
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-B", str(HERE / "mock_bluez.py"),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, env=environment,
        )
        assert await self.process.stdout.readline() == b"ready\n"

    async def answer(self, line: str) -> str:
        self.process.stdin.write(line.encode() + b"\n")
        return (await self.process.stdout.readline()).decode().rstrip("\n")

    async def do(self, line: str) -> Any:
        answer = await self.answer(line)
        assert answer.split(" ")[0] == "ok", f"{line[:80]} -> {answer}"
        return json.loads(answer[3:]) if answer[3:] else None


def device_path(address: str, hci: str = HCI0) -> str:
    return f"{hci}/dev_{address.replace(':', '_')}"


def heart_rate(device: str) -> str:
    return device + "/service0019/char001a"


async def until(holds: Callable[[], Any], timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not await holds():
        assert time.monotonic() < deadline, "the awaited state did not come"
        await asyncio.sleep(0.02)


async def refused(call: Any, name: str, text: str = "") -> None:
    try:
        await call
    except DBusError as error:
        assert error.type == name, f"{error.type}, not {name}"
        assert text in error.text, f"{error.text}, not {text}"
    else:
        raise AssertionError(f"succeeded instead of {name}")


@asynccontextmanager
async def another_client() -> AsyncIterator[Client]:
    client = await Client().connect()
    try:
        yield client
    finally:
        client.bus.disconnect()


@asynccontextmanager
async def discovery(client: Client, hci: str = HCI0, **wanted: Variant) -> AsyncIterator[None]:
    await client.call(hci, ADAPTER, "SetDiscoveryFilter", "a{sv}", wanted)
    await client.call(hci, ADAPTER, "StartDiscovery")
    try:
        yield
    finally:
        await client.call(hci, ADAPTER, "StopDiscovery")


@asynccontextmanager
async def second_adapter(mock: Mock, address: str = "") -> AsyncIterator[None]:
    """hci1, for as long as a check lasts."""
    await mock.do(f"adapter hci1 add {address}")
    try:
        yield
    finally:
        await mock.answer("adapter hci1 remove")


@asynccontextmanager
async def private_bus() -> AsyncIterator[None]:
    with tempfile.TemporaryDirectory() as directory:
        socket, config = Path(directory, "bus.sock"), Path(directory, "bus.conf")
        config.write_text((HERE / "bus.conf").read_text().replace("BUS_SOCKET", str(socket)))
        daemon = await asyncio.create_subprocess_exec(
            "dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"
        )
        try:
            while not socket.exists():
                await asyncio.sleep(0.02)
            os.environ["DBUS_SYSTEM_BUS_ADDRESS"] = f"unix:path={socket}"
            yield
        finally:
            daemon.terminate()
            await daemon.wait()
