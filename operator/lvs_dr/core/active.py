"""Who is Active, by the directors' reports: the controller is told of the election, it has no part in it."""

from typing import Final

from msgspec import Struct

from lvs_dr.core.addresses import version
from lvs_dr.core.announcing import may_announce
from lvs_dr.core.decisions import Verdict
from lvs_dr.core.directors import directors, follows, listed, prospects
from lvs_dr.core.node_status import VirtualRouterReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.virtual_routers import Place, place_of, router_of
from lvs_dr.core.world import TableRecord, World

ACTIVE: Final = "Active"
RELEASING: Final = "Releasing"
"""Of a director that is about to stop: it keeps its VIPs until it hears its successor."""

PREVENTS: Final = frozenset(
    {Reason.IPVS_UNAVAILABLE, Reason.NO_INTERFACE, Reason.PAUSED, Reason.UNSUPPORTED, Reason.MASS_REMOVAL_HELD}
)
"""Problems of a node that keep it from announcing any VIP."""


class Active(Struct, frozen=True):
    """The Active director of a virtual router; `node` is "" while there is none, and the verdict says why.

    With two of them the verdict says so, and `node` is the one that took over last.
    """

    node: str
    verdict: Verdict
    since: str = ""  # RFC 3339, by the director's clock
    reason: str = ""  # why it became Active, as it reports


class Claim(Struct, frozen=True):
    """A director that reports to be Active."""

    node: str
    report: VirtualRouterReport


def claims(world: World, group: str, id_: int, family: int) -> list[Claim]:
    """Return the directors of the group that hold the virtual router's VIPs of a family by their reports, by name.

    One that is about to stop counts while nobody has taken over.
    """
    found: dict[str, list[Claim]] = {ACTIVE: [], RELEASING: []}
    for name in directors(world, group):
        report = report_of(world, name, id_, family)
        if report is not None and report.state in found:
            found[report.state].append(Claim(name, report))
    return found[ACTIVE] or found[RELEASING]


def report_of(world: World, node: str, id_: int, family: int) -> VirtualRouterReport | None:
    """Return what a director reports of a virtual router; None for nothing."""
    record = world.lvs_node(node)
    for each in record.status.virtual_routers if record is not None and record.status is not None else ():
        if (each.id, each.family) == (id_, family):
            return each
    return None


def active_of(world: World, place: Place, family: int) -> Active:
    """Return who is Active for the VIPs of a family (4 or 6) in a virtual router.

    A claim is passed over for a newer one while its agent is silent, or was not heard of since that one was made: a
    director that lost power can no longer say that it was replaced.
    """
    found = claims(world, place.group, place.id, family)
    live = [each for each in found if each.node not in world.silent]
    sure = [each for each in live if each.node not in world.unconfirmed] or live
    if not found:
        return Active("", _nobody(world, place, family))
    last = max(sure or found, key=lambda each: each.report.since)
    verdict = Verdict(True, Reason.ELECTED)
    if len(sure) > 1:
        verdict = Verdict(False, Reason.SPLIT_BRAIN, split_brain(place.id, family, [each.node for each in sure]))
    return Active(last.node, verdict, last.report.since, last.report.reason)


def active_for(world: World, table: TableRecord) -> Active:
    """Return who is Active for the VIP of a table."""
    spec = table.spec
    found = active_of(world, place_for(world, table), version(spec.address))
    if found.node or found.verdict.reason not in (Reason.NOBODY_ACTIVE, Reason.WAITING_FOR_DIRECTOR):
        return found
    return _not_told(world, spec.director_group, spec.address) or found


def place_for(world: World, table: TableRecord) -> Place:
    """Return the virtual router of a table's VIP."""
    spec = table.spec
    return Place(spec.director_group, router_of(world, spec.director_group, spec.address))


def split_brain(id_: int, family: int, names: list[str]) -> str:
    """Return what to say of several Active directors."""
    return (
        f"{' and '.join(names)} are Active at once for virtual router {id_} (IPv{family}) and answer for its VIPs in "
        "turn: they do not hear each other; let IP protocol 112 (VRRP) through firewalls and switches between them"
    )


def _nobody(world: World, place: Place, family: int) -> Verdict:
    verdict = prospects(world, place.group)
    if not verdict.ok:
        return verdict
    names = directors(world, place.group)
    for name in names:
        record = world.lvs_node(name)
        status = record.status if record is not None else None
        if status is None or name in world.silent:
            continue
        for problem in status.problems:
            if not problem.address and problem.reason in PREVENTS:
                return Verdict(False, Reason(problem.reason), f"{name}: {problem.message}")
        report = report_of(world, name, place.id, family)
        if report is not None and report.faults:
            text = f"no director is Active for virtual router {place.id}; {name}: {report.faults[0]}"
            return Verdict(False, Reason.NOBODY_ACTIVE, text)
    live = [name for name in names if name not in world.silent]
    behind = [name for name in live if (record := world.lvs_node(name)) is None or not follows(record)]
    if behind:
        text = f"waiting for {listed(behind)} to report on virtual router {place.id}"
        return Verdict(False, Reason.WAITING_FOR_DIRECTOR, text)
    text = f"no director has reported to be Active for virtual router {place.id} (IPv{family}) yet: {listed(live)}"
    return Verdict(False, Reason.NOBODY_ACTIVE, text)


def _not_told(world: World, group: str, address: str) -> Active | None:
    """Return why no director is told the VIP yet; None when one is."""
    place = Place(group, router_of(world, group, address))
    for name in directors(world, group):
        record = world.lvs_node(name)
        if record is not None and place_of(record.spec.director, address) == place:
            return None
    for name in directors(world, group):
        verdict = may_announce(world, name, address, place)
        if not verdict.ok:
            return Active("", verdict)
    return None
