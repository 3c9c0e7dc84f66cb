"""What every `Kernel` does with the settings of IPVS and with tunnels, the fake one and the real one alike."""

from collections.abc import Iterator

import pytest

from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.desired import desired
from lvs_dr.core.kernel import GuePortOp, KernelState, Op, SysctlOp, TimeoutOp, TunnelKey, TunnelOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import BackendTunnel, DirectorRole, DirectorSettings, IpvsSysctl, LVSNodeSpec
from lvs_dr.core.objects import TunnelChecksum, TunnelType
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import LO_ALONE, Scope
from lvs_dr.core.settings import SETTING_KEYS, TCP, TCP_FIN, UDP, sysctl_key
from lvs_dr.core.table import TableTunnel
from lvs_dr.core.tunnels import device, gue_port, ready

RIP, RIP6 = "192.0.2.1", "2001:db8::1"

IPIP = BackendTunnel(RIP, TableTunnel(TunnelType.IPIP))
GRE = BackendTunnel(RIP, TableTunnel(TunnelType.GRE))
GRE_CHECKSUM = BackendTunnel(RIP, TableTunnel(TunnelType.GRE, checksum=TunnelChecksum.CHECKSUM))
GUE = BackendTunnel(RIP, TableTunnel(TunnelType.GUE, 6080))
IPIP6 = BackendTunnel(RIP6, TableTunnel(TunnelType.IPIP))
GRE6 = BackendTunnel(RIP6, TableTunnel(TunnelType.GRE))
GUE6 = BackendTunnel(RIP6, TableTunnel(TunnelType.GUE, 6080))
WISH = DirectorSettings(
    7200, 60, 30, (IpvsSysctl("conn_reuse_mode", 0), IpvsSysctl("expire_nodest_conn", 1), IpvsSysctl("sloppy_tcp", 1))
)


def read(kernel: Kernel) -> KernelState:
    """Read everything."""
    return kernel.read(frozenset(), Scope(ipvs=True, settings=True, tunnels=True, gue=True))


