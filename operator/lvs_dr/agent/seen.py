"""What one pass sees and does, as values: the input of the report."""

from collections.abc import Mapping
from functools import cached_property

import msgspec

from lvs_dr.agent.desired import Wanted
from lvs_dr.agent.inforce import Force
from lvs_dr.agent.interface import own_addresses
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.desired import Desired, reserved_addresses
from lvs_dr.core.health import HealthView
from lvs_dr.core.kernel import DestinationOp, Failure, KernelState, Op, ServiceKey, ServiceOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.core.plan import Plan
from lvs_dr.core.suspicions import Suspicion


class Surroundings(msgspec.Struct, frozen=True, dict=True):
    """The node's interfaces and next hops, read every few seconds and when the kernel says that they changed."""

    interfaces: tuple[Interface, ...]
    next_hops: tuple[str, ...]
    virtual: frozenset[str]  # VIPs, as far as they matter for what is the node's own

    @cached_property
    def own(self) -> tuple[InterfaceReport, ...]:
        """The node's own addresses."""
        return own_addresses(self.interfaces, self.virtual)

    @cached_property
    def reserved(self) -> Mapping[str, str]:
        """Addresses that can be no VIP here."""
        return reserved_addresses(self.own, self.next_hops)

    def source6(self, interface: str) -> str:
        """Return the node's own IPv6 address on an interface, "" if there is none."""
        texts = (text for one in self.own if one.name == interface for text in one.addresses if ":" in text)
        return next(texts, "").partition("/")[0]


class Done(msgspec.Struct, frozen=True, dict=True):
    """What one pass did to the kernel."""

    made: Plan = Plan((), Ledger(""))
    admitted: tuple[Op, ...] = ()
    withheld: tuple[Op, ...] = ()  # somebody else keeps undoing them
    failures: tuple[Failure, ...] = ()

    @cached_property
    def refused(self) -> frozenset[Op]:
        """The operations that the kernel refused."""
        return frozenset(failure.op for failure in self.failures)

    @cached_property
    def beyond_ipvs(self) -> bool:
        """Whether anything but IPVS's services and destinations was to be changed."""
        return any(type(op) is not DestinationOp and type(op) is not ServiceOp for op in self.admitted)

    @cached_property
    def added(self) -> frozenset[ServiceKey]:
        """The services that were added."""
        added = [op for op in self.admitted if type(op) is ServiceOp and op.verb is Verb.ADD]
        return frozenset(op.key for op in added if op not in self.refused)

    @property
    def carried_out(self) -> int:
        """How many operations the kernel took."""
        return len(self.admitted) - len(self.failures)


class Seen(msgspec.Struct, frozen=True):
    """What one pass saw and did: the input of the report."""

    wanted: Wanted
    force: Force | None
    surroundings: Surroundings
    interface: str = ""
    actual: KernelState = KernelState()
    goal: Desired = Desired(writable=False)
    done: Done = Done()
    health: HealthView = msgspec.field(
        default_factory=dict
    )  # by which it was decided: a later one is not in the kernel
    suspicions: tuple[Suspicion, ...] = ()
