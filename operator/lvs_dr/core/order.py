"""The order between nodes: who has to have reported what before the next step is taken.

    a destination enters a table    once its node has reported the VIP on lo, and the directors' LVSNodes name the table
    by tunnel, or a tunnel instead  once its node has reported the tunnel's end as well
    a VIP leaves a backend's lo     once no director can still send to it there, and likewise a tunnel's end
    a VIP goes to a director        once nobody else can still announce it (`core.announcing`)

Agents act on what they read some time ago and tell some time later, so an old report proves nothing. What does:
a report made from the LVSNode's present generation (`follows`). Whatever could have been done in between and left
no trace in a report is kept in LVSNode.spec (`director.tables`, `releasing`). A Node that is gone counts no more;
one that exists but does not report is waited for, without limit.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping

from lvs_dr.core.decisions import Verdict
from lvs_dr.core.directors import directors, follows
from lvs_dr.core.forwarding import carries, exclude, tunnel_end
from lvs_dr.core.node import BackendTunnel, table_key, table_name
from lvs_dr.core.node_status import TableReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import NodeRecord, TableRecord, World

_CLEAR = Verdict(True, Reason.ACCEPTED)


def may_enter(world: World, address: str, destination: TableDestination) -> Verdict:
    """Tell whether the destination's node has what its method needs, so that it may enter; if not, what it waits for.

    That is the VIP on lo, and the end of the tunnel; for masquerading nothing.
    """
    node = destination.node
    if not carries(destination.forwarding):
        return _CLEAR
    record = world.lvs_node(node)
    if record is None or address not in record.spec.backend_addresses:
        return Verdict(False, Reason.WAITING_FOR_BACKEND, f"node {node} is about to be told to carry {address} on lo")
    if record.status is None or not follows(record) or address not in record.status.loopback_addresses:
        return Verdict(False, Reason.WAITING_FOR_BACKEND, _not_on_lo(record, address))
    end = tunnel_end(destination)
    return _CLEAR if end is None else _tunnel_is_open(record, end)


def _tunnel_is_open(record: NodeRecord, end: BackendTunnel) -> Verdict:
    what = f"{end.tunnel.type} to {end.address}"
    if end not in record.spec.backend_tunnels:
        text = f"node {record.name} is about to be told to open its end of {what}"
        if any(exclude(end, each) for each in record.spec.backend_tunnels):
            text = (
                f"node {record.name} has {what} with another checksum, and cannot have both: give all VirtualServices "
                "the same tunnel.checksum"
            )
        return Verdict(False, Reason.WAITING_FOR_TUNNEL, text)
    if record.status is None or end not in record.status.tunnels:
        text = f"waiting for the lvs-agent on node {record.name} to report its end of {what}"
        for problem in record.status.problems if record.status is not None else ():
            if problem.reason == Reason.TUNNEL_UNAVAILABLE:
                text = f"{text}; it says {problem.reason}: {problem.message}"
        return Verdict(False, Reason.WAITING_FOR_TUNNEL, text)
    return _CLEAR


def _not_on_lo(record: NodeRecord, address: str) -> str:
    text = f"waiting for the lvs-agent on node {record.name} to report {address} on lo"
    if record.spec.paused:
        return f"{text}; the node is paused: remove its annotation lvs-operator.io/paused"
    for problem in record.status.problems if record.status is not None else ():
        if problem.address == address:
            return f"{text}; it says {problem.reason}: {problem.message}"
    return text


def unlisted(world: World, table: TableRecord) -> Verdict:
    """Tell whether the LVSNode of every director names the table: before that no node's destination enters it.

    Named first, its removal changes the LVSNode's generation, so that a director that has programmed the table
    but never told so is noticed (`Release`).
    """
    name, group = table_name(table.key), table.spec.director_group
    for node in directors(world, group):
        record = world.lvs_node(node)
        if record is None or not record.spec.decided:
            continue
        role = record.spec.director
        if role is None or role.group != group or not _in_sorted(name, role.tables):
            return Verdict(False, Reason.WAITING_FOR_DIRECTOR, f"director {node} is about to be told of {table.key}")
    return _CLEAR


def _in_sorted(name: str, names: tuple[str, ...]) -> bool:
    at = bisect_left(names, name)
    return at < len(names) and names[at] == name


class Release:
    """Answers for one world whether a VIP or a tunnel's end may leave a backend. Looks at each director once."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._behind: Verdict | None = None
        self._reports: dict[str, Mapping[str, TableReport]] = {}

    def may_drop(self, node: str, address: str) -> Verdict:
        """Tell whether `address` may leave lo of `node`; if not, who is in the way."""
        for table in self._tables(address):
            if any(each.node == node and carries(each.forwarding) for each in _known(table)):
                return Verdict(False, Reason.IN_SERVICE, f"{table.key} sends to it")
        return self._reported(address)

    def may_close(self, node: str, end: BackendTunnel, addresses: Iterable[str]) -> Verdict:
        """Tell whether the end of a tunnel may leave `node`, which has carried the VIPs `addresses` till now.

        Who sends through it sends to one of them: a VIP that left before has left with all who could.
        """
        verdict = _CLEAR
        for address in addresses:
            for table in self._tables(address):
                if any(each.node == node and tunnel_end(each) == end for each in _known(table)):
                    return Verdict(False, Reason.IN_SERVICE, f"{table.key} sends through it")
            verdict = self._reported(address) if verdict.ok else verdict
        return verdict

    def _tables(self, address: str) -> list[TableRecord]:
        return [self._world.tables[key] for key in sorted(self._world.tables_by_address.get(address, ()))]

    def _reported(self, address: str) -> Verdict:
        """Tell whether all directors have the tables of a VIP as they are now."""
        if self._behind is None:
            self._behind = self._who_is_behind()
        if not self._behind.ok:
            return self._behind
        for director, reports in self._reports.items():
            for table in self._tables(address):
                if not self._has_it(director, reports, table):
                    text = f"director {director} has not reported {table.key} without it"
                    return Verdict(False, Reason.WAITING_FOR_DIRECTOR, text)
        return _CLEAR

    def _has_it(self, director: str, reports: Mapping[str, TableReport], table: TableRecord) -> bool:
        role = self._world.lvs_nodes[director].spec.director
        report = reports.get(table_name(table.key))
        if role is None or role.group != table.spec.director_group:
            return report is None
        return report is not None and report.generation == table.generation

    def _who_is_behind(self) -> Verdict:
        world = self._world
        names = set(world.index.programmers.get("", ())).union(*world.index.nodes_by_group.values())
        for name in sorted(names & world.nodes.keys()):
            record = world.lvs_node(name)
            if record is None or record.status is None:
                if name in world.silent:
                    continue  # no agent ever reported there
                return Verdict(False, Reason.WAITING_FOR_DIRECTOR, f"director {name} has not reported yet")
            if not follows(record):
                return Verdict(False, Reason.WAITING_FOR_DIRECTOR, _behind(world, name))
            reports = {report.table: report for report in record.status.tables}
            if table := self._unknown(record, reports):
                text = f"director {name} has not reported what became of the table {table}"
                return Verdict(False, Reason.WAITING_FOR_DIRECTOR, text)
            self._reports[name] = reports
        return _CLEAR

    def _unknown(self, record: NodeRecord, reports: Mapping[str, TableReport]) -> str:
        """Return a table of which the director does not say, or the controller not know, what it has in the kernel."""
        role = record.spec.director
        told = role.tables if role is not None else ()
        for name in sorted({*told, *reports}):
            table, report = self._world.tables.get(table_key(name)), reports.get(name)
            if table is None or report is None or not is_of(report, table):
                return name
        return ""


