"""Runs inside the lab nodes of section `health`: a real server that fails when it is told to, and who notices.

outages_guest.py serve ADDRESS DIRECTOR PORT ...   on a real server: greets each connection with the node's name, and
                                                   ends, begins again, leaves its network and comes back by datagrams
                                                   to ADDRESS; notes when DIRECTOR, which checks it, came last
outages_guest.py client JSON                       on the client: opens connections to each target without pause, gives
                                                   those orders in the midst of them, prints who was answered until when
"""

import contextlib
import errno
import fcntl
import json
import mmap
import os
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

ORDER_PORT = 9997
REPEAT_SECONDS = 0.5
PATIENCE_SECONDS = 3.0
"""TCP repeats a lost first packet after one second and after three: what waits longer will not be answered."""
DOUBT_SECONDS = 0.5
QUIET_SECONDS = 1.5
"""Without a connection that fails, or is in doubt: nobody sends to the dead real server any more."""
LIMIT_SECONDS = 40.0
PORTS = range(1024, 65536)
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP


class Service:
    """Greets each connection, in a process of its own that can be killed."""

    def __init__(self, director: str, ports: Sequence[int]) -> None:
        self._director = director
        self._ports = ports
        self._checked = mmap.mmap(-1, 8 * len(ports))  # shared with the process that answers
        self._pid = 0
        self.start()

    def start(self) -> None:
        """Begin, and return when it listens."""
        ready, tell = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            self._serve(tell)
        os.close(tell)
        listens = os.read(ready, 1)
        os.close(ready)
        if not listens:
            raise SystemExit("the service did not start")

    def kill(self) -> None:
        """End it as a crash does: open connections are reset, new ones refused."""
        os.kill(self._pid, signal.SIGKILL)
        os.waitpid(self._pid, 0)

    def ages(self) -> dict[int, float]:
        """Return for each port how many seconds ago it was checked last."""
        now = time.monotonic()
        return {port: now - struct.unpack_from("d", self._checked, 8 * at)[0] for at, port in enumerate(self._ports)}

    def _serve(self, tell: int) -> None:
        greeting = socket.gethostname().encode() + b"\n"
        listeners = {}
        poll = select.epoll()
        for at, port in enumerate(self._ports):
            listener = socket.create_server(("0.0.0.0", port), backlog=4096)
            listener.setblocking(False)
            listeners[listener.fileno()] = (at, listener)
            poll.register(listener, select.EPOLLIN)
        os.write(tell, b".")
        while True:
            for number, _ in poll.poll():
                at, listener = listeners[number]
                with contextlib.suppress(OSError):  # nobody waits any more, or the client has gone
                    while True:
                        accepted, (source, _) = listener.accept()
                        if source == self._director:
                            struct.pack_into("d", self._checked, 8 * at, time.monotonic())
                        with contextlib.suppress(OSError), accepted:
                            accepted.send(greeting)


def serve(address: str, director: str, ports: Sequence[int]) -> None:
    """Do what datagrams say, once each, however often they are repeated."""
    service = Service(director, ports)
    acts: dict[str, Callable[[], None]] = {
        "kill": service.kill, "start": service.start, "cut": partial(link, up=False), "join": partial(link, up=True),
    }  # fmt: skip
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, ORDER_PORT))
        print("serving", flush=True)
        done, answer = 0, b""
        while True:
            data, client = listener.recvfrom(256)
            order = json.loads(data)
            if order["number"] != done:
                ages = service.ages()
                acts[order["do"]]()
                done, answer = order["number"], json.dumps({"number": order["number"], "ages": ages}).encode()
            listener.sendto(answer, client)


def link(*, up: bool) -> None:
    """Take this node's interface in the LAN down, or up."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        request = fcntl.ioctl(any_socket, _GET_FLAGS, struct.pack("16sh14x", b"eth0", 0))
        name, flags = struct.unpack("16sh14x", request)
        fcntl.ioctl(any_socket, _SET_FLAGS, struct.pack("16sh14x", name, flags | _UP if up else flags & ~_UP))


class Attempt(NamedTuple):
    """A connection that waits for its greeting."""

    target: str
    opened: socket.socket
    begun: float


class Done(NamedTuple):
    """An order that was obeyed between two moments of the client's clock."""

    earliest: float
    latest: float
    ages: dict[str, float]

    @property
    def moment(self) -> float:
        """When it was obeyed, as well as is known."""
        return (self.earliest + self.latest) / 2


