"""The air between the gateway's controller and the straps, on Bumble's LocalLink and Controller.

Stock Bumble 0.0.236 needs five changes to satisfy a Linux host and to be unkind to it:
- data on a link carries the link's own addresses (BlueZ connects with its public one);
- a cancelled connection attempt is reported as such, or the kernel waits for it for ever;
- the controller claims to be a Bluetooth 4.2 one without extended advertising, as a Raspberry Pi's is, so that no
  command goes unanswered (the kernel waits 2 s for each);
- a reset ends the links, as unplugging a controller does;
- a strap can be out of range, or hung: linked, and answering nothing.

And it can lose packets. A lost advertisement is not heard. A connection request that is lost, or that nobody listens
for, fails as in the specification (Vol 6, Part B, 4.5): the central takes the link as made, and as not established when
six intervals passed unanswered. On a link nothing is lost, as link layers repeat: a packet arrives as many connection
intervals later as it was lost, and those after it wait. Without loss, packets on a link take no time.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Callable
from typing import Any

from bumble import hci, ll
from bumble.controller import Connection, Controller
from bumble.core import PhysicalTransport
from bumble.link import LocalLink

SUPERVISION_TIMEOUT = hci.HCI_ErrorCode.CONNECTION_TIMEOUT_ERROR
NOT_ESTABLISHED = hci.HCI_ErrorCode.CONNECTION_FAILED_TO_BE_ESTABLISHED_ERROR
# What Linux asks for at most, and Bumble does not keep.
INTERVAL_S = 0.05
INTERVALS_TO_ESTABLISH = 6


class Air(LocalLink):
    """Who hears whom."""

    def __init__(self) -> None:
        super().__init__()
        self.out_of_range: set[Controller] = set()
        self.mute: set[Controller] = set()
        self.loss, self.random = 0.0, random.Random()
        # Connection requests by the address that they went to, lost ones too.
        self.requests: Counter[hci.Address] = Counter()
        # What a link layer has yet to repeat, by receiver and sender.
        self.waiting: dict[tuple[Controller, hci.Address], deque[Callable[[], None]]] = {}

    def set_loss(self, rate: float, seed: int) -> None:
        """From now on this part of all packets is lost. What else is on the air decides which ones."""
        self.loss, self.random = rate, random.Random(seed)

    def _is_lost(self) -> bool:
        return self.random.random() < self.loss

    def send_acl_data(self, sender: Controller, address: hci.Address, transport: Any, data: bytes) -> None:
        link, receiver = sender.le_connections.get(address), self.find_le_controller(address)
        if link is None or receiver is None or transport != PhysicalTransport.LE:
            return
        if self.out_of_range & {sender, receiver} or sender in self.mute:
            return
        own = link.self_address
        self._deliver(receiver, own, lambda: receiver.on_link_acl_data(own, transport, data))

    def send_advertising_pdu(self, sender: Controller, packet: Any) -> None:
        if sender in self.out_of_range:
            return
        loop = asyncio.get_running_loop()
        for receiver in self.controllers - self.out_of_range - {sender}:
            if not self._is_lost():
                loop.call_soon(receiver.on_ll_advertising_pdu, packet)
        if isinstance(packet, ll.ConnectInd):
            self.requests[packet.advertiser_address] += 1
            loop.call_soon(self._establish, sender, packet)

    def _establish(self, central: Controller, request: ll.ConnectInd) -> None:
        """Ends the central's side of a link that has no other."""
        peripheral = self.find_le_controller(request.advertiser_address)
        link = central.le_connections.get(request.advertiser_address)
        if link is None or peripheral and request.initiator_address in peripheral.le_connections:
            return
        loop = asyncio.get_running_loop()
        loop.call_later(INTERVALS_TO_ESTABLISH * INTERVAL_S, central.on_le_disconnected, link, NOT_ESTABLISHED)

    def send_ll_control_pdu(self, sender_address: hci.Address, receiver_address: hci.Address, packet: Any) -> None:
        sender, receiver = self.find_le_controller(sender_address), self.find_le_controller(receiver_address)
        if sender is None or receiver is None or self.out_of_range & {sender, receiver}:
            return
        self._deliver(receiver, sender_address, lambda: receiver.on_ll_control_pdu(sender_address, packet))

    def _deliver(self, receiver: Controller, sender: hci.Address, hand_over: Callable[[], None]) -> None:
        """What goes over a link: in order, and never over the next link."""
        link = receiver.le_connections.get(sender)
        waiting = self.waiting.setdefault((receiver, sender), deque())
        waiting.append(lambda: hand_over() if receiver.le_connections.get(sender) is link else None)
        if len(waiting) == 1:
            self._send_first(waiting)

    def _send_first(self, waiting: deque[Callable[[], None]]) -> None:
        loop = asyncio.get_running_loop()
        if self._is_lost():
            loop.call_later(INTERVAL_S, self._send_first, waiting)
        else:
            loop.call_soon(self._arrive, waiting)

    def _arrive(self, waiting: deque[Callable[[], None]]) -> None:
        hand_over = waiting.popleft()
        if waiting:
            self._send_first(waiting)
        hand_over()

    def lose(self, controller: Controller) -> None:
        """Ends the controller's links on both sides: nothing was heard for the supervision timeout."""
        for link in list(controller.le_connections.values()):
            peer = self.find_le_controller(link.peer_address)
            mirror = peer.le_connections.get(link.self_address) if peer else None
            if peer and mirror:
                peer.on_le_disconnected(mirror, SUPERVISION_TIMEOUT)
            controller.on_le_disconnected(link, SUPERVISION_TIMEOUT)


