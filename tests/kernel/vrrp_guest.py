"""Runs inside a lab node: talks to the speaker's control socket, or watches who answers for a VIP. Prints JSON."""

import json
import select
import socket
import sys
import time
from typing import Any

from lvs_dr.netlink import arp
from lvs_dr.netlink.address import add, delete, dump, on_interface
from lvs_dr.netlink.ethernet import ETH_P_ARP, FrameRefusal, mac_text
from lvs_dr.netlink.packet import PacketSocket
from lvs_dr.netlink.rtnetlink import RouteSocket
from lvs_dr.vrrp.packet import GROUP4, Advertisement, ChecksumForm, encode

LONGEST_SILENCE = 30.0
CONTROL = "/run/vrrp-test/speaker.sock"


def connected(deadline: float) -> socket.socket:
    """Connect to the speaker, which may just be starting."""
    while True:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(max(0.1, deadline - time.monotonic()))
        try:
            client.connect(CONTROL)
        except OSError:
            client.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return client


def ask(request: dict[str, Any]) -> Any:
    """Send one request and return the answer."""
    with connected(time.monotonic() + 10) as client:
        client.sendall(json.dumps(request).encode() + b"\n")
        return json.loads(client.makefile().readline())


def awaited(wanted: list[str], seconds: float) -> Any:
    """Read states until the instances are in the wanted ones, in their order; the last state either way."""
    deadline = time.monotonic() + seconds
    with connected(deadline) as client:
        client.sendall(b'{"kind": "state"}\n')
        lines = client.makefile()
        state: Any = {}
        while time.monotonic() < deadline:
            client.settimeout(max(0.05, deadline - time.monotonic()))
            try:
                state = json.loads(lines.readline())
            except TimeoutError:
                break
            if [each["state"] for each in state["instances"]] == wanted:
                break
        return state


def watched(interface: str, own: str, vip: str, seconds: float) -> list[tuple[float, str]]:
    """Ask for a VIP's MAC every 20 ms, so long after the first answer; who answered, and when (the node's clock)."""
    found: list[tuple[float, str]] = []
    with PacketSocket(interface, ETH_P_ARP) as wire:
        question = arp.request(wire.mac, own, vip)
        end = time.time() + LONGEST_SILENCE
        again = 0.0
        while (now := time.time()) < end:
            if now >= again:
                wire.send(question)
                again = now + 0.02
            select.select([wire], [], [], max(0.0, again - now))
            while (frame := wire.receive()) is not None:
                message = arp.parse(frame)
                if not isinstance(message, FrameRefusal) and message.operation == arp.REPLY and message.claims(vip):
                    if not found:
                        print("watching", flush=True)  # noqa: T201
                        end = time.time() + seconds
                    found.append((time.time(), mac_text(message.sender_mac)))
    return found


def addresses(interface: str, steps: list[list[Any]]) -> list[Any]:
    """Change addresses of an interface in batches, and tell what the kernel and our decoder say."""
    index = socket.if_nametoindex(interface)
    own = RouteSocket()
    told: list[Any] = []
    for name, *arguments in steps:
        if name == "read":
            told.append([list(each) for each in on_interface(own.dump(dump()), index)])
        else:
            make = (
                [add(index, *each) for each in arguments[0]]
                if name == "add"
                else [delete(index, *each) for each in arguments[0]]
            )
            told.append({str(at): error.code for at, error in own.transact(make).items()})
    own.close()
    return told


def injected(source: str, addresses: list[str], vrid: int, ttl: int, version: int) -> bool:
    """Send one advert of priority 254 to the group, as a stranger would."""
    message = bytearray(encode(Advertisement(vrid, 254, 10, tuple(addresses)), source, GROUP4, ChecksumForm.PLAIN))
    if version != 3:
        message[0] = version << 4 | 1
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, 112) as own:
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, ttl)
        own.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(source))
        own.sendto(message, (GROUP4, 0))
    return True


def main() -> None:
    """Do what the arguments say."""
    name, *arguments = json.loads(sys.argv[1]) if len(sys.argv) > 1 else json.load(sys.stdin)
    play: dict[str, Any] = {"ask": ask, "await": awaited, "watch": watched, "inject": injected, "addresses": addresses}
    print(json.dumps(play[name](*arguments)))  # noqa: T201


main()
