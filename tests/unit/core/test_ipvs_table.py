"""A DirectorTable as IPVS entries: every field reaches the kernel, and nothing else does."""

from typing import Any

import pytest
from msgspec import structs

from lvs_dr.agent.watch import KNOWN_FEATURES
from lvs_dr.core import kernel, node, table
from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.health import CheckKey, Health, check_keys
from lvs_dr.core.ipvs_table import check_ports, served, service_config
from lvs_dr.core.kernel import DestinationConfig, DestinationKey, Forwarding, ServiceConfig, ServiceKey
from lvs_dr.core.ledger import Ledger, ServiceNote
from lvs_dr.core.objects import ForwardingMethod, Protocol, TunnelChecksum, TunnelType
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import (
    DirectorTableSpec,
    TableDestination,
    TableHealthCheck,
    TablePersistence,
    TablePort,
    TableTunnel,
    TcpCheck,
)
from lvs_dr.netlink import ipvs
from tests.unit.core.plan_cases import RIPS, VIPS, director
from tests.unit.core.plan_cases import table as plain

VIP, _, VIP6 = VIPS
RIP = RIPS[4][0]
TUNNEL, MASQUERADE = ForwardingMethod.TUNNEL, ForwardingMethod.MASQUERADE


def made(vip: str = VIP, entry: dict[str, Any] | None = None, **changes: Any) -> DirectorTableSpec:
    """Return a table with one real server."""
    spec = structs.replace(plain(vip), **changes)
    one = structs.replace(TableDestination("one", RIPS[6][0] if ":" in vip else RIP, 100), **(entry or {}))
    return structs.replace(spec, destinations=(one,))


def wanted(*tables: DirectorTableSpec, held: frozenset[str] = frozenset(), **more: Any) -> Desired:
    """Return what a director wants of these tables."""
    named = {f"a/{number}": one for number, one in enumerate(tables)}
    return desired(director(**more), named, {}, Ledger("b"), held=held, reserved={})


@pytest.mark.parametrize(
    ("changes", "config"),
    [
        ({"scheduler": "fo"}, ServiceConfig("fo")),
        ({"scheduler": "sh", "scheduler_flags": ("sh-fallback",)}, ServiceConfig("sh", 0x8)),
        ({"scheduler": "sh", "scheduler_flags": ("sh-fallback", "sh-port")}, ServiceConfig("sh", 0x18)),
        ({"scheduler": "mh", "scheduler_flags": ("mh-port",)}, ServiceConfig("mh", 0x10)),
        ({"one_packet": True, "ports": (TablePort(53, Protocol.UDP),)}, ServiceConfig("rr", 0x4)),
        ({"persistence": TablePersistence(360, 24)}, ServiceConfig("rr", 0, 360, 24)),
        ({"persistence": TablePersistence(5, 32, "sip")}, ServiceConfig("rr", 0, 5, 32, "sip")),
    ],
)
def test_settings_of_a_service(changes: dict[str, Any], config: ServiceConfig) -> None:
    """A setting of the VirtualService would not reach the kernel."""
    found = wanted(made(**changes))
    assert list(found.services.values()) == [config]


def test_ipv6_services_have_ipv6_prefixes() -> None:
    """The kernel would read back another prefix length than was written, in every pass."""
    assert service_config(made(VIP6)).prefix_length == 128
    assert service_config(made(VIP6, persistence=TablePersistence(60, 64))).prefix_length == 64


@pytest.mark.parametrize(
    ("entry", "config"),
    [
        ({}, DestinationConfig(100, Forwarding.DIRECT_ROUTING)),
        ({"forwarding": MASQUERADE, "upper": 9, "lower": 3}, DestinationConfig(100, Forwarding.MASQUERADE, 9, 3)),
        ({"forwarding": TUNNEL, "tunnel": TableTunnel()}, DestinationConfig(100, Forwarding.TUNNEL)),
        (
            {"forwarding": TUNNEL, "tunnel": TableTunnel(TunnelType.GRE, 0, TunnelChecksum.CHECKSUM)},
            DestinationConfig(100, Forwarding.TUNNEL, tunnel_type=2, tunnel_flags=1),
        ),
        (
            {"forwarding": TUNNEL, "tunnel": TableTunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE)},
            DestinationConfig(100, Forwarding.TUNNEL, tunnel_type=1, tunnel_port=6080, tunnel_flags=2),
        ),
    ],
)
def test_settings_of_a_destination(entry: dict[str, Any], config: DestinationConfig) -> None:
    """A real server would get its packets in a way that it does not understand."""
    assert list(wanted(made(entry=entry)).destinations.values()) == [config]


