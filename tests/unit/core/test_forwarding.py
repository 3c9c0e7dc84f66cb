"""Forwarding methods, limits, flags and settings from what users wrote to what directors and backends are told."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.checks import HttpCheck, TableHealthCheck, TcpCheck
from lvs_dr.core.director_group import IpvsSettings
from lvs_dr.core.node import BackendTunnel, IpvsSysctl
from lvs_dr.core.objects import (
    ConnectionLimits,
    ForwardingMethod,
    Key,
    Override,
    Persistence,
    Port,
    Protocol,
    RealServerState,
    Selector,
    Tunnel,
    TunnelChecksum,
    TunnelType,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import (
    FEATURE_ANY_PORT,
    FEATURE_FIREWALL_MARK,
    FEATURE_FORWARDING,
    FEATURE_HEALTH_CHECKS,
    FEATURE_SERVICE_OPTIONS,
    TableDestination,
    TablePersistence,
    TableTunnel,
)
from lvs_dr.core.table_spec import required
from lvs_dr.core.weights import SH_SLOTS, as_scheduled
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, agent, converge, nodes, serving
from tests.unit.core.worlds import VIP, Objects, group, real_server, service

WEB = Key("shop", "web")
DIRECT, TUNNEL, MASQUERADE = ForwardingMethod.DIRECT_ROUTING, ForwardingMethod.TUNNEL, ForwardingMethod.MASQUERADE
IPIP = TableTunnel()
END = BackendTunnel(address=ADDRESSES[S1], tunnel=IPIP)


def entries(objects: Objects, key: Key = WEB) -> dict[str, TableDestination]:
    """Return the table's destinations by name."""
    return {each.real_server: each for each in objects.world.tables[key].spec.destinations}


def ways(objects: Objects) -> dict[str, ForwardingMethod]:
    """Return how the table reaches each real server."""
    return {name: each.forwarding for name, each in entries(objects).items()}


def reason(objects: Objects, name: str, key: Key = WEB) -> Reason:
    """Return what the last compile says about a real server."""
    return next(each for each in objects.decisions[key].members if each.real_server.name == name).verdict.reason


def change(objects: Objects, **given: Any) -> None:
    """Change `web`, and let the controller alone work."""
    before = objects.world.virtual_services[WEB]
    meta = replace(before.meta, generation=before.meta.generation + 1)
    objects.put(replace(before, meta=meta, **given))
    objects.settle()


def test_everything_arrives_in_the_table() -> None:
    """What a user wrote is what directors are told."""
    objects = serving(
        service(
            ports=(Port(53, Protocol.UDP, "", 5353),),
            scheduler="sh",
            scheduler_flags=("sh-port",),
            persistence=Persistence(60, 24, "sip"),
            one_packet=True,
            forwarding=MASQUERADE,
            quiesce_seconds=5,
            health_check=TableHealthCheck(TcpCheck(port=5353)),
            overrides=(Override(S2, weight=10, limits=ConnectionLimits()),),
        ),
        real_server(S1, weight=20, limits=ConnectionLimits(9, 5)),
        real_server(S2, limits=ConnectionLimits(9)),
    )
    spec = objects.world.tables[WEB].spec
    assert [(each.port, each.target_port) for each in spec.ports] == [(53, 5353)]
    assert (spec.scheduler_flags, spec.one_packet, spec.quiesce_seconds) == (("sh-port",), True, 5)
    assert spec.persistence == TablePersistence(timeout_seconds=60, prefix_length=24, engine="sip")
    assert spec.health_check is not None
    assert spec.health_check.tcp.port == 5353
    limits = {name: (each.weight, each.upper, each.lower) for name, each in entries(objects).items()}
    assert limits == {S1: (2, 9, 5), S2: (1, 0, 0)}, "weights of sh are in lowest terms"
    assert spec.requires == (FEATURE_FORWARDING, FEATURE_SERVICE_OPTIONS)


@pytest.mark.parametrize(
    ("given", "features"),
    [
        ({}, ()),
        ({"quiesce_seconds": 0}, ()),
        ({"ports": (), "firewall_mark": 7}, (FEATURE_FIREWALL_MARK,)),
        ({"ports": (Port(0),), "persistence": Persistence(300, 32)}, (FEATURE_ANY_PORT, FEATURE_SERVICE_OPTIONS)),
        ({"scheduler": "mh", "scheduler_flags": ("mh-port",)}, (FEATURE_SERVICE_OPTIONS,)),
        ({"forwarding": MASQUERADE}, (FEATURE_FORWARDING,)),
        ({"health_check": TableHealthCheck(TcpCheck(), 5, 4, 3, 2)}, ()),
        ({"health_check": TableHealthCheck(http=HttpCheck())}, (FEATURE_HEALTH_CHECKS,)),
        ({"health_check": TableHealthCheck(TcpCheck(expect="00"))}, (FEATURE_HEALTH_CHECKS,)),
        ({"health_check": TableHealthCheck(TcpCheck(), jitter_percent=9)}, (FEATURE_HEALTH_CHECKS,)),
    ],
)
def test_a_table_requires_only_what_it_uses(given: dict[str, Any], features: tuple[str, ...]) -> None:
    """A plain service goes on through an upgrade whatever the agents' version."""
    objects = serving(service(**given), real_server(S1))
    assert objects.world.tables[WEB].spec.requires == features == required(objects.world.tables[WEB].spec)


