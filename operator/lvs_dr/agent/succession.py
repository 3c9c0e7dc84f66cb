"""A DirectorTable that was made anew inherits the real servers of the one before it, for a moment.

Who deletes a definition by mistake and applies everything again brings the VirtualService back before its
RealServers: the new table is empty at first. Its directors go on serving with what they have; until that is settled
the table counts as not yet in the kernel, so the controller lets no backend give up the VIP.
"""

from collections.abc import Mapping

import msgspec

from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.core.table import DirectorTableSpec, TableDestination

INHERIT_SECONDS = 15.0


class _Heir(msgspec.Struct, frozen=True):
    entries: tuple[TableDestination, ...]
    until: float


class Succession:
    """Remembers which object each table came from."""

    def __init__(self) -> None:
        self._tables: Mapping[str, DirectorTableSpec] = {}
        self._versions: Mapping[str, TableVersion] = {}
        self._heirs: dict[str, _Heir] = {}
        self.unsettled: frozenset[str] = frozenset()  # tables that still have something of the one before

    def follow(
        self, tables: Mapping[str, DirectorTableSpec], versions: Mapping[str, TableVersion], now: float
    ) -> Mapping[str, DirectorTableSpec]:
        """Return the tables with what they inherit; the same mapping when that is nothing. `now`: monotonic seconds."""
        if tables is not self._tables:
            self._note(tables, versions, now)
        self._tables, self._versions = tables, versions
        left: dict[str, DirectorTableSpec] = {}
        for name, heir in list(self._heirs.items()):
            table = tables.get(name)
            entered = {each.address for each in table.destinations} if table is not None else set()
            entries = tuple(each for each in heir.entries if each.address not in entered)
            if table is None or not entries or now >= heir.until:
                del self._heirs[name]
                continue
            known = {each.address for each in table.pending}
            more = tuple(each for each in entries if each.address not in known)
            left[name] = msgspec.structs.replace(table, pending=(*table.pending, *more))
        self.unsettled = frozenset(left)
        return {**tables, **left} if left else tables

    def _note(self, tables: Mapping[str, DirectorTableSpec], versions: Mapping[str, TableVersion], now: float) -> None:
        for name, table in tables.items():
            before = self._tables.get(name)
            if before is None or before.address != table.address or versions[name].uid == self._versions[name].uid:
                continue
            inherited = self._heirs.pop(name, _Heir((), 0.0)).entries
            entries = {each.address: each for each in (*inherited, *before.pending, *before.destinations)}
            self._heirs[name] = _Heir(tuple(entries.values()), now + INHERIT_SECONDS)
