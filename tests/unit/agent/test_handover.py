"""A changed VIP: the new one serves before the old one goes, and the old one goes."""

from msgspec.structs import replace

from lvs_dr.agent.handover import HANDOVER_SECONDS, Handover
from tests.unit.agent.bench import DIRECTOR, VIP, Bench, vrrp
from tests.unit.core.plan_cases import VIPS, table

OLD, NEW, _ = VIPS
NAME = "web/one"
BEFORE = {NAME: table(OLD)}
AFTER = {NAME: table(NEW)}


def changed(after: dict[str, object] | None = None, **more: object) -> tuple[Handover, frozenset[str]]:
    """Return what is kept in the first pass after the change."""
    handover = Handover()
    known = {"held": {OLD}, "announced": {NEW}, "now": 0.0} | more
    return handover, handover.kept(BEFORE, AFTER if after is None else after, **known)  # type: ignore[arg-type]


def test_the_old_vip_stays_until_the_new_one_is_held() -> None:
    """Clients would have neither while the new address is probed for."""
    handover, kept = changed()
    assert kept == {OLD}
    assert handover.kept(AFTER, AFTER, held={OLD}, announced={NEW}, now=3.0) == {OLD}
    assert not handover.kept(AFTER, AFTER, held={OLD, NEW}, announced={NEW}, now=4.0)
    assert not handover.kept(AFTER, AFTER, held={OLD, NEW}, announced={NEW}, now=5.0)


def test_it_waits_for_a_real_server_of_the_new_vip() -> None:
    """The new VIP would be held, and answer with resets, before any backend has it on lo."""
    waiting = {NAME: replace(AFTER[NAME], destinations=(), pending=AFTER[NAME].destinations)}
    handover, _ = changed(waiting)
    assert handover.kept(waiting, waiting, held={OLD, NEW}, announced={NEW}, now=1.0) == {OLD}
    assert not handover.kept(waiting, AFTER, held={OLD, NEW}, announced={NEW}, now=2.0)


def test_it_does_not_wait_for_ever() -> None:
    """An address that somebody else has would keep the old one on the director."""
    handover, _ = changed()
    assert not handover.kept(AFTER, AFTER, held={OLD}, announced={NEW}, now=HANDOVER_SECONDS)


def test_only_its_own_successor_is_waited_for() -> None:
    """A removed VirtualService, or a VIP that moves to another director, would hold on to its address."""
    assert not changed({})[1]
    assert not changed(announced=set())[1]
    assert not changed(BEFORE)[1]
    assert not changed(held=set())[1]


async def test_an_agent_holds_the_old_vip_until_the_new_one_has_come_up(bench: Bench) -> None:
    """A changed VIP is an outage of as long as the new address is probed for."""
    director = DIRECTOR["director"]
    async with bench.running():
        await bench.table()
        await bench.node(DIRECTOR)
        await bench.until(lambda: bench.speaker.held == {VIP})
        bench.speaker.probing.clear()
        await bench.table(address=NEW)
        await bench.node({"decided": True, "director": director | vrrp(NEW)})
        await bench.until(lambda: any(key.address == NEW for key in bench.kernel.services))
        await bench.passes(3)
        assert bench.speaker.held == {VIP}
        assert any(key.address == VIP for key in bench.kernel.services)
        bench.speaker.probing.set()
        await bench.until(lambda: bench.speaker.held == {NEW})
        await bench.until(lambda: {key.address for key in bench.kernel.services} == {NEW})
