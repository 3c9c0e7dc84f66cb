"""The order of changes on one node, written once.

Taking away comes first, in the reverse of building up: (the speaker has released the VIP) destinations, their
service; the VIP on lo, its guard route, tunnels, the settings. Then building up: settings, guard route, tunnels,
VIP on lo; services, destinations; (then the speaker takes the VIP and announces it).

A VIP that stays is never without service in between: what takes new connections is set before what takes none,
then destinations leave, and last the services (of another port, or a firewall mark) that were replaced.
"""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from itertools import chain
from typing import Final

from lvs_dr.core.arp_settings import ARP_NAMES
from lvs_dr.core.kernel import (
    AddressOp,
    DaemonOp,
    DestinationOp,
    Failure,
    GuardOp,
    GuardPart,
    GuePortOp,
    Op,
    RouteOp,
    ServiceKey,
    ServiceOp,
    SysctlOp,
    TimeoutOp,
    TunnelOp,
    Verb,
)


def ordered(
    ops: Iterable[Op],
    restored: frozenset[Op] = frozenset(),
    replaced: AbstractSet[ServiceKey] = frozenset(),
) -> tuple[Op, ...]:
    """Return the operations of one pass in the order they must be carried out.

    `restored` settings are put back; `replaced` services leave a VIP that others go on serving.
    """
    listed = tuple(ops)
    delete = Verb.DELETE
    leaving = {op[1] for op in listed if op[0] is delete and isinstance(op, ServiceOp)} - replaced
    ranks: list[list[Op]] = [[] for _ in range(_LAST + 1)]
    serving, quiet = ranks[_SERVING].append, ranks[_QUIET].append
    for op in listed:
        # Thousands of these, the others are few.
        if type(op) is DestinationOp and op[2] is not None and op[0] is not delete:
            (serving if op[2][0] > 0 else quiet)(op)
        else:
            ranks[_rank(op, leaving, restored)].append(op)
    return tuple(chain.from_iterable(ranks))


# GUE: a packet that was taken apart needs the tunnel device, so the port opens last and closes first.
# The loop guard stands on tunnel devices too, and outlives the services that it guards against.
_TAKING_AWAY: Final[Mapping[type, int]] = {
    AddressOp: 2, RouteOp: 3, GuePortOp: 4, GuardOp: 4, TunnelOp: 5, DaemonOp: 5
}  # fmt: skip
_PUT_BACK: Final = 6
_SERVING: Final = 13
_QUIET: Final = 14
_LAST: Final = 16
_BUILDING_UP: Final[Mapping[type, int]] = {
    SysctlOp: 7, TimeoutOp: 7, DaemonOp: 7, RouteOp: 8, TunnelOp: 9, GuePortOp: 10, GuardOp: 10, AddressOp: 11
}  # fmt: skip


def _rank(op: Op, leaving: AbstractSet[ServiceKey], restored: frozenset[Op]) -> int:
    removing = op.verb is Verb.DELETE
    if isinstance(op, DestinationOp):
        if removing:
            return 0 if op.key.service in leaving else 15
        return _SERVING if op.config is None or op.config.weight > 0 else _QUIET
    if isinstance(op, ServiceOp):
        return (1 if op.key in leaving else _LAST) if removing else 12
    if isinstance(op, SysctlOp | TimeoutOp) and op in restored:
        return _PUT_BACK
    return (_TAKING_AWAY if removing else _BUILDING_UP)[type(op)]


def blocks(failure: Failure, op: Op) -> bool:
    """Tell whether `op` must not be tried after `failure` of an earlier operation of the same pass.

    A VIP put on lo without silent ARP would be answered for by every backend; without its guard route a later
    loss of the VIP would send packets back to the director. GUE packets without a tunnel device would go to
    somebody else's. A filter of the loop guard relies on those that are made before it, and on the qdisc: under
    somebody else's ingress qdisc one for packets that leave would take those that arrive.
    """
    failed = failure.op
    if isinstance(op, GuardOp):
        return (
            isinstance(failed, GuardOp)
            and op.verb is not Verb.DELETE
            and failed.verb is not Verb.DELETE
            and failed.key.interface == op.key.interface
            and (failed.key.part is GuardPart.QDISC or failed.key.address == op.key.address)
            and failed.key.part < op.key.part
        )
    if isinstance(op, GuePortOp):
        made = isinstance(failed, TunnelOp) and failed.config is not None and failed.config.local == op.key.local
        return made and op.verb is Verb.ADD
    if not isinstance(op, AddressOp) or op.verb is not Verb.ADD:
        return False
    if isinstance(failed, SysctlOp):
        return ":" not in op.key.address and failed.key.path[-1] in ARP_NAMES  # ARP is IPv4's
    return isinstance(failed, RouteOp) and failed.verb is Verb.ADD and failed.key.address == op.key.address


def blocked(op: Op, failures: Iterable[Failure]) -> Failure | None:
    """Return the failure of `op` that follows from earlier ones, or None if it may be tried."""
    for failure in failures:
        if blocks(failure, op):
            return Failure(op, failure.errno, failure.reason, f"not tried: {failure.message}")
    return None
