"""What must hold for every desired state on every kernel: reached, undone exactly, others left alone."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.desired import Desired
from lvs_dr.core.kernel import AddressOp, DestinationOp, KernelState, Op, RouteOp, ServiceOp, SysctlOp, Verb
from lvs_dr.core.scope import IPVS
from tests.contract.fake_kernel import FakeKernel
from tests.unit.core.plan_cases import VIPS, Node, kernels, wanted_states

PASSES = 4
PROPERTY = settings(max_examples=50, deadline=None)  # a deadline fails on a busy machine, not on a bug


def settle(node: Node, wanted: Desired) -> None:
    """Let the agent make passes until it does nothing, with no connection in the way."""
    for _ in range(PASSES):
        if not node.apply(wanted).ops:
            return
    raise AssertionError(f"still not done: {node.plan(wanted).ops}")


def state(kernel: FakeKernel) -> KernelState:
    """Return all that the agent reads."""
    return kernel.read(frozenset(VIPS), IPVS)


@PROPERTY
@given(kernels(), wanted_states())
def test_every_desired_state_is_reached_in_one_pass(kernel: FakeKernel, wanted: Desired) -> None:
    """A user would lose a service, a destination or a VIP that was asked for."""
    node = Node(kernel)
    foreign = set(kernel.destinations)
    node.apply(wanted)
    after = state(kernel)
    for key, config in wanted.services.items():
        assert after.services[key] == config
    for entry, setting in wanted.destinations.items():
        assert after.destinations[entry] == setting
    for entry in wanted.failed:
        found = after.destinations.get(entry)
        assert found is None if entry not in foreign else found is not None and found.weight == 0
    assert wanted.addresses.keys() <= after.addresses.keys()
    assert all(after.addresses[key].deprecated == config.deprecated for key, config in wanted.addresses.items())
    assert wanted.routes <= after.routes
    assert all(rule.accepts(after.sysctls[key]) for key, rule in wanted.sysctls.items())


@PROPERTY
@given(kernels(), wanted_states())
def test_nothing_is_written_when_nothing_changed(kernel: FakeKernel, wanted: Desired) -> None:
    """Every pass would disturb the kernel of a quiet node, and the ledger would be written for ever."""
    node = Node(kernel)
    node.apply(wanted)
    again = node.plan(wanted)
    assert again.ops == ()
    assert again.ledger == node.ledger


@PROPERTY
@given(kernels(), st.lists(wanted_states(), max_size=3))
def test_the_kernel_is_put_back_exactly(kernel: FakeKernel, wishes: list[Desired]) -> None:
    """After the last VirtualService is gone the node would not be as it was before us."""
    before = kernel.snapshot()
    node = Node(kernel)
    for wanted in wishes:
        node.apply(wanted)
    settle(node, Desired())
    assert kernel.snapshot() == before
    assert node.ledger.holds_nothing


@PROPERTY
@given(kernels(), wanted_states(), wanted_states())
def test_foreign_entries_are_never_touched(kernel: FakeKernel, first: Desired, second: Desired) -> None:
    """Somebody else's IPVS entries would vanish or change although we never wanted them."""
    node = Node(kernel)
    theirs = {
        key: config
        for key, config in kernel.destinations.items()
        if key not in first.destinations.keys() | second.destinations.keys() | first.failed | second.failed
    }
    services = {
        key: config
        for key, config in kernel.services.items()
        if key not in first.services and key not in second.services
    }
    for wanted in (first, second, Desired()):
        made = node.apply(wanted)
        touched = {op.key for op in made.ops if isinstance(op, ServiceOp | DestinationOp)}
        assert touched.isdisjoint(theirs)
        assert touched.isdisjoint(services)
        assert {key: kernel.destinations[key] for key in theirs} == theirs
        assert {key: kernel.services[key] for key in services} == services


