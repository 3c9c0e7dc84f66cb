"""What every `Kernel` does with the loop guard, the fake one and the real one alike."""

from collections.abc import Iterator, Mapping

import msgspec
import pytest

from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.desired import desired
from lvs_dr.core.kernel import GuardKey, GuardOp, GuardPart, KernelState, Op, TunnelOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.loop_guard import INTACT
from lvs_dr.core.node import BackendTunnel, DirectorRole, LVSNodeSpec, PeerDirector, Vrrp
from lvs_dr.core.objects import TunnelType
from lvs_dr.core.plan import plan
from lvs_dr.core.scope import Scope, scope
from lvs_dr.core.table import DirectorTableSpec, TableTunnel

VIP, VIP6 = "192.0.2.100", "2001:db8::100"
MAC, OTHER_MAC = "02:00:00:00:01:0b", "02:00:00:00:01:0c"
PEER = PeerDirector("peer", ("192.0.2.2",))
QDISC = GuardKey("eth0", GuardPart.QDISC)
FILTER = GuardKey("eth0", GuardPart.PEER, VIP, MAC)


def table(vip: str) -> DirectorTableSpec:
    """Return a table of a VIP without real servers: the guard depends on the VIP alone."""
    fields = {"directorGroup": "default", "serviceGeneration": 1, "address": vip, "scheduler": "rr"}
    return msgspec.convert(
        {**fields, "ports": [{"port": 80, "protocol": "TCP"}], "onFailure": "Remove", "destinations": []},
        DirectorTableSpec,
    )


