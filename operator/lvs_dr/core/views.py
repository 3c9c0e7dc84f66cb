"""What the directors of a group report about one table, and what the Active one sees."""

from bisect import bisect_left
from collections.abc import Mapping
from typing import NamedTuple

from lvs_dr.core.active import Active, active_for
from lvs_dr.core.directors import directors, listed
from lvs_dr.core.node import table_name
from lvs_dr.core.node_status import Problem, TableException, TableReport
from lvs_dr.core.order import is_of
from lvs_dr.core.reasons import Reason
from lvs_dr.core.world import NodeRecord, TableRecord, World

INFORMATIVE = frozenset(
    {
        Reason.PAUSED,
        Reason.FOREIGN_ENTRY,
        Reason.MAINTENANCE,
        Reason.NOT_CHECKED,
        Reason.MARK_NOT_SEEN,
        Reason.PANIC,
        Reason.SORRY_SERVER,
        Reason.LOAD_UNKNOWN,
    }
)
"""Reasons in reports that say nothing against what is served."""


class View(NamedTuple):
    """One director and its report on the table."""

    director: str
    record: NodeRecord | None
    report: TableReport | None
    silent: bool
    current: bool  # the report is about the table as it is now

    @property
    def faults(self) -> tuple[TableException, ...]:
        """What is wrong with the table as a whole."""
        found = self.report.exceptions if self.report else ()
        return tuple(each for each in found if not each.real_server and each.reason not in INFORMATIVE)

    @property
    def unwell(self) -> Mapping[str, TableException]:
        """Real servers that are not well, by name; the first exception counts."""
        found: dict[str, TableException] = {}
        for each in self.report.exceptions if self.report else ():
            if each.real_server and each.reason not in INFORMATIVE:
                found.setdefault(each.real_server, each)
        return found

    def problem_with(self, address: str) -> Problem | None:
        """Return what keeps the director from a VIP, such as another machine that has it; None if nothing does."""
        status = self.record.status if self.record is not None else None
        found = status.problems if status is not None else ()
        about = (problem for problem in found if problem.address == address)
        return next((problem for problem in about if problem.reason != Reason.ARP_ANSWERED), None)  # others' fault

    @property
    def panic(self) -> str:
        """What it says about sending to real servers that failed; "" when it does not."""
        found = self.report.exceptions if self.report else ()
        return next((each.message for each in found if each.reason == Reason.PANIC), "")

    @property
    def sorry(self) -> str:
        """What it says about the sorry server that serves; "" when it does not."""
        found = self.report.exceptions if self.report else ()
        return next((each.message for each in found if each.reason == Reason.SORRY_SERVER), "")


class Views(NamedTuple):
    """All directors of a table's group."""

    active: Active
    all: tuple[View, ...]

    @property
    def of_active(self) -> View | None:
        """The Active director's view."""
        return next((view for view in self.all if view.director == self.active.node), None)


def views(world: World, table: TableRecord) -> Views:
    """Return what each director of the table's group says about it."""
    names = directors(world, table.spec.director_group)
    return Views(active_for(world, table), tuple(view(world, table, name) for name in names))


def view(world: World, table: TableRecord, director: str) -> View:
    """Return what one director says about the table."""
    record = world.lvs_node(director)
    name = table_name(table.key)
    reports = record.status.tables if record is not None and record.status is not None else ()
    at = bisect_left(reports, name, key=lambda each: each.table)
    found = reports[at] if at < len(reports) and reports[at].table == name else None
    report = found if found is not None and is_of(found, table) else None
    current = report is not None and report.generation == table.generation
    return View(director, record, report, director in world.silent, current)


def names(of: list[View]) -> str:
    """Return the directors' names as text, three at most."""
    return listed([each.director for each in of])


def healthy(table: TableRecord, seen: View | None) -> int:
    """Return how many destinations are healthy and in service by one director's view."""
    if seen is None or seen.report is None:
        return 0
    names = healthy_names(table, seen)
    if names is not None:
        return len(names)
    return min(seen.report.healthy, sum(1 for each in table.spec.destinations if each.weight > 0))


def healthy_names(table: TableRecord, seen: View) -> list[str] | None:
    """Return which destinations are healthy and in service; None where the report does not tell."""
    if seen.report is None or not seen.current or seen.report.cut:
        return None
    unwell = seen.unwell
    return [
        each.real_server
        for each in table.spec.destinations
        if each.weight > 0 and ((found := unwell.get(each.real_server)) is None or found.serves)
    ]
