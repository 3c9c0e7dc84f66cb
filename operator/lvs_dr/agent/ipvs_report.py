"""What a report says of the kernel's IPVS as a whole: how full it is, and what in it is not ours."""

from collections.abc import Iterable, Mapping
from typing import Final

from lvs_dr.agent.drift import service_text
from lvs_dr.agent.facts import problem
from lvs_dr.core.kernel import AddressKey, DestinationKey, KernelState, ServiceKey
from lvs_dr.core.ledger import ServiceNote
from lvs_dr.core.node_status import IpvsReport, Problem
from lvs_dr.core.plan import Plan
from lvs_dr.core.probes import NO_PROBES, Probes
from lvs_dr.core.reasons import Reason

CONNECTIONS_PER_SLOT: Final = 8
"""From this many live connections per slot of the connection table on it is called small.

Each packet walks half a chain of its slot. The table has 4,096 slots unless the module was loaded with another
`conn_tab_bits` (CONFIG_IP_VS_TAB_BITS); closed connections, which are in it too, do not count here.
"""
MAXIMUM_NAMED: Final = 8
_LEAST_NEWS: Final = 100  # connections; below, a change is no news


class ConnectionCount:
    """The number of connections as it is reported: it moves all the time, and each report is a write."""

    def __init__(self) -> None:
        self._told = 0

    def told(self, count: int) -> int:
        """Return what to report: the last number until the new one is far from it, or 0."""
        if not count or abs(count - self._told) >= max(_LEAST_NEWS, self._told // 4):
            self._told = count
        return self._told


def ipvs_report(made: Plan, actual: KernelState, count: ConnectionCount, probes: Probes = NO_PROBES) -> IpvsReport:
    """Return what to report of IPVS on a director. The connections of checks, by `probes`, are nobody's."""
    foreign = [key for key in made.foreign if isinstance(key, ServiceKey)]
    if any(not isinstance(key, AddressKey) for key in made.foreign):
        ours = made.ledger.known_destinations
        live = sum(number for key, number in actual.connections.items() if number and key in ours)
    else:
        live = sum(sum(group.values()) for group in actual.connections.groups.values())
    live -= sum(sum(actual.connections.group(key).values()) for key in probes if key not in made.taken)
    live = max(0, live)
    return IpvsReport(
        connection_table_size=actual.ipvs_slots,
        connections=count.told(live),
        foreign_services=len(foreign),
        foreign=tuple(service_text(key) for key in foreign[:MAXIMUM_NAMED]),
    )


def small_table(report: IpvsReport) -> Iterable[Problem]:
    """Tell when the connections are too many for the kernel's table of them."""
    slots = report.connection_table_size
    if slots and report.connections > CONNECTIONS_PER_SLOT * slots:
        text = (
            f"about {report.connections} connections share {slots} slots of the connection table, so that each packet "
            "is looked up slowly; load module ip_vs with a larger conn_tab_bits (options ip_vs conn_tab_bits=20)"
        )
        yield problem(Reason.CONNECTION_TABLE_SMALL, text)


def overlapping(made: Plan, notes: Mapping[ServiceKey, ServiceNote]) -> Iterable[tuple[str, str]]:
    """Return entries of others that take, or are given, packets of our VIPs: (VIP, in words).

    A firewall-mark service of others takes whatever carries its mark, which nobody but its owner knows: such ones
    are counted and named in the report, not called a problem.
    """
    wanted = {(key.address, key.protocol, key.port) for key in notes if not key.mark}
    addresses = {(address, protocol) for address, protocol, _ in wanted}
    for key in made.foreign:
        if isinstance(key, DestinationKey):
            where = notes[key.service].address if key.service in notes else key.service.address
            yield where, f"IPVS destination {key.address}:{key.port} in {service_text(key.service)}"
        elif isinstance(key, ServiceKey) and (key.address, key.protocol) in addresses:
            if key.port == 0:
                yield key.address, f"IPVS service {service_text(key)}, which takes every other port of the VIP"
            elif (key.address, key.protocol, 0) in wanted:
                yield key.address, f"IPVS service {service_text(key)}, which takes this port away from ours"