def test_a_check_address_reaches_the_table_and_needs_an_agent_that_knows_it() -> None:
    """An older agent would check another address, and take a real server out that is well."""
    objects = serving(service(), real_server(S1, check_address="198.51.100.9"))
    assert entries(objects)[S1].check_address == "198.51.100.9"
    assert objects.world.tables[WEB].spec.requires == (FEATURE_HEALTH_CHECKS,)


def test_masquerading_puts_no_vip_on_lo_and_enters_at_once() -> None:
    """The real server sees its own address; a VIP there would only take it away from the node."""
    objects = nodes(D1)
    objects.put(service(forwarding=MASQUERADE), real_server(S1))
    objects.settle()
    assert ways(objects) == {S1: MASQUERADE}
    converge(objects)
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == ()


def test_masquerading_and_tunnels_reach_beyond_the_segment() -> None:
    """NotOnLink is for direct routing, which has no routers on its way."""
    far = real_server("far", node_name="", addresses=("198.51.100.7",))
    objects = nodes(D1)
    objects.put(service(), far)
    objects.settle()
    assert reason(objects, "far") is Reason.NOT_ON_LINK
    for method in (MASQUERADE, TUNNEL):
        change(objects, forwarding=method)
        assert ways(objects) == {"far": method}


def test_a_tunnel_reaches_an_ipv6_real_server_of_an_ipv4_vip() -> None:
    """The VIP's own family comes first; the other way in, nothing but a tunnel can."""
    six = real_server("six", node_name="", addresses=("2001:db8::7",))
    both = real_server("both", node_name="", addresses=("192.0.2.50", "2001:db8::8"))
    objects = nodes(D1)
    objects.put(service(), six, both)
    objects.settle()
    assert reason(objects, "six") is Reason.NO_ADDRESS
    change(objects, forwarding=TUNNEL)
    assert {name: each.address for name, each in entries(objects).items()} == {
        "both": "192.0.2.50",
        "six": "2001:db8::7",
    }


def test_a_destination_by_tunnel_waits_for_the_vip_and_for_the_tunnels_end() -> None:
    """Before that the node would drop what arrives, or route it back."""
    objects = nodes(D1)
    objects.put(service(forwarding=TUNNEL), real_server(S1))
    objects.settle()
    told = objects.world.lvs_nodes[S1]
    assert (told.spec.backend_addresses, told.spec.backend_tunnels) == ((VIP,), (END,))
    assert told.spec.requires == ("tunnels",)
    assert told.status is not None
    objects.report(S1, replace(told.status, observed_generation=told.generation, loopback_addresses=(VIP,)))
    objects.settle()
    assert (entries(objects), reason(objects, S1)) == ({}, Reason.WAITING_FOR_TUNNEL)
    agent(objects, S1)
    objects.settle()
    assert entries(objects)[S1].tunnel == IPIP


@pytest.mark.parametrize("before", [DIRECT, MASQUERADE, TUNNEL])
@pytest.mark.parametrize("after", [DIRECT, MASQUERADE, TUNNEL])
def test_a_changed_method_takes_nobody_out(before: ForwardingMethod, after: ForwardingMethod) -> None:
    """The old way is served until the node is ready for the new one, and what it needed leaves last."""
    objects = serving(service(forwarding=before), real_server(S1), real_server(S2))
    assert ways(objects) == dict.fromkeys((S1, S2), before)
    change(objects, forwarding=after)
    for _ in range(6):
        assert len(ways(objects)) == 2, "a real server was taken out"
        for each in entries(objects).values():
            status = objects.world.lvs_nodes[each.node].status
            assert status is not None
            assert each.forwarding is MASQUERADE or VIP in status.loopback_addresses
            assert each.tunnel is None or BackendTunnel(address=each.address, tunnel=each.tunnel) in status.tunnels
        for name in (D1, D2, S1, S2):
            agent(objects, name)
            objects.settle()
    assert ways(objects) == dict.fromkeys((S1, S2), after)
    spec = objects.world.lvs_nodes[S1].spec
    assert spec.backend_addresses == (() if after is MASQUERADE else (VIP,))
    assert spec.backend_tunnels == ((END,) if after is TUNNEL else ())


