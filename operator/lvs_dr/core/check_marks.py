"""Firewall marks for checks through VIPs: which real servers get one, and which.

A mark leads to one real server, whichever VIP is asked, so VIPs share marks. It follows from the real server's address
and from what other tables of the DirectorGroup have; what a table has once it keeps. Two tables that are compiled
at the same moment may choose the same mark for two real servers: then the first by name keeps it.
"""

from collections.abc import Iterable, Mapping
from typing import Final
from zlib import crc32

from msgspec.structs import replace

from lvs_dr.core.director_group import MarkRange
from lvs_dr.core.directors import usable_group
from lvs_dr.core.forwarding import Target, target
from lvs_dr.core.objects import CheckPath, ForwardingMethod, Key, VirtualService
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import TableRecord, World

REACHING: Final = (ForwardingMethod.DIRECT_ROUTING, ForwardingMethod.TUNNEL)
"""Methods that leave the VIP as the destination: what answers there is what clients see."""
_FAMILIES: Final = (4, 6)


def wants_mark(service: VirtualService, vip: str, entry: TableDestination) -> bool:
    """Tell whether a real server is to be checked through the VIP."""
    check = service.health_check
    if check is None or not check.can_ask_the_vip or entry.check_address:
        return False
    if (":" in entry.address) != (":" in vip):
        return False
    if service.check_path is None:
        return entry.forwarding is ForwardingMethod.DIRECT_ROUTING
    return service.check_path is CheckPath.VIRTUAL_ADDRESS and entry.forwarding in REACHING


def with_marks(  # noqa: PLR0917 - what it follows from
    world: World,
    service: VirtualService,
    vip: str,
    group: str,
    own: TableRecord | None,
    entries: Iterable[TableDestination],
) -> tuple[TableDestination, ...]:
    """Return the destinations with their marks; 0 where none is wanted, or none is left."""
    entries = tuple(entries)
    wanting = {target(each) for each in entries if wants_mark(service, vip, each)}
    if not wanting:
        return tuple(replace(each, check_mark=0) if each.check_mark else each for each in entries)
    marks = _Marks(world, group, own).assign(wanting)
    found = []
    for each in entries:
        mark = marks.get(target(each), 0) if wants_mark(service, vip, each) else 0
        found.append(each if each.check_mark == mark else replace(each, check_mark=mark))
    return tuple(found)


class _Marks:
    """The marks of a group, as one of its tables sees them."""

    def __init__(self, world: World, group: str, own: TableRecord | None) -> None:
        known = usable_group(world, group)
        self._range = known.check_marks if known is not None else None  # None: what there is stays
        self._index = world.index
        self._group = group
        self._own = own

    def assign(self, wanting: set[Target]) -> Mapping[Target, int]:
        """Return a mark for each, as far as there are any: first those that the table has."""
        given: dict[Target, int] = {}
        for each in (*self._own.spec.destinations, *self._own.spec.pending) if self._own is not None else ():
            goal = target(each)
            if each.check_mark and goal in wanting and goal not in given and self._stays(each.check_mark, goal):
                given[goal] = each.check_mark
        used = set(given.values())
        for goal in sorted(wanting - given.keys(), key=_text):
            mark = self._free(goal, used)
            if not mark:
                break
            given[goal] = mark
            used.add(mark)
        return given

    def _stays(self, mark: int, goal: Target) -> bool:
        if self._range is not None and not self._range.holds(mark):
            return False
        return not self._is_a_users(mark) and not any(key < self._key for key in self._others(mark, goal))

    def _free(self, goal: Target, used: set[int]) -> int:
        chosen = self._range or MarkRange()
        size = chosen.last - chosen.first + 1
        start = crc32(_text(goal).encode())
        for step in range(size):
            mark = chosen.first + (start + step) % size
            if mark not in used and not self._is_a_users(mark) and not self._others(mark, goal):
                return mark
        return 0

    def _others(self, mark: int, goal: Target) -> set[Key]:
        """Return the other tables that have the mark for another real server."""
        here = self._index.tables_by_check_mark.get((self._group, mark), set())
        return here - self._index.tables_by_check_target.get((self._group, mark, goal), set()) - {self._key}

    def _is_a_users(self, mark: int) -> bool:
        index = self._index
        keys = [(self._group, mark, family) for family in _FAMILIES]
        return any(key in index.tables_by_mark or key in index.services_by_mark for key in keys)

    @property
    def _key(self) -> Key:
        return self._own.key if self._own is not None else Key("\U0010ffff", "")


def _text(goal: Target) -> str:
    tunnel = goal.tunnel
    way = f"{tunnel.type}:{tunnel.port}:{tunnel.checksum}" if tunnel is not None else ""
    return f"{goal.address} {goal.forwarding.value} {way}"
