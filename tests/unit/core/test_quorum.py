"""Quorum: Ready tells when too few real servers are healthy, and does not flap."""

from typing import Any

from lvs_dr.core.node_status import TableException
from lvs_dr.core.objects import Quorum
from lvs_dr.core.status import VirtualServiceStatus
from tests.unit.core.clusters import D1, S1, S2, agent, down, serving, web_status
from tests.unit.core.test_summary import condition, told
from tests.unit.core.worlds import Objects, real_server, service

PANIC = TableException("Panic", "fewer than 60% of the real servers are healthy on port 80/TCP: all serve")


def cluster(**given: Any) -> Objects:
    """Return a cluster that serves with a quorum."""
    return serving(service(**given), real_server(S1), real_server(S2))


def seen(objects: Objects, *failed: str, previous: VirtualServiceStatus | None = None) -> VirtualServiceStatus:
    """Return the status while these fail their checks."""
    agent(objects, D1, web=tuple(each for name in failed for each in down(name)))
    return web_status(objects, previous)


def test_fewer_than_the_quorum_is_not_ready_and_says_so_in_numbers() -> None:
    """A deployment that waits for Ready would go on with half of what it needs."""
    objects = cluster(quorum=Quorum(2))
    assert told(seen(objects).conditions) == ("True", "Serving")
    found = seen(objects, S2)
    assert told(found.conditions) == ("False", "QuorumLost")
    text = condition(found.conditions).message
    assert "1 of 2 real servers healthy" in text
    assert text.endswith("quorum.minimumHealthy is 2")
    assert told(seen(objects, S1, S2).conditions) == ("False", "NoHealthyRealServer")


def test_one_is_enough_without_a_quorum() -> None:
    """As it was before there was one."""
    assert told(seen(cluster(), S2).conditions) == ("True", "Serving")


def test_back_only_with_the_hysteresis() -> None:
    """One that comes and goes would flap Ready, and with it what watches it."""
    objects = cluster(quorum=Quorum(1, hysteresis=1))
    first = seen(objects, S2)
    assert told(first.conditions) == ("True", "Serving")
    lost = seen(objects, S1, S2, previous=first)
    assert told(lost.conditions) == ("False", "NoHealthyRealServer")
    still = seen(objects, S2, previous=lost)
    assert told(still.conditions) == ("False", "QuorumLost")
    assert "2 needed until it is back (quorum 1, hysteresis 1)" in condition(still.conditions).message
    back = seen(objects, previous=still)
    assert told(back.conditions) == ("True", "Serving")
    assert told(seen(objects, S2, previous=back).conditions) == ("True", "Serving")


def test_all_healthy_is_always_enough_to_come_back() -> None:
    """A hysteresis above what there is would keep Ready False for ever."""
    objects = cluster(quorum=Quorum(1, hysteresis=9))
    lost = seen(objects, S1, S2)
    assert told(seen(objects, previous=lost).conditions) == ("True", "Serving")


def test_a_panic_is_told_and_healthy_is_still_the_truth() -> None:
    """Nobody would see that connections go to servers whose checks fail."""
    objects = cluster(panic_threshold_percent=60)
    assert objects.world.tables[service().meta.key].spec.requires == ("panic-threshold",)
    agent(objects, D1, web=(PANIC, *down(S2)))
    found = web_status(objects)
    assert told(found.conditions) == ("True", "Panic")
    assert f"director {D1}: fewer than 60%" in condition(found.conditions).message
    assert found.real_servers.summary == "1/2"
    agent(objects, D1, web=(PANIC, *down(S1), *down(S2)))
    none = web_status(objects, found)
    assert told(none.conditions) == ("False", "NoHealthyRealServer")
    assert "fewer than 60%" in condition(none.conditions).message
