"""What is known about one VirtualService: all that its conditions are made from."""

from typing import NamedTuple

from lvs_dr.core import views
from lvs_dr.core.decisions import TableDecision
from lvs_dr.core.objects import Invalid, VirtualService
from lvs_dr.core.status import VirtualServiceStatus
from lvs_dr.core.views import Views
from lvs_dr.core.world import TableRecord, World


class Subject(NamedTuple):
    """All that is known about one VirtualService."""

    world: World
    service: VirtualService | Invalid
    decision: TableDecision
    previous: VirtualServiceStatus | None
    table: TableRecord
    views: Views
    serving: int  # generation that the Active director serves, 0 = none
    generation: int  # that the table is for: an earlier one while the VIP changes, of the table of the VIP before

    @property
    def total(self) -> int:
        """Real servers selected."""
        if isinstance(self.service, Invalid):
            return len(self.table.spec.destinations)
        return len(self.decision.members)

    @property
    def healthy(self) -> int:
        """Real servers that are healthy and in service, as the Active director sees it."""
        return views.healthy(self.table, self.views.of_active)


def subject_of(
    world: World,
    service: VirtualService | Invalid,
    decision: TableDecision,
    previous: VirtualServiceStatus | None,
    *,
    former: bool = False,
) -> Subject | None:
    """Return what is known about the table that the decision is about; None while there is none."""
    table = world.tables.get(decision.table)
    if table is None or table.owner_uid != service.meta.uid:
        return None
    seen = views.views(world, table)
    generation = table.spec.service_generation if former else service.meta.generation
    return Subject(world, service, decision, previous, table, seen, _serving(table, seen, previous), generation)


def _serving(table: TableRecord, seen: Views, previous: VirtualServiceStatus | None) -> int:
    active = seen.of_active
    if active is not None and active.current:
        return table.spec.service_generation
    return min(previous.serving_generation, table.spec.service_generation) if previous is not None else 0
