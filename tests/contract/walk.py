"""Walks a kernel through wishes, one operation at a time, and holds every step to what the agent promises."""

from collections.abc import Sequence

from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.desired import Desired
from lvs_dr.core.kernel import (
    DestinationKey,
    DestinationOp,
    KernelState,
    Op,
    ServiceKey,
    ServiceOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.plan import plan
from lvs_dr.core.scope import IPVS
from tests.contract.table_cases import Found, vip_of

ROUNDS = 4


def state(kernel: Kernel) -> KernelState:
    """Return the IPVS tables of a kernel, without what changes by itself."""
    read = kernel.read(frozenset(), IPVS)
    return KernelState(services=read.services, destinations=read.destinations)


def put(kernel: Kernel, table: Found) -> None:
    """Have others make entries."""
    ops: list[Op] = [ServiceOp(Verb.ADD, key, config) for key, config in table.services.items()]
    ops += [DestinationOp(Verb.ADD, key, config) for key, config in table.destinations.items()]
    assert kernel.apply(ops) == ()


def empty(kernel: Kernel) -> None:
    """Remove all services, whoever made them."""
    assert kernel.apply([ServiceOp(Verb.DELETE, key) for key in state(kernel).services]) == ()


def serving(table: KernelState) -> frozenset[ServiceKey]:
    """Return the services that have somewhere to send a new connection."""
    return frozenset(key.service for key, config in table.destinations.items() if config.weight > 0)


def walk(kernel: Kernel, theirs: Found, wanted: Sequence[Desired]) -> None:
    """Follow the wishes and undo the last: every promise about the table is held at every step."""
    put(kernel, theirs)
    first = state(kernel)
    ledger = Ledger("boot")
    for wish in (*wanted, Desired()):
        ledger = _follow(kernel, wish, ledger)
    for _ in range(ROUNDS):
        made = plan(Desired(), kernel.read(frozenset(), IPVS), ledger)
        ledger = made.ledger
        if not made.ops:
            break
        assert kernel.apply(made.ops) == ()
    assert state(kernel) == first
    assert ledger.holds_nothing


def _follow(kernel: Kernel, wish: Desired, ledger: Ledger) -> Ledger:
    """Make one pass, operation by operation."""
    before = kernel.read(frozenset(), IPVS)
    made = plan(wish, before, ledger)
    ours = {*made.ledger.services, *(key for key, _ in made.ledger.adopted_services)}
    ours_inside = set(made.ledger.known_destinations)
    ours |= {*ledger.services, *(key for key, _ in ledger.adopted_services)}
    ours_inside |= ledger.known_destinations
    must = must_serve(wish, before)
    able = {
        vip_of(key.service) for key, one in wish.destinations.items() if one.weight and _can_serve(key, wish, before)
    }
    addresses = able & {vip_of(key) for key in serving(before)}
    for op in made.ops:
        assert op.key in ours or op.key in ours_inside, "something foreign was touched"
        assert kernel.apply([op]) == ()
        now = state(kernel)
        assert must <= serving(now), f"after {op} a service that was serving has no destination"
        assert addresses <= {vip_of(key) for key in serving(now)}
        for key, config in before.services.items():
            assert key in ours or now.services[key] == config
        for entry, setting in before.destinations.items():
            assert entry in ours_inside or entry.service in ours or now.destinations[entry] == setting
            if entry not in ours_inside and entry.service in ours:
                assert now.destinations.get(entry, setting) == setting
    _assert_reached(kernel, wish, before)
    again = plan(wish, kernel.read(frozenset(), IPVS), made.ledger)
    assert again.ops == ()
    # The ledger forgets what was removed one pass later: it is written before the kernel is changed.
    third = plan(wish, kernel.read(frozenset(), IPVS), again.ledger)
    assert (third.ops, third.ledger) == ((), again.ledger)
    return again.ledger


def _assert_reached(kernel: Kernel, wish: Desired, before: KernelState) -> None:
    after = state(kernel)
    for key, config in wish.services.items():
        assert after.services[key] == config
    for entry, setting in wish.destinations.items():
        if entry not in wish.uncertain:
            assert after.destinations[entry] == setting
        elif entry in before.destinations:
            weight = min(setting.weight, before.destinations[entry].weight)
            assert after.destinations[entry] == setting._replace(weight=weight)
        else:
            assert entry not in after.destinations


def must_serve(wish: Desired, before: KernelState) -> frozenset[ServiceKey]:
    """Return the services that serve and may not stop to: the wish has somebody for them, now or after a check."""
    result = set()
    for service in serving(before) & wish.services.keys():
        inside = [key for key, config in wish.destinations.items() if key.service == service and config.weight > 0]
        leaves = any(
            key.service == service and config.weight > 0 and key not in wish.failed and key not in wish.destinations
            for key, config in before.destinations.items()
        )
        if any(_can_serve(key, wish, before) for key in inside) or (leaves and not wish.awaited.isdisjoint(inside)):
            result.add(service)
    return frozenset(result)


def _can_serve(key: DestinationKey, wish: Desired, before: KernelState) -> bool:
    found = before.destinations.get(key)
    return key not in wish.uncertain or (found is not None and found.weight > 0)