class PiController(Controller):
    """A Bluetooth 4.2 controller, as in a Raspberry Pi 3 or Zero W."""

    hci_version = lmp_version = hci.HCI_VERSION_BLUETOOTH_CORE_4_2
    le_features = (
        hci.LeFeatureMask.LE_ENCRYPTION
        | hci.LeFeatureMask.CONNECTION_PARAMETERS_REQUEST_PROCEDURE
        | hci.LeFeatureMask.EXTENDED_REJECT_INDICATION
        | hci.LeFeatureMask.PERIPHERAL_INITIATED_FEATURE_EXCHANGE
    )
    le_acl_data_packet_length = 251
    link: Air

    def on_le_disconnected(self, connection: Connection, reason: int) -> None:
        # Both ends may hang up at once.
        if self.le_connections.get(connection.peer_address) is connection:
            super().on_le_disconnected(connection, reason)

    def on_hci_reset_command(self, command: Any) -> Any:
        for link in list(self.le_connections.values()):
            peer = self.link.find_le_controller(link.peer_address)
            mirror = peer.le_connections.get(link.self_address) if peer else None
            if peer and mirror:
                peer.on_le_disconnected(mirror, SUPERVISION_TIMEOUT)
        # The host has forgotten them already.
        self.le_connections.clear()
        self.pending_le_connection = None
        self.le_scan_enable = False
        self.random_address = hci.Address("00:00:00:00:00:00")
        return super().on_hci_reset_command(command)

    def on_hci_le_create_connection_cancel_command(self, _command: Any) -> Any:
        pending, self.pending_le_connection = self.pending_le_connection, None
        if pending is None:
            return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.COMMAND_DISALLOWED_ERROR)
        cancelled = hci.HCI_LE_Connection_Complete_Event(
            status=hci.HCI_ErrorCode.UNKNOWN_CONNECTION_IDENTIFIER_ERROR,
            connection_handle=0,
            role=0,
            peer_address_type=pending.peer_address.address_type,
            peer_address=pending.peer_address,
            connection_interval=0,
            peripheral_latency=0,
            supervision_timeout=0,
            central_clock_accuracy=0,
        )
        # After the command's own answer, which is sent when this returns.
        asyncio.get_running_loop().call_soon(self.send_hci_packet, cancelled)
        return hci.HCI_StatusReturnParameters(hci.HCI_ErrorCode.SUCCESS)
