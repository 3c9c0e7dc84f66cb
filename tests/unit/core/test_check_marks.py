"""Firewall marks of checks through VIPs: one for each real server, the same for all directors, and lasting."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.checks import ExecCheck, PingCheck, TableHealthCheck, TcpCheck
from lvs_dr.core.director_group import MarkRange
from lvs_dr.core.indexing import IMPLICIT_GROUP
from lvs_dr.core.objects import CheckPath, ForwardingMethod, Key, Override, Port
from lvs_dr.core.reasons import Reason
from lvs_dr.core.service_status import virtual_service_status
from lvs_dr.core.table import FEATURE_VIRTUAL_CHECKS
from lvs_dr.core.table_spec import required
from tests.unit.core.clusters import serving
from tests.unit.core.worlds import NOW, VIP, Objects, group, real_server, service

WEB = Key("shop", "web")


def external(count: int, **more: Any) -> list[Any]:
    """Return real servers that are no nodes."""
    return [real_server(f"x{n:03}", node_name="", addresses=(f"192.0.2.{n + 10}",), **more) for n in range(count)]


def checked(name: str = "web", **given: Any) -> Any:
    """Return a VirtualService with the API's default path."""
    return service(name, **{"check_path": None} | given)


def marks(objects: Objects, key: Any = WEB) -> dict[str, int]:
    """Return the marks in a table, by address."""
    return {each.address: each.check_mark for each in objects.world.tables[key].spec.destinations}


def test_each_real_server_has_a_mark_of_its_own_in_the_range() -> None:
    """A check would reach another real server, or its mark would be somebody else's."""
    objects = serving(checked(), *external(200))
    found = marks(objects)
    assert len(found) == len(set(found.values())) == 200
    assert all(MarkRange().holds(mark) for mark in found.values())
    assert required(objects.world.tables[WEB].spec) == (FEATURE_VIRTUAL_CHECKS,)


def test_the_default_range_keeps_clear_of_others_bits() -> None:
    """kube-proxy would masquerade or drop the packets, the portmap plug-in or a CNI take them for its own."""
    given = MarkRange()
    for mark in range(given.first, given.last + 1):
        assert not mark & (0x4000 | 0x8000 | 0x2000 | 0x0F00 | 0xFFFF0000)


def test_vips_share_the_marks_of_their_real_servers() -> None:
    """Each VIP would double the entries in the kernel."""
    objects = serving(checked(), checked("other", address="192.0.2.101"), *external(5))
    other = next(key for key in objects.world.tables if key.name == "other")
    assert marks(objects) == marks(objects, other)


@settings(deadline=None)  # speed is not asserted
@given(st.permutations(range(8)), st.sets(st.integers(0, 7)))
def test_marks_last(order: list[int], leaving: set[int]) -> None:
    """A real server whose mark changes is checked anew, and its check may lead to its predecessor for a moment."""
    servers = external(8)
    objects = serving(checked(), *(servers[n] for n in order[:4]))
    before = marks(objects)
    objects.put(*(servers[n] for n in order[4:]))
    objects.settle()
    assert before.items() <= marks(objects).items()
    now = marks(objects)
    for n in leaving:
        objects.put(replace(servers[n], meta=replace(servers[n].meta, labels=())))
    objects.settle()
    assert marks(objects).items() <= now.items()


def test_a_mark_that_two_tables_chose_at_the_same_moment_is_given_up_by_one() -> None:
    """One director would check the wrong real server for ever."""
    objects = serving(checked(), checked("other", address="192.0.2.101"), *external(2))
    other = next(key for key in objects.world.tables if key.name == "other")
    table = objects.world.tables[other].spec
    first = marks(objects)["192.0.2.10"]
    wrong = tuple(replace(each, check_mark=first if each.address == "192.0.2.11" else 0) for each in table.destinations)
    objects.write_table(other, replace(table, destinations=wrong))
    objects.settle()
    both = [*marks(objects).items(), *marks(objects, other).items()]
    servers: dict[int, set[str]] = {}
    for address, mark in both:
        servers.setdefault(mark, set()).add(address)
    assert 0 not in servers
    assert all(len(found) == 1 for found in servers.values()), both


def test_a_users_firewall_mark_comes_first() -> None:
    """A VirtualService by firewall mark would get the packets of checks."""
    objects = serving(checked(), *external(3))
    taken = marks(objects)["192.0.2.10"]
    objects.put(checked("marked", address="192.0.2.105", ports=(), firewall_mark=taken, health_check=None))
    objects.settle()
    found = marks(objects)
    assert taken not in found.values()
    assert len(set(found.values())) == 3


def test_too_few_marks_are_told() -> None:
    """People would believe that all real servers are checked through the VIP."""
    objects = serving(checked(), *external(4))
    objects.put(group("default", check_marks=MarkRange(100, 102), node_selector=IMPLICIT_GROUP.node_selector))
    objects.settle()
    assert sorted(marks(objects).values()) == [0, 100, 101, 102]
    told = virtual_service_status(objects.world, WEB, objects.decisions[WEB], None, NOW)
    condition = next(each for each in told.conditions if each.type == "CheckedThroughVIP")
    assert (condition.status, condition.reason) == ("False", Reason.MARKS_EXHAUSTED)
    assert "checkMarks" in condition.message


def test_who_is_checked_at_its_own_address() -> None:
    """Their checks through the VIP could not be made, or would say nothing of what clients get."""
    plain = external(2)
    elsewhere = real_server("y", node_name="", addresses=("192.0.2.90",), check_address="198.51.100.1")
    masqueraded = Override(real_server="x001", forwarding=ForwardingMethod.MASQUERADE)
    objects = serving(checked(overrides=(masqueraded,)), *plain, elsewhere)
    found = marks(objects)
    assert found["192.0.2.10"]
    assert found["192.0.2.11"] == found["192.0.2.90"] == 0
    for check in (TableHealthCheck(ping=PingCheck()), TableHealthCheck(script=ExecCheck("x")), None):
        assert not any(marks(serving(checked(health_check=check), *plain)).values())
    assert not any(marks(serving(checked(check_path=CheckPath.REAL_ADDRESS), *plain)).values())
    tunnelled = {"forwarding": ForwardingMethod.TUNNEL}
    assert not any(marks(serving(checked(**tunnelled), *plain)).values())
    assert all(marks(serving(checked(check_path=CheckPath.VIRTUAL_ADDRESS, **tunnelled), *plain)).values())


def test_ports_share_a_mark() -> None:
    """A service of many ports would need many marks."""
    objects = serving(checked(ports=(Port(80), Port(443)), health_check=TableHealthCheck(TcpCheck())), *external(1))
    assert len(marks(objects)) == 1
    assert VIP not in marks(objects)
