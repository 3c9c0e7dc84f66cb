"""What a service costs does not grow with its neighbours on the VIP: a thousand of them would starve the controller."""

import sys
from collections.abc import Callable

from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.objects import Key, Port
from lvs_dr.core.summary import real_server_status, virtual_service_status
from tests.unit.core.clusters import D1, D2, S1, S2, converge, serving
from tests.unit.core.worlds import NOW, Objects, real_server, service

SLACK = 1.1


def calls(run: Callable[[], object]) -> int:
    """Return how many functions are called, C's included: what takes time, without a clock."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        run()
    finally:
        sys.setprofile(None)
    return count


def cluster(services: int) -> Objects:
    """Return a cluster that serves so many ports of one VIP."""
    many = (service(f"web-{number}", ports=(Port(1000 + number),)) for number in range(services))
    objects = serving(*many, real_server(S1), real_server(S2), directors=(D1, D2))
    assert len(objects.world.tables) == services
    return objects


def added(objects: Objects) -> int:
    """Return the calls that it takes to serve another one."""
    return calls(lambda: objects.put(service("another", ports=(Port(80),)))) + calls(
        lambda: objects.compile_service(Key("shop", "another"))
    )


def test_one_more_costs_the_same_among_many() -> None:
    """Applied at once, a thousand must not cost a million looks."""
    few, many = cluster(10), cluster(60)
    assert added(many) <= added(few) * SLACK


def test_compiling_and_summarising_cost_the_same_among_many() -> None:
    """Whoever starts anew compiles everything."""
    few, many = cluster(10), cluster(60)
    key = Key("shop", "web-7")
    for run in (
        lambda objects: compile_table(objects.world, key),
        lambda objects: virtual_service_status(objects.world, key, objects.decisions[key], None, NOW),
    ):
        cost = [calls(lambda objects=objects, run=run: run(objects)) for objects in (few, many)]  # type: ignore[misc]
        assert cost[1] <= cost[0] * SLACK


def test_a_real_servers_status_takes_one_look_at_each_of_its_tables() -> None:
    """A machine in hundreds of services is summarised at each report about one of them."""
    cost = [
        calls(lambda objects=objects: real_server_status(objects.world, Key("shop", S1), objects.decisions, None, NOW))  # type: ignore[misc]
        for objects in (cluster(10), cluster(60))
    ]
    assert cost[1] <= 6 * cost[0] * SLACK


def test_another_port_asks_nobody_else() -> None:
    """An edit of one service's port compiles that one again, and who wants the port."""
    objects = cluster(10)
    converge(objects)
    dirty = objects.put(service("web-3", ports=(Port(5000),)))
    assert dirty.services == {Key("shop", "web-3")}
    dirty = objects.put(service("web-4", ports=(Port(5000),)))
    assert dirty.services == {Key("shop", "web-3"), Key("shop", "web-4")}
