"""Runs inside the lab nodes of section `failover`.

failover_guest.py director          on a director: services and sync daemons as the JSON on stdin says
failover_guest.py fuse ADDRESS      on a director: ends processes, and takes eth0 down, when a datagram says so
failover_guest.py client JSON       on the client: opens connections without pause, sends that datagram, and prints
                                    for how long nobody answered
failover_guest.py serve PORT ...    on a real server: greets each connection and closes it
failover_guest.py adverts ADDRESS   on a Backup: prints VRID and time of arrival of each advert
"""

import contextlib
import fcntl
import itertools
import json
import os
import select
import socket
import struct
import sys
import time
from typing import Any, NamedTuple

FUSE_PORT = 9998
PATIENCE_SECONDS = 3.0
SLOW_SECONDS = 0.9
"""A connection that took this long lost its first packet: TCP repeats it after a second."""
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP
_TIMESTAMPNS = 35  # SO_TIMESTAMPNS, which the socket module does not name
_VRRP, _VRRP_GROUP = 112, "224.0.0.18"


def director(asked: dict[str, Any]) -> None:
    """Set sysctls, services and daemons through the agent's kernel door."""
    from lvs_dr.agent.kernel.node import NodeKernel  # noqa: PLC0415 - only here, the client starts faster without
    from lvs_dr.core import kernel as core  # noqa: PLC0415
    from lvs_dr.core.scope import IPVS  # noqa: PLC0415
    from lvs_dr.core.settings import sysctl_key  # noqa: PLC0415
    from lvs_dr.core.sync import DAEMONS  # noqa: PLC0415

    ops: list[core.Op] = [
        core.SysctlOp(core.Verb.SET, sysctl_key(name), value) for name, value in asked["sysctls"].items()
    ]
    for address, port, scheduler in asked["services"]:
        service = core.ServiceKey(address, port, socket.IPPROTO_TCP, 0, socket.AF_INET)
        ops.append(core.ServiceOp(core.Verb.ADD, service, core.ServiceConfig(scheduler)))
        for server in asked["servers"]:
            key = core.DestinationKey(service, server, port)
            ops.append(core.DestinationOp(core.Verb.ADD, key, core.DestinationConfig(1)))
    for daemon in DAEMONS:
        config = core.DaemonConfig(*asked["daemons"][daemon.state])
        ops.append(core.DaemonOp(core.Verb.ADD, daemon, config))
    node = NodeKernel()
    node.read(frozenset(), IPVS)  # loads the module
    failures = node.apply(ops)
    node.close()
    if failures:
        raise SystemExit("; ".join(failure.message for failure in failures))


