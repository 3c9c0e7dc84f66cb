"""What this node is to be, as last heard: the place where watches write and the loop reads.

Missing is not empty. A deleted LVSNode changes nothing; a deleted DirectorTable is kept as long as the LVSNode
still lists it; what cannot be read keeps its last good state and is named in the report.
"""

import logging
from collections.abc import Callable, Iterable, Mapping

import msgspec

from lvs_dr.agent.lastgood import LastGood, StoredTable, TableVersion
from lvs_dr.agent.watch import Seen, Unreadable
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

log = logging.getLogger(__name__)


class Wanted(msgspec.Struct, frozen=True):
    """One consistent view of what the node is to be."""

    spec: LVSNodeSpec | None  # last good; None = never heard of
    generation: int = 0  # of the LVSNode that `spec` is from
    uid: str = ""  # of the LVSNode that the API server has
    decided: bool = False  # False: report, change nothing
    tables: Mapping[str, DirectorTableSpec] = {}
    versions: Mapping[str, TableVersion] = {}  # of the DirectorTables in `tables`
    refused: Mapping[str, Unreadable] = {}  # tables whose newest version cannot be followed
    node_refused: Unreadable | None = None
    annotations: Mapping[str, str] = {}
    relisted: bool = False  # a whole list was read since the view before
    unreported: bool = False  # the API server has our LVSNode without a status
    present: bool = False  # the API server has our LVSNode, as far as is known
    heard: bool = False  # our LVSNode and the list of its group's tables were read since the start


class _Table(msgspec.Struct, frozen=True):
    stored: StoredTable
    gone: bool = False  # deleted, but the LVSNode still lists it


class DesiredState:
    """Holds the view; `wake` is called after every change of it."""

    def __init__(self, node: str, *, wake: Callable[[], None]) -> None:
        self._name = node
        self._wake = wake
        self._group_changed: Callable[[], None] = lambda: None
        self._spec: LVSNodeSpec | None = None
        self._generation = 0
        self._decided = False
        self._uid = ""
        self._annotations: Mapping[str, str] = {}
        self._node_refused: Unreadable | None = None
        self._present = False
        self._reported = True
        self._relisted = False
        self._heard = False
        self._tables_heard = ""  # the group whose tables were read last
        self._tables: dict[str, _Table] = {}
        self._refused: dict[str, Unreadable] = {}
        self._view: Wanted | None = None
        self.unknown: dict[str, str] = {}  # kind -> why its list cannot be read
        self.nodes = NodeSink(self)
        self.tables = TableSink(self)

    @property
    def group(self) -> str:
        """The DirectorGroup whose tables this node serves; empty: none."""
        return self._spec.director.group if self._spec and self._spec.director else ""

    def on_group_change(self, told: Callable[[], None]) -> None:
        """Have `told` called when the tables of another group count."""
        self._group_changed = told

    @property
    def present(self) -> bool:
        """Whether the API server has our LVSNode, as far as is known."""
        return self._present

    @property
    def decided(self) -> bool:
        """Whether the newest LVSNode says what the node is to be."""
        return self._decided

    def take(self) -> Wanted:
        """Return what is wanted now. `relisted` is told once."""
        view = self._view
        if view is None:
            view = Wanted(
                spec=self._spec,
                generation=self._generation,
                uid=self._uid,
                decided=self._decided,
                tables={name: table.stored.spec for name, table in self._tables.items()},
                versions={name: table.stored.version for name, table in self._tables.items()},
                refused=dict(self._refused),
                node_refused=self._node_refused,
                annotations=self._annotations,
                relisted=self._relisted,
                unreported=not self._reported,
                present=self._present,
                heard=self._heard and (not self.group or self._tables_heard == self.group),
            )
            self._relisted = False
        self._view = msgspec.structs.replace(view, relisted=False) if view.relisted else view
        return view

    def restore(self, stored: LastGood) -> None:
        """Start from the last good state on disk."""
        self._spec, self._generation, self._decided = stored.spec, stored.generation, stored.spec.decided
        self._uid = stored.uid
        self._tables = {name: _Table(table) for name, table in stored.tables.items()}
        self._changed()
        self._group_changed()

    # Told by the watch of our LVSNode.

    def node_seen(self, item: Seen[LVSNodeSpec] | Unreadable) -> None:
        """Take a new version of our LVSNode."""
        self._present = True
        self._annotations = item.meta.annotations
        self._uid = item.meta.uid
        if isinstance(item, Unreadable):
            if self._node_refused != item:
                log.warning("LVSNode %s generation %d %s", self._name, item.meta.generation, item.message)
            self._node_refused = item
            self._changed()
            return
        self._node_refused = None
        self._heard = True
        self._reported = item.reported
        self._decided = item.spec.decided
        if item.spec.decided or self._spec is None:
            self._follow(item.spec, item.meta.generation)
        self._changed()

    def _follow(self, spec: LVSNodeSpec, generation: int) -> None:
        before = self.group
        self._spec, self._generation = spec, generation
        if spec.director is None and spec.decided:
            self._tables.clear()
            self._refused.clear()
        else:
            self._prune()
        if self.group != before:
            self._group_changed()

    def node_missing(self) -> None:
        """Our LVSNode is not there: keep the last good, and say so."""
        if self._present:
            log.warning("LVSNode %s is missing; the last good state stays", self._name)
        self._present = False
        self._changed()

    # Told by the watch of our group's DirectorTables.

    def table_seen(self, item: Seen[DirectorTableSpec] | Unreadable) -> None:
        """Take a new version of a table."""
        key = item.meta.key
        if isinstance(item, Unreadable):
            if self._refused.get(key) != item:
                log.warning("DirectorTable %s generation %d %s", key, item.meta.generation, item.message)
            self._refused[key] = item
        else:
            self._refused.pop(key, None)
            self._tables[key] = _Table(StoredTable(TableVersion(item.meta.generation, item.meta.uid), item.spec))
        self._changed()

    def tables_gone(self, keys: Iterable[str]) -> None:
        """Forget tables that were deleted, except those that our LVSNode still lists."""
        for key in keys:
            self._refused.pop(key, None)
            table = self._tables.get(key)
            if table is not None:
                self._tables[key] = _Table(table.stored, gone=True)
        self._prune()
        self._changed()

    def _prune(self) -> None:
        listed = frozenset(self._spec.director.tables if self._spec and self._spec.director else ())
        for key in [name for name, table in self._tables.items() if table.gone and name not in listed]:
            del self._tables[key]

    def names(self) -> Iterable[str]:
        """Return the names of all tables that are known, the refused ones included."""
        return {*self._tables, *self._refused}

    def tables_listed(self) -> None:
        """Note that the group's tables were read as a whole."""
        self._tables_heard = self.group
        self.listed_again()

    def listed_again(self) -> None:
        """Note that a whole list was read, which may take much away at once."""
        self._relisted = True
        self._changed()

    def _changed(self) -> None:
        self._view = None
        self._wake()


