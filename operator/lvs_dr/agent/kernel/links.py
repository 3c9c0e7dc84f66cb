"""Addresses, blackhole routes and interfaces: read by dumps of our own, changed through pyroute2.

pyroute2 is loaded on the first change only: a node that carries no VIP never pays for it.
"""

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Final

from lvs_dr.agent.kernel.dumps import BLACKHOLE, MAIN_TABLE, Dumps
from lvs_dr.agent.kernel.errors import KernelError, link_failure
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Failure, RouteKey, RouteOp, Verb

if TYPE_CHECKING:
    from pyroute2 import IPRoute

LOOPBACK: Final = "lo"
ROUTE_PROTOCOL: Final = 76
"""Shown by `ip route` as `proto 76`: ours. Network daemons leave protocols that they do not know alone."""

_FOREVER: Final = 0xFFFFFFFF
_NO_DAD: Final = 0x02  # IFA_F_NODAD
_DEPRECATED: Final = 0x20  # IFA_F_DEPRECATED
_UP: Final = 0x1
_CARRIER: Final = 0x10000  # IFF_LOWER_UP
_HOST_PREFIX: Final = {int(socket.AF_INET): 32, int(socket.AF_INET6): 128}


class Links:
    """Addresses, routes and interfaces of this network namespace. One thread at a time."""

    def __init__(self) -> None:
        self._dumps = Dumps()
        self._route: IPRoute | None = None

    def read_addresses(self, wanted: frozenset[str]) -> dict[AddressKey, AddressConfig]:
        """Return host addresses: all on lo but its own, and the wanted ones on other interfaces.

        IPv6 keeps an address once per interface whatever its prefix, so there any prefix counts. Raises KernelError.
        """
        names = self._names()
        result: dict[AddressKey, AddressConfig] = {}
        for entry in self._dumps.addresses():
            interface = names.get(entry.interface, "")
            six = entry.family == socket.AF_INET6
            whole = six or entry.prefix_length == _HOST_PREFIX.get(entry.family)
            told = interface == LOOPBACK or entry.address in wanted
            if not (whole and told and interface) or _own(entry.address):
                continue
            deprecated = six and bool(entry.flags & _DEPRECATED)
            result[AddressKey(interface, entry.address)] = AddressConfig(entry.scope, deprecated)
        return result

    def read_routes(self) -> frozenset[RouteKey]:
        """Return the blackhole routes to one host in the main table. Raises KernelError."""
        return frozenset(
            RouteKey(route.destination)
            for family, length in _HOST_PREFIX.items()
            for route in self._dumps.routes(family, BLACKHOLE)
            if route.prefix_length == length
        )

    def interfaces(self) -> tuple[Interface, ...]:
        """Return all interfaces with their global addresses. Raises KernelError."""
        addresses: dict[int, list[str]] = {}
        for entry in self._dumps.addresses():
            if entry.address and not _own(entry.address):
                addresses.setdefault(entry.interface, []).append(f"{entry.address}/{entry.prefix_length}")
        return tuple(
            Interface(
                index=link.interface,
                name=link.name,
                mac=link.mac,
                up=link.flags & (_UP | _CARRIER) == _UP | _CARRIER,
                addresses=tuple(addresses.get(link.interface, ())),
            )
            for link in self._dumps.links()
        )

    def next_hops(self) -> tuple[str, ...]:
        """Return the gateways of the main table's routes, without link-local ones. Raises KernelError."""
        found = {hop for family in _HOST_PREFIX for route in self._dumps.routes(family) for hop in route.gateways}
        return tuple(sorted(hop for hop in found if hop and not _own(hop)))

    def default_gateways(self) -> tuple[str, ...]:
        """Return the gateways of the main table's IPv4 default routes. Raises KernelError."""
        routes = self._dumps.routes(socket.AF_INET)
        return tuple(sorted({hop for one in routes if not one.prefix_length for hop in one.gateways if hop}))

    def apply_address(self, op: AddressOp) -> Failure | None:
        """Add, edit (IPv6: whether it may be a source) or delete a host address on any interface."""
        config = op.config or AddressConfig(0)
        family = socket.AF_INET6 if ":" in op.key.address else socket.AF_INET
        try:
            index = socket.if_nametoindex(op.key.interface)
        except OSError as error:
            return link_failure(op, error.errno or errno.ENODEV)
        fields: dict[str, object] = {
            "index": index, "address": op.key.address, "prefixlen": _HOST_PREFIX[family], "family": family
        }  # fmt: skip
        if op.verb is not Verb.DELETE:
            fields["scope"] = config.scope
            if family == socket.AF_INET6:
                preferred = 0 if config.deprecated else _FOREVER
                fields |= {
                    "IFA_FLAGS": _NO_DAD,
                    "IFA_CACHEINFO": {"ifa_preferred": preferred, "ifa_valid": _FOREVER},
                }
        command = {Verb.ADD: "add", Verb.SET: "replace", Verb.DELETE: "delete"}[op.verb]
        code = self._change(lambda route: route.addr(command, **fields))
        return link_failure(op, code) if code else None

    def apply_route(self, op: RouteOp) -> Failure | None:
        """Add or delete a blackhole route of ours.

        The protocol is named in a removal as well: IPv6 takes the first route to that host otherwise, which is the
        kernel's own where the address stays (net/ipv6/route.c, ip6_route_del).
        """
        family = socket.AF_INET6 if ":" in op.key.address else socket.AF_INET
        fields: dict[str, object] = {
            "dst": f"{op.key.address}/{_HOST_PREFIX[family]}", "type": "blackhole", "table": MAIN_TABLE,
            "family": family, "proto": ROUTE_PROTOCOL,
        }  # fmt: skip
        command = "delete" if op.verb is Verb.DELETE else "add"
        code = self._change(lambda route: route.route(command, **fields))
        return link_failure(op, code) if code else None

    def close(self) -> None:
        """Close the sockets."""
        self._dumps.close()
        if self._route is not None:
            self._route.close()
            self._route = None

    def _names(self) -> Mapping[int, str]:
        try:
            return dict(socket.if_nameindex())
        except OSError as error:
            raise KernelError(error.errno or 0, f"interfaces cannot be read: {error}") from error

    def _connection(self) -> "IPRoute":
        if self._route is None:
            from pyroute2 import IPRoute  # noqa: PLC0415 - 15 MiB and 0.1 s that a node may never need

            self._route = IPRoute(groups=0)  # events are heard elsewhere
        return self._route

    def _change(self, ask: Callable[["IPRoute"], object]) -> int:
        """Return 0 or the errno."""
        from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415

        try:
            answer = ask(self._connection())
            if isinstance(answer, Iterator):
                list(answer)
        except NetlinkError as error:
            return int(error.code)
        except OSError as error:
            self.close()
            return error.errno or errno.EIO
        return 0


def _own(address: str) -> bool:
    """Tell loopback's own and link-local addresses, which concern nobody else."""
    if not address.startswith(("127.", "169.254.", "::1", "fe")):
        return False  # parsing is slow, and done for every address of every pass
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_link_local