@pytest.fixture
def cleaned(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel that keeps no guard."""
    yield kernel
    after = kernel.read(frozenset(), Scope(tunnels=True, guards=frozenset({"eth0"}))).guards
    ops: list[Op] = [GuardOp(Verb.DELETE, key) for key in sorted(after, key=lambda key: -key.part)]
    ops += [TunnelOp(Verb.DELETE, key) for key in kernel.read(frozenset(), Scope(tunnels=True)).tunnels]
    assert kernel.apply(ops) == ()


class Node:
    """What the agent does with the guard on this kernel, pass by pass."""

    def __init__(self, kernel: Kernel, *tunnels: BackendTunnel) -> None:
        self.kernel = kernel
        self.ledger = Ledger("boot")
        self.complete = False
        peers = Vrrp(peers=(PEER,))
        self.spec = LVSNodeSpec(
            decided=True,
            director=DirectorRole("default", vrrp=peers),
            backend_addresses=(VIP, VIP6),
            backend_tunnels=tunnels,
        )
        self.tables: Mapping[str, DirectorTableSpec] = {
            "default/four": table(VIP),
            "default/six": table(VIP6),
        }

    def read(self) -> KernelState:
        """Read what a pass reads."""
        parts = scope(self.spec, self.ledger, "eth0")
        return self.kernel.read(frozenset(), parts._replace(ipvs=False))

    def follow(self, *macs: str) -> tuple[Op, ...]:
        """Make one pass, of which only the guard and tunnels are carried out."""
        goal = desired(
            self.spec, self.tables, {}, self.ledger,
            held=frozenset(), reserved={}, interface="eth0", macs={"peer": macs},
        )  # fmt: skip
        made = plan(goal, self.read(), self.ledger)
        self.ledger = Ledger("boot", guards=made.ledger.guards, adopted_guards=made.ledger.adopted_guards)
        ops = tuple(op for op in made.ops if isinstance(op, GuardOp | TunnelOp))
        assert self.kernel.apply(ops) == ()
        self.complete = not goal.guard.unheard and all(
            self.read().guards.get(key) == INTACT for key in goal.guard.wanted
        )
        return ops


def guards(node: Node) -> dict[GuardKey, bool]:
    """Return what is there."""
    return {key: config == INTACT for key, config in node.read().guards.items()}


def test_the_guard_is_made_once_and_removed_without_a_trace(cleaned: Kernel) -> None:
    """Filters would pile up, or packets be turned back on a node that is no real server any more."""
    node = Node(cleaned)
    assert len(node.follow(MAC)) == 7  # the qdisc, and three filters for each VIP
    assert node.complete
    assert all(guards(node).values())
    assert node.follow(MAC) == ()
    node.spec = LVSNodeSpec(decided=True)
    assert len(node.follow()) == 7
    assert guards(node) == {}
    assert node.follow() == ()
    assert node.ledger == Ledger("boot")


def test_a_lost_filter_is_put_back(cleaned: Kernel) -> None:
    """Somebody's `tc filter del` would open the way for a loop, unseen."""
    node = Node(cleaned)
    node.follow(MAC)
    assert cleaned.apply([GuardOp(Verb.DELETE, FILTER)]) == ()
    assert [op.key for op in node.follow(MAC) if isinstance(op, GuardOp)] == [FILTER]
    assert node.complete


def test_a_peer_with_a_new_mac(cleaned: Kernel) -> None:
    """After a peer's network card was replaced the guard would not know its frames, or keep those of the old one."""
    node = Node(cleaned)
    node.follow(MAC)
    node.follow(OTHER_MAC)
    assert {key.mac for key in guards(node) if key.part is GuardPart.PEER} == {OTHER_MAC}


def test_an_unknown_mac_takes_nothing_away(cleaned: Kernel) -> None:
    """A restarted agent knows no MAC for a moment; the guard of the last one would be gone just then."""
    node = Node(cleaned)
    node.follow(MAC)
    assert node.follow() == ()
    assert not node.complete
    assert cleaned.apply([GuardOp(Verb.DELETE, FILTER)]) == ()
    assert [op.key for op in node.follow() if isinstance(op, GuardOp)] == [FILTER]


def test_a_qdisc_that_was_there_stays(cleaned: Kernel) -> None:
    """A CNI's programs would lose their qdisc, and with it be gone."""
    assert cleaned.apply([GuardOp(Verb.ADD, QDISC)]) == ()
    node = Node(cleaned)
    node.follow(MAC)
    node.spec = LVSNodeSpec(decided=True)
    node.follow()
    assert cleaned.read(frozenset(), Scope(guards=frozenset({"eth0"}))).guards.keys() == {QDISC}


def test_our_qdisc_stays_while_others_use_it(cleaned: Kernel) -> None:
    """Removing it would remove their filters."""
    foreign = GuardKey("eth0", GuardPart.SPENT, "192.0.2.200")
    node = Node(cleaned)
    node.follow(MAC)
    assert cleaned.apply([GuardOp(Verb.ADD, foreign)]) == ()
    node.spec = LVSNodeSpec(decided=True)
    node.follow()
    assert cleaned.read(frozenset(), Scope(guards=frozenset({"eth0"}))).guards.keys() == {QDISC, foreign}


def test_what_comes_out_of_a_tunnel_is_guarded_against(cleaned: Kernel) -> None:
    """Two directors that reach each other by tunnels would send a packet to and fro inside them."""
    node = Node(cleaned, BackendTunnel("192.0.2.1", TableTunnel(TunnelType.IPIP)))
    node.follow(MAC)
    assert node.complete
    on_tunnel = {key for key in guards(node) if key.interface.startswith("lvsipip")}
    assert {(key.part, key.mac) for key in on_tunnel} == {(part, "") for part in GuardPart}


def test_an_interface_that_is_gone(cleaned: Kernel) -> None:
    """One missing device would fail the whole pass."""
    missing = GuardKey("eth7", GuardPart.QDISC)
    [failure] = cleaned.apply([GuardOp(Verb.ADD, missing)])
    assert failure.reason == "LoopGuardIncomplete"
    assert cleaned.apply([GuardOp(Verb.DELETE, missing)]) == ()
    assert cleaned.read(frozenset(), Scope(guards=frozenset({"eth7"}))).guards == {}


def test_no_filter_without_its_qdisc(cleaned: Kernel) -> None:
    """Under a foreign ingress qdisc a filter for packets that leave would take those that arrive."""
    failures = cleaned.apply([GuardOp(Verb.ADD, FILTER)])
    assert [failure.op.key for failure in failures] == [FILTER]
