"""The process that holds the air: the gateway's controllers at QEMU's serial ports, and the straps.

Lines of JSON on a unix socket control it: `{"strap": NAME, "do": COMMAND, …}`, answered by `{"ok": …}` or
`{"error": …}`; without a strap, `plug` and `unplug` are a controller's, and `loss` is the air's. It outlives the
machine's power cycles, and the straps keep their state over them.
"""

import argparse
import asyncio
import json
import logging
import time
from typing import Any

from air import Air, PiController
from bumble import hci
from bumble.transport import open_transport
from peripheral import Peripheral

RETRY_S = 0.1


class Socket:
    """One of the gateway's ends: a controller for as long as a QEMU is there and it is plugged in."""

    def __init__(self, air: Air, hci_socket: str, address: str) -> None:
        self.air, self.hci_socket, self.address = air, hci_socket, address
        self.plugged = asyncio.Event()
        self.plugged.set()
        self.transport: Any = None
        self.attached = False

    async def serve(self) -> None:
        while True:
            await self.plugged.wait()
            try:
                self.transport = await open_transport(f"unix:{self.hci_socket}")
            except OSError:
                await asyncio.sleep(RETRY_S)
                continue
            source, sink = self.transport.source, self.transport.sink
            controller = PiController(
                "gateway", host_source=source, host_sink=sink, link=self.air, public_address=self.address
            )
            controller.random_address = hci.Address("00:00:00:00:00:00")
            self.attached = True
            print(f"{time.monotonic():.3f} {self.address}: the controller is attached", flush=True)
            try:
                await source.wait_for_termination()
            except (OSError, asyncio.CancelledError) as error:
                print(f"{time.monotonic():.3f} {self.address}: the transport ended: {error!r}", flush=True)
            self.attached = False
            controller.host = None
            self.air.lose(controller)
            self.air.remove_controller(controller)
            print(f"{time.monotonic():.3f} {self.address}: the controller is gone", flush=True)

    async def unplug(self) -> None:
        """Pulls the controller out: its links are lost."""
        self.plugged.clear()
        if self.transport is not None:
            await self.transport.close()
            self.transport = None

    async def plug(self) -> None:
        self.plugged.set()


async def answer(request: dict[str, Any], straps: dict[str, Peripheral], sockets: list[Socket]) -> Any:
    name, command = request.pop("strap", None), request.pop("do")
    if name is not None:
        return await getattr(straps[name], f"do_{command}")(**request)
    match command:
        case "plug":
            return await sockets[request["controller"]].plug()
        case "unplug":
            return await sockets[request["controller"]].unplug()
        case "state":
            return {"attached": [socket.attached for socket in sockets]}
        case "loss":
            return sockets[0].air.set_loss(request["rate"], request["seed"])
    raise ValueError(f"no command {command}")


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--hci", action="append", required=True, metavar="SOCKET=ADDRESS",
        help="the unix socket of a serial port of QEMU's, and its controller's Bluetooth address",
    )  # fmt: skip
    parser.add_argument("--control", required=True, help="the unix socket to listen on")
    parser.add_argument("--strap", action="append", default=[], metavar="NAME=ADDRESS")
    parser.add_argument("--verbose", action="store_true")
    args = parser.parse_args()
    logging.basicConfig(level=logging.DEBUG if args.verbose else logging.WARNING)

    air = Air()
    straps = {}
    for name, address in (strap.split("=") for strap in args.strap):
        straps[name] = Peripheral(air, name, address)
        await straps[name].switch_on()
    sockets = [Socket(air, *hci.split("=")) for hci in args.hci]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            try:
                reply: dict[str, Any] = {"ok": await answer(json.loads(line), straps, sockets)}
            except Exception as error:  # whatever it is, the scenario is told
                logging.exception("a command failed")
                reply = {"error": repr(error)}
            writer.write(json.dumps(reply).encode() + b"\n")
            await writer.drain()
        writer.close()

    await asyncio.start_unix_server(serve, args.control, limit=1 << 24)
    await asyncio.gather(*(socket.serve() for socket in sockets))


asyncio.run(main())
