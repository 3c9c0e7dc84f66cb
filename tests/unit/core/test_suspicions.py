"""What a backend's agent says beside the directors' verdict, and what people read of it."""

from msgspec.structs import replace

from lvs_dr.core.conditions import is_true
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node_status import TableException
from lvs_dr.core.objects import Protocol
from lvs_dr.core.real_server_status import real_server_status
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, RealServerStatus
from lvs_dr.core.suspicions import BackendService, Listener, OwnInterface, OwnView, Suspicion, suspicions
from tests.unit.core.clusters import D1, D2, S1, agent, serving
from tests.unit.core.worlds import NOW, VIP, Objects

WEB = BackendService(VIP, 443)
HERE = Listener(6, VIP, 443)
INTERFACES = (OwnInterface("eth0", ("192.0.2.21/24",)), OwnInterface("eth1", ("198.51.100.21/24",)))


def reasons(view: OwnView, *, on_lo: tuple[str, ...] = (VIP,), silent: bool = True) -> list[str]:
    """Return what is suspicious about the service."""
    return [each.reason for each in suspicions((WEB,), view, INTERFACES, on_lo=on_lo, silent=silent)]


def test_a_service_on_the_vip_or_on_all_addresses_is_right() -> None:
    """People would look for a mistake that is none."""
    for listener in (HERE, Listener(6, "", 443)):
        assert reasons(OwnView(frozenset({listener}))) == []


def test_a_service_elsewhere_is_named() -> None:
    """Bound to the real server's own address, or to UDP, it never answers a client."""
    for listener in (Listener(6, "192.0.2.21", 443), Listener(17, "", 443), Listener(6, "", 80)):
        assert reasons(OwnView(frozenset({listener}))) == [Reason.NOT_LISTENING]
    told = suspicions((WEB,), OwnView(), INTERFACES, on_lo=(VIP,), silent=True)
    assert (told[0].port, told[0].address) == (443, VIP)
    udp = BackendService(VIP, 53, Protocol.UDP)
    view = OwnView(frozenset({Listener(17, "", 53)}))
    assert suspicions((udp,), view, INTERFACES, on_lo=(VIP,), silent=True) == ()


def test_a_missing_vip_and_overridden_settings_are_named() -> None:
    """The two commonest reasons for silence."""
    assert reasons(OwnView(frozenset({HERE})), on_lo=()) == [Reason.VIP_MISSING]
    assert reasons(OwnView(frozenset({HERE})), silent=False) == [Reason.ARP_OVERRIDDEN]


def test_strict_filtering_where_the_way_back_is_another() -> None:
    """No check of a director sees it: directors are on the same segment, and clients are not."""
    strict = {"all": "0", "eth0": "1"}
    view = OwnView(frozenset({HERE}), strict, ("198.51.100.1",))
    assert reasons(view) == [Reason.REPLY_PATH_SUSPECT]
    assert reasons(view._replace(reverse={"all": "1", "eth0": "0"})) == [Reason.REPLY_PATH_SUSPECT]
    assert reasons(view._replace(reverse={"all": "1", "eth0": "2"})) == []
    assert reasons(view._replace(gateways=("192.0.2.1",))) == []
    assert reasons(view._replace(gateways=())) == []


def condition(objects: Objects, type_: str, before: RealServerStatus | None = None) -> Condition:
    """Return a condition of the first real server."""
    key = next(key for key in objects.world.real_servers if key.name == S1)
    status = real_server_status(objects.world, key, objects.decisions, before, NOW)
    return next(each for each in status.conditions if each.type == type_)


def test_the_message_names_the_cause_that_the_node_sees() -> None:
    """Who reads `Blackholed` alone has four places to look at."""
    objects = serving()
    dead = TableException(Reason.BLACKHOLED, "192.0.2.11 port 80: no answer within 1 s", S1)
    for director in (D1, D2):
        agent(objects, director, web=(dead,))
    status = objects.world.lvs_nodes[S1].status
    assert status is not None
    dirty = objects.report(S1, replace(status, suspicions=(Suspicion(Reason.NOT_LISTENING, "nothing listens", VIP),)))
    assert S1 in {key.name for key in dirty.real_servers}
    told = condition(objects, "Healthy")
    assert (told.status, told.reason) == ("False", Reason.BLACKHOLED)
    assert told.message.endswith(f"node {S1}: nothing listens")


def test_a_suspicious_way_back_is_told_although_all_is_configured() -> None:
    """Only clients from elsewhere lose, and nobody else notices."""
    objects = serving()
    status = objects.world.lvs_nodes[S1].status
    assert status is not None
    objects.report(S1, replace(status, suspicions=(Suspicion(Reason.REPLY_PATH_SUSPECT, "drops them", VIP),)))
    told = condition(objects, "Configured")
    assert (told.status, told.reason) == ("True", Reason.REPLY_PATH_SUSPECT)
    assert is_true((told,), "Configured")
    assert "drops them" in told.message


def test_a_backend_is_told_what_it_serves() -> None:
    """Its agent could not know on which port of the VIP something must listen."""
    objects = serving()
    assert objects.world.lvs_nodes[S1].spec.backend_services == (BackendService(VIP, 80),)
    assert objects.world.lvs_nodes[D1].spec.backend_services == ()


def test_a_backend_knows_what_it_serves_for_as_long_as_it_has_the_vip() -> None:
    """A service that is replaced would cost two writes for each node, and its ports would be unknown in between."""
    objects = serving()
    objects.remove(Kind.REAL_SERVER, S1, "shop")
    objects.settle()
    found = objects.world.lvs_nodes[S1].spec
    assert (found.backend_addresses, found.backend_services) == ((VIP,), (BackendService(VIP, 80),))
    agent(objects, D1)
    agent(objects, D2)
    objects.settle()
    found = objects.world.lvs_nodes[S1].spec
    assert (found.backend_addresses, found.backend_services) == ((), ())
