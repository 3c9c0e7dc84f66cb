"""A stateful kernel for tests: held by the contract tests to what the real one does."""

import errno
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence

from lvs_dr.agent.kernel import errors
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.arp_settings import ARP_KEYS
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DaemonOp,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    Failure,
    GuardConfig,
    GuardKey,
    GuardOp,
    GuardPart,
    GuePortKey,
    GuePortOp,
    KernelState,
    MarkUse,
    Op,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    TimeoutKey,
    TimeoutOp,
    TunnelConfig,
    TunnelKey,
    TunnelOp,
    Verb,
)
from lvs_dr.core.node_order import blocked
from lvs_dr.core.probes import EVERYWHERE, interface_of, probe_keys
from lvs_dr.core.scope import Scope
from lvs_dr.core.settings import SETTING_KEYS, TCP, TCP_FIN, UDP, sysctl_key
from lvs_dr.core.suspicions import OwnView
from lvs_dr.core.tunnels import MODULES, NAME_PREFIX
from tests.contract.fake_daemons import FakeDaemons

SCHEDULERS = frozenset(("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh"))

Entry = ServiceOp | DestinationOp | AddressOp | RouteOp | SysctlOp | TimeoutOp | TunnelOp | GuePortOp


class FakeKernel:
    """Implements agent.kernel.protocol.Kernel. State is public: tests play the part of other programs."""

    def __init__(self) -> None:
        self.services: dict[ServiceKey, ServiceConfig] = {}
        self.destinations: dict[DestinationKey, DestinationConfig] = {}
        self.addresses: dict[AddressKey, AddressConfig] = {}
        self.routes: set[RouteKey] = set()
        self.sysctls: dict[SysctlKey, str] = dict.fromkeys(ARP_KEYS, "0")
        self.connections: dict[DestinationKey, int] = {}
        self.templates: dict[DestinationKey, int] = {}
        self.marks_seen: set[int] = set()  # firewall marks that packets have carried
        self.mark_packets: dict[int, int] = {}  # how many packets have carried a firewall mark
        self.interface_sysctls: dict[SysctlKey, str] = {}  # of those that checks need; "0" until set
        self.view = OwnView()
        self.view_error: Exception | None = None
        self.slots = 4096
        self.settings: dict[SysctlKey, str] = dict.fromkeys(SETTING_KEYS, "0")  # below net.ipv4.vs
        self.settings[sysctl_key("sync_threshold")] = "3\t50"
        self.daemons = FakeDaemons()
        self.timeouts: dict[TimeoutKey, int] = {TCP: 900, TCP_FIN: 120, UDP: 300}
        self.tunnels: dict[TunnelKey, TunnelConfig] = {}
        self.gue_ports: set[GuePortKey] = set()
        self.guards: dict[GuardKey, GuardConfig] = {}
        self.ingress_qdiscs: set[str] = set()  # interfaces where somebody has the older kind of qdisc
        self.modules: set[str] = set(MODULES)  # kinds of tunnel devices that it can make
        self.has_fou = True
        self.links: dict[str, Interface] = {"lo": Interface(1, "lo", "", True, ())}
        self.gateways: set[str] = set()
        self.boot = "boot-1"
        self.has_ipvs = True
        self.schedulers = SCHEDULERS
        self.read_only: set[SysctlKey] = set()
        self.refuse: Callable[[Op], int] = lambda _: 0  # errno to answer with; 0 = let it through
        self.read_error: Exception | None = None
        self.journal: list[Op] = []  # every operation carried out
        self.services_read = 0  # whose destinations were asked for, of those that have any
        self.closed = False

    # What the agent calls

    def read(self, addresses: frozenset[str], parts: Scope) -> KernelState:
        """Return a copy of the state."""
        if self.read_error is not None:
            raise self.read_error
        told = {
            key: config
            for key, config in dict(self.addresses).items()  # a copy: the speaker's thread may change them
            if key.interface == "lo" or key.address in addresses
        }
        with_ipvs = parts.ipvs and self.has_ipvs
        settings = parts.settings and with_ipvs
        read = [key for key in self.destinations if key.service not in parts.unread] if with_ipvs else []
        self.services_read += len({key.service for key in read})
        return KernelState(
            services=dict(self.services) if with_ipvs else {},
            destinations=Destinations.of((key, self.destinations[key]) for key in read),
            addresses=told,
            routes=frozenset(self.routes),
            sysctls={
                **self.sysctls,
                **(self.settings if settings else {}),
                **self._interface_sysctls(probe_keys(parts.probes)),
            },
            timeouts=dict(self.timeouts) if settings else {},
            daemons=dict(self.daemons) if settings else {},
            tunnels={key: one for key, one in self.tunnels.items() if key.name.startswith(NAME_PREFIX)}
            if parts.tunnels
            else {},
            gue_ports=frozenset(self.gue_ports) if parts.gue and self.has_fou else frozenset(),
            guards={key: one for key, one in self.guards.items() if key.interface in parts.guards},
            connections=Destinations.of((key, self.connections.get(key, 0)) for key in read),
            templates=Destinations.of(
                (key, self.templates.get(key, 0)) for key in read if self.services[key.service].timeout_seconds
            ),
            silent_marks=frozenset(key for key in self.services if key.mark and key.mark not in self.marks_seen)
            if with_ipvs
            else frozenset(),
            mark_packets={key: self.mark_packets.get(key.mark, 0) for key in self.services if key.mark}
            if with_ipvs
            else {},
            ipvs_slots=self.slots if with_ipvs else 0,
        )

    def apply(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        """Carry out what the real kernel would, refuse what it would."""
        failures: list[Failure] = []
        for op in ops:
            failure = blocked(op, failures) or self._apply(op)
            if failure is not None:
                failures.append(failure)
        return tuple(failures)

    def read_sysctls(self, keys: Sequence[SysctlKey] = ARP_KEYS) -> Mapping[SysctlKey, str]:
        """Return the settings of interfaces."""
        return {**self.sysctls, **self._interface_sysctls(key for key in keys if interface_of(key))}

    def mark_use(self, service: ServiceKey) -> MarkUse | None:
        """Return how a firewall-mark service is used; each packet counts as a connection that lives."""
        if service not in self.services:
            return None
        places = frozenset((key.address, key.port) for key in self.destinations if key.service == service)
        count = self.mark_packets.get(service.mark, 0)
        return MarkUse(places, count, count)

    def interfaces(self) -> tuple[Interface, ...]:
        """Return the links with all addresses, host addresses of `self.addresses` included."""
        keys = tuple(self.addresses)
        return tuple(
            Interface(
                link.index,
                name,
                link.mac,
                link.up,
                (
                    *link.addresses,
                    *(f"{k.address}/{128 if ':' in k.address else 32}" for k in keys if k.interface == name),
                ),
            )
            for name, link in self.links.items()
        )

    def next_hops(self) -> tuple[str, ...]:
        """Return the gateways."""
        return tuple(sorted(self.gateways))

    def own_view(self, interfaces: Collection[str]) -> OwnView:  # noqa: ARG002 - all of it is told
        """Return what tests say."""
        if self.view_error is not None:
            raise self.view_error
        return self.view

    def boot_id(self) -> str:
        """Return the id of this boot."""
        return self.boot

    def close(self) -> None:
        """Keep the state, as a kernel does."""
        self.closed = True

    # What happens to a machine

    def reboot(self) -> None:
        """Lose everything that a reboot loses."""
        self.__init__()  # type: ignore[misc]
        self.boot = "boot-2"

    def flush_ipvs(self) -> None:
        """Do what `ipvsadm -C` does."""
        self.services.clear()
        self.destinations.clear()

    def snapshot(self) -> tuple[object, ...]:
        """Return all state, to compare before and after."""
        return (
            dict(self.services), dict(self.destinations), dict(self.addresses), set(self.routes), dict(self.sysctls),
            dict(self.settings), dict(self.timeouts), dict(self.daemons), dict(self.tunnels), set(self.gue_ports),
            dict(self.guards), {key: one for key, one in self.interface_sysctls.items() if one != "0"},
        )  # fmt: skip

    # How each operation works

    def _apply(self, op: Op) -> Failure | None:
        return self._apply_daemon(op) if isinstance(op, DaemonOp) else self._apply_entry(op)

    def _apply_entry(self, op: Entry) -> Failure | None:  # noqa: C901 - one case for each kind
        code = self.refuse(op)
        match op:
            case ServiceOp() | DestinationOp():
                if not self.has_ipvs:
                    return errors.ipvs_missing(op)
                code = code or (self._service(op) if isinstance(op, ServiceOp) else self._destination(op))
                failure = errors.ipvs_failure(op, code) if code else None
            case AddressOp():
                code = code or self._address(op)
                failure = errors.link_failure(op, code) if code else None
            case RouteOp():
                code = code or self._route(op)
                failure = errors.link_failure(op, code) if code else None
            case SysctlOp():
                code = code or self._sysctl(op)
                failure = errors.sysctl_failure(op, code) if code else None
            case TimeoutOp():
                code = code or self._timeout(op)
                failure = errors.timeout_failure(op, code) if code else None
            case TunnelOp():
                code = code or self._tunnel(op)
                failure = errors.tunnel_failure(op, code) if code else None
            case GuePortOp():
                code = code or self._gue_port(op)
                failure = errors.gue_failure(op, code) if code else None
            case GuardOp():
                code = code or self._guard(op)
                failure = errors.guard_failure(op, code) if code else None
        if not code:
            self.journal.append(op)
        return failure

    def _apply_daemon(self, op: DaemonOp) -> Failure | None:
        code = self.refuse(op) or (self.daemons.apply(op, self.links) if self.has_ipvs else errno.ENOENT)
        if not code:
            self.journal.append(op)
        return errors.daemon_failure(op, code) if code else None

    def _service(self, op: ServiceOp) -> int:
        present = op.key in self.services
        if op.verb is Verb.DELETE:
            if not present:
                return errno.ESRCH
            del self.services[op.key]
            for key in [key for key in self.destinations if key.service == op.key]:
                del self.destinations[key]
            return 0
        assert op.config is not None
        if op.verb is Verb.ADD and present:
            return errno.EEXIST
        if op.verb is Verb.SET and not present:
            return errno.ESRCH
        if op.config.scheduler not in self.schedulers:
            return errno.ENOENT
        self.services[op.key] = op.config
        return 0

    def _destination(self, op: DestinationOp) -> int:
        if op.key.service not in self.services:
            return errno.ESRCH
        present = op.key in self.destinations
        if op.verb is Verb.ADD and present:
            return errno.EEXIST
        if op.verb is not Verb.ADD and not present:
            return errno.ENOENT
        if op.verb is Verb.DELETE:
            del self.destinations[op.key]
        else:
            assert op.config is not None
            self.destinations[op.key] = op.config
        return 0

    def _address(self, op: AddressOp) -> int:
        if op.key.interface not in self.links:
            return errno.ENODEV
        present = op.key in self.addresses
        if op.verb is Verb.DELETE:
            if not present:
                return errno.EADDRNOTAVAIL
            del self.addresses[op.key]
            return 0
        assert op.config is not None
        if op.verb is Verb.ADD and present:
            return errno.EEXIST
        scope = self.addresses[op.key].scope if present else op.config.scope  # cannot be edited in place
        self.addresses[op.key] = AddressConfig(scope, op.config.deprecated)
        return 0

    def _route(self, op: RouteOp) -> int:
        present = op.key in self.routes
        if op.verb is Verb.DELETE:
            if not present:
                return errno.ESRCH
            self.routes.remove(op.key)
            return 0
        if present:
            return errno.EEXIST
        self.routes.add(op.key)
        return 0

    def _sysctl(self, op: SysctlOp) -> int:
        if op.key in self.read_only:
            return errno.EROFS
        if self._interface_sysctl(op.key) is not None and op.key not in self.settings:
            self.interface_sysctls[op.key] = op.value
            return 0
        if op.key in self.settings and self.has_ipvs:
            self.settings[op.key] = op.value
            return 0
        if op.key not in self.sysctls:
            return errno.ENOENT
        self.sysctls[op.key] = op.value
        return 0

    def _interface_sysctls(self, keys: Iterable[SysctlKey]) -> dict[SysctlKey, str]:
        return {key: value for key in keys if (value := self._interface_sysctl(key)) is not None}

    def _interface_sysctl(self, key: SysctlKey) -> str | None:
        if key in self.settings:
            return self.settings[key] if self.has_ipvs else None
        there = key == EVERYWHERE or interface_of(key) in self.links
        return self.interface_sysctls.get(key, "0") if there else None

    def _timeout(self, op: TimeoutOp) -> int:
        if not self.has_ipvs:
            return errno.ENOENT
        if op.seconds:
            self.timeouts[op.key] = op.seconds
        return 0

    def _tunnel(self, op: TunnelOp) -> int:
        if op.verb is Verb.DELETE:
            self.tunnels.pop(op.key, None)
            return 0
        assert op.config is not None
        if op.config.kind not in self.modules:
            return errno.EOPNOTSUPP
        others = {key: one for key, one in self.tunnels.items() if key != op.key or op.verb is Verb.ADD}
        if any(
            (key == op.key and one[:3] != op.config[:3]) or (key != op.key and one[:2] == op.config[:2])
            for key, one in others.items()
        ):
            return errno.EEXIST
        self.tunnels[op.key] = op.config
        return 0

    def _gue_port(self, op: GuePortOp) -> int:
        if op.verb is Verb.DELETE:
            self.gue_ports.discard(op.key)
            return 0
        if not self.has_fou:
            return errno.EAFNOSUPPORT
        self.gue_ports.add(op.key)
        return 0

    def _guard(self, op: GuardOp) -> int:
        qdisc = GuardKey(op.key.interface, GuardPart.QDISC)
        if op.verb is Verb.DELETE:
            if op.key != qdisc or not any(key.interface == op.key.interface and key != qdisc for key in self.guards):
                self.guards.pop(op.key, None)
            return 0
        if op.key.interface not in self.links and TunnelKey(op.key.interface) not in self.tunnels:
            return errno.ENODEV
        if op.key == qdisc:
            if op.key.interface in self.ingress_qdiscs:
                return errno.EEXIST
        elif qdisc not in self.guards:
            return errno.EINVAL
        self.guards[op.key] = GuardConfig()
        return 0
