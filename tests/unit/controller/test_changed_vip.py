"""A changed VIP in the controller: two tables for a while, with the right owner, and not for ever."""

import datetime as dt

from lvs_dr.controller import watched
from lvs_dr.controller.errors import Unreachable
from lvs_dr.controller.guard import HOLD_SECONDS
from lvs_dr.controller.handovers import Handovers
from lvs_dr.core.handover import HANDOVER_SECONDS
from lvs_dr.core.objects import Key
from tests.unit.controller.bodies import virtual_service
from tests.unit.controller.test_reconcile import WEB, Bench

OLD, NEW = "192.0.2.10", "192.0.2.20"
SECOND = Key("shop", "web.2")


async def changed(bench: Bench, address: str = NEW, generation: int = 2) -> None:
    """Give the example another VIP."""
    await bench.user(watched.VIRTUAL_SERVICE, virtual_service("web", address, generation=generation))
    await bench.settle()


def tables(bench: Bench) -> dict[str, str]:
    """Return the VIP of each table by name."""
    return {key.name: record.spec.address for key, record in sorted(bench.store.world.tables.items())}


async def work(bench: Bench) -> None:
    """Let controller and agents come to rest."""
    for _ in range(8):
        await bench.agents()
        await bench.settle()


async def test_the_second_table_belongs_to_its_service() -> None:
    """Garbage collection, and another controller, find by the owner what the name does not say."""
    bench = await Bench().start()
    await changed(bench)
    assert tables(bench) == {"web": OLD, "web.2": NEW}
    (owner,) = bench.api.objects[watched.DIRECTOR_TABLE.path(SECOND)]["metadata"]["ownerReferences"]
    assert (owner["name"], owner["uid"]) == ("web", bench.store.world.virtual_services[WEB].meta.uid)
    await work(bench)
    assert tables(bench) == {"web.2": NEW}
    assert bench.told() == ((NEW,), (NEW,))
    await bench.reconciler.sweep()
    assert tables(bench) == {"web.2": NEW}


async def test_a_restarted_controller_goes_on() -> None:
    """What was read anew must say which of the two tables is which."""
    bench = await Bench().start()
    await changed(bench)
    bench.reconciler.decisions.clear()
    bench.reconciler.mark_everything()
    await bench.settle()
    assert tables(bench) == {"web": OLD, "web.2": NEW}
    await work(bench)
    assert tables(bench) == {"web.2": NEW}


async def test_a_former_table_that_cannot_be_deleted_is_shown_and_tried_again() -> None:
    """The old VIP would stay for ever, and the pass that wrote the new table would hide it."""
    bench = await Bench().start()
    path = watched.DIRECTOR_TABLE.path(WEB)
    bench.api.failures["DELETE", path] = Unreachable("no answer")
    await changed(bench)
    await work(bench)
    bench.clock.advance(40)
    assert tables(bench) == {"web": OLD, "web.2": NEW}
    assert "shop/web (web)" in bench.reconciler.problem(bench.clock.now)
    del bench.api.failures["DELETE", path]
    bench.clock.advance(60)
    await work(bench)
    assert tables(bench) == {"web.2": NEW}
    assert not bench.pending.failures


async def test_a_held_removal_does_not_keep_the_new_vip_waiting() -> None:
    """While removals are held the new VIP comes up beside the old one."""
    bench = await Bench().start()
    bench.guard.compare("virtualservices=earlier")
    await changed(bench)
    await work(bench)
    assert tables(bench) == {"web": OLD, "web.2": NEW}
    assert bench.told() == ((OLD, NEW), (OLD, NEW))
    bench.clock.advance(HOLD_SECONDS + 60)
    await work(bench)
    assert tables(bench) == {"web.2": NEW}


class Wall:
    """The wall clock of controllers and API server."""

    def __init__(self, bench: Bench) -> None:
        self.now = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)
        self._bench = bench

    def __call__(self) -> dt.datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += dt.timedelta(seconds=seconds)
        self._bench.api.now = self.now.strftime("%Y-%m-%dT%H:%M:%SZ")

    def handovers(self) -> Handovers:
        """Return what a controller that has just started measures by."""
        bench = self._bench
        return Handovers(bench.store, bench.reconciler.decisions, bench.intake.dirty, self)


async def test_the_old_vip_is_given_up_after_five_minutes() -> None:
    """A VIP that somebody else has would never come up, and the old one never go."""
    bench = await Bench().start()
    wall = Wall(bench)
    wall.advance(3600)
    handovers = wall.handovers()
    await changed(bench)
    handovers.look()
    wall.advance(HANDOVER_SECONDS - 10)
    handovers.look()
    await bench.settle()
    assert tables(bench) == {"web": OLD, "web.2": NEW}
    wall.advance(10)
    handovers.look()
    await bench.settle()
    assert tables(bench) == {"web.2": NEW}
    handovers.look()
    assert not bench.store.overdue


async def test_a_new_leader_goes_on_where_the_one_before_was() -> None:
    """Leaders that change every few minutes would keep both VIPs for ever."""
    bench = await Bench().start()
    wall = Wall(bench)
    await changed(bench)
    for _ in range(3):
        wall.advance(HANDOVER_SECONDS / 3)
        wall.handovers().look()
    await bench.settle()
    assert tables(bench) == {"web.2": NEW}


async def test_each_change_has_its_own_five_minutes() -> None:
    """A change back and forth would find the time of the first one over."""
    bench = await Bench().start()
    wall = Wall(bench)
    handovers = wall.handovers()
    await changed(bench)
    handovers.look()
    wall.advance(HANDOVER_SECONDS - 10)
    await changed(bench, "192.0.2.30", 3)
    handovers.look()
    wall.advance(20)
    handovers.look()
    await bench.settle()
    assert tables(bench) == {"web": OLD, "web.3": "192.0.2.30"}


async def test_a_table_without_a_time_is_waited_for() -> None:
    """Nobody loses a VIP by a mistake."""
    bench = await Bench().start()
    wall = Wall(bench)
    bench.api.now = ""
    await changed(bench)
    wall.advance(10 * HANDOVER_SECONDS)
    wall.handovers().look()
    await bench.settle()
    assert tables(bench) == {"web": OLD, "web.2": NEW}
