"""One DirectorTable as IPVS knows it: which services it makes, how they and their destinations are set."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Final, NamedTuple

from lvs_dr.core.checks import TableHealthCheck
from lvs_dr.core.kernel import (
    DestinationConfig,
    Forwarding,
    ServiceConfig,
    ServiceFlag,
    ServiceKey,
    TunnelFlag,
    TunnelNumber,
)
from lvs_dr.core.objects import ForwardingMethod, Protocol, TunnelChecksum, TunnelType
from lvs_dr.core.table import DirectorTableSpec, TableDestination

AF_INET: Final = 2
AF_INET6: Final = 10

PROTOCOL_NUMBERS: Final[Mapping[Protocol, int]] = {Protocol.TCP: 6, Protocol.UDP: 17, Protocol.SCTP: 132}

_FORWARDING: Final[Mapping[ForwardingMethod, Forwarding]] = {
    ForwardingMethod.DIRECT_ROUTING: Forwarding.DIRECT_ROUTING,
    ForwardingMethod.TUNNEL: Forwarding.TUNNEL,
    ForwardingMethod.MASQUERADE: Forwarding.MASQUERADE,
}
_TUNNELS: Final[Mapping[TunnelType, TunnelNumber]] = {
    TunnelType.IPIP: TunnelNumber.IPIP,
    TunnelType.GUE: TunnelNumber.GUE,
    TunnelType.GRE: TunnelNumber.GRE,
}
_CHECKSUMS: Final[Mapping[TunnelChecksum, TunnelFlag]] = {
    TunnelChecksum.NONE: TunnelFlag.NO_CHECKSUM,
    TunnelChecksum.CHECKSUM: TunnelFlag.CHECKSUM,
    TunnelChecksum.REMOTE: TunnelFlag.REMOTE_CHECKSUM,
}
# The kernel has three bits, each scheduler gives them a meaning of its own (ip_vs_sh.c, ip_vs_mh.c).
_SCHEDULER_FLAGS: Final[Mapping[str, ServiceFlag]] = {
    "sh-fallback": ServiceFlag.SCHEDULER_1,
    "sh-port": ServiceFlag.SCHEDULER_2,
    "mh-fallback": ServiceFlag.SCHEDULER_1,
    "mh-port": ServiceFlag.SCHEDULER_2,
}


class Served(NamedTuple):
    """One IPVS service of a table."""

    service: ServiceKey
    target_port: int  # of its destinations; 0 with a firewall mark or any port: the client's own
    check_port: int | None  # on the real server; 0 = the check knows no ports, None = nothing could be asked
    text: str  # in words: "port 443/TCP"


def family(address: str) -> int:
    """Return AF_INET or AF_INET6 of an address in text form."""
    return AF_INET6 if ":" in address else AF_INET


@lru_cache(maxsize=4096)
def _served(
    address: str,
    mark: int,
    ports: tuple[tuple[int, Protocol, int], ...],
    check: TableHealthCheck | None,
    redirected: int,
) -> tuple[Served, ...]:
    if mark:
        asked = check.port_for(0) if check is not None else None
        return (Served(ServiceKey("", 0, 0, mark, family(address)), 0, asked, f"firewall mark {mark}"),)
    found = []
    for port, protocol, target in ports:
        key = ServiceKey(address, port, PROTOCOL_NUMBERS[protocol], 0, family(address))
        to = target or redirected or port
        asked = check.port_for(to) if check is not None else None
        found.append(Served(key, to, asked, f"port {port}/{protocol}" if port else f"any {protocol} port"))
    return tuple(found)


def served(table: DirectorTableSpec) -> tuple[Served, ...]:
    """Return the IPVS services of a table: one for its firewall mark, or one for each port.

    Of a redirected table they are not in IPVS: they name its listeners, and the ports of its real servers.
    """
    ports = tuple((one.port, one.protocol, one.target_port) for one in table.ports)
    redirected = table.redirect.port if table.redirect is not None else 0
    return _served(table.address, table.firewall_mark, ports, table.health_check, redirected)


def check_ports(table: DirectorTableSpec) -> tuple[int, ...]:
    """Return the ports of a real server that the table's check asks, sorted; 0: the check knows no ports."""
    return tuple(sorted({one.check_port for one in served(table) if one.check_port is not None}))


def service_config(table: DirectorTableSpec) -> ServiceConfig:
    """Return how the IPVS services of a table are set."""
    flags = ServiceFlag.ONE_PACKET if table.one_packet else ServiceFlag.NONE
    for name in table.scheduler_flags:
        flags |= _SCHEDULER_FLAGS.get(name, ServiceFlag.NONE)
    whole = 128 if family(table.address) == AF_INET6 else 32
    persistence = table.persistence
    if persistence is None:
        return ServiceConfig(table.scheduler, int(flags), prefix_length=whole)
    return ServiceConfig(
        table.scheduler, int(flags), persistence.timeout_seconds, persistence.prefix_length, persistence.engine
    )


@lru_cache(maxsize=4096)
def _direct(weight: int, upper: int, lower: int) -> DestinationConfig:
    """Return how a destination by direct routing is set: few values, thousands of destinations that have them."""
    return DestinationConfig(weight, int(Forwarding.DIRECT_ROUTING), upper, lower)


def destination_config(entry: TableDestination) -> DestinationConfig:
    """Return how a destination is set while it is healthy."""
    tunnel = entry.tunnel
    if entry.forwarding in (ForwardingMethod.DIRECT_ROUTING, ForwardingMethod.REDIRECT):
        return _direct(entry.weight, entry.upper, entry.lower)
    if entry.forwarding is not ForwardingMethod.TUNNEL or tunnel is None:
        return DestinationConfig(entry.weight, int(_FORWARDING[entry.forwarding]), entry.upper, entry.lower)
    return DestinationConfig(
        entry.weight,
        int(Forwarding.TUNNEL),
        entry.upper,
        entry.lower,
        int(_TUNNELS[tunnel.type]),
        tunnel.port,
        int(_CHECKSUMS[tunnel.checksum]),
    )


def services_of(table: DirectorTableSpec) -> frozenset[ServiceKey]:
    """Return the IPVS services of a table."""
    return frozenset(one.service for one in served(table))
