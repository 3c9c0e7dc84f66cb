"""Addresses, blackhole routes and interfaces through pyroute2, which is loaded on first use only."""

import errno
import ipaddress
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeVar

from lvs_dr.agent.kernel.errors import KernelError, describe, link_failure
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Failure, RouteKey, RouteOp, Verb

if TYPE_CHECKING:
    from pyroute2 import IPRoute

T = TypeVar("T")
Message = Any  # pyroute2 is untyped

LOOPBACK: Final = "lo"
ROUTE_PROTOCOL: Final = 76
"""Shown by `ip route` as `proto 76`: ours. Network daemons leave protocols that they do not know alone."""

_MAIN_TABLE: Final = 254
_BLACKHOLE: Final = 6  # RTN_BLACKHOLE
_FOREVER: Final = 0xFFFFFFFF
_NO_DAD: Final = 0x02  # IFA_F_NODAD
_DEPRECATED: Final = 0x20  # IFA_F_DEPRECATED
_UP: Final = 0x1
_CARRIER: Final = 0x10000  # IFF_LOWER_UP
_HOST_PREFIX: Final = {socket.AF_INET: 32, socket.AF_INET6: 128}
_ATTEMPTS: Final = 3  # at a dump that changed while it was read


class Links:
    """Addresses, routes and interfaces of this network namespace. One thread at a time."""

    def __init__(self) -> None:
        self._route: IPRoute | None = None

    def read_addresses(self, wanted: frozenset[str]) -> dict[AddressKey, AddressConfig]:
        """Return host addresses: all on lo but its own, and the wanted ones on other interfaces.

        IPv6 keeps an address once per interface whatever its prefix, so there any prefix counts. Raises KernelError.
        """
        names = self._names()
        result: dict[AddressKey, AddressConfig] = {}
        for message in self._dump(lambda route: route.get_addr()):
            address = _address(message)
            interface = names.get(message["index"], "")
            whole = message["prefixlen"] == _HOST_PREFIX.get(message["family"]) or message["family"] == socket.AF_INET6
            if not whole or not interface or not (interface == LOOPBACK or address in wanted) or _own(address):
                continue
            deprecated = message["family"] == socket.AF_INET6 and bool(_flags(message) & _DEPRECATED)
            result[AddressKey(interface, address)] = AddressConfig(message["scope"], deprecated)
        return result

    def read_routes(self) -> frozenset[RouteKey]:
        """Return the blackhole routes to one host in the main table; the kernel filters. Raises KernelError."""
        found: set[RouteKey] = set()
        for family, length in _HOST_PREFIX.items():
            found.update(
                RouteKey(str(ipaddress.ip_address(message.get_attr("RTA_DST"))))
                for message in self._routes(family=family, table=_MAIN_TABLE, type=_BLACKHOLE)
                if message["type"] == _BLACKHOLE and message["dst_len"] == length
            )
        return frozenset(found)

    def interfaces(self) -> tuple[Interface, ...]:
        """Return all interfaces with their global addresses. Raises KernelError."""
        addresses: dict[int, list[str]] = {}
        for message in self._dump(lambda route: route.get_addr()):
            address = _address(message)
            if not _own(address):
                addresses.setdefault(message["index"], []).append(f"{address}/{message['prefixlen']}")
        return tuple(
            Interface(
                index=message["index"],
                name=message.get_attr("IFLA_IFNAME"),
                mac=message.get_attr("IFLA_ADDRESS") or "",
                up=message["flags"] & (_UP | _CARRIER) == _UP | _CARRIER,
                addresses=tuple(addresses.get(message["index"], ())),
            )
            for message in self._dump(lambda route: route.get_links())
        )

    def next_hops(self) -> tuple[str, ...]:
        """Return the gateways of the main table's routes, without link-local ones. Raises KernelError."""
        found: set[str] = set()
        for family in _HOST_PREFIX:
            for message in self._routes(family=family, table=_MAIN_TABLE):
                found.update(_gateways(message))
        return tuple(sorted(found))

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
        """Add or delete a blackhole route."""
        family = socket.AF_INET6 if ":" in op.key.address else socket.AF_INET
        fields: dict[str, object] = {
            "dst": f"{op.key.address}/{_HOST_PREFIX[family]}", "type": "blackhole", "table": _MAIN_TABLE,
            "family": family,
        }  # fmt: skip
        if op.verb is not Verb.DELETE:
            fields["proto"] = ROUTE_PROTOCOL
        command = "delete" if op.verb is Verb.DELETE else "add"
        code = self._change(lambda route: route.route(command, **fields))
        return link_failure(op, code) if code else None

    def close(self) -> None:
        """Close the socket."""
        if self._route is not None:
            self._route.close()
            self._route = None

    def _routes(self, **selection: int) -> list[Message]:
        return self._dump(lambda route: route.get_routes(**selection))

    def _names(self) -> Mapping[int, str]:
        try:
            return dict(socket.if_nameindex())
        except OSError as error:
            raise KernelError(error.errno or 0, f"interfaces cannot be read: {error}") from error

    def _connection(self) -> "IPRoute":
        if self._route is None:
            from pyroute2 import IPRoute  # noqa: PLC0415 - 15 MiB and 0.1 s that a node may never need

            # No groups: events are heard elsewhere. Strict: the kernel filters dumps.
            self._route = IPRoute(ext_ack=True, strict_check=True, groups=0)
        return self._route

    def _dump(self, ask: Callable[["IPRoute"], Iterable[Message]]) -> list[Message]:
        from pyroute2.netlink.exceptions import NetlinkDumpInterrupted, NetlinkError  # noqa: PLC0415

        for _ in range(_ATTEMPTS):
            try:
                return list(ask(self._connection()))
            except NetlinkDumpInterrupted:
                continue
            except NetlinkError as error:
                raise KernelError(error.code, f"the kernel refused a dump: {describe(error.code)}") from error
            except OSError as error:  # this library's sockets do not recover: the next call opens a new one
                self.close()
                raise KernelError(error.errno or 0, f"netlink failed: {error}") from error
        raise KernelError(errno.EINTR, f"the table changed during {_ATTEMPTS} reads")

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


def _address(message: Message) -> str:
    # On point-to-point links IFA_ADDRESS is the peer.
    return str(ipaddress.ip_address(message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")))


def _flags(message: Message) -> int:
    wide = message.get_attr("IFA_FLAGS")
    return int(message["flags"] if wide is None else wide)


def _own(address: str) -> bool:
    """Tell loopback's own and link-local addresses, which concern nobody else."""
    parsed = ipaddress.ip_address(address)
    return parsed.is_loopback or parsed.is_link_local


def _gateways(message: Message) -> Iterator[str]:
    hops = [message, *(message.get_attr("RTA_MULTIPATH") or ())]
    for hop in hops:
        via = hop.get_attr("RTA_VIA") or {}
        gateway = hop.get_attr("RTA_GATEWAY") or via.get("addr")
        if gateway and not _own(gateway):
            yield str(ipaddress.ip_address(gateway))
