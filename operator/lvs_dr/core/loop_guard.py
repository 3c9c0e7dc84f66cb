"""The loop guard: what keeps a director that is also a real server from balancing what a peer director sent to it.

It is made of filters of the kernel (tc), so it holds when nothing of ours runs any more. On each interface where
frames of peers arrive:

    PEER       a packet for the VIP from a peer's MAC gets two hops to live (TTL, hop limit)
    SPENT      one that has a single hop left keeps it: IPVS cannot forward it
    TURN_BACK  a packet for the VIP that is about to leave with one hop left arrives here instead. IPVS has marked it
               as seen, so that it passes on to this node's own service

Whatever made IPVS forward the packet (a service, a connection entry, a synced one, a firewall mark), it ends here. See
docs/design/0012-the-loop-guard.md for what was tried.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct

from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.kernel import GuardConfig, GuardKey, GuardOp, GuardPart, KernelState, Op, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.tunnels import Ends

INTACT: Final = GuardConfig()


class Guard(Struct, frozen=True):
    """What must be there. Entries of ours for `kept` VIPs stay although nothing says that they are wanted."""

    wanted: frozenset[GuardKey] = frozenset()
    kept: frozenset[str] = frozenset()
    unheard: tuple[str, ...] = ()  # peers whose MAC is not known, by node

    def keeps(self, key: GuardKey) -> bool:
        """Tell whether an entry stays that is not wanted."""
        return key.address in self.kept or (key.part is GuardPart.QDISC and bool(self.kept))


class GuardPlan(Struct, frozen=True):
    """What to do about the guard, and what the ledger must say before."""

    ops: tuple[Op, ...]
    guards: tuple[GuardKey, ...]
    adopted: tuple[GuardKey, ...]
    lost: frozenset[GuardKey]


def guarded_addresses(spec: LVSNodeSpec, balanced: Iterable[str]) -> frozenset[str]:
    """Return the VIPs that need the guard: balanced and served by this node, which has peers. `balanced`: by tables."""
    if spec.director is None or not spec.director.vrrp.peers:
        return frozenset()
    return frozenset(spec.backend_addresses).intersection(balanced)


def guard(  # noqa: PLR0917 - what it follows from
    spec: LVSNodeSpec,
    balanced: Iterable[str],
    interface: str,
    macs: Mapping[str, Collection[str]],
    ends: Ends,
    ours: Iterable[GuardKey] = (),
) -> Guard:
    """Return the guard that a node needs.

    `interface`: the director's, "" while there is none. `macs`: by peer's node, as far as known. `ours`: what the
    ledger has. While a peer's MAC is not known, none is given up: after a restart the ledger may be all that knows it.
    """
    addresses = guarded_addresses(spec, balanced)
    if not addresses or spec.director is None:
        return Guard()
    peers = spec.director.vrrp.peers
    unheard = tuple(peer.node for peer in peers if not macs.get(peer.node)) if interface else ()
    known = {mac for peer in peers for mac in macs.get(peer.node, ())} if interface else set()
    # What comes out of a tunnel of ours was sent by a director, whoever it is.
    sources = {interface: known} if interface else {}
    sources |= {device.name: {""} for device in ends.devices}
    wanted: set[GuardKey] = set()
    for name, senders in sources.items():
        wanted.add(GuardKey(name, GuardPart.QDISC))
        for address in addresses:
            wanted.add(GuardKey(name, GuardPart.TURN_BACK, address))
            wanted.add(GuardKey(name, GuardPart.SPENT, address))
            wanted |= {GuardKey(name, GuardPart.PEER, address, mac) for mac in senders}
    if unheard:
        wanted |= {key for key in ours if key.part is GuardPart.PEER and key.address in addresses and key[0] in sources}
    return Guard(frozenset(wanted), addresses if unheard or not interface else frozenset(), unheard)


def guard_interfaces(spec: LVSNodeSpec, interface: str, devices: Iterable[str], ledger: Ledger) -> frozenset[str]:
    """Return the interfaces to read: where the guard may be wanted, and where something of ours is."""
    found = {key.interface for key in (*ledger.guards, *ledger.adopted_guards)}
    if spec.backend_addresses and spec.director is not None and spec.director.vrrp.peers:
        found |= {interface, *devices}
    return frozenset(found - {""})


def plan_guard(goal: Guard, actual: KernelState, ledger: Ledger) -> GuardPlan:
    """Return what to do. The qdisc comes first and goes last; a foreign one is adopted, and stays."""
    found: Changes[GuardKey, GuardConfig] = diff(
        dict.fromkeys(sorted(goal.wanted, key=_place), INTACT),
        actual.guards,
        frozenset(ledger.guards),
        dict.fromkeys(ledger.adopted_guards, INTACT),
        goal.keeps,
    )
    gone = [GuardOp(Verb.DELETE, key) for key in sorted(found.delete, key=_place, reverse=True)]
    changed = [GuardOp(Verb.ADD, key) for key in found.add] + [GuardOp(Verb.SET, key) for key in found.edit]
    return GuardPlan(
        ops=(*gone, *sorted(changed, key=lambda op: _place(op.key))),
        guards=tuple(sorted(found.ours)),
        adopted=tuple(sorted(found.adopted)),
        lost=frozenset({*found.lost, *found.edit}),
    )


def _place(key: GuardKey) -> tuple[int, GuardKey]:
    """Return where an entry stands when the guard is built: nothing is sent on that is not stopped."""
    return (key.part, key)
