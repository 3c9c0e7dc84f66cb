"""Writes: only when something differs, only while leading, only what is meant."""

import pytest

from lvs_dr.controller import watched
from lvs_dr.controller.errors import NotLeading, OwnerGone, Unreachable
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.store import Change, Store
from lvs_dr.controller.writer import Owner, Writer
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.objects import Key, OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TablePort
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import FakeApi, node, virtual_service

WEB = Key("shop", "web")
OWNER = Owner(WEB, "uid-web")
SERVICE = watched.VIRTUAL_SERVICE.path(WEB)
TABLE = watched.DIRECTOR_TABLE.path(WEB)
NODE = watched.NODE.path(Key("", "one"))
LVS_NODE = watched.LVS_NODE.path(Key("", "one"))


class Bench:
    """A writer on a fake API server."""

    def __init__(self) -> None:
        self.api = FakeApi()
        self.store = Store()
        self.leads = True
        self.changes: list[Change] = []
        self.writer = Writer(self.api, self.store, lambda: self.leads, self.changes.append, Metrics(METRICS))
        self.api.hold(SERVICE, virtual_service())
        self.api.hold(NODE, node("one"))


def table(address: str = "192.0.2.10") -> DirectorTableSpec:
    """A table without destinations."""
    return DirectorTableSpec(
        director_group="default",
        service_generation=1,
        address=address,
        ports=(TablePort(port=80, protocol=Protocol.TCP),),
        scheduler="rr",
        on_failure=OnFailure.REMOVE,
        destinations=(),
    )


async def test_what_is_there_already_is_not_written() -> None:
    """A pass that changes nothing sends nothing."""
    bench = Bench()
    assert await bench.writer.table(WEB, table(), OWNER)
    sent = len(bench.api.requests)
    assert not await bench.writer.table(WEB, table(), OWNER)
    assert len(bench.api.requests) == sent


async def test_answer_is_known_before_the_watch_tells() -> None:
    """The next decision is made on what was written."""
    bench = Bench()
    await bench.writer.table(WEB, table(), OWNER)
    assert bench.store.world.tables[WEB].spec == table()
    assert [change.key for change in bench.changes] == [WEB]


async def test_owner_is_asked_before_creating() -> None:
    """A VirtualService whose deletion was missed does not come back as a table."""
    bench = Bench()
    del bench.api.objects[SERVICE]
    with pytest.raises(OwnerGone):
        await bench.writer.table(WEB, table(), OWNER)
    bench.api.hold(SERVICE, virtual_service(uid="another"))
    with pytest.raises(OwnerGone):
        await bench.writer.table(WEB, table(), OWNER)
    bench.api.hold(SERVICE, virtual_service(deletionTimestamp="2026-01-01T00:00:00Z"))
    with pytest.raises(OwnerGone):
        await bench.writer.table(WEB, table(), OWNER)
    assert not bench.api.writes()


async def test_table_is_owned_by_its_service() -> None:
    """Garbage collection cleans up, and never blocks the deletion of a namespace."""
    bench = Bench()
    await bench.writer.table(WEB, table(), OWNER)
    owner = bench.api.objects[TABLE]["metadata"]["ownerReferences"][0]
    assert (owner["kind"], owner["uid"], "blockOwnerDeletion" in owner) == ("VirtualService", "uid-web", False)
    await bench.writer.table(Key("shop", "web.2"), table(), OWNER)
    assert bench.store.world.tables[Key("shop", "web.2")].owner == WEB


async def test_nothing_is_written_without_the_lease() -> None:
    """A replica that lost the Lease changes nothing any more, not even what it had decided before."""
    bench = Bench()
    bench.leads = False
    with pytest.raises(NotLeading):
        await bench.writer.node("one", LVSNodeSpec(), "uid-one")
    assert not bench.api.requests


async def test_namesake_is_not_deleted() -> None:
    """A deletion that comes too late does not hit the object's successor."""
    bench = Bench()
    await bench.writer.table(WEB, table(), OWNER)
    await bench.writer.delete(watched.DIRECTOR_TABLE, WEB, "earlier")
    assert TABLE in bench.api.objects


async def test_deleted_is_known_at_once() -> None:
    """What was deleted is gone for the next decision, also when it was gone already."""
    bench = Bench()
    await bench.writer.table(WEB, table(), OWNER)
    uid = bench.store.world.tables[WEB].uid
    del bench.api.objects[TABLE]
    await bench.writer.delete(watched.DIRECTOR_TABLE, WEB, uid)
    assert WEB not in bench.store.world.tables


async def test_orphan_with_a_live_owner_is_kept() -> None:
    """A store that has not seen an owner yet deletes nothing of it."""
    bench = Bench()
    await bench.writer.node("one", LVSNodeSpec(), "uid-one")
    uid = bench.store.world.lvs_nodes["one"].uid
    key = Key("", "one")
    assert not await bench.writer.delete_without_owner(watched.LVS_NODE, key, uid=uid, owner=Owner(key, "uid-one"))
    del bench.api.objects[NODE]
    assert await bench.writer.delete_without_owner(watched.LVS_NODE, key, uid=uid, owner=Owner(key, "uid-one"))
    assert LVS_NODE not in bench.api.objects


async def test_failure_reaches_the_caller() -> None:
    """A write that did not happen is not taken for one that did."""
    bench = Bench()
    bench.api.failures["PATCH", TABLE] = Unreachable("no answer")
    with pytest.raises(Unreachable):
        await bench.writer.table(WEB, table(), OWNER)
    assert WEB not in bench.store.world.tables
