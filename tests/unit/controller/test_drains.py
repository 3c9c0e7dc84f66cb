"""The time of a drain in the controller: over when it is over, whoever leads."""

import datetime as dt

import pytest

from lvs_dr.controller import watched
from lvs_dr.controller.drains import Drains
from lvs_dr.core.objects import Key
from lvs_dr.core.status import Condition, ConditionStatus, RealServerStatus
from tests.unit.controller.bodies import real_server
from tests.unit.controller.test_reconcile import WEB, Bench

ONE = Key("shop", "one")
BEGAN = dt.datetime(2026, 1, 1, tzinfo=dt.UTC)


class Clock:
    """A wall clock."""

    def __init__(self) -> None:
        self.now = BEGAN

    def __call__(self) -> dt.datetime:
        return self.now


async def drain(bench: Bench, seconds: int = 60, since: str = "2026-01-01T00:00:00Z") -> None:
    """Drain the example's real server; its status says since when."""
    body = real_server("one", generation=2)
    body["spec"] |= {"state": "Drain", "drain": {"timeoutSeconds": seconds}}
    await bench.user(watched.REAL_SERVER, body)
    condition = Condition("Drained", ConditionStatus.FALSE, "Draining", "3 connections left", 2, since)
    bench.store.statuses["RealServer", ONE] = RealServerStatus(2, "192.0.2.1", 1, (condition,))
    await bench.settle()


def names(bench: Bench) -> list[str]:
    """Return the real servers of the example's table."""
    return [each.real_server for each in bench.store.world.tables[WEB].spec.destinations]


async def test_it_is_taken_out_when_its_time_is_over_and_not_before() -> None:
    """The maintenance window begins; and until then nobody is cut off."""
    bench, clock = await Bench().start(), Clock()
    await drain(bench)
    drains = Drains(bench.store, bench.intake.dirty, clock)
    clock.now = BEGAN + dt.timedelta(seconds=59)
    drains.look()
    await bench.settle()
    assert names(bench) == ["one"]
    clock.now = BEGAN + dt.timedelta(seconds=60)
    drains.look()
    await bench.settle()
    assert names(bench) == []


async def test_a_new_leader_goes_on_where_the_one_before_was() -> None:
    """Rolling out the controller would keep a drain from ever ending."""
    bench, clock = await Bench().start(), Clock()
    await drain(bench)
    clock.now = BEGAN + dt.timedelta(hours=1)
    Drains(bench.store, bench.intake.dirty, clock).look()
    await bench.settle()
    assert names(bench) == []


@pytest.mark.parametrize(("seconds", "since"), [(0, "2026-01-01T00:00:00Z"), (60, "yesterday")])
async def test_without_a_limit_or_a_beginning_it_is_waited_for(seconds: int, since: str) -> None:
    """Nobody is cut off by a mistake."""
    bench, clock = await Bench().start(), Clock()
    await drain(bench, seconds, since)
    clock.now = BEGAN + dt.timedelta(days=30)
    Drains(bench.store, bench.intake.dirty, clock).look()
    await bench.settle()
    assert names(bench) == ["one"]


async def test_one_that_is_put_back_has_no_time() -> None:
    """Its next drain would be over at once."""
    bench, clock = await Bench().start(), Clock()
    await drain(bench)
    drains = Drains(bench.store, bench.intake.dirty, clock)
    clock.now = BEGAN + dt.timedelta(seconds=60)
    drains.look()
    assert bench.store.drain_over == {ONE}
    await bench.user(watched.REAL_SERVER, real_server("one", generation=3))
    drains.look()
    await bench.settle()
    assert not bench.store.drain_over
    assert names(bench) == ["one"]
