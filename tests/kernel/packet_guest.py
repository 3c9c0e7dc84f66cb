"""Runs inside a lab node, in a network namespace of its own: frames between two ends of a veth pair.

This kernel is the peer: it hears on `peer` what the program sends on `own`. Prints what happened as JSON.
"""

import json
import select
import socket
import subprocess
import sys
import time
from pathlib import Path

from lvs_dr.netlink import arp, ndp
from lvs_dr.netlink.errors import InterfaceUnavailable
from lvs_dr.netlink.ethernet import ETH_P_ARP, ETH_P_IPV6, mac_text
from lvs_dr.netlink.packet import PacketSocket

VIP, VIP6 = "192.168.35.100", "fd35::100"
STALE = "02:00:00:00:00:99"


def ip(*argv: str) -> str:
    """Run the ip command."""
    return subprocess.run(["ip", *argv], capture_output=True, text=True, timeout=20, check=True).stdout


def set_up() -> None:
    """Two ends of a cable in one namespace; `peer` has an address in the VIP's subnets."""
    ip("link", "set", "lo", "up")
    ip("link", "add", "own", "type", "veth", "peer", "name", "peer")
    for end in ("own", "peer"):
        Path(f"/proc/sys/net/ipv6/conf/{end}/accept_dad").write_text("0")
        ip("link", "set", end, "up")
    Path("/proc/sys/net/ipv4/neigh/peer/locktime").write_text("0")
    ip("address", "add", "192.168.35.51/24", "dev", "peer")
    ip("-6", "address", "add", "fd35::51/64", "dev", "peer", "nodad")


def neighbour(address: str) -> str:
    """What MAC the kernel has for an address on `peer`."""
    fields = ip("neigh", "show", address, "dev", "peer").split()
    return fields[fields.index("lladdr") + 1] if "lladdr" in fields else ""


def announced(sender: PacketSocket, address: str, frame: bytes) -> str:
    """Let the kernel have a stale entry, announce, and return whose MAC it has then."""
    ip("neigh", "replace", address, "lladdr", STALE, "dev", "peer", "nud", "stale")
    sender.send(frame)
    deadline = time.monotonic() + 3
    while neighbour(address) == STALE and time.monotonic() < deadline:
        time.sleep(0.02)
    return neighbour(address)


def heard(receiver: PacketSocket, seconds: float = 2.0) -> bytes | None:
    """Wait for one frame as an event loop would."""
    if not select.select([receiver], [], [], seconds)[0]:
        return None
    return receiver.receive()


def answers(receiver: PacketSocket, seconds: float = 2.0) -> list[str]:
    """Collect who claims the VIP among the frames heard, until the first claim or the end of the time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        frame = heard(receiver, deadline - time.monotonic())
        for parse in (arp.parse, ndp.parse):
            message = parse(frame) if frame else None
            if isinstance(message, arp.ArpMessage) and message.claims(VIP):
                return [mac_text(message.sender_mac)]
            if isinstance(message, ndp.NeighbourMessage) and message.claims(VIP6):
                return [mac_text(message.mac or b"")]
    return []


def main() -> dict[str, object]:
    """Play everything once."""
    set_up()
    found: dict[str, object] = {}
    with PacketSocket("own", ETH_P_ARP) as arps, PacketSocket("own", ETH_P_IPV6) as neighbours:
        mac = arps.mac
        with PacketSocket("peer", ETH_P_ARP) as peer:
            found["own"], found["peer"] = mac_text(mac), mac_text(peer.mac)
        found["gratuitous request"] = announced(arps, VIP, arp.gratuitous_request(mac, VIP))
        found["gratuitous reply"] = announced(arps, VIP, arp.gratuitous_reply(mac, VIP))
        found["advertisement"] = announced(neighbours, VIP6, ndp.unsolicited_advertisement(mac, VIP6))
        found["after a probe"] = announced_by_probe(arps)
        ip("neigh", "flush", "dev", "peer")
        while arps.receive() or neighbours.receive():
            pass
        arps.send(arp.probe(mac, VIP))
        found["free"] = answers(arps, 0.5)
        ip("address", "add", f"{VIP}/32", "dev", "peer")
        ip("-6", "address", "add", f"{VIP6}/128", "dev", "peer", "nodad")
        arps.send(arp.probe(mac, VIP))
        found["taken"] = answers(arps)
        neighbours.send(ndp.probe(mac, VIP6))
        found["taken6"] = answers(neighbours)
        while neighbours.receive():
            pass
        found["traffic"] = traffic(10)
        found["noise"] = [frame.hex() for frame in iter(neighbours.receive, None) if not_neighbour(frame)]
        ip("link", "set", "own", "down")
        found["down"] = [failure(arps)]
        ip("link", "delete", "own")
        found["gone"] = failure(arps)
    try:
        PacketSocket("own", ETH_P_ARP)
    except InterfaceUnavailable as error:
        found["missing"] = str(error)
    return found


def announced_by_probe(sender: PacketSocket) -> str:
    """A probe must not change anybody's cache."""
    ip("neigh", "replace", VIP, "lladdr", STALE, "dev", "peer", "nud", "stale")
    sender.send(arp.probe(sender.mac, VIP))
    heard(sender, 0.3)
    return neighbour(VIP)


def traffic(packets: int) -> int:
    """Send a client's packets over the same wire; how many a socket without a filter hears."""
    with (
        socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_IPV6)) as unfiltered,
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client,
    ):
        unfiltered.bind(("own", ETH_P_IPV6))
        unfiltered.settimeout(1)
        for _ in range(packets):
            client.sendto(b"request", ("ff02::1", 9, 0, socket.if_nametoindex("peer")))
        return sum(b"request" in unfiltered.recv(2048) for _ in range(packets))


def not_neighbour(frame: bytes) -> bool:
    """Tell frames that the filter should have kept away."""
    return not isinstance(ndp.parse(frame), ndp.NeighbourMessage)


def failure(sender: PacketSocket) -> str:
    """Try to send and to receive; say what the socket says."""
    try:
        while sender.receive():
            pass
        sender.send(arp.probe(sender.mac, VIP))
    except InterfaceUnavailable as error:
        return str(error)
    return "sent"


if __name__ == "__main__":
    json.dump(main(), sys.stdout)
