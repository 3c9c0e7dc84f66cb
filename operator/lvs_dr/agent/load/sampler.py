"""Reads this node's load: CPU pressure, running tasks, bytes of its interfaces, connections to its listening ports.

Synchronous, for a worker thread. What cannot be read is said in the report, and does not spoil the rest.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Final

from lvs_dr.core.loads import (
    MAXIMUM_INTERFACES,
    MAXIMUM_PORTS,
    InterfaceLoad,
    Part,
    PortLoad,
    ServerLoad,
    Sockets,
    Trouble,
)
from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.netlink.sock_diag import SocketTable, TcpState, address_text

PROC: Final = Path("/proc")
NETWORK: Final = Path("/sys/class/net")
FORGET_SECONDS: Final = 60.0  # without a question for bytes: then they are counted anew

_LISTENING: Final = frozenset({TcpState.ESTABLISHED, TcpState.LISTEN})
_Place = tuple[bytes, int]


class Sampler:
    """Makes reports. Not for two threads at once.

    `proc` and `network` are where the kernel's files are, `open_table` opens the list of sockets.
    """

    def __init__(
        self,
        node: str,
        *,
        proc: Path = PROC,
        network: Path = NETWORK,
        open_table: Callable[[], SocketTable] = SocketTable,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._node = node
        self._proc = proc
        self._network = network
        self._open_table = open_table
        self._clock = clock
        self._connections = Connections()

    def sample(self, interfaces: Iterable[str], sockets: Sockets = Sockets.NONE) -> ServerLoad:
        """Return a report; `interfaces`: those with addresses of the node's own."""
        troubles: list[Trouble] = []
        stall = running = 0
        links: tuple[InterfaceLoad, ...] = ()
        ports: tuple[PortLoad, ...] = ()
        with _told(Part.CPU_PRESSURE, troubles):
            stall = self._stall()
        with _told(Part.RUN_QUEUE, troubles):
            running = self._running()
        with _told(Part.NETWORK, troubles):
            links = tuple(self._interfaces(interfaces))[:MAXIMUM_INTERFACES]
        if sockets is not Sockets.NONE:
            with _told(Part.SOCKETS, troubles):
                ports = self._ports(received=sockets is Sockets.BYTES)
        return ServerLoad(
            node=self._node,
            milliseconds=round(self._clock() * 1000),
            processors=os.cpu_count() or 1,
            cpu_stall_microseconds=stall,
            running=running,
            interfaces=links,
            ports=ports,
            sockets=sockets,
            troubles=tuple(troubles),
        )

    def _stall(self) -> int:
        """Return the counter of the line `some avg10=0.00 … total=123`. Raises OSError, ValueError."""
        for line in (self._proc / "pressure/cpu").read_text("ascii").splitlines():
            if line.startswith("some "):
                return int(line.rpartition("total=")[2])
        raise ValueError("/proc/pressure/cpu has no line that begins with some")

    def _running(self) -> int:
        """Return the tasks that run or wait for a CPU, without the one that reads it. Raises OSError, ValueError."""
        counted = (self._proc / "loadavg").read_text("ascii").split()[3]
        return max(0, int(counted.partition("/")[0]) - 1)

    def _interfaces(self, names: Iterable[str]) -> Iterator[InterfaceLoad]:
        """Return the counters of interfaces, from their lines in /proc/net/dev. Raises OSError, ValueError."""
        wanted = frozenset(names)
        for line in (self._proc / "net/dev").read_text("ascii").splitlines():
            name, colon, counters = line.partition(":")
            name = name.strip()
            if colon and name in wanted:
                numbers = counters.split()
                yield InterfaceLoad(name, int(numbers[0]), int(numbers[8]), self._megabits(name))

    def _megabits(self, name: str) -> int:
        """Return a link's speed; 0 where nobody knows it: virtual ones have none, or say -1."""
        try:
            return max(0, int((self._network / name / "speed").read_text("ascii")))
        except (OSError, ValueError):
            return 0

    def _ports(self, *, received: bool) -> tuple[PortLoad, ...]:
        now = self._clock()
        with self._open_table() as table:
            return self._connections.count(table, now, received=received)


class Connections:
    """Counts connections, and the bytes that came in on them: those of closed ones, too, as far as they were seen."""

    def __init__(self) -> None:
        self._seen: dict[int, int] = {}  # cookie -> bytes so far
        self._received: dict[_Place, int] = {}
        self._asked = float("-inf")

    def count(self, table: SocketTable, now: float, *, received: bool) -> tuple[PortLoad, ...]:
        """Return the connections to each port that somebody listens on; the most used ones where they are many."""
        if received and now - self._asked > FORGET_SECONDS:
            self._seen, self._received = {}, {}
        listening: set[int] = set()
        established: dict[_Place, int] = {}
        bytes_now: dict[_Place, int] = {}
        seen: dict[int, int] = {}
        for address, port, state, cookie, got in table.sockets(_LISTENING, received=received):
            if state == TcpState.LISTEN:
                listening.add(port)
                continue
            place = (address, port)
            established[place] = established.get(place, 0) + 1
            if got >= 0:
                seen[cookie] = got
                bytes_now[place] = bytes_now.get(place, 0) + max(0, got - self._seen.get(cookie, 0))
        if received:
            self._asked, self._seen = now, seen
            for place, more in bytes_now.items():
                self._received[place] = self._received.get(place, 0) + more
            self._received = {place: total for place, total in self._received.items() if place[1] in listening}
        used = {place: count for place, count in established.items() if place[1] in listening}
        places = dict.fromkeys((*used, *self._received)) if received else used
        found = sorted(((used.get(place, 0), place) for place in places), key=itemgetter(1))
        found = sorted(found, key=itemgetter(0), reverse=True)[:MAXIMUM_PORTS]
        return tuple(
            PortLoad(address_text(place[0]), place[1], number, self._received.get(place, 0) if received else 0)
            for number, place in sorted(found, key=itemgetter(1))
        )


@contextmanager
def _told(part: Part, troubles: list[Trouble]) -> Iterator[None]:
    """Note what keeps a part from being read."""
    try:
        yield
    except FileNotFoundError as error:
        text = f"this kernel has no {error.filename}"
        if part is Part.CPU_PRESSURE:
            text += ": it is built without PSI (CONFIG_PSI), or started without psi=1"
        troubles.append(Trouble(part, text[:256]))
    except (OSError, ValueError, IndexError, NetlinkFailure) as error:
        troubles.append(Trouble(part, f"{type(error).__name__}: {error}"[:256]))
