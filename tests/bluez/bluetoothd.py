"""One run of a pretend bluetoothd: the org.bluez objects, from taking the name to losing it.

What must survive a restart (sensors, bonds, counters) is in the World handed in.
"""

from dataclasses import dataclass, field

from dbus_fast import Message, MessageType

from adapter import Adapter, AdapterRecord, default_address
from device import Device
from object_server import Interface, ObjectServer, method
from sensor import Sensor, bluez_error


@dataclass
class World:
    temporary_timeout_s: float
    sensors: dict[str, Sensor] = field(default_factory=dict)
    adapters: dict[str, AdapterRecord] = field(default_factory=dict)

    def address_of(self, hci: str) -> str:
        """The address of the dongle that is or was hciN, or of the one that comes by default."""
        record = self.adapters.get(hci)
        return default_address(hci) if record is None else record.address


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
