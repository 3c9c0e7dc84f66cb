"""Whether a firewall mark leads where it must: without that, a check through a VIP says nothing of its real server.

The mark's IPVS service must be there and lead to that real server alone; and its own counter must move when it is
asked, else somebody rewrites the mark, and packets went to any real server of the VIP.
"""

import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Final, NamedTuple

from lvs_dr.agent.door import KernelStuckError
from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.core.desired import LOOPBACK
from lvs_dr.core.health import CheckKey
from lvs_dr.core.kernel import Forwarding, KernelState, MarkUse, Op, ServiceKey, SysctlOp
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.probes import (
    ACCEPT_LOCAL,
    EVERYWHERE,
    RP_FILTER,
    RUN_ESTIMATION,
    STRICT,
    Probes,
    interface_key,
    ready,
)

SETTLED_SECONDS: Final = 3.0
"""The kernel adds its counters up every 2 s (net/netfilter/ipvs/ip_vs_est.c)."""
DIRECT_HOPS: Final = 3
"""Under direct routing a packet takes one hop (IPVS), and one more on a director that the loop guard keeps from sending
it on. A real server without the VIP that forwards would send it to the Active director, which would find another one:
there it arrives with its last hop, and ends.
"""
WINDOW_SECONDS: Final = 20.0
_AF_INET: Final = 2
_AF_INET6: Final = 10

REWRITTEN: Final = (
    "the probe does not arrive at its firewall-mark service ({mark}): something on this director changes the mark of "
    "packets that leave, or takes them before IPVS (iptables -t mangle -S OUTPUT)"
)

LookUp = Callable[[ServiceKey], Awaitable[MarkUse | None]]


class Done(NamedTuple):
    """What a pass did, as far as it matters here."""

    ops: Iterable[Op]
    undone: Iterable[Op]
    taken: frozenset[ServiceKey]
    ledger: Ledger


class _Look(NamedTuple):
    """How often each mark had been asked at a moment, and how many packets its service had had."""

    at: float
    asked: Mapping[ServiceKey, int]
    packets: Mapping[ServiceKey, int]