@pytest.fixture
def cleaned(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel that gets its timeouts back, and keeps no tunnels."""
    before = read(kernel)
    yield kernel
    after = read(kernel)
    ops: list[Op] = [TunnelOp(Verb.DELETE, key) for key in after.tunnels]
    ops += [GuePortOp(Verb.DELETE, port) for port in after.gue_ports]
    ops += [TimeoutOp(Verb.SET, key, seconds) for key, seconds in before.timeouts.items()]
    ops += [SysctlOp(Verb.SET, key, before.sysctls[key]) for key in SETTING_KEYS if key in before.sysctls]
    assert kernel.apply(ops) == ()


class Node:
    """What the agent does with this kernel, pass by pass."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ledger = Ledger("boot")

    def follow(self, spec: LVSNodeSpec, owner: str = "") -> tuple[Op, ...]:
        """Make one pass and return what it did."""
        goal = desired(spec, {}, {}, self.ledger, held=frozenset(), reserved={}, owner=owner)
        made = plan(goal, read(self.kernel), self.ledger)
        self.ledger = made.ledger
        assert self.kernel.apply(made.ops) == ()
        return made.ops


def backend(*tunnels: BackendTunnel) -> LVSNodeSpec:
    """Return the spec of a real server with these tunnels."""
    return LVSNodeSpec(decided=True, backend_tunnels=tunnels)


def director(settings: DirectorSettings | None) -> LVSNodeSpec:
    """Return the spec of a director with these settings."""
    return LVSNodeSpec(decided=True, director=DirectorRole("default", settings=settings))


def test_a_timeout_is_set_alone(cleaned: Kernel) -> None:
    """A changed TCP timeout would reset the others."""
    before = read(cleaned).timeouts
    assert before.keys() == {TCP, TCP_FIN, UDP}
    assert cleaned.apply([TimeoutOp(Verb.SET, TCP, 7200)]) == ()
    assert read(cleaned).timeouts == {**before, TCP: 7200}


def test_settings_are_read_only_with_ipvs(cleaned: Kernel) -> None:
    """A node that never directs would load ip_vs for settings that nobody wants there."""
    assert not kernel_without_ipvs(cleaned).timeouts
    unasked = cleaned.read(frozenset(), Scope(ipvs=True))
    assert not unasked.timeouts, "every pass would read them"
    assert not set(SETTING_KEYS) & set(unasked.sysctls)
    assert not kernel_without_ipvs(cleaned).sysctls.keys() & set(SETTING_KEYS)
    assert read(cleaned).sysctls.keys() >= {sysctl_key("conn_reuse_mode"), sysctl_key("sloppy_tcp")}


def kernel_without_ipvs(kernel: Kernel) -> KernelState:
    """Read as a plain backend does."""
    return kernel.read(frozenset(), LO_ALONE)


def test_settings_are_reached_repaired_and_put_back(cleaned: Kernel) -> None:
    """A site's own values would be lost when the DirectorGroup no longer sets them."""
    node, before = Node(cleaned), read(cleaned)
    node.follow(director(WISH))
    now = read(cleaned)
    assert (now.timeouts[TCP], now.timeouts[TCP_FIN], now.timeouts[UDP]) == (7200, 60, 30)
    assert now.sysctls[sysctl_key("conn_reuse_mode")] == "0"
    assert now.sysctls[sysctl_key("sloppy_tcp")] == "1"
    assert node.follow(director(WISH)) == ()
    drifted = [TimeoutOp(Verb.SET, UDP, 77), SysctlOp(Verb.SET, sysctl_key("sloppy_tcp"), "0")]
    assert cleaned.apply(drifted) == ()
    assert {op.key for op in node.follow(director(WISH))} == {UDP, sysctl_key("sloppy_tcp")}
    node.follow(director(DirectorSettings(tcp_seconds=3600)))
    assert read(cleaned).timeouts == {**before.timeouts, TCP: 3600}
    node.follow(director(None))
    node.follow(director(None))
    assert read(cleaned) == before
    assert node.ledger == Ledger("boot")


def test_another_owner_is_not_disturbed(cleaned: Kernel) -> None:
    """kube-proxy's values would be overwritten, or undone when we leave."""
    node = Node(cleaned)
    node.follow(director(WISH))
    before = read(cleaned)
    assert node.follow(director(WISH), owner="kube-proxy") == ()
    assert node.follow(director(None), owner="kube-proxy") == ()
    assert read(cleaned) == before
    assert node.ledger == Ledger("boot")


@pytest.mark.parametrize("tunnel", [IPIP, GRE, GRE_CHECKSUM, GUE, IPIP6, GRE6, GUE6], ids=str)
def test_a_tunnel_is_made_repaired_and_removed(cleaned: Kernel, tunnel: BackendTunnel) -> None:
    """A real server would not understand what the director sends, or keep a device for ever."""
    node, before = Node(cleaned), read(cleaned)
    node.follow(backend(tunnel))
    assert ready([tunnel], read(cleaned), node.ledger) == (tunnel,)
    assert node.follow(backend(tunnel)) == ()
    key, _ = device(tunnel)
    assert cleaned.apply([TunnelOp(Verb.DELETE, key)]) == ()
    assert ready([tunnel], read(cleaned), node.ledger) == ()
    node.follow(backend(tunnel))
    assert ready([tunnel], read(cleaned), node.ledger) == (tunnel,)
    node.follow(backend())
    node.follow(backend())
    assert read(cleaned) == before
    assert node.ledger == Ledger("boot")


def test_a_lost_gue_port_is_opened_again(cleaned: Kernel) -> None:
    """GUE packets would be refused although the tunnel device is there."""
    node = Node(cleaned)
    node.follow(backend(GUE))
    port = gue_port(GUE)
    assert port is not None
    assert cleaned.apply([GuePortOp(Verb.DELETE, port)]) == ()
    assert ready([GUE], read(cleaned), node.ledger) == ()
    node.follow(backend(GUE))
    assert ready([GUE], read(cleaned), node.ledger) == (GUE,)


def test_ipip_and_gue_share_a_device(cleaned: Kernel) -> None:
    """Two VirtualServices with different tunnels to one real server would exclude each other."""
    node, all_of_them = Node(cleaned), (IPIP, GUE, GRE, IPIP6)
    node.follow(backend(*all_of_them))
    assert ready(all_of_them, read(cleaned), node.ledger) == all_of_them
    node.follow(backend(IPIP))
    assert ready(all_of_them, read(cleaned), node.ledger) == (IPIP,)


def test_a_changed_checksum_replaces_the_device(cleaned: Kernel) -> None:
    """A device without checksums drops every packet that has one."""
    node = Node(cleaned)
    node.follow(backend(GRE))
    node.follow(backend(GRE_CHECKSUM))
    assert ready([GRE_CHECKSUM], read(cleaned), node.ledger) == (GRE_CHECKSUM,)
    assert ready([GRE], read(cleaned), node.ledger) == ()


def test_a_device_of_somebody_else_is_left_alone(cleaned: Kernel) -> None:
    """The agent would take over, or delete, what an administrator set up."""
    key, config = device(IPIP)
    assert cleaned.apply([TunnelOp(Verb.ADD, key, config)]) == ()
    node = Node(cleaned)
    assert node.follow(backend(IPIP)) == ()
    assert ready([IPIP], read(cleaned), node.ledger) == ()
    assert node.follow(backend()) == ()
    assert key in read(cleaned).tunnels


def test_a_device_with_the_same_end_is_named_as_the_obstacle(cleaned: Kernel) -> None:
    """The user would not learn why the tunnel is not there."""
    key, config = device(IPIP)
    assert cleaned.apply([TunnelOp(Verb.ADD, TunnelKey("lvstheirs"), config)]) == ()
    failures = cleaned.apply([TunnelOp(Verb.ADD, key, config)])
    assert [failure.reason for failure in failures] == [Reason.TUNNEL_UNAVAILABLE]
    assert "another ipip device" in failures[0].message


def test_what_is_there_or_gone_already_is_no_failure(cleaned: Kernel) -> None:
    """Two writers that agree would make every pass fail."""
    key, config = device(GUE)
    port = gue_port(GUE)
    assert port is not None
    adding: list[Op] = [TunnelOp(Verb.ADD, key, config), GuePortOp(Verb.ADD, port)]
    removing: list[Op] = [GuePortOp(Verb.DELETE, port), TunnelOp(Verb.DELETE, key)]
    for ops in (removing, adding, adding, removing):
        assert cleaned.apply(ops) == ()
