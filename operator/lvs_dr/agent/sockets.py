"""How many connections this node, as a real server, still has to VIPs that it is being taken out of.

A director does not see what a real server answers, so a connection that was reset lives on in its table for minutes.
The node's own sockets know; but only where a process of this network namespace serves: packets that are passed on into
a pod have no socket here. So where nothing listens nothing is told, and the directors' counts decide.

Directors go on checking a real server that drains, through the VIP: such connections are no client's. No director sends
clients here any more when this is asked, so what begins later is a check.
"""

import logging
import socket
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from lvs_dr.core.leaving import SETTLE_SECONDS
from lvs_dr.core.node import SocketQuestion
from lvs_dr.core.node_status import SocketReport
from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.netlink.sock_diag import OPEN, SocketTable, TcpSocket, TcpState

log = logging.getLogger(__name__)

_COUNTED: Final = OPEN | {TcpState.SYN_RECV, TcpState.FIN_WAIT2}
_ASKED: Final = _COUNTED | {TcpState.LISTEN}
_ANY: Final = bytes(16)
_LATECOMERS_SECONDS: Final = 8.0  # for which a client's first packet may be on its way: it is repeated after 1, 3, 7 s
_LEAST_NEWS: Final = 20  # a larger count is told again once it has changed by this part


class SocketCounts:
    """Remembers for each question since when there has been no connection, and what was told last."""

    def __init__(self, open_table: Callable[[], SocketTable] = SocketTable) -> None:
        self._open = open_table
        self._since: dict[SocketQuestion, float] = {}  # it was first asked
        self._clients: dict[SocketQuestion, set[int]] = {}  # their connections, by cookie
        self._exact: set[SocketQuestion] = set()  # told once without checks among them
        self._empty: dict[SocketQuestion, float] = {}
        self._told: Mapping[SocketQuestion, SocketReport] = {}
        self._failing = False

    @property
    def waiting(self) -> bool:
        """Whether a count is waited for: nothing tells when a connection ends."""
        return any(not each.idle for each in self._told.values())

    def follow(self, asked: tuple[SocketQuestion, ...], now: float) -> tuple[SocketReport, ...]:
        """Return the answers, sorted as asked; none where the sockets do not tell. `now`: monotonic seconds.

        Reads the kernel: for a worker thread.
        """
        found = self._open_connections(asked) if asked else {}
        self._since = {each: self._since.get(each, now) for each in found}
        late = {each for each in found if now - self._since[each] >= _LATECOMERS_SECONDS}
        self._clients = {
            each: cookies & self._clients[each] if each in late else cookies for each, cookies in found.items()
        }
        empty: dict[SocketQuestion, float] = {}
        told: dict[SocketQuestion, SocketReport] = {}
        for each, clients in self._clients.items():
            count = len(clients)
            if not count:
                empty[each] = self._empty.get(each, now)
            # Once nobody new can come, none is none.
            idle = each in empty and (each in late or now - empty[each] >= SETTLE_SECONDS)
            rounded = count if each in late - self._exact else self._rounded(each, count)
            told[each] = SocketReport(each.table, each.generation, rounded, idle)
        self._empty, self._told, self._exact = empty, told, late
        return tuple(told.values())

    def _open_connections(self, asked: Iterable[SocketQuestion]) -> Mapping[SocketQuestion, set[int]]:
        """Return the connections of those questions that the sockets answer, by cookie."""
        places: dict[tuple[bytes, int], list[SocketQuestion]] = {}
        for each in asked:
            for port in each.ports:
                places.setdefault((_packed(each.address), port), []).append(each)
        found: dict[SocketQuestion, set[int]] = {each: set() for each in asked}
        listened: set[tuple[bytes, int]] = set()
        try:
            with self._open() as table:
                for one in table.sockets(_ASKED):
                    if one.state == TcpState.LISTEN:
                        listened.update(place for place in places if _serves(one, place))
                        continue
                    for question in places.get((one.address, one.port), ()):
                        found[question].add(one.cookie)
        except (NetlinkFailure, OSError) as error:
            if not self._failing:
                log.warning("this node's sockets cannot be read, the directors' counts decide: %s", error)
            self._failing = True
            return {}
        self._failing = False
        unknown = {question for place, questions in places.items() if place not in listened for question in questions}
        return {question: cookies for question, cookies in found.items() if question not in unknown}

    def _rounded(self, asked: SocketQuestion, count: int) -> int:
        """Return the number told before, until the new one is far from it: each report is a write."""
        before = self._told.get(asked)
        if before is None or not count or abs(count - before.connections) > before.connections // _LEAST_NEWS:
            return count
        return before.connections


def _serves(listener: TcpSocket, place: tuple[bytes, int]) -> bool:
    """Tell whether a listener serves an address; one on :: serves IPv4 too, unless it says otherwise."""
    address, port = place
    return listener.port == port and listener.address in (address, bytes(len(address)), _ANY)


def _packed(address: str) -> bytes:
    return socket.inet_pton(socket.AF_INET6 if ":" in address else socket.AF_INET, address)
