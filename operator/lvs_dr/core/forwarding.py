"""What each forwarding method needs on the real server's node, and which method a real server has in a service."""

from typing import Final, NamedTuple

from lvs_dr.core.node import BackendTunnel
from lvs_dr.core.objects import ForwardingMethod, Override, Tunnel, TunnelType, VirtualService
from lvs_dr.core.table import TableDestination, TableTunnel

_OWN_ADDRESS: Final = frozenset({ForwardingMethod.MASQUERADE, ForwardingMethod.REDIRECT})


class Method(NamedTuple):
    """A forwarding method, with its encapsulation exactly when it is Tunnel."""

    forwarding: ForwardingMethod
    tunnel: TableTunnel | None = None


class Target(NamedTuple):
    """How a packet reaches a real server, whatever VIP it is for: who shares that shares a firewall mark for checks."""

    address: str
    forwarding: ForwardingMethod
    tunnel: TableTunnel | None = None


def target(destination: TableDestination) -> Target:
    """Return how packets reach a destination."""
    return Target(destination.address, destination.forwarding, destination.tunnel)


def method(service: VirtualService, override: Override | None) -> Method:
    """Return how directors pass packets of the service on to a real server with this override (None: it has none)."""
    forwarding = service.forwarding
    if override is not None and override.forwarding is not None:
        forwarding = override.forwarding
    if forwarding is not ForwardingMethod.TUNNEL:
        return Method(forwarding)
    tunnel = override.tunnel if override is not None and override.tunnel is not None else service.tunnel
    return Method(forwarding, _encapsulation(tunnel or Tunnel()))


def method_of(service: VirtualService, real_server: str) -> Method:
    """Return how directors pass packets of the service on to the real server."""
    return method(service, next((each for each in service.overrides if each.real_server == real_server), None))


def _encapsulation(tunnel: Tunnel) -> TableTunnel:
    return TableTunnel(type=tunnel.type, port=tunnel.port, checksum=tunnel.checksum)


def carries(forwarding: ForwardingMethod) -> bool:
    """Tell whether the real server must carry the VIP on lo: it does not where packets come with its own address."""
    return forwarding not in _OWN_ADDRESS


def tunnel_end(destination: TableDestination) -> BackendTunnel | None:
    """Return the tunnel that must end on the destination's node; None for other methods."""
    if destination.tunnel is None:
        return None
    return BackendTunnel(address=destination.address, tunnel=destination.tunnel)


def same_way(one: TableDestination, other: TableDestination) -> bool:
    """Tell whether packets reach both in the same way."""
    return (one.address, one.node, one.forwarding, one.tunnel) == (
        other.address,
        other.node,
        other.forwarding,
        other.tunnel,
    )


def exclude(one: BackendTunnel | None, other: BackendTunnel | None) -> bool:
    """Tell whether a node cannot have both tunnels: a GRE device takes packets with a checksum, or without.

    net/ipv4/ip_tunnel.c, ip_tunnel_rcv: what does not match the device's flag is dropped.
    """
    return (
        one is not None
        and other is not None
        and one != other
        and one.address == other.address
        and one.tunnel.type is TunnelType.GRE
        and other.tunnel.type is TunnelType.GRE
    )


def by_address(end: BackendTunnel) -> tuple[str, str, int, str]:
    """Sort key of tunnels."""
    return end.address, end.tunnel.type, end.tunnel.port, end.tunnel.checksum
