"""D-Bus plumbing: a tree of objects on one bus connection, served from raw messages.

dbus-fast's own ServiceInterface is not used, for three reasons. It does not tell a method who
called it, and BlueZ keeps notify sessions, discovery sessions and agents per caller. It answers
"no such object" and "no such property" with other error names than BlueZ's GDBus, and bluer acts
on those names. And it sends ObjectManager signals from the object's own path instead of "/".
"""

import asyncio
import logging
import select
from collections.abc import Callable
from typing import Any, ClassVar

from dbus_fast import BusType, DBusError, ErrorType, Message, MessageFlag, MessageType, Variant
from dbus_fast.aio import MessageBus

BUS = "org.freedesktop.DBus"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
PROPERTIES = "org.freedesktop.DBus.Properties"
PROPERTY_CALLS = {"Get": "ss", "Set": "ssv", "GetAll": "s"}
LEFT_TO_DBUS_FAST = ("org.freedesktop.DBus.Introspectable", "org.freedesktop.DBus.Peer")
# Long enough for the daemon to empty a socket, short enough not to be noticed in a throughput test.
SOCKET_FULL_PAUSE_S = 0.001

log = logging.getLogger(__name__)


def method(name: str, takes: str = "", returns: str = "") -> Callable:
    """Mark a coroutine as the D-Bus method `name`; it gets the caller's unique name first."""

    def mark(function: Callable) -> Callable:
        function.dbus_method = (name, takes, returns)
        return function

    return mark


class Interface:
    """One D-Bus interface of one object."""

    name: ClassVar[str]
    methods: ClassVar[dict[str, Callable]]

    def __init_subclass__(cls) -> None:
        marked = (f for f in vars(cls).values() if hasattr(f, "dbus_method"))
        cls.methods = {function.dbus_method[0]: function for function in marked}

    def __init__(self, server: "ObjectServer", path: str) -> None:
        self.server = server
        self.path = path

    def properties(self) -> dict[str, Variant]:
        """All properties that exist now; one that BlueZ would not show is left out."""
        return {}

    def set_property(self, name: str, value: Any) -> None:
        raise DBusError(ErrorType.PROPERTY_READ_ONLY, f"Property '{name}' is not writable")

    def changed(self, *names: str) -> None:
        """Tell the bus about new values; names without a value now are sent as invalidated."""
        now = self.properties()
        self.server.properties_changed(
            self,
            {name: now[name] for name in names if name in now},
            [name for name in names if name not in now],
        )