def _known(table: TableRecord) -> tuple[TableDestination, ...]:
    return (*table.spec.entries, *table.spec.pending)


def is_of(report: TableReport, table: TableRecord) -> bool:
    """Tell whether the report is about this very DirectorTable and not about a namesake before it."""
    return report.uid in ("", table.uid)


def _behind(world: World, node: str) -> str:
    if node in world.silent:
        return f"director {node} does not report: bring it back, or delete its Node if it is gone for good"
    return f"waiting for a report of director {node}"


def tunnels_needed(world: World, node: str) -> set[BackendTunnel]:
    """Return the tunnels by which tables send to the node."""
    return {
        end
        for key in world.index.tables_by_tunnel.get(node, ())
        for each in world.tables[key].spec.entries
        if each.node == node and (end := tunnel_end(each)) is not None
    }


def leaving(world: World) -> frozenset[str]:
    """Return the nodes that have a VIP on lo, or a tunnel's end, that no table needs there any more, or not yet."""
    found: set[str] = set()
    index = world.index
    for address, nodes in index.backends_by_address.items():
        tables = index.tables_by_address.get(address, ())
        needed = {each.node for key in tables for each in world.tables[key].spec.entries if carries(each.forwarding)}
        found |= nodes - needed
    if told := index.tunnel_nodes.get(""):
        tunnelled = set().union(*index.tables_by_tunnel.values())
        open_ends = {(each.node, tunnel_end(each)) for key in tunnelled for each in world.tables[key].spec.entries}
        for node in told:
            if any((node, end) not in open_ends for end in world.lvs_nodes[node].spec.backend_tunnels):
                found.add(node)
    return frozenset(found)
