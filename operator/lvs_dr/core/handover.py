"""A changed VIP: whether the new one is served completely, so that the table of the one before may go."""

from lvs_dr.core import views
from lvs_dr.core.conditions import reason_of
from lvs_dr.core.decisions import Member, Verdict
from lvs_dr.core.directors import listed
from lvs_dr.core.reasons import Reason
from lvs_dr.core.views import View
from lvs_dr.core.world import TableRecord, World

HANDOVER_SECONDS = 300
"""How long the VIP before is kept for a new one that does not come up; the controller measures it."""


def taken_over(world: World, former: TableRecord, present: TableRecord | None, members: tuple[Member, ...]) -> Verdict:
    """Tell whether `present` serves all that `former` does; if not, what that waits for.

    `members`: the real servers that the VirtualService selects, as they were judged for the present table.
    """
    if present is None:
        return Verdict(False, Reason.WAITING_FOR_DIRECTOR, "its DirectorTable is about to be written")
    verdict = _entered(former, present, members)
    if not verdict.ok:
        return verdict
    seen = views.views(world, present)
    for view in seen.all:
        if not view.silent and not (verdict := _programmed(view)).ok:
            return verdict
    active = seen.of_active
    if active is None or not seen.active.verdict.ok:
        return seen.active.verdict
    address = present.spec.address
    if active.silent or not _holds(active, address):
        return Verdict(False, Reason.WAITING_FOR_DIRECTOR, f"waiting for {active.director} to report that it holds it")
    return _healthy(world, former, present, active)


def _entered(former: TableRecord, present: TableRecord, members: tuple[Member, ...]) -> Verdict:
    missing = {each.real_server for each in former.spec.destinations}
    missing -= {each.real_server for each in present.spec.destinations}
    for member in members:
        drained = member.verdict.reason is Reason.DRAINED
        if member.verdict.ok and not drained and member.real_server.name in missing:
            text = member.verdict.message or f"{member.real_server.name} is about to enter"
            return Verdict(False, member.verdict.reason, text)
    return Verdict(True, Reason.IN_SERVICE)


def _programmed(view: View) -> Verdict:
    for fault in view.faults[:1]:
        return Verdict(False, reason_of(fault.reason), f"director {view.director}: {fault.message}")
    if view.current:
        return Verdict(True, Reason.PROGRAMMED)
    return Verdict(False, Reason.WAITING_FOR_DIRECTOR, f"waiting for {view.director} to report that it has the table")


def _holds(view: View, address: str) -> bool:
    return view.record is not None and view.record.status is not None and address in view.record.status.held_addresses


def _healthy(world: World, former: TableRecord, present: TableRecord, active: View) -> Verdict:
    """Real servers that served the VIP before are checked for the new one, and one of them at least is healthy."""
    earlier = {each.real_server for each in former.spec.destinations}
    checking = sorted(name for name, each in active.unwell.items() if each.reason == Reason.CHECKING)
    if checking := [name for name in checking if name in earlier]:
        return Verdict(False, Reason.CHECKING, f"{active.director} has not checked {listed(checking)} for it yet")
    if not views.healthy(present, active) and views.healthy(former, views.views(world, former).of_active):
        text = f"{active.director} finds no real server healthy there"
        return Verdict(False, Reason.NO_HEALTHY_REAL_SERVER, text)
    return Verdict(True, Reason.SERVING)
