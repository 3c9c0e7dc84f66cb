"""Taking a real server out: what is left of it on the directors of a table, and whether it may leave.

A director counts what it passes on, so each connection is known to the one that serves it, and by connection sync to
the others: the largest count is the number. IPVS counts a TCP connection as active until its end was seen, and knows
no end of a UDP one, which counts until it times out (`KernelState.connections`). It does not see what a real server
answers, so where an agent runs there its node's own sockets decide.
"""

from typing import NamedTuple

from lvs_dr.core import views
from lvs_dr.core.directors import directors, follows
from lvs_dr.core.forwarding import carries
from lvs_dr.core.node import MAXIMUM_QUESTIONS, SocketQuestion, table_name
from lvs_dr.core.node_status import SocketReport
from lvs_dr.core.objects import Key, Protocol, RealServer, RealServerState
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import TableRecord, World


class Progress(NamedTuple):
    """What directors tell of one draining real server in one table."""

    connections: int  # the largest count
    most: str  # the director that counts them; "" = none has told
    untold: tuple[str, ...]  # directors that have not told since the drain began
    remembered: int  # the largest count of clients that persistence brings back
    busy: bool  # one at least does not call it idle yet
    own: SocketReport | None = None  # what its node's own sockets say, where they decide

    @property
    def done(self) -> bool:
        """Whether no director has anything left of it; nobody to tell is no answer."""
        return bool(self.most) and not self.untold and (not self.busy or (self.own is not None and self.own.idle))


def progress(world: World, table: TableRecord, real_server: str) -> Progress:
    """Return how far the real server is drained; one that is in service still has all directors untold."""
    connections, most, remembered, busy = 0, "", 0, False
    untold: list[str] = []
    for name in directors(world, table.spec.director_group):
        seen = views.view(world, table, name)
        reports = seen.report.draining if seen.report is not None and seen.current and not seen.silent else ()
        told = next((each for each in reports if each.real_server == real_server), None)
        if told is None:
            untold.append(name)
            continue
        if not most or told.connections > connections:
            connections, most = told.connections, name
        remembered = max(remembered, told.remembered)
        busy = busy or not told.idle
    own = None if untold else own_sockets(world, table, real_server)
    return Progress(connections, most, tuple(untold), remembered, busy, own)


def own_sockets(world: World, table: TableRecord, real_server: str) -> SocketReport | None:
    """Return what the real server's node says of the table as it is now; None where that does not decide."""
    entry = next((each for each in table.spec.destinations if each.real_server == real_server), None)
    if entry is None or not _decides(table, entry) or entry.node in world.silent:
        return None
    record = world.lvs_node(entry.node)
    if record is None or record.status is None or not follows(record):
        return None
    name = table_name(table.key)
    asked = any((each.table, each.generation) == (name, table.generation) for each in record.spec.draining)
    told = (each for each in record.status.sockets if (each.table, each.generation) == (name, table.generation))
    return next(told, None) if asked else None


def questions(world: World, node: str) -> tuple[SocketQuestion, ...]:
    """Return what the agent of a node is to count: for each drain whose directors send nothing new to it any more.

    That they do not has been reported before it is asked, so that no connection can come after an answer.
    """
    draining = {key for key in world.index.real_servers_by_node.get(node, ()) if _drains(world, key)}
    if not draining:
        return ()
    found = []
    for key in sorted(world.index.tables_by_carrier.get(node, ())):
        table = world.tables[key]
        for entry in table.spec.destinations:
            if Key(key.namespace, entry.real_server) not in draining or not _decides(table, entry):
                continue
            if not progress(world, table, entry.real_server).untold:
                ports = tuple(sorted({each.port for each in table.spec.ports}))
                found.append(SocketQuestion(table_name(key), table.generation, table.spec.address, ports))
    return tuple(found[:MAXIMUM_QUESTIONS])


def _drains(world: World, key: Key) -> bool:
    real_server = world.real_servers.get(key)
    return isinstance(real_server, RealServer) and real_server.state is RealServerState.DRAIN


def _decides(table: TableRecord, entry: TableDestination) -> bool:
    """Tell whether the sockets of a real server's node say when it is drained.

    They know the end of a TCP connection that it resets or that was lost, which a director does not see. They know
    nothing of UDP, nor of clients that persistence brings back.
    """
    spec = table.spec
    direct = entry.draining and entry.weight == 0 and bool(entry.node) and carries(entry.forwarding)
    known = bool(spec.ports) and all(each.port and each.protocol is Protocol.TCP for each in spec.ports)
    return direct and known and (spec.persistence is None or entry.forget_clients)