class Client:
    """Opens connections to each target in turn, whatever becomes of those before."""

    def __init__(self, asked: dict[str, Any]) -> None:
        self.targets: dict[str, list[Any]] = asked["targets"]
        self.period: float = asked["period"]
        self.real_server: str = asked["realServer"]
        self.port: int = asked["port"]  # the last one that was used
        self.orders = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.orders.setblocking(False)
        self.orders.connect((asked["order"], ORDER_PORT))
        self.poll = select.epoll()
        self.waiting: dict[int, Attempt] = {}  # the oldest first
        self.failed: dict[str, list[float]] = {name: [] for name in self.targets}  # when they had been begun
        self.opened = dict.fromkeys(self.targets, 0)
        self.seen: dict[str, set[str]] = {name: set() for name in self.targets}
        self.back_from = float("inf")
        self.back: dict[str, float] = {}  # the real server's first answer to one begun from then on

    def open_each(self) -> None:
        """Begin one connection to each target."""
        for name, (address, port) in self.targets.items():
            own = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            # Closed by a reset: no port waits for its end.
            own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.bind(own)
            self.opened[name] += 1
            begun = time.monotonic()
            with contextlib.suppress(BlockingIOError):
                own.connect((address, port))
            self.waiting[own.fileno()] = Attempt(name, own, begun)
            self.poll.register(own, select.EPOLLIN)

    def bind(self, own: socket.socket) -> None:
        """Take the next port: the directors remember for minutes where one that was used before leads to."""
        own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            self.port = self.port + 1 if self.port + 1 in PORTS else PORTS[0]
            try:
                own.bind(("", self.port))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
            else:
                return

    def receive(self, until: float) -> None:
        """Take greetings until a moment; give up what has waited too long."""
        while True:
            for number, _ in self.poll.poll(max(0.0, until - time.monotonic())):
                self.finish(number)
            now = time.monotonic()
            while self.waiting and now - (first := next(iter(self.waiting.values()))).begun > PATIENCE_SECONDS:
                self.end(first)
                self.failed[first.target].append(first.begun)
            if now >= until:
                return

    def finish(self, number: int) -> None:
        """Note how a connection ended."""
        attempt = self.waiting[number]
        now = time.monotonic()
        try:
            name = attempt.opened.recv(64).decode().strip()
        except OSError:
            name = ""
        self.end(attempt)
        if not name:
            self.failed[attempt.target].append(attempt.begun)
            return
        self.seen[attempt.target].add(name)
        if name == self.real_server and attempt.begun > self.back_from:
            self.back.setdefault(attempt.target, now)

    def end(self, attempt: Attempt) -> None:
        """Close a connection."""
        del self.waiting[attempt.opened.fileno()]
        attempt.opened.close()

    def run(self, seconds: float) -> None:
        """Open connections for so long."""
        due = time.monotonic()
        until = due + seconds
        while due < until:
            self.open_each()
            due = max(due + self.period, time.monotonic())
            self.receive(due)

    def run_until(self, what: str, check: Callable[[], bool]) -> None:
        """Open connections until something is so."""
        end = time.monotonic() + LIMIT_SECONDS
        while not check():
            self.run(4 * self.period)
            if time.monotonic() > end:
                raise SystemExit(f"not within {LIMIT_SECONDS} s: {what}; {self.opened}, {self.seen}, {self.back}")

    def obeyed(self, do: str) -> Done:
        """Give an order; go on until the real server has obeyed."""
        number = time.monotonic_ns()
        order = json.dumps({"number": number, "do": do}).encode()
        earliest = sent = time.monotonic()
        self.orders.send(order)
        while True:
            # The answer is looked for more often than connections are opened: it tells when it was.
            if not select.select([self.orders], [], [], self.period / 2)[0]:
                self.run(self.period / 2)
            elif (answer := json.loads(self.orders.recv(512)))["number"] == number:
                return Done(earliest, time.monotonic(), answer["ages"])
            now = time.monotonic()
            if now > earliest + LIMIT_SECONDS:
                raise SystemExit(f"the real server does not obey: {do}")
            if now > sent + REPEAT_SECONDS:
                sent = now
                self.orders.send(order)

    def is_quiet(self, since: float) -> bool:
        """Whether for some time all connections were answered, and none is in doubt."""
        now = time.monotonic()
        if any(now - each.begun > DOUBT_SECONDS for each in self.waiting.values()):
            return False
        return now - max(since, *(begun for each in self.failed.values() for begun in each), since) > QUIET_SECONDS


def client(asked: dict[str, Any]) -> dict[str, Any]:
    """Have the real server fail and come back; for each target what became of connections to it, in seconds."""
    own = Client(asked)
    everyone = set(asked["realServers"])
    own.run_until("each real server answers", lambda: all(everyone <= seen for seen in own.seen.values()))
    own.run_until("all connections are answered", lambda: own.is_quiet(0.0))
    own.run(asked["before"])
    gone = own.obeyed(asked["end"])
    own.run_until("nobody is sent to the dead real server", lambda: own.is_quiet(gone.latest))
    own.run(asked["pause"])
    own.back_from = time.monotonic()
    back = own.obeyed(asked["begin"])
    own.run_until("the real server answers again", lambda: own.back.keys() == own.targets.keys())
    return {
        "errors": [(each.latest - each.earliest) / 2 for each in (gone, back)], "port": own.port,
        "targets": {name: told(own, name, gone, back) for name in own.targets},
    }  # fmt: skip


def told(own: Client, name: str, gone: Done, back: Done) -> dict[str, float]:
    """Return what became of one target's connections."""
    failed = [begun for begun in own.failed[name] if gone.earliest - DOUBT_SECONDS < begun < back.earliest]
    return {
        "last": max(0.0, max(failed, default=0.0) - gone.moment), "failed": len(failed),
        "since check": gone.ages[str(own.targets[name][1])],
        "recovery": own.back[name] - back.moment, "opened": own.opened[name],
    }  # fmt: skip


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "serve":
        serve(rest[0], rest[1], [int(port) for port in rest[2:]])
    else:
        print(json.dumps(client(json.loads(rest[0]))), flush=True)


if __name__ == "__main__":
    main()
