"""Which loop guard a node needs."""

from lvs_dr.core.kernel import (
    GuardConfig,
    GuardKey,
    GuardOp,
    GuardPart,
    KernelState,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    TunnelConfig,
    TunnelKey,
    TunnelOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.loop_guard import INTACT, Guard, guard, guard_interfaces, plan_guard
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, PeerDirector, Vrrp
from lvs_dr.core.node_order import ordered
from lvs_dr.core.tunnels import Ends

VIP, OTHER = "192.0.2.100", "192.0.2.101"
MAC = "02:00:00:00:00:01"
PEERS = (PeerDirector("one", ("192.0.2.1",)), PeerDirector("two", ("192.0.2.2",)))
KNOWN = {"one": (MAC,), "two": ("02:00:00:00:00:02",)}


def spec(*backend: str, peers: tuple[PeerDirector, ...] = PEERS, director: bool = True) -> LVSNodeSpec:
    """Return a node that carries VIPs, and directs unless told otherwise."""
    role = DirectorRole("default", vrrp=Vrrp(peers=peers)) if director else None
    return LVSNodeSpec(decided=True, director=role, backend_addresses=backend)


def test_only_what_is_served_and_balanced_here_is_guarded() -> None:
    """Filters would stand on nodes that can make no loop, and keep their packets from being balanced."""
    for one in (spec(), spec(OTHER), spec(VIP, peers=()), spec(VIP, director=False)):
        assert guard(one, {VIP}, "eth0", KNOWN, Ends()) == Guard()
        assert guard_interfaces(one, "eth0", (), Ledger("boot")) <= {"eth0"}
    found = guard(spec(VIP, OTHER), {VIP}, "eth0", KNOWN, Ends())
    assert {key.address for key in found.wanted} == {"", VIP}
    assert {key.mac for key in found.wanted if key.part is GuardPart.PEER} == {MAC, "02:00:00:00:00:02"}
    assert (found.kept, found.unheard) == (frozenset(), ())


def test_what_is_not_known_removes_nothing() -> None:
    """Without an interface for a moment, or with a silent peer, the guard would be taken down."""
    ours = tuple(sorted(guard(spec(VIP), {VIP}, "eth0", KNOWN, Ends()).wanted))
    there = KernelState(guards=dict.fromkeys(ours, INTACT))
    ledger = Ledger("boot", guards=ours)
    for interface, macs in (("", KNOWN), ("eth0", {}), ("eth0", {"one": (MAC,)})):
        goal = guard(spec(VIP), {VIP}, interface, macs, Ends(), ledger.guards)
        made = plan_guard(goal, there, ledger)
        assert (made.ops, made.guards) == ((), ours)
    assert guard(spec(VIP), {VIP}, "eth0", {"one": (MAC,)}, Ends()).unheard == ("two",)


def test_a_changed_filter_is_put_right() -> None:
    """A filter that does something else would count as ours and well."""
    goal = guard(spec(VIP), {VIP}, "eth0", KNOWN, Ends())
    broken = GuardKey("eth0", GuardPart.SPENT, VIP)
    there = {**dict.fromkeys(goal.wanted, INTACT), broken: GuardConfig(intact=False)}
    made = plan_guard(goal, KernelState(guards=there), Ledger("boot", guards=tuple(sorted(goal.wanted))))
    assert made.ops == (GuardOp(Verb.SET, broken),)
    assert made.lost == {broken}


def test_the_guard_stands_before_services_and_on_devices_that_exist() -> None:
    """For a moment at each start and end a loop would be possible; filters on a device yet to come would fail."""
    service = ServiceKey(VIP, 80, 6)
    tunnel = TunnelKey("lvsipip")
    put_up = [
        ServiceOp(Verb.ADD, service, ServiceConfig("rr")),
        *plan_guard(guard(spec(VIP), {VIP}, "eth0", KNOWN, Ends()), KernelState(), Ledger("boot")).ops,
        TunnelOp(Verb.ADD, tunnel, TunnelConfig("ipip", "192.0.2.9")),
        RouteOp(Verb.ADD, RouteKey(VIP)),
    ]
    kinds = [type(op) for op in ordered(put_up)]
    assert kinds.index(TunnelOp) < kinds.index(GuardOp)
    assert kinds[-1] is ServiceOp
    guards = [op.key.part for op in ordered(put_up) if isinstance(op, GuardOp)]
    assert guards == sorted(guards)
    wanted = tuple(sorted(guard(spec(VIP), {VIP}, "eth0", KNOWN, Ends()).wanted))
    taken = plan_guard(Guard(), KernelState(guards=dict.fromkeys(wanted, INTACT)), Ledger("boot", guards=wanted)).ops
    down = ordered([TunnelOp(Verb.DELETE, tunnel), *taken, ServiceOp(Verb.DELETE, service)])
    assert isinstance(down[0], ServiceOp)
    assert isinstance(down[-1], TunnelOp)
    last = [op.key.part for op in down if isinstance(op, GuardOp)]
    assert last == sorted(last, reverse=True)
