"""The real kernel of the node the agent runs on."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from lvs_dr.agent.kernel.daemons import SyncDaemons
from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.agent.kernel.ipvs import Ipvs, IpvsOp, IpvsState
from lvs_dr.agent.kernel.links import Links
from lvs_dr.agent.kernel.listening import listeners
from lvs_dr.agent.kernel.loop_guard import LoopGuard
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.kernel.sysctl import DEFAULT_ROOT, Sysctls
from lvs_dr.agent.kernel.timeouts import IpvsTimeouts
from lvs_dr.agent.kernel.tunnels import Tunnels
from lvs_dr.core.arp_settings import ARP_KEYS
from lvs_dr.core.kernel import (
    AddressOp,
    DaemonOp,
    DestinationOp,
    Failure,
    GuardOp,
    GuePortOp,
    KernelState,
    MarkUse,
    Op,
    RouteOp,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    TimeoutOp,
    TunnelOp,
)
from lvs_dr.core.node_order import blocked
from lvs_dr.core.probes import RP_FILTER, interface_key, probe_keys
from lvs_dr.core.scope import Scope
from lvs_dr.core.settings import SETTING_KEYS, is_shared
from lvs_dr.core.suspicions import OwnView

_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


class NodeKernel:
    """Implements `Kernel`. Sockets open on first use; use it from one thread only."""

    def __init__(self, sysctl_root: Path = DEFAULT_ROOT) -> None:
        self._ipvs = Ipvs()
        self._links = Links()
        self._sysctls = Sysctls(sysctl_root)
        self._timeouts = IpvsTimeouts()
        self._daemons = SyncDaemons()
        self._tunnels = Tunnels(self._sysctls)
        self._guard = LoopGuard()
        self._appliers: Mapping[type, Callable[[Any], Failure | None]] = {
            AddressOp: self._links.apply_address,
            RouteOp: self._links.apply_route,
            SysctlOp: self._sysctls.apply,
            TimeoutOp: self._timeouts.apply,
            DaemonOp: self._daemons.apply,
            TunnelOp: self._tunnels.apply,
            GuePortOp: self._tunnels.apply,
            GuardOp: self._guard.apply,
        }

    def read(self, addresses: frozenset[str], parts: Scope) -> KernelState:
        """Read the state of one pass. Raises KernelError."""
        found = self._ipvs.read(parts.unread) if parts.ipvs else IpvsState()
        settings = parts.settings and parts.ipvs  # ip_vs is loaded by now
        return KernelState(
            services=found.services,
            destinations=found.destinations,
            addresses=self._links.read_addresses(addresses),
            routes=self._links.read_routes(),
            sysctls=self._sysctls.read(
                dict.fromkeys((*ARP_KEYS, *(SETTING_KEYS if settings else ()), *probe_keys(sorted(parts.probes))))
            ),
            timeouts=self._timeouts.read() if settings else {},
            daemons=self._daemons.read() if settings else {},
            tunnels=self._tunnels.read() if parts.tunnels else {},
            gue_ports=self._tunnels.read_gue_ports() if parts.gue else frozenset(),
            guards=self._guard.read(parts.guards),
            connections=found.connections,
            templates=found.templates,
            silent_marks=found.silent_marks,
            mark_packets=found.mark_packets,
            ipvs_slots=found.slots,
        )

    def apply(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        """Carry out the operations in order; consecutive IPVS ones go out as one batch."""
        failures: list[Failure] = []
        batch: list[IpvsOp] = []
        for op in ops:
            if isinstance(op, ServiceOp | DestinationOp):
                batch.append(op)
                continue
            failures += self._flush(batch)
            failure = blocked(op, failures) or self._apply_one(op)
            if failure is not None:
                failures.append(failure)
        failures += self._flush(batch)
        return tuple(failures)

    def read_sysctls(self, keys: Sequence[SysctlKey] = ARP_KEYS) -> Mapping[SysctlKey, str]:
        """Read, of these, the settings of interfaces. Raises KernelError."""
        return self._sysctls.read(key for key in keys if not is_shared(key))

    def mark_use(self, service: ServiceKey) -> MarkUse | None:
        """Read one firewall-mark service. Raises KernelError."""
        return self._ipvs.mark_use(service)

    def interfaces(self) -> tuple[Interface, ...]:
        """Read all interfaces. Raises KernelError."""
        return self._links.interfaces()

    def next_hops(self) -> tuple[str, ...]:
        """Read the gateways. Raises KernelError."""
        return self._links.next_hops()

    def own_view(self, interfaces: Collection[str]) -> OwnView:
        """Read what may keep clients of VIPs from an answer. Raises KernelError."""
        keys = {name: interface_key(name, RP_FILTER) for name in ("all", *interfaces)}
        values = self._sysctls.read(keys.values())
        try:
            heard = listeners()
        except OSError as error:
            raise KernelError(error.errno or 0, f"listening sockets cannot be read: {error}") from error
        reverse = {name: values[key] for name, key in keys.items() if key in values}
        return OwnView(heard, reverse, self._links.default_gateways())

    def boot_id(self) -> str:
        """Read the boot id. Raises KernelError."""
        try:
            return _BOOT_ID.read_text("ascii").strip()
        except OSError as error:
            raise KernelError(error.errno or 0, f"the boot id cannot be read: {error}") from error

    def close(self) -> None:
        """Close all sockets."""
        self._ipvs.close()
        self._links.close()
        self._timeouts.close()
        self._daemons.close()
        self._tunnels.close()
        self._guard.close()

    def _flush(self, batch: list[IpvsOp]) -> list[Failure]:
        failures = self._ipvs.apply(batch) if batch else []
        batch.clear()
        return failures

    def _apply_one(self, op: Op) -> Failure | None:
        return self._appliers[type(op)](op)