class ObjectServer:
    """Owns one bus connection and one well-known name, and answers calls on its objects.

    Every call runs in a task of its own, so a method that hangs holds up nobody else.
    """

    def __init__(self, bus_name: str) -> None:
        self.bus_name = bus_name
        self.objects: dict[str, dict[str, Interface]] = {}
        self.on_client_left: Callable[[str], None] = lambda _unique_name: None
        self.departed: set[str] = set()  # callers that left; the bus never reuses their names
        self._calls: set[asyncio.Task] = set()

    async def start(self) -> None:
        """Connect and take the name; export the first objects before, as nobody can call yet."""
        self.bus = MessageBus(bus_type=BusType.SYSTEM)
        self.bus.add_message_handler(self._handle)
        await self.bus.connect()
        await self.bus.call(
            Message(
                destination=BUS,
                path="/org/freedesktop/DBus",
                interface=BUS,
                member="AddMatch",
                signature="s",
                body=[f"type='signal',sender='{BUS}',member='NameOwnerChanged'"],
            )
        )
        await self.bus.request_name(self.bus_name)

    async def stop(self) -> None:
        """Leave the bus as a crashing daemon does: no signals, pending calls get NoReply."""
        for call in self._calls:
            call.cancel()
        self.objects.clear()
        self.bus.disconnect()
        await self.bus.wait_for_disconnect()

    def add(self, *interfaces: Interface) -> None:
        for interface in interfaces:
            self.objects.setdefault(interface.path, {})[interface.name] = interface
            self._signal(
                "/",
                OBJECT_MANAGER,
                "InterfacesAdded",
                "oa{sa{sv}}",
                [interface.path, {interface.name: interface.properties()}],
            )

    def remove(self, path: str) -> None:
        """Take an object and everything below it off the bus, the deepest first."""
        gone = [p for p in self.objects if p == path or p.startswith(path + "/")]
        for each in sorted(gone, reverse=True):
            names = list(self.objects.pop(each))
            self._signal("/", OBJECT_MANAGER, "InterfacesRemoved", "oas", [each, names])

    def properties_changed(
        self, interface: Interface, changed: dict[str, Variant], invalidated: list[str]
    ) -> None:
        body = [interface.name, changed, invalidated]
        self._signal(interface.path, PROPERTIES, "PropertiesChanged", "sa{sv}as", body)

    async def room_for_more(self) -> None:
        """Wait until the socket is far from full; call this between the signals of a burst.

        dbus-fast 5.2.0 drops the connection when a write would block instead of waiting. Other
        calls get their turn here too.
        """
        await asyncio.sleep(0)
        while not select.select((), (self.bus._fd,), (), 0)[1]:
            await asyncio.sleep(SOCKET_FULL_PAUSE_S)

    def _signal(
        self, path: str, interface: str, member: str, signature: str, body: list[Any]
    ) -> None:
        if hasattr(self, "bus") and self.bus.connected:
            self.bus.send(Message.new_signal(path, interface, member, signature, body))

    def _handle(self, message: Message) -> bool:
        if message.message_type is MessageType.SIGNAL:
            if message.sender == BUS and message.member == "NameOwnerChanged":
                name, _old_owner, new_owner = message.body
                if name.startswith(":") and not new_owner:
                    self.departed.add(name)
                    self.on_client_left(name)
            return False
        if message.message_type is not MessageType.METHOD_CALL:
            return False
        if message.interface in LEFT_TO_DBUS_FAST:
            return False
        task = asyncio.create_task(self._answer(message))
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        return True

    async def _answer(self, message: Message) -> None:
        try:
            signature, body = await self._dispatch(message)
            reply = Message.new_method_return(message, signature, body)
        except DBusError as error:
            log.info("%s.%s -> %s %s", message.path, message.member, error.type, error.text)
            reply = Message.new_error(message, error.type, error.text)
        except Exception as error:
            log.exception("%s.%s failed in the mock itself", message.path, message.member)
            reply = Message.new_error(message, ErrorType.FAILED, f"mock: {error!r}")
        if not message.flags & MessageFlag.NO_REPLY_EXPECTED:
            self.bus.send(reply)

    async def _dispatch(self, message: Message) -> tuple[str, list[Any]]:
        path, member = message.path, message.member
        if (path, message.interface, member) == ("/", OBJECT_MANAGER, "GetManagedObjects"):
            return "a{oa{sa{sv}}}", [
                {
                    path: {name: interface.properties() for name, interface in interfaces.items()}
                    for path, interfaces in self.objects.items()
                }
            ]
        if path not in self.objects:
            raise DBusError(ErrorType.UNKNOWN_OBJECT, f"No object at {path}")
        interfaces = self.objects[path]
        if message.interface == PROPERTIES:
            if PROPERTY_CALLS.get(member) == message.signature:
                return self._property_call(interfaces, member, *message.body)
        elif message.interface in interfaces:
            interface = interfaces[message.interface]
            function = interface.methods.get(member)
            if function is not None and function.dbus_method[1] == message.signature:
                result = await function(interface, message.sender, *message.body)
                return function.dbus_method[2], [] if result is None else [result]
        raise DBusError(
            ErrorType.UNKNOWN_METHOD,
            f'Method "{member}" with signature "{message.signature}" '
            f'on interface "{message.interface}" doesn\'t exist',
        )

    @staticmethod
    def _property_call(
        interfaces: dict[str, Interface],
        member: str,
        interface_name: str,
        name: str = "",
        new: Variant | None = None,
    ) -> tuple[str, list[Any]]:
        """Get, Set and GetAll, with GDBus's answer InvalidArgs for whatever is not there."""
        if interface_name not in interfaces:
            raise DBusError(ErrorType.INVALID_ARGS, f"No such interface '{interface_name}'")
        interface = interfaces[interface_name]
        properties = interface.properties()
        if member == "GetAll":
            return "a{sv}", [properties]
        if name not in properties:
            raise DBusError(ErrorType.INVALID_ARGS, f"No such property '{name}'")
        if member == "Get":
            return "v", [properties[name]]
        if new is None or new.signature != properties[name].signature:
            raise DBusError(ErrorType.INVALID_ARGS, f"Wrong type for property '{name}'")
        interface.set_property(name, new.value)
        return "", []
