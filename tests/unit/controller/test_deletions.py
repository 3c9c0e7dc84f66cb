"""RealServers that are drained before they are deleted: kept as long as that takes, and never longer."""

from typing import Any

from lvs_dr.controller import watched
from lvs_dr.controller.deletions import Deletions, Wish
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.writer import Writer
from lvs_dr.core.objects import Key, RealServer, RealServerState
from lvs_dr.core.status import Condition, ConditionStatus, RealServerStatus
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import real_server
from tests.unit.controller.test_reconcile import Bench

ONE = Key("shop", "one")
FINALIZER = "lvs-operator.io/drain"


async def put(bench: Bench, *, first: bool, held: bool = False, deleted: bool = False) -> Deletions:
    """Store the example's real server like this; return what looks after it."""
    body: dict[str, Any] = real_server("one", generation=2)
    body["spec"] |= {"drain": {"beforeDeletion": first}}
    if held:
        body["metadata"]["finalizers"] = ["example.com/other", FINALIZER]
    if deleted:
        body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    await bench.user(watched.REAL_SERVER, body)
    bench.api.hold(watched.REAL_SERVER.path(ONE), body)
    writer = Writer(bench.api, bench.store, lambda: True, bench.intake.changed, Metrics(METRICS))
    return Deletions(bench.store, writer, Metrics(METRICS))


def say(bench: Bench, status: ConditionStatus) -> None:
    """Let its status say whether it is drained."""
    condition = Condition("Drained", status, "Drained", "", 2, "2026-01-01T00:00:00Z")
    bench.store.statuses["RealServer", ONE] = RealServerStatus(2, "192.0.2.1", 1, (condition,))


def state(bench: Bench) -> RealServerState:
    """Return its state as it is acted on."""
    known = bench.store.world.real_servers[ONE]
    assert isinstance(known, RealServer)
    return known.state


async def test_only_who_asks_for_it_is_held() -> None:
    """Every deletion would wait for the controller, that of a whole namespace too."""
    bench = await Bench().start()
    assert list((await put(bench, first=False)).wishes()) == []
    assert list((await put(bench, first=True)).wishes()) == [Wish(ONE, hold=True)]
    assert list((await put(bench, first=True, held=True)).wishes()) == []
    assert list((await put(bench, first=False, held=True)).wishes()) == [Wish(ONE, hold=False)]


async def test_a_deleted_one_drains_and_goes_when_it_has() -> None:
    """Its connections would break a minute later; or it would never go."""
    bench = await Bench().start()
    deletions = await put(bench, first=True, held=True, deleted=True)
    assert state(bench) is RealServerState.DRAIN
    assert list(deletions.wishes()) == []
    say(bench, ConditionStatus.FALSE)
    assert list(deletions.wishes()) == []
    say(bench, ConditionStatus.TRUE)
    assert list(deletions.wishes()) == [Wish(ONE, hold=False)]


async def test_who_changes_their_mind_meanwhile_waits_no_longer() -> None:
    """A way out that needs no force."""
    bench = await Bench().start()
    deletions = await put(bench, first=False, held=True, deleted=True)
    assert state(bench) is RealServerState.IN_SERVICE
    assert list(deletions.wishes()) == [Wish(ONE, hold=False)]


async def test_one_that_another_finalizer_keeps_is_not_ours_to_drain() -> None:
    """Whoever did not ask for a drain would get one."""
    bench = await Bench().start()
    deletions = await put(bench, first=True, deleted=True)
    assert state(bench) is RealServerState.IN_SERVICE
    assert list(deletions.wishes()) == []


async def test_the_finalizer_is_written_as_ours_alone() -> None:
    """Another program's finalizer would be lost, and with it what it waits for."""
    bench = await Bench().start()
    deletions = await put(bench, first=True)
    await deletions.look()
    path = watched.REAL_SERVER.path(ONE)
    assert bench.api.writes()[-1] == ("PATCH", path)
    assert bench.api.objects[path]["metadata"]["finalizers"] == [FINALIZER]
    assert list(deletions.wishes()) == []