class Marks:
    """Knows of each mark whether checks may use it. `changed`: called when that may be another answer now."""

    def __init__(
        self, look_up: LookUp, *, changed: Callable[[], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._look_up = look_up
        self._changed = changed
        self._clock = clock
        self._probes: Probes = {}
        self._ready: frozenset[tuple[ServiceKey, str]] = frozenset()
        self._taken: frozenset[ServiceKey] = frozenset()
        self._barred = ""  # the sysctl that keeps answers from a VIP out
        self._asked: dict[ServiceKey, int] = {}
        self._looks: deque[_Look] = deque()
        self._counts = True
        self._proven: set[ServiceKey] = set()
        self._before: dict[ServiceKey, tuple[int, int]] = {}  # packets and connections, the least that were seen
        self._silent: frozenset[ServiceKey] = frozenset()
        self.interface = ""

    def follow(self, probes: Probes, actual: KernelState, done: Done, interface: str) -> None:
        """Take what a pass read and did. `interface`: the director's."""
        known = done.ledger.own_services | {key for key, _ in done.ledger.adopted_services}
        found = ready(probes, actual, known, done.ops, done.undone)
        barred = _barred(actual, interface, done) if interface else ""
        self._count(probes, actual)
        self._look_back(probes, actual)
        before = (self._ready, self._barred, self._silent, self.interface)
        self._probes, self._ready, self._taken, self._barred = probes, found, done.taken, barred
        self.interface = interface
        self._silent = frozenset(self._unmoved())
        if before != (self._ready, self._barred, self._silent, self.interface):
            self._proven &= {key for key, _ in found}
            self._proven -= self._silent
            self._changed()

    def usable(self, key: CheckKey) -> bool:
        """Whether the check may be made now."""
        service = service_of(key)
        if (service, key.address) not in self._ready:
            return False
        return bool(self.interface) and (not self._barred or service.family == _AF_INET6)

    def hindrance(self, key: CheckKey) -> str:
        """Return why a check that is not `usable` is not."""
        service = service_of(key)
        if not self.interface:
            return "this director has no interface that faces clients"
        if service in self._taken:
            return f"somebody else has an IPVS service for firewall mark {key.mark} (checkMarks of the DirectorGroup)"
        if (service, key.address) in self._ready:
            return f"sysctl {self._barred}: answers from the VIP are dropped"
        return f"the IPVS service for firewall mark {key.mark}, which leads to {key.address}, is not in the kernel"

    def hops(self, key: CheckKey) -> int:
        """Return how many hops a check's packets may take; 0: as many as usual."""
        found = self._probes.get(service_of(key))
        return DIRECT_HOPS if found is not None and found.config.forwarding == Forwarding.DIRECT_ROUTING else 0

    def asked(self, key: CheckKey) -> None:
        """Note that packets with the mark leave."""
        service = service_of(key)
        self._asked[service] = self._asked.get(service, 0) + 1

    async def doubt(self, key: CheckKey, *, failed: bool, entering: bool = True) -> str:
        """Return why the result of a check that was just made says nothing; "" when it is good.

        `failed`: it speaks against a real server that is not down; `entering`: it would make one healthy. Then the
        mark is looked up: at every failure, and until it was once seen to lead where it must.
        """
        service = service_of(key)
        if service in self._silent:
            return REWRITTEN.format(mark=key.mark)
        if not failed and (not entering or service in self._proven):
            return ""
        try:
            use = await self._look_up(service)
        except (KernelError, KernelStuckError) as error:
            return f"it is not known whether firewall mark {key.mark} leads to it: {error}"
        if use is None or use.places != {(key.address, 0)}:
            self._changed()
            return f"the IPVS service for firewall mark {key.mark} was changed, or taken away, by somebody else"
        return self._judged(key, service, use, failed=failed)

    def _judged(self, key: CheckKey, service: ServiceKey, use: MarkUse, *, failed: bool) -> str:
        packets, connections = self._before.get(service, (0, 0))
        if use.connections > connections or use.packets > packets:
            if not failed:
                self._proven.add(service)
            return ""
        used = bool(failed and (use.connections or use.packets))
        if not used and key.check.udp is None and key.check.dns is None:  # datagrams show up 2 s later
            return REWRITTEN.format(mark=key.mark)
        return ""

    def _look_back(self, probes: Probes, actual: KernelState) -> None:
        """Note the least that each service has had: it may be made anew, and connections of an agent before us end."""
        found: dict[ServiceKey, tuple[int, int]] = {}
        for key in probes:
            packets, live = actual.mark_packets.get(key, 0), sum(actual.connections.group(key).values())
            known = self._before.get(key, (packets, live))
            found[key] = (min(packets, known[0]), min(live, known[1]))
        self._before = found

    def _count(self, probes: Probes, actual: KernelState) -> None:
        now = self._clock()
        self._counts = actual.sysctls.get(RUN_ESTIMATION, "1") != "0"
        if len(self._asked) > len(probes):
            self._asked = {key: count for key, count in self._asked.items() if key in probes}
        if self._looks and any(
            actual.mark_packets.get(key, 0) < count for key, count in self._looks[-1].packets.items() if key in probes
        ):
            self._looks.clear()  # made anew: it counts from 0
        if not self._looks or now - self._looks[-1].at >= 1.0:
            packets = {key: count for key, count in actual.mark_packets.items() if key in probes}
            self._looks.append(_Look(now, dict(self._asked), packets))
        while len(self._looks) > 1 and now - self._looks[0].at > WINDOW_SECONDS:
            self._looks.popleft()

    def _unmoved(self) -> Iterable[ServiceKey]:
        """Return the marks that were used and whose counter did not move: the kernel has had the time to add it up."""
        if not self._counts or not self._looks:
            return
        now = self._looks[-1]
        settled = next((each for each in reversed(self._looks) if now.at - each.at >= SETTLED_SECONDS), None)
        if settled is None:
            return
        first = self._looks[0]
        for key, packets in now.packets.items():
            asked = settled.asked.get(key, 0) - first.asked.get(key, 0)
            if key in first.packets and asked > 0 and packets - first.packets[key] < asked:
                yield key


def service_of(key: CheckKey) -> ServiceKey:
    """Return the IPVS service that a check goes through."""
    return ServiceKey("", 0, 0, key.mark, _AF_INET6 if ":" in key.vip else _AF_INET)


def _barred(actual: KernelState, interface: str, done: Done) -> str:
    """Return the sysctl that keeps answers from a VIP out, and what is wrong with it, as far as the pass knows."""
    undone = frozenset(op.key for op in done.undone if isinstance(op, SysctlOp))
    values = dict(actual.sysctls)
    values |= {op.key: op.value for op in done.ops if isinstance(op, SysctlOp) and op.key not in undone}
    if values.get(interface_key(interface, ACCEPT_LOCAL), "1") != "1":
        return f"net.ipv4.conf.{interface}.{ACCEPT_LOCAL} is not 1"
    ours = (*done.ledger.addresses, *(key for key, _ in done.ledger.adopted_addresses))
    carried = any(key.interface == LOOPBACK and ":" not in key.address for key in ours)
    if carried and max(values.get(key, "") for key in (EVERYWHERE, interface_key(interface, RP_FILTER))) == STRICT:
        return f"net.ipv4.conf.{interface}.{RP_FILTER} is not 2 although VIPs are on {LOOPBACK}"
    return ""
