"""The one door to the node's kernel, as the rest of the agent sees it.

Synchronous on purpose: all calls of one `Kernel` are made from one dedicated worker thread, never from the
event loop. `NodeKernel` (node.py) is the real one; the contract tests hold a stateful fake to the same cases.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from lvs_dr.core.arp_settings import ARP_KEYS
from lvs_dr.core.kernel import Failure, KernelState, MarkUse, Op, ServiceKey, SysctlKey
from lvs_dr.core.scope import Scope
from lvs_dr.core.suspicions import OwnView


@dataclass(frozen=True, slots=True)
class Interface:
    """A network interface and the global addresses on it (link-local ones left out)."""

    index: int
    name: str
    mac: str  # lower case, "" where the link has none
    up: bool  # administratively up and with carrier
    addresses: tuple[str, ...]  # with prefix length, "192.0.2.7/24"; also ours


class Kernel(Protocol):
    """What is read from and written to a node's kernel. Raises `KernelError` when reading is impossible."""

    def read(self, addresses: frozenset[str], parts: Scope) -> KernelState:
        """Read the state of one pass.

        Host addresses are told for `lo` (all but the loopback's own) and, of `addresses`, for every other
        interface. What is beside them says `parts`. A kernel without IPVS reads as one without services; adding one
        then fails with IPVSUnavailable.
        """
        ...

    def apply(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        """Carry out the operations in order, IPVS ones in batches; return those that the kernel refused.

        Adding what exists and deleting what is absent is no failure.
        """
        ...

    def read_sysctls(self, keys: Sequence[SysctlKey] = ARP_KEYS) -> Mapping[SysctlKey, str]:
        """Read, of these, the settings of interfaces (cheap: a few small files), for the poll between passes."""
        ...

    def mark_use(self, service: ServiceKey) -> MarkUse | None:
        """Read one firewall-mark service, between passes; None when it is not there."""
        ...

    def interfaces(self) -> tuple[Interface, ...]:
        """Read the interfaces that exist, `lo` included."""
        ...

    def next_hops(self) -> tuple[str, ...]:
        """Read the gateways of all routes, sorted, without duplicates, without link-local ones."""
        ...

    def own_view(self, interfaces: Collection[str]) -> OwnView:
        """Read what may keep clients of VIPs from an answer: listening ports, rp_filter, the default route."""
        ...

    def boot_id(self) -> str:
        """Read the id of this boot of the kernel."""
        ...

    def close(self) -> None:
        """Close all sockets; the kernel's state stays as it is."""
        ...
