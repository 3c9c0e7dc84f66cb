"""The order of changes on one node, written once.

Taking away comes first, in the reverse of building up: (the speaker has released the VIP) destinations, their
service; the VIP on lo, its guard route, the ARP settings. Then building up: ARP settings, guard route, VIP on lo;
services, destinations; (then the speaker takes the VIP and announces it). Destinations that leave a service
which stays go last, so that a service is not empty between two sets of destinations.
"""

from collections.abc import Iterable

from lvs_dr.core.kernel import AddressOp, DestinationOp, Failure, Op, RouteOp, ServiceKey, ServiceOp, SysctlOp, Verb


def ordered(ops: Iterable[Op], restored: frozenset[SysctlOp] = frozenset()) -> tuple[Op, ...]:
    """Return the operations of one pass in the order they must be carried out; `restored` sysctls are put back."""
    listed = tuple(ops)
    leaving = frozenset(op.key for op in listed if isinstance(op, ServiceOp) and op.verb is Verb.DELETE)
    return tuple(sorted(listed, key=lambda op: _rank(op, leaving, restored)))  # sorted() is stable


def _rank(op: Op, leaving: frozenset[ServiceKey], restored: frozenset[SysctlOp]) -> int:
    removing = op.verb is Verb.DELETE
    match op:
        case DestinationOp():
            return (0 if op.key.service in leaving else 10) if removing else 9
        case ServiceOp():
            return 1 if removing else 8
        case AddressOp():
            return 2 if removing else 7
        case RouteOp():
            return 3 if removing else 6
        case SysctlOp():
            return 4 if op in restored else 5


def blocks(failure: Failure, op: Op) -> bool:
    """Tell whether `op` must not be tried after `failure` of an earlier operation of the same pass.

    A VIP put on lo without silent ARP would be answered for by every backend; without its guard route a later
    loss of the VIP would send packets back to the director.
    """
    if not isinstance(op, AddressOp) or op.verb is not Verb.ADD:
        return False
    failed = failure.op
    if isinstance(failed, SysctlOp):
        return ":" not in op.key.address  # ARP is IPv4's
    return isinstance(failed, RouteOp) and failed.verb is Verb.ADD and failed.key.address == op.key.address


def blocked(op: Op, failures: Iterable[Failure]) -> Failure | None:
    """Return the failure of `op` that follows from earlier ones, or None if it may be tried."""
    for failure in failures:
        if blocks(failure, op):
            return Failure(op, failure.errno, failure.reason, f"not tried: {failure.message}")
    return None