def fuse(address: str) -> None:
    """Do what datagrams say, at once and without starting another program."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, FUSE_PORT))
        print("armed", flush=True)
        while True:
            data, client = listener.recvfrom(256)
            order = json.loads(data)
            listener.sendto(b"now", client)  # a busy machine may get here late
            for pid in order["pids"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, order["signal"])
            if order["cut"]:
                request = fcntl.ioctl(listener, _GET_FLAGS, struct.pack("16sh14x", b"eth0", 0))
                name, flags = struct.unpack("16sh14x", request)
                fcntl.ioctl(listener, _SET_FLAGS, struct.pack("16sh14x", name, flags & ~_UP))


class Attempt(NamedTuple):
    """A connection that waits for its greeting."""

    target: str
    opened: socket.socket
    begun: float


class Client:
    """Opens connections to each target in turn, whatever becomes of those before, and notes when greetings come."""

    def __init__(self, targets: dict[str, list[Any]], director: str, adverts: socket.socket) -> None:
        self.targets = targets
        self.poll = select.epoll()
        self.director = director
        self.adverts = adverts
        self.poll.register(adverts, select.EPOLLIN)
        self.orders = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.poll.register(self.orders, select.EPOLLIN)
        self.obeyed = 0.0  # when the director said that it does what it was ordered to
        self.advertised: dict[int, float] = {}  # when the director last spoke, by VRID
        self.waiting: dict[int, Attempt] = {}  # the oldest first
        self.greeted: dict[str, list[float]] = {name: [] for name in targets}
        self.back: dict[str, float] = {}  # when the last one that was greeted had been begun
        self.failed = dict.fromkeys(targets, 0)
        self.slow = dict.fromkeys(targets, 0)
        self.opened = dict.fromkeys(targets, 0)

    def open_each(self) -> None:
        """Begin one connection to each target."""
        for name, (address, port, _) in self.targets.items():
            own = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            # Closed by a reset: no port waits for its end, and the directors forget the connection.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.opened[name] += 1
            with contextlib.suppress(BlockingIOError):
                own.connect((address, port))
            self.waiting[own.fileno()] = Attempt(name, own, time.monotonic())
            self.poll.register(own, select.EPOLLIN)

    def receive(self, until: float) -> None:
        """Take greetings until a moment; give up what has waited too long."""
        while True:
            for number, _ in self.poll.poll(max(0.0, until - time.monotonic())):
                if number == self.adverts.fileno():
                    self.hear()
                elif number == self.orders.fileno():
                    self.orders.recv(8)
                    self.obeyed = time.monotonic()
                else:
                    self.finish(number)
            now = time.monotonic()
            while self.waiting and now - (first := next(iter(self.waiting.values()))).begun > PATIENCE_SECONDS:
                self.end(first)
                self.failed[first.target] += 1
            if now >= until:
                return

    def hear(self) -> None:
        """Note when the director speaks."""
        data, (source, _) = self.adverts.recvfrom(2048)
        if source == self.director:
            self.advertised[vrid_of(data)] = time.monotonic()

    def finish(self, number: int) -> None:
        """Note how a connection ended."""
        attempt = self.waiting[number]
        now = time.monotonic()
        try:
            good = attempt.opened.recv(8) != b""
        except OSError:
            good = False
        self.end(attempt)
        if good:
            self.greeted[attempt.target].append(now)
            self.back[attempt.target] = max(attempt.begun, self.back.get(attempt.target, 0.0))
            self.slow[attempt.target] += now - attempt.begun > SLOW_SECONDS
        else:
            self.failed[attempt.target] += 1

    def end(self, attempt: Attempt) -> None:
        """Close a connection."""
        del self.waiting[attempt.opened.fileno()]
        attempt.opened.close()

    def run(self, period: float, until: float) -> None:
        """Open connections until a moment."""
        due = time.monotonic()
        while due < until:
            self.open_each()
            due = max(due + period, time.monotonic())
            self.receive(due)


def client(asked: dict[str, Any]) -> dict[str, Any]:
    """Open connections, give the order in the midst of them, and go on until all targets answer again."""
    with hearing(asked["address"]) as adverts:
        return observed(Client(asked["targets"], asked["fuse"], adverts), asked)


def observed(own: Client, asked: dict[str, Any]) -> dict[str, Any]:
    """Do what client() says with sockets that are open."""
    # An empty order first, so that the director knows where answers go: the one it gives before its link is down is not
    # to wait for ARP.
    obeyed(own, asked, {"pids": [], "signal": 0, "cut": False})
    begun = time.monotonic()
    own.run(asked["period"], begun + asked["before"])
    ordered = obeyed(own, asked, asked["order"])
    least, most = ordered + asked["after"], ordered + asked["limit"]
    while (now := time.monotonic()) < most and (
        now < least or not all(own.back.get(name, 0.0) > least for name in own.targets)
    ):
        own.run(asked["period"], min(most, now + 0.1))
    greeted = {name: list(times) for name, times in own.greeted.items()}
    while asked["patient"] and own.waiting:
        own.receive(time.monotonic() + 0.1)
    return {name: told(own, name, greeted[name], ordered) for name in own.targets}


def obeyed(own: Client, asked: dict[str, Any], order: dict[str, Any]) -> float:
    """Give an order, and go on until the director says that it does so; when that was."""
    own.obeyed = 0.0
    own.orders.sendto(json.dumps(order).encode(), (asked["fuse"], FUSE_PORT))
    given = time.monotonic()
    while not own.obeyed:
        own.run(asked["period"], time.monotonic() + 2 * asked["period"])
        if time.monotonic() > given + asked["limit"]:
            raise SystemExit("the director does not obey")
    return own.obeyed


def told(own: Client, name: str, times: list[float], ordered: float) -> dict[str, Any]:
    """Return what became of a target: longest times without a greeting, in seconds, and counts."""
    pairs = list(itertools.pairwise(times))
    gap, end = max(((later - sooner, later) for sooner, later in pairs if later > ordered), default=(0.0, 0.0))
    return {
        "gap": gap, "since advert": end - own.advertised.get(own.targets[name][2], 0.0),
        "advertised": own.targets[name][2] in own.advertised,
        "quiet": max((later - sooner for sooner, later in pairs if later <= ordered), default=0.0),
        "back": own.back.get(name, 0.0) > ordered,
        "opened": own.opened[name], "failed": own.failed[name], "slow": own.slow[name],
    }  # fmt: skip


def serve(ports: list[int]) -> None:
    """Greet each connection and close it."""
    listeners = {}
    poll = select.epoll()
    for port in ports:
        listener = socket.create_server(("0.0.0.0", port), backlog=4096)
        listener.setblocking(False)
        listeners[listener.fileno()] = listener
        poll.register(listener, select.EPOLLIN)
    print("serving", flush=True)
    while True:
        for number, _ in poll.poll():
            with contextlib.suppress(OSError):  # nobody waits any more, or the client has gone
                while True:
                    accepted, _ = listeners[number].accept()
                    with contextlib.suppress(OSError), accepted:
                        accepted.send(b"!")


def adverts(address: str) -> None:
    """Print each advert's VRID and the kernel's time of its arrival, in seconds."""
    with hearing(address) as own:
        own.setsockopt(socket.SOL_SOCKET, _TIMESTAMPNS, 1)
        print("listening", flush=True)
        while True:
            data, ancillary, _, _ = own.recvmsg(2048, 64)
            seconds, nanoseconds = struct.unpack("qq", ancillary[0][2][:16])
            print(vrid_of(data), f"{seconds + nanoseconds / 1e9:.6f}", flush=True)


def hearing(address: str) -> socket.socket:
    """Return a socket that hears adverts on the interface of this address."""
    own = socket.socket(socket.AF_INET, socket.SOCK_RAW, _VRRP)
    member = socket.inet_aton(_VRRP_GROUP) + socket.inet_aton(address)
    own.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
    return own


def vrid_of(packet: bytes) -> int:
    """Return the VRID of an advert, which begins with its IP header."""
    return packet[(packet[0] & 15) * 4 + 1]


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "director":
        director(json.load(sys.stdin))
    elif what == "fuse":
        fuse(rest[0])
    elif what == "serve":
        serve([int(port) for port in rest])
    elif what == "adverts":
        adverts(rest[0])
    else:
        print(json.dumps(client(json.loads(rest[0]))), flush=True)


if __name__ == "__main__":
    main()