def test_a_vip_and_a_tunnel_leave_after_every_director_has_let_go() -> None:
    """A director that has not read the new table still sends by tunnel."""
    objects = serving(service(forwarding=TUNNEL), real_server(S1))
    change(objects, forwarding=MASQUERADE)
    agent(objects, D1)
    objects.settle()
    spec = objects.world.lvs_nodes[S1].spec
    assert (spec.backend_addresses, spec.backend_tunnels) == ((VIP,), (END,))
    agent(objects, D2)
    objects.settle()
    spec = objects.world.lvs_nodes[S1].spec
    assert (spec.backend_addresses, spec.backend_tunnels) == ((), ())


def test_a_gre_checksum_changes_by_way_of_leaving() -> None:
    """One device takes packets either with a checksum or without: the real server leaves, and comes back."""
    gre = Tunnel(TunnelType.GRE)
    objects = serving(service(forwarding=TUNNEL, tunnel=gre), real_server(S1))
    change(objects, tunnel=Tunnel(TunnelType.GRE, checksum=TunnelChecksum.CHECKSUM))
    assert (entries(objects), reason(objects, S1)) == ({}, Reason.WAITING_FOR_TUNNEL)
    assert [each.tunnel.checksum for each in objects.world.lvs_nodes[S1].spec.backend_tunnels] == ["None"]
    converge(objects)
    tunnel = entries(objects)[S1].tunnel
    assert tunnel is not None
    assert tunnel.checksum is TunnelChecksum.CHECKSUM


def test_an_override_changes_one_service_alone() -> None:
    """The same real server by direct routing in one service and masqueraded in another, each with its weight."""
    other = service(
        "other",
        address="192.0.2.101",
        overrides=(Override(S1, weight=0, forwarding=MASQUERADE, limits=ConnectionLimits(7)),),
    )
    objects = serving(service(), other, real_server(S1), real_server(S2))
    assert ways(objects) == dict.fromkeys((S1, S2), DIRECT)
    changed = entries(objects, other.meta.key)
    assert (changed[S1].forwarding, changed[S1].weight, changed[S1].upper) == (MASQUERADE, 0, 7)
    assert (changed[S2].forwarding, changed[S2].weight, changed[S2].upper) == (DIRECT, 100, 0)
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == (VIP, "192.0.2.101")


def test_maintenance_is_stronger_than_an_override() -> None:
    """Who takes a real server out takes it out everywhere."""
    objects = serving(service(overrides=(Override(S1, weight=9),)), real_server(S1, state=RealServerState.MAINTENANCE))
    assert entries(objects)[S1].weight == 0


def test_settings_of_a_group_reach_its_directors_alone() -> None:
    """Timeouts and sysctls hold for a whole node, so no other node may get them."""
    ours = group(
        "default",
        node_selector=Selector((("lvs-operator.io/director", ""),)),
        ipvs=IpvsSettings(tcp_seconds=7200, sysctls=(("conn_reuse_mode", 2),)),
    )
    objects = serving(ours, service(), real_server(S1))
    spec = objects.world.lvs_nodes[D1].spec
    assert spec.director is not None
    assert spec.director.settings is not None
    assert (spec.director.settings.tcp_seconds, spec.director.settings.udp_seconds) == (7200, None)
    assert spec.director.settings.sysctls == (IpvsSysctl(name="conn_reuse_mode", value=2),)
    assert spec.requires == ("connection-sync", "ipvs-settings", "vrrp")
    assert objects.world.lvs_nodes[S1].spec.requires == ()
    objects.put(replace(ours, ipvs=IpvsSettings()))
    objects.settle()
    role = objects.world.lvs_nodes[D1].spec.director
    assert role is not None
    assert role.settings is None


@given(st.lists(st.integers(0, 65535), max_size=12))
def test_sh_gets_the_same_proportions_in_the_smallest_numbers(weights: list[int]) -> None:
    """With a weight of 100 each, the 256 slots of sh would end with the third real server."""
    given_ = [TableDestination(real_server=f"s{i}", address="192.0.2.1", weight=each) for i, each in enumerate(weights)]
    reduced = [each.weight for each in as_scheduled("sh", given_)]
    pairs = list(zip(weights, reduced, strict=True))
    assert all(a * d == b * c for a, b in pairs for c, d in pairs)
    assert [each == 0 for each in weights] == [each == 0 for each in reduced]
    if len(set(weights) - {0}) == 1:
        assert set(reduced) <= {0, 1}
        assert sum(reduced) <= SH_SLOTS
    assert as_scheduled("wrr", given_) == tuple(given_)
