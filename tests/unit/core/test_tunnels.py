"""Where tunnels end: names, what excludes what, and when a tunnel is ready."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.desired import desired
from lvs_dr.core.kernel import (
    AddressOp,
    Failure,
    GuePortKey,
    GuePortOp,
    KernelState,
    Op,
    TunnelConfig,
    TunnelKey,
    TunnelOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import BackendTunnel, LVSNodeSpec
from lvs_dr.core.node_order import blocked
from lvs_dr.core.objects import TunnelChecksum, TunnelType
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import Scope
from lvs_dr.core.table import TableTunnel
from lvs_dr.core.tunnels import device, ends, ready
from tests.contract.fake_kernel import FakeKernel

RIP = "192.168.35.21"
VIP = "192.168.35.100"
IPIP = BackendTunnel(RIP, TableTunnel())
GRE = BackendTunnel(RIP, TableTunnel(TunnelType.GRE))
GRE_CHECKSUM = BackendTunnel(RIP, TableTunnel(TunnelType.GRE, checksum=TunnelChecksum.CHECKSUM))
GUE = BackendTunnel(RIP, TableTunnel(TunnelType.GUE, 6080))

tunnels = st.builds(
    TableTunnel,
    type=st.sampled_from(TunnelType),
    port=st.just(6080),
    checksum=st.sampled_from(TunnelChecksum),
)
backends = st.builds(BackendTunnel, address=st.ip_addresses().map(str), tunnel=tunnels)


@given(backends)
def test_names_are_short_and_never_a_cnis(end: BackendTunnel) -> None:
    """The kernel would refuse the device, or the agent would take over the CNI's."""
    key, config = device(end)
    assert len(key.name) <= 15
    assert key.name.startswith("lvs")
    assert key.name not in {"tunl0", "gre0", "gretap0", "ip6tnl0", "ip6gre0", "sit0"}
    assert config.kind in (("ip6tnl", "ip6gre") if ":" in end.address else ("ipip", "gre"))


@given(st.lists(st.ip_addresses(v=4).map(str), unique=True, max_size=20))
def test_ipv4_names_never_collide(addresses: list[str]) -> None:
    """Two addresses of one node would share a device, and one of them would be deaf."""
    assert len({device(BackendTunnel(each, TableTunnel()))[0] for each in addresses}) == len(addresses)


def test_the_name_says_the_address() -> None:
    """An administrator who sees the device could not tell what it is for."""
    assert device(IPIP)[0].name == "lvsipip" + ipaddress.ip_address(RIP).packed.hex()


def test_ipip_and_gue_need_one_device() -> None:
    """The kernel refuses a second device with the same end, so GUE beside IPIP would never be ready."""
    found = ends([IPIP, GUE])
    assert found.devices == {TunnelKey("lvsipipc0a82315"): TunnelConfig("ipip", RIP)}
    assert found.gue_ports == {GuePortKey(RIP, 6080)}
    assert not found.problems


def test_gre_with_and_without_checksum_exclude_each_other() -> None:
    """The user would not learn why one of two services stays without this real server."""
    found = ends([GRE, GRE_CHECKSUM])
    assert list(found.devices.values()) == [TunnelConfig("gre", RIP)]
    assert [reason for reason, _ in found.problems] == [Reason.TUNNEL_UNAVAILABLE]


def backend(*wanted: BackendTunnel) -> LVSNodeSpec:
    """Return the spec of a real server."""
    return LVSNodeSpec(decided=True, backend_addresses=(VIP,), backend_tunnels=wanted)


def ops_of(spec: LVSNodeSpec, kernel: FakeKernel, ledger: Ledger) -> tuple[tuple[Op, ...], Ledger]:
    """Plan and carry out one pass."""
    goal = desired(spec, {}, {}, ledger, held=frozenset(), reserved={})
    made = plan(goal, kernel.read(frozenset(), Scope(tunnels=True, gue=True)), ledger)
    assert kernel.apply(made.ops) == ()
    return made.ops, made.ledger


def test_the_tunnel_comes_before_the_vip_and_leaves_after_it() -> None:
    """Packets for the VIP would arrive at a node that cannot unpack them, or go to somebody else's device."""
    kernel = FakeKernel()
    adding, ledger = ops_of(backend(GUE), kernel, Ledger("boot"))
    order = [type(op) for op in adding if isinstance(op, TunnelOp | GuePortOp | AddressOp)]
    assert order == [TunnelOp, GuePortOp, AddressOp]
    removing, ledger = ops_of(LVSNodeSpec(decided=True), kernel, ledger)
    order = [type(op) for op in removing if isinstance(op, TunnelOp | GuePortOp | AddressOp)]
    assert order == [AddressOp, GuePortOp, TunnelOp]
    _, ledger = ops_of(LVSNodeSpec(decided=True), kernel, ledger)
    assert ledger.holds_nothing


def test_a_gue_port_waits_for_its_device() -> None:
    """Unpacked packets without a device of ours would go to the CNI's."""
    key, config = device(GUE)
    failed = Failure(TunnelOp(Verb.ADD, key, config), 95, Reason.TUNNEL_UNAVAILABLE, "no module")
    assert blocked(GuePortOp(Verb.ADD, GuePortKey(RIP, 6080)), [failed]) is not None
    assert blocked(GuePortOp(Verb.DELETE, GuePortKey(RIP, 6080)), [failed]) is None
    assert blocked(GuePortOp(Verb.ADD, GuePortKey("192.168.35.22", 6080)), [failed]) is None


@pytest.mark.parametrize("broken", [TunnelConfig("ipip", RIP, receives=False), TunnelConfig("ipip", "192.168.35.99")])
def test_a_tunnel_is_ready_only_as_it_must_be(broken: TunnelConfig) -> None:
    """Directors would send packets to a real server that drops them."""
    key, config = device(IPIP)
    ledger = Ledger("boot", tunnels=(key,))
    assert ready([IPIP], KernelState(tunnels={key: config}), ledger) == (IPIP,)
    assert ready([IPIP], KernelState(tunnels={key: broken}), ledger) == ()
    assert ready([IPIP], KernelState(tunnels={key: config}), Ledger("boot")) == ()
    assert ready([GUE], KernelState(tunnels={key: config}), ledger) == ()
    with_port = KernelState(tunnels={key: config}, gue_ports=frozenset({GuePortKey(RIP, 6080)}))
    assert ready([GUE], with_port, ledger) == (GUE,)


def test_a_lost_device_counts_as_a_repair() -> None:
    """Nobody would learn that something on the node keeps deleting it."""
    kernel = FakeKernel()
    _, ledger = ops_of(backend(IPIP), kernel, Ledger("boot"))
    kernel.tunnels.clear()
    goal = desired(backend(IPIP), {}, {}, ledger, held=frozenset(), reserved={})
    made = plan(goal, kernel.read(frozenset(), Scope(tunnels=True)), ledger)
    assert [type(op) for op in made.repairs] == [TunnelOp]
