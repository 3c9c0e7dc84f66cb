"""When the kernel fails, answers too late, or the agent dies in the middle: later passes put everything right."""

import copy
import errno
from collections.abc import Sequence
from typing import NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.core.desired import Desired
from lvs_dr.core.kernel import Failure, KernelState, Op
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import IPVS, Scope
from tests.contract.fake_kernel import FakeKernel
from tests.contract.table_cases import Found, found, wishes
from tests.contract.walk import put
from tests.unit.core.plan_cases import VIPS

PASSES = 6
PROPERTY = settings(max_examples=40, deadline=None)
ERRNOS = (errno.ENOENT, errno.ESRCH, errno.EEXIST, errno.ENOBUFS, errno.EINTR, errno.ENOMEM)


class Fault(NamedTuple):
    """What goes wrong in one pass."""

    short_dump: bool  # the tables changed while they were read, again and again
    refused: dict[int, int]  # position of an operation -> errno
    lost_after: int | None  # the socket broke: so many operations were carried out, none is known to be


class FaultyKernel(FakeKernel):
    """A kernel that goes wrong as told, once per pass."""

    def __init__(self) -> None:
        super().__init__()
        self.fault: Fault | None = None

    def read(self, addresses: frozenset[str], parts: Scope) -> KernelState:
        """Read, or find the dump interrupted."""
        if self.fault is not None and self.fault.short_dump:
            raise KernelError(errno.EINTR, "the dump was interrupted")
        return super().read(addresses, parts)

    def apply(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        """Carry out what the fault lets through."""
        if self.fault is None:
            return super().apply(ops)
        if self.fault.lost_after is not None:
            super().apply(ops[: self.fault.lost_after])
            return tuple(Failure(op, errno.EIO, Reason.KERNEL_REFUSED, "IPVS did not answer") for op in ops)
        refused = {op: self.fault.refused.get(number, 0) for number, op in enumerate(ops)}
        self.refuse = lambda op: refused.get(op, 0)
        failures = super().apply(ops)
        self.refuse = lambda _: 0
        return failures


@st.composite
def faults(draw: st.DrawFn) -> Fault:
    """Return anything that may go wrong in a pass."""
    return Fault(
        short_dump=draw(st.integers(0, 4)) == 0,
        refused=draw(st.dictionaries(st.integers(0, 12), st.sampled_from(ERRNOS), max_size=5)),
        lost_after=draw(st.one_of(st.none(), st.none(), st.integers(0, 12))),
    )


def one_pass(kernel: FakeKernel, wish: Desired, ledger: Ledger) -> Ledger:
    """Make a pass as the agent does: the ledger first, then the kernel; returns the ledger on disk."""
    try:
        state = kernel.read(frozenset(VIPS), IPVS)
    except KernelError:
        return ledger
    made = plan(wish, state, ledger)
    kernel.apply(made.ops)
    return made.ledger


def settle(kernel: FakeKernel, wish: Desired, ledger: Ledger) -> Ledger:
    """Make passes until one has nothing to do."""
    for _ in range(PASSES):
        before, ledger = len(kernel.journal), one_pass(kernel, wish, ledger)
        if len(kernel.journal) == before:
            return ledger
    raise AssertionError(f"still not done: {plan(wish, kernel.read(frozenset(), IPVS), ledger).ops}")


@PROPERTY
@given(found(), st.lists(st.tuples(wishes(), st.lists(faults(), max_size=3)), min_size=1, max_size=3))
def test_whatever_goes_wrong_later_passes_converge(theirs: Found, steps: list[tuple[Desired, list[Fault]]]) -> None:
    """A busy kernel or a lost answer would leave a table wrong for ever, or entries behind that nobody owns."""
    kernel = FaultyKernel()
    put(kernel, theirs)
    before = kernel.snapshot()
    ledger = Ledger("boot")
    for wish, wrong in steps:
        for kernel.fault in wrong:
            ledger = one_pass(kernel, wish, ledger)
        kernel.fault = None
        ledger = settle(kernel, wish, ledger)
        assert {key: kernel.services[key] for key in wish.services} == dict(wish.services)
        certain = {key: config for key, config in wish.destinations.items() if key not in wish.uncertain}
        assert {key: kernel.destinations.get(key) for key in certain} == certain
    ledger = settle(kernel, Desired(), settle(kernel, Desired(), ledger))
    assert kernel.snapshot() == before
    assert ledger.holds_nothing


@PROPERTY
@given(found(), wishes(), wishes(), st.booleans())
def test_a_crash_between_any_two_operations_leaves_nothing_behind(
    theirs: Found,
    first: Desired,
    second: Desired,
    again: bool,  # noqa: FBT001 - drawn
) -> None:
    """kill -9 in the middle of an apply would leave services that nobody owns, or take away what others made."""
    kernel = FakeKernel()
    put(kernel, theirs)
    before = kernel.snapshot()
    ledger = settle(kernel, first, Ledger("boot"))
    made = plan(second, kernel.read(frozenset(VIPS), IPVS), ledger)
    for count in range(len(made.ops) + 1):
        killed = copy.copy(kernel)
        killed.services, killed.destinations = dict(kernel.services), dict(kernel.destinations)
        killed.journal = []
        killed.apply(made.ops[:count])
        on_disk = settle(killed, second, made.ledger) if again else made.ledger
        on_disk = settle(killed, Desired(), settle(killed, Desired(), on_disk))
        assert killed.snapshot() == before
        assert on_disk.holds_nothing


@PROPERTY
@given(found(), wishes(), wishes())
def test_every_entry_is_in_the_ledger_before_it_is_touched(theirs: Found, first: Desired, second: Desired) -> None:
    """The order is the whole proof of what is ours: an operation without its record could never be undone."""
    kernel = FakeKernel()
    put(kernel, theirs)
    ledger = Ledger("boot")
    for wish in (first, second, Desired()):
        made = plan(wish, kernel.read(frozenset(VIPS), IPVS), ledger)
        adopted = (*made.ledger.adopted_services, *made.ledger.adopted_destinations)
        assert {op.key for op in made.ops} <= {
            *made.ledger.services,
            *made.ledger.own_destinations,
            *(key for key, _ in adopted),
        }
        kernel.apply(made.ops)
        ledger = made.ledger
