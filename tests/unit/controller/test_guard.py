"""What counts as taking something away, and when it is not done."""

import pytest
from msgspec.structs import replace

from lvs_dr.controller import watched
from lvs_dr.controller.errors import KindsMissing
from lvs_dr.controller.guard import DEFINITIONS, HOLD_SECONDS, Guard, node_loss, table_loses
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, VirtualRouter, Vrrp
from lvs_dr.core.node_status import LVSNodeStatus, TableReport
from lvs_dr.core.objects import Key
from lvs_dr.core.table import TableDestination
from lvs_dr.core.world import NodeRecord, TableRecord
from tests.unit.controller.bodies import Clock, FakeApi
from tests.unit.controller.test_writer import table

ONE = TableDestination(real_server="one", address="192.0.2.1", weight=100)
TWO = TableDestination(real_server="two", address="192.0.2.2", weight=100)


def record(spec: LVSNodeSpec, status: LVSNodeStatus | None = None) -> NodeRecord:
    """An LVSNode."""
    return NodeRecord(name="one", uid="u", generation=1, owner_uid="o", spec=spec, status=status)


def definitions(api: FakeApi) -> None:
    """Serve all our kinds."""
    for kind in watched.OUR_KINDS:
        api.hold(f"{DEFINITIONS}/{kind.crd}", {"metadata": {"name": kind.crd, "uid": f"uid-{kind.plural}"}})


async def test_removal_is_refused_while_a_kind_is_being_deleted() -> None:
    """Instances that vanish with their definition take nothing with them."""
    api = FakeApi()
    definitions(api)
    guard = Guard(api, Clock())
    await guard.learn()
    await guard.removal()
    path = f"{DEFINITIONS}/{watched.VIRTUAL_SERVICE.crd}"
    api.objects[path]["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    with pytest.raises(KindsMissing, match="being deleted"):
        await guard.removal()
    del api.objects[path]
    with pytest.raises(KindsMissing, match="does not exist"):
        await guard.removal()
    api.hold(path, {"metadata": {"name": "x", "uid": "another"}})
    with pytest.raises(KindsMissing, match="was replaced"):
        await guard.removal()


async def test_replaced_definitions_hold_removals_for_a_while() -> None:
    """Objects that come back after their kind find everything still serving; a hold does not last for ever."""
    api, clock = FakeApi(), Clock()
    definitions(api)
    guard = Guard(api, clock)
    await guard.learn()
    note = guard.note
    assert guard.compare("")
    assert guard.compare(note)
    assert guard.held_for() == 0
    assert not guard.compare(note.replace("uid-virtualservices", "earlier"))
    assert guard.held_for() == HOLD_SECONDS
    clock.advance(HOLD_SECONDS)
    assert guard.held_for() == 0


def test_table_loses_destinations_and_services() -> None:
    """Fewer destinations, another VIP or no table at all are losses; more destinations and other weights are not."""
    spec = replace(table(), destinations=(ONE, TWO))
    before = TableRecord(key=Key("shop", "web"), uid="u", generation=1, owner_uid="o", spec=spec)
    assert table_loses(before, None)
    assert table_loses(before, replace(spec, destinations=(ONE,)))
    assert table_loses(before, replace(spec, address="192.0.2.99"))
    assert not table_loses(before, replace(spec, destinations=(replace(ONE, weight=0), TWO)))
    assert not table_loses(None, spec)


def test_node_loses_what_it_was_told() -> None:
    """VIPs and tables that the new spec does not name."""
    role = DirectorRole(
        group="default", vrrp=Vrrp(routers=(VirtualRouter(51, 250, ("192.0.2.10",)),)), tables=("shop/web",)
    )
    before = record(LVSNodeSpec(decided=True, director=role, backend_addresses=("192.0.2.11",)))
    assert not node_loss(before, before.spec)
    loss = node_loss(before, LVSNodeSpec(decided=True))
    assert loss.addresses == {"192.0.2.10", "192.0.2.11"}
    assert loss.tables == {"shop/web"}
    assert node_loss(before, replace(before.spec, director=replace(role, tables=())))


def test_undecided_node_loses_what_it_reports() -> None:
    """A node whose LVSNode came back empty is judged by what its agent says it serves."""
    status = LVSNodeStatus(
        held_addresses=("192.0.2.10",),
        loopback_addresses=("192.0.2.11",),
        tables=(TableReport(table="shop/web", generation=1),),
    )
    before = record(LVSNodeSpec(), status)
    assert not node_loss(before, LVSNodeSpec())
    loss = node_loss(before, LVSNodeSpec(decided=True))
    assert (loss.addresses, loss.tables) == ({"192.0.2.10", "192.0.2.11"}, {"shop/web"})
