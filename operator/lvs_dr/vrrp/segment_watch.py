"""Frames on the segment beside VRRP: announcing held VIPs, and hearing who else has them."""

import logging
import socket
from collections.abc import Iterable
from typing import Final, NamedTuple

from lvs_dr.netlink import arp, ndp
from lvs_dr.netlink.errors import InterfaceUnavailable, NetlinkFailure
from lvs_dr.netlink.ethernet import ETH_P_ARP, ETH_P_IPV6, FrameRefusal, mac_text
from lvs_dr.netlink.packet import PacketSocket
from lvs_dr.vrrp.event_loop import EventLoop

log = logging.getLogger(__name__)

FORGOTTEN: Final = 180.0
"""Seconds after which a duplicate that was not seen again is over: three refreshes, each of which probes."""
_FRAMES_AT_ONCE: Final = 64
_ARP_SENDER: Final = slice(28, 32)
_NDP_TARGET: Final = slice(62, 78)


class Duplicate(NamedTuple):
    """Somebody else answers for a VIP."""

    mac: str
    seen: float


class SegmentWatch:
    """The packet sockets of one interface. `held` says since when a VIP is ours beyond doubt."""

    def __init__(self, loop: EventLoop, interface: str) -> None:
        self.interface = interface
        self.duplicates: dict[str, Duplicate] = {}
        self.announced = 0
        self.own_macs: frozenset[bytes] = frozenset()
        """MACs of the node's other interfaces."""
        self._loop = loop
        self._held: dict[str, float] = {}
        self._packed: dict[bytes, str] = {}
        self._sockets: dict[int, PacketSocket] = {}
        self._failing = False

    def close(self) -> None:
        """Close the sockets."""
        for protocol in tuple(self._sockets):
            self._drop(protocol)

    def hold(self, addresses: Iterable[str], certain: float) -> None:
        """Watch over addresses; whoever claims one after `certain` (a former holder is gone then) is a duplicate."""
        for address in addresses:
            self._held[address] = certain
            self._packed[_pack(address)] = address

    def let_go(self, addresses: Iterable[str]) -> None:
        """End `hold`."""
        for address in addresses:
            self._held.pop(address, None)
            self._packed.pop(_pack(address), None)
            self.duplicates.pop(address, None)

    def announce(self, addresses: Iterable[str], now: float) -> bool:
        """Send announcements, and ask whether anybody else has the addresses; False when the interface is not up."""
        try:
            for address in addresses:
                if address not in self._held:
                    continue
                for frame in self._frames(address, now):
                    self._socket(address).send(frame)
                self.announced += 1
        except NetlinkFailure as error:
            if not self._failing:
                log.warning("VIPs cannot be announced on %s: %s", self.interface, error)
            self._failing = True
            self.close()
            return False
        self._failing = False
        return True

    def expire(self, now: float) -> None:
        """Forget duplicates that were not seen for long."""
        for address, seen in tuple(self.duplicates.items()):
            if now - seen.seen > FORGOTTEN:
                log.info("nobody else answers for %s any more", address)
                del self.duplicates[address]

    def _frames(self, address: str, now: float) -> tuple[bytes, ...]:
        own = self._socket(address).mac
        asked = now >= self._held[address]
        if ":" in address:
            told = (ndp.unsolicited_advertisement(own, address, router=_forwards6(self.interface)),)
            return (*told, ndp.probe(own, address)) if asked else told
        both = (arp.gratuitous_request(own, address), arp.gratuitous_reply(own, address))
        return (*both, arp.probe(own, address)) if asked else both

    def _socket(self, address: str) -> PacketSocket:
        protocol = ETH_P_IPV6 if ":" in address else ETH_P_ARP
        found = self._sockets.get(protocol)
        if found is None:
            found = self._sockets[protocol] = PacketSocket(self.interface, protocol)
            self._loop.read(found.fileno(), lambda now: self._read(protocol, now))
        return found

    def _drop(self, protocol: int) -> None:
        gone = self._sockets.pop(protocol, None)
        if gone is not None:
            self._loop.forget(gone.fileno())
            gone.close()

    def _read(self, protocol: int, now: float) -> None:
        own = self._sockets[protocol]
        try:
            for _ in range(_FRAMES_AT_ONCE):
                frame = own.receive()
                if frame is None:
                    return
                # Most frames are about other addresses: they cost one slice and one look-up.
                place = _ARP_SENDER if protocol == ETH_P_ARP else _NDP_TARGET
                address = self._packed.get(frame[place])
                if address is not None and now >= self._held[address]:
                    self._claimed(address, frame, own.mac, now)
        except (InterfaceUnavailable, NetlinkFailure) as error:
            log.info("%s is not heard any more: %s", self.interface, error)
            self._drop(protocol)

    def _claimed(self, address: str, frame: bytes, own: bytes, now: float) -> None:
        message = ndp.parse(frame) if ":" in address else arp.parse(frame)
        if isinstance(message, FrameRefusal) or not message.claims(address):
            return
        if isinstance(message, arp.ArpMessage):
            sender = message.sender_mac
        elif message.kind == ndp.ADVERTISEMENT:
            sender = message.mac or message.frame_source
        else:
            return
        if sender == own or sender in self.own_macs:
            return
        if address not in self.duplicates:
            log.error("%s answers for %s, which is held here", mac_text(sender), address)
        self.duplicates[address] = Duplicate(mac_text(sender), now)


def _pack(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)


def _forwards6(interface: str) -> bool:
    """Whether the node routes IPv6 on the interface: the announcement must say so."""
    try:
        with open(f"/proc/sys/net/ipv6/conf/{interface}/forwarding", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs memory
            return file.read(1) == "1"
    except OSError:
        return False