def test_ports_of_services_and_destinations() -> None:
    """Masquerading would send to the service's port, or any-port and marked packets to one port."""
    rewritten = TablePort(80, Protocol.TCP, 8080)
    found = wanted(made(ports=(rewritten, TablePort(0, Protocol.UDP))))
    assert set(found.destinations) == {
        DestinationKey(ServiceKey(VIP, 80, 6), RIP, 8080),
        DestinationKey(ServiceKey(VIP, 0, 17), RIP, 0),
    }


@pytest.mark.parametrize(("vip", "family"), [(VIP, 2), (VIP6, 10)])
def test_a_firewall_mark_is_one_service_of_the_vips_family(vip: str, family: int) -> None:
    """The service would have an address, which the kernel would ignore, or be of the wrong family."""
    found = wanted(made(vip, ports=(), firewall_mark=7))
    key = ServiceKey("", 0, 0, 7, family)
    assert list(found.services) == [key]
    assert [one.port for one in found.destinations] == [0]
    assert found.notes[key] == ServiceNote(vip, 60)


def test_an_ipv6_real_server_of_an_ipv4_service() -> None:
    """It would be looked for in the wrong family."""
    entry = {"address": RIPS[6][0], "forwarding": TUNNEL, "tunnel": TableTunnel()}
    (key,) = wanted(made(entry=entry)).destinations
    assert (key.service.family, key.address) == (2, RIPS[6][0])


def test_two_tables_with_one_mark_do_not_fight() -> None:
    """Two tables would change the same service in every pass."""
    found = wanted(made(ports=(), firewall_mark=7), made(VIPS[1], ports=(), firewall_mark=7))
    assert [(one.reason, one.table) for one in found.refusals] == [(Reason.MARK_CLAIMED, "a/1")]
    assert [note.address for note in found.notes.values()] == [VIP]


def test_a_real_server_balances_marked_packets_only_while_it_holds_the_vip() -> None:
    """A director that serves would send a marked packet back and forth: the mark has no address to tell by."""
    marked = made(ports=(), firewall_mark=7)
    assert not wanted(marked, backend=(VIP,)).services
    assert wanted(marked, backend=(VIP,), held=frozenset({VIP})).services


@pytest.mark.parametrize(
    ("ports", "check", "expected"),
    [
        ((TablePort(80, Protocol.TCP),), 0, (80,)),
        ((TablePort(80, Protocol.TCP, 8080),), 0, (8080,)),
        ((TablePort(80, Protocol.TCP), TablePort(81, Protocol.TCP)), 9000, (9000,)),
        ((TablePort(0, Protocol.TCP),), 0, ()),
    ],
)
def test_where_a_check_connects_to(ports: tuple[TablePort, ...], check: int, expected: tuple[int, ...]) -> None:
    """A healthy real server would be taken out because another port than its own was tried."""
    spec = made(ports=ports, health_check=TableHealthCheck(TcpCheck(check), 2, 1, 2, 3))
    assert check_ports(spec) == expected
    assert [key.port for key in check_keys(spec)] == list(expected)


def test_a_check_on_another_port_takes_all_ports_out() -> None:
    """The verdict of a check would be looked for under the service's port and never be found."""
    check = TableHealthCheck(TcpCheck(9000), 2, 1, 2, 3)
    spec = made(ports=(TablePort(80, Protocol.TCP), TablePort(81, Protocol.TCP)), health_check=check)
    view = {CheckKey(RIP, 9000, check): Health.DOWN}
    found = desired(director(), {"a/0": spec}, view, Ledger("b"), held=frozenset(), reserved={})
    assert not found.destinations
    assert {key.service.port for key in found.failed} == {80, 81}


def test_the_kernels_numbers_are_those_of_the_codec() -> None:
    """Core and codec would mean different things by the same number."""
    assert {flag.name: flag.value for flag in ipvs.ServiceFlag} == {
        flag.name: flag.value for flag in kernel.ServiceFlag
    }
    assert {one.name: one.value for one in ipvs.TunnelType} == {one.name: one.value for one in kernel.TunnelNumber}
    ours = {one.name: one.value for one in kernel.Forwarding}
    assert ours.items() <= {one.name: one.value for one in ipvs.Forwarding}.items()


def test_this_agent_knows_every_feature_there_is() -> None:
    """A controller of the same version would be told that its tables are not supported."""
    named = {value for module in (table, node) for name, value in vars(module).items() if name.startswith("FEATURE_")}
    assert named == set(KNOWN_FEATURES)


def test_the_words_of_a_service() -> None:
    """A refusal would not say which part of the VirtualService it is about."""
    spec = made(ports=(TablePort(443, Protocol.TCP), TablePort(0, Protocol.UDP)))
    assert [one.text for one in served(spec)] == ["port 443/TCP", "any UDP port"]
