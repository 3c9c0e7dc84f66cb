"""VIPs on the wire: asking whether somebody has one."""

import asyncio
import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Final, Protocol

from lvs_dr.netlink import arp, ndp
from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.netlink.ethernet import ETH_P_ARP, ETH_P_IPV6, FrameRefusal, mac_text
from lvs_dr.netlink.packet import PacketSocket

PROBES: Final = 3
PROBE_SPACING_SECONDS: Final = 0.1
PROBE_WAIT_SECONDS: Final = 0.3
"""After the last probe. RFC 5227 (2.1.1) takes 4 to 7 s in all, made for hosts that join slow or sleeping
networks at random times. A VIP is awaited by clients, and who may hold one is a server on the same segment, which
answers within a millisecond; what is missed here is still found by whoever hears our announcements."""

_FRAMES_AT_ONCE: Final = 32
_PACE_SECONDS: Final = 0.01


class WireError(Exception):
    """Nothing can be sent or heard on the interface: it is down or gone, or the capability is missing."""


class Wire(Protocol):
    """What must be known of the network before a VIP is handed to the speaker."""

    async def probe(self, interface: str, addresses: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Return who else has (or is about to take) which address: their MACs. Raises WireError."""
        ...


class PacketWire:
    """The real network, by packet sockets that live only as long as they are needed."""

    async def probe(self, interface: str, addresses: Collection[str]) -> Mapping[str, frozenset[str]]:
        """Send ARP probes and neighbour solicitations and listen for others. Raises WireError."""
        four, six = _by_family(addresses)
        found: dict[str, set[str]] = {}
        with _failures(interface), contextlib.ExitStack() as stack:
            senders: list[tuple[PacketSocket, Callable[[bytes, str], bytes], list[str]]] = []
            if four:
                socket = stack.enter_context(PacketSocket(interface, ETH_P_ARP))
                stack.enter_context(_listening(socket, lambda frame, mac: _arp_claim(frame, mac, four), found))
                senders.append((socket, arp.probe, four))
            if six:
                socket = stack.enter_context(PacketSocket(interface, ETH_P_IPV6))
                for address in six:
                    socket.join(ndp.multicast_mac(ndp.solicited_node(address)))
                stack.enter_context(_listening(socket, lambda frame, mac: _ndp_claim(frame, mac, six), found))
                senders.append((socket, ndp.probe, six))
            for number in range(PROBES):
                if number:
                    await asyncio.sleep(PROBE_SPACING_SECONDS)
                await _send_all([(socket, make(socket.mac, each)) for socket, make, some in senders for each in some])
            await asyncio.sleep(PROBE_WAIT_SECONDS)
        return {address: frozenset(macs) for address, macs in found.items()}

    async def resolve(self, interface: str, addresses: Collection[str], sources: Collection[str]) -> dict[str, str]:
        """Return the MACs of other machines' addresses, as far as they answer; `sources` are our own addresses.

        Not by probes: a machine that is about to take its IPv6 address would take them for a duplicate.
        Raises WireError.
        """
        four, six = _by_family(addresses)
        source4 = next((each for each in sources if ":" not in each), "")
        source6 = next((each for each in sources if ":" in each), "")
        found: dict[str, set[str]] = {}
        with _failures(interface), contextlib.ExitStack() as stack:
            asked: list[tuple[PacketSocket, bytes]] = []
            if four and source4:
                socket = stack.enter_context(PacketSocket(interface, ETH_P_ARP))
                stack.enter_context(_listening(socket, lambda frame, mac: _arp_claim(frame, mac, four), found))
                asked += [(socket, arp.request(socket.mac, source4, each)) for each in four]
            if six and source6:
                socket = stack.enter_context(PacketSocket(interface, ETH_P_IPV6))
                stack.enter_context(_listening(socket, lambda frame, mac: _ndp_claim(frame, mac, six), found))
                asked += [(socket, ndp.solicitation(socket.mac, source6, each)) for each in six]
            for _ in range(PROBES if asked else 0):
                await _send_all(asked)
                await asyncio.sleep(PROBE_SPACING_SECONDS)
                if found.keys() >= {*addresses}:
                    break
        return {address: min(macs) for address, macs in found.items()}

    async def answers(self, interface: str, source: str, real_server: str, vips: Collection[str]) -> Mapping[str, str]:
        """Return which VIPs a real server answers for when it alone is asked, each with the MAC it tells (IPv4).

        `source`: our own address. Raises WireError.
        """
        mac = (await self.resolve(interface, [real_server], [source])).get(real_server)
        if mac is None:
            return {}
        found: dict[str, set[str]] = {}
        target = bytes.fromhex(mac.replace(":", ""))
        with (
            _failures(interface),
            PacketSocket(interface, ETH_P_ARP) as socket,
            _listening(socket, lambda frame, own: _arp_answer(frame, own, mac, vips), found),
        ):
            await _send_all([(socket, arp.request(socket.mac, source, each, target)) for each in vips])
            await asyncio.sleep(PROBE_WAIT_SECONDS)
        return {vip: min(macs) for vip, macs in found.items()}


@contextlib.contextmanager
def _failures(interface: str) -> Iterator[None]:
    try:
        yield
    except NetlinkFailure as error:
        raise WireError(str(error)) from error
    except OSError as error:
        raise WireError(f"interface {interface}: {error}") from error


@contextlib.contextmanager
def _listening(
    socket: PacketSocket, claim: Callable[[bytes, bytes], tuple[str, str] | None], found: dict[str, set[str]]
) -> Iterator[None]:
    """Note the claims that arrive while the block runs."""
    loop = asyncio.get_running_loop()
    descriptor = socket.fileno()

    def readable() -> None:
        try:
            while (frame := socket.receive()) is not None:
                claimed = claim(frame, socket.mac)
                if claimed is not None:
                    found.setdefault(claimed[0], set()).add(claimed[1])
        except NetlinkFailure:
            loop.remove_reader(descriptor)  # the next send fails as well and tells

    loop.add_reader(descriptor, readable)
    try:
        yield
    finally:
        loop.remove_reader(descriptor)


async def _send_all(frames: Sequence[tuple[PacketSocket, bytes]]) -> None:
    """Send frames, with a pause after each handful: switches and slow links drop bursts."""
    for start in range(0, len(frames), _FRAMES_AT_ONCE):
        if start:
            await asyncio.sleep(_PACE_SECONDS)
        for socket, frame in frames[start : start + _FRAMES_AT_ONCE]:
            socket.send(frame)  # a full queue loses one of several: all are repeated


def _arp_claim(frame: bytes, mac: bytes, addresses: Collection[str]) -> tuple[str, str] | None:
    message = arp.parse(frame)
    if isinstance(message, FrameRefusal) or message.sender_mac == mac:
        return None
    address = message.target_address if message.is_probe else message.sender_address
    return (address, mac_text(message.sender_mac)) if address in addresses else None


def _arp_answer(frame: bytes, own: bytes, asked: str, addresses: Collection[str]) -> tuple[str, str] | None:
    """Return whom the station that was asked answers for; another one's announcements say nothing of it."""
    message = arp.parse(frame)
    if isinstance(message, FrameRefusal) or message.operation != arp.REPLY or message.sender_mac == own:
        return None
    if message.sender_address not in addresses or asked not in (mac_text(message.source), mac_text(message.sender_mac)):
        return None
    return message.sender_address, mac_text(message.sender_mac)


def _ndp_claim(frame: bytes, mac: bytes, addresses: Collection[str]) -> tuple[str, str] | None:
    message = ndp.parse(frame)
    if isinstance(message, FrameRefusal) or mac in (message.mac, message.frame_source):
        return None
    for address in (message.target, message.source):
        if address in addresses and (message.claims(address) or (message.is_probe and message.target == address)):
            return address, mac_text(message.mac or message.frame_source)
    return None


def _by_family(addresses: Collection[str]) -> tuple[list[str], list[str]]:
    return [each for each in addresses if ":" not in each], [each for each in addresses if ":" in each]