class NodeSink:
    """The watch of one LVSNode writes here."""

    def __init__(self, state: DesiredState) -> None:
        self._state = state

    def replaced(self, items: Mapping[str, Seen[LVSNodeSpec] | Unreadable]) -> None:
        """Take the list: our object, or nothing."""
        self._state.unknown.pop("LVSNode", None)
        item = items.get(self._state._name)  # noqa: SLF001 - one module
        if item is None:
            self._state.node_missing()
        else:
            self._state.node_seen(item)
            self._state.listed_again()

    def changed(self, item: Seen[LVSNodeSpec] | Unreadable) -> None:
        """Take a new version."""
        self._state.unknown.pop("LVSNode", None)
        self._state.node_seen(item)

    def deleted(self, key: str) -> None:  # noqa: ARG002 - there is only ours
        """Keep the last good."""
        self._state.node_missing()

    def unknown(self, message: str) -> None:
        """Keep the last good."""
        self._state.unknown["LVSNode"] = message


class TableSink:
    """The watch of the group's DirectorTables writes here."""

    def __init__(self, state: DesiredState) -> None:
        self._state = state

    def replaced(self, items: Mapping[str, Seen[DirectorTableSpec] | Unreadable]) -> None:
        """Take the list: what is not in it is gone."""
        self._state.unknown.pop("DirectorTable", None)
        self._state.tables_gone(set(self._state.names()) - items.keys())
        for item in items.values():
            self._state.table_seen(item)
        self._state.tables_listed()

    def changed(self, item: Seen[DirectorTableSpec] | Unreadable) -> None:
        """Take a new version."""
        self._state.unknown.pop("DirectorTable", None)
        self._state.table_seen(item)

    def deleted(self, key: str) -> None:
        """Forget a table, unless our LVSNode still lists it."""
        self._state.tables_gone((key,))

    def unknown(self, message: str) -> None:
        """Keep the last good."""
        self._state.unknown["DirectorTable"] = message