@PROPERTY
@given(kernels(), wanted_states(), wanted_states(), st.data())
def test_a_crash_after_any_operation_heals_and_is_undone(
    kernel: FakeKernel, first: Desired, second: Desired, data: st.DataObject
) -> None:
    """An agent killed in the middle of a pass would leave entries that nobody owns, or restore wrong values."""
    before = kernel.snapshot()
    node = Node(kernel)
    for wanted in (first, second, Desired()):
        ops = node.plan(wanted).ops
        node.apply(wanted, crash_after=data.draw(st.integers(0, len(ops))))
        if data.draw(st.booleans()):
            settle(node, wanted)
            assert wanted.services.keys() <= kernel.services.keys()
    settle(node, Desired())
    assert kernel.snapshot() == before


@PROPERTY
@given(kernels(), wanted_states(), st.data())
def test_refused_operations_heal_in_a_later_pass(kernel: FakeKernel, wanted: Desired, data: st.DataObject) -> None:
    """One refused operation would keep the others from being applied, or would never be tried again."""
    before = kernel.snapshot()
    node = Node(kernel)
    count = len(node.plan(wanted).ops)
    refused = data.draw(st.sets(st.integers(0, max(count - 1, 0))))
    ops = node.plan(wanted).ops
    bad = {op for number, op in enumerate(ops) if number in refused}
    kernel.refuse = lambda op: 12 if op in bad else 0
    node.apply(wanted)
    kernel.refuse = lambda _: 0
    node.apply(wanted)
    assert node.plan(wanted).ops == ()
    assert wanted.services.keys() <= kernel.services.keys()
    settle(node, Desired())
    assert kernel.snapshot() == before


@PROPERTY
@given(kernels(), wanted_states())
def test_what_was_lost_is_brought_back(kernel: FakeKernel, wanted: Desired) -> None:
    """`ipvsadm -C`, a vanished VIP or a changed sysctl would stay as they are."""
    node = Node(kernel)
    node.apply(wanted)
    kernel.flush_ipvs()
    kernel.addresses.clear()
    kernel.routes.clear()
    kernel.sysctls = dict.fromkeys(kernel.sysctls, "0")
    made = node.apply(wanted)
    after = state(kernel)
    assert {key: after.services[key] for key in wanted.services} == wanted.services
    assert wanted.addresses.keys() <= after.addresses.keys()
    assert len(made.repairs) >= len(wanted.services) + len(wanted.addresses) + len(wanted.routes)


@PROPERTY
@given(kernels(), wanted_states(), wanted_states())
def test_the_order_on_a_node_is_kept(kernel: FakeKernel, first: Desired, second: Desired) -> None:
    """A VIP on lo without its guard or with loud ARP would loop packets or take traffic away from the director."""
    node = Node(kernel)
    node.apply(first)
    for wanted in (second, Desired()):
        made = node.plan(wanted)
        _assert_order(made.ops)
        node.apply(wanted)


def _assert_order(ops: tuple[Op, ...]) -> None:
    def positions(kind: type, verb: Verb) -> list[int]:
        return [number for number, op in enumerate(ops) if isinstance(op, kind) and op.verb is verb]

    adding_addresses = positions(AddressOp, Verb.ADD)
    removing_addresses = positions(AddressOp, Verb.DELETE)
    if adding_addresses:
        assert all(number < adding_addresses[0] for number in positions(RouteOp, Verb.ADD))
        assert all(number < adding_addresses[0] for number in positions(SysctlOp, Verb.SET))
    if removing_addresses and not adding_addresses:
        assert all(number > removing_addresses[-1] for number in positions(RouteOp, Verb.DELETE))
        assert all(number > removing_addresses[-1] for number in positions(SysctlOp, Verb.SET))
    removed_routes = positions(RouteOp, Verb.DELETE)
    if removed_routes and not adding_addresses:
        assert all(number > removed_routes[-1] for number in positions(SysctlOp, Verb.SET))
    for number, op in enumerate(ops):
        if isinstance(op, DestinationOp) and op.verb is Verb.ADD:
            later = [each for each in ops[number:] if isinstance(each, ServiceOp) and each.key == op.key.service]
            assert not later, "a destination was added before its service"
        if isinstance(op, ServiceOp) and op.verb is Verb.DELETE:
            inside = [each for each in ops[number:] if isinstance(each, DestinationOp) and each.key.service == op.key]
            assert not inside, "a service was removed before its destinations"
