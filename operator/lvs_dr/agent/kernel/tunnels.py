"""Tunnel devices of a real server, and the UDP ports of GUE.

A device must be up, and take packets whose answers leave by another interface: rp_filter 2 (loose). The kernel
treats 2 like 1 on a device without any IPv4 address (net/ipv4/fib_frontend.c, __fib_validate_source), so each gets
one that cannot matter to anybody: a loopback address, which is the node's own anyway.
"""

import errno
import fcntl
import socket
import struct
import time
from collections.abc import Callable
from typing import Final

from lvs_dr.agent.kernel.errors import KernelError, describe, gue_failure, tunnel_failure
from lvs_dr.agent.kernel.family import Family
from lvs_dr.agent.kernel.route_request import NLM_F_EXCLUSIVE_CREATE, ask, change
from lvs_dr.agent.kernel.sysctl import Sysctls
from lvs_dr.core.kernel import (
    Failure,
    GuePortKey,
    GuePortOp,
    SysctlKey,
    SysctlOp,
    TunnelConfig,
    TunnelKey,
    TunnelOp,
    Verb,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.tunnels import NAME_PREFIX
from lvs_dr.netlink import fou, tunnel_links
from lvs_dr.netlink.errors import (
    MalformedMessage,
    NetlinkFailure,
    UnencodableValue,
)
from lvs_dr.netlink.message import HEADER_SIZE, attribute, walk
from lvs_dr.netlink.socket import GenericNetlinkSocket
from lvs_dr.netlink.tunnel_links import TunnelLink

ADDRESS: Final = "127.76.0.1"
"""What every device carries, see above; scope host, so that nothing is ever sent from it."""

_GET_LINK, _NEW_ADDRESS = 18, 20
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS_FORM: Final = struct.Struct("=BBBBI")  # ifaddrmsg: family, prefix length, flags, scope, index
_IFLA_INFO: Final = 18
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_SCOPE_HOST: Final = 254
_UP: Final = 0x1
_SIOCGIFADDR: Final = 0x8915
_INTERFACE_REQUEST: Final = struct.Struct("16s24x")
_LOOSE: Final = "2"
_ABSENT: Final = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})


class Tunnels:
    """Tunnel devices and GUE ports of this network namespace. One thread at a time."""

    def __init__(
        self,
        sysctls: Sysctls,
        open_socket: Callable[[], GenericNetlinkSocket] = lambda: GenericNetlinkSocket(fou.FAMILY_NAME),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sysctls = sysctls
        self._family = Family(open_socket, clock)

    def read(self) -> dict[TunnelKey, TunnelConfig]:
        """Return the devices whose names begin as ours do, foreign ones included. Raises KernelError."""
        try:
            names = [name for _, name in socket.if_nameindex() if name.startswith(NAME_PREFIX)]
        except OSError as error:
            raise KernelError(error.errno or 0, f"interfaces cannot be read: {error}") from error
        found = {TunnelKey(name): self._device(name) for name in names}
        return {key: config for key, config in found.items() if config is not None}

    def read_gue_ports(self) -> frozenset[GuePortKey]:
        """Return the UDP ports for GUE; none on a kernel without module fou. Raises KernelError."""
        found = self._family.ask(
            lambda socket: [fou.parse_port(message) for message in socket.dump(fou.get_ports())], "the GUE ports"
        )
        return frozenset(GuePortKey(*port) for port in found or () if port is not None)

    def apply(self, op: TunnelOp | GuePortOp) -> Failure | None:
        """Add, repair or remove a device, or open or close a port."""
        if isinstance(op, GuePortOp):
            return self._apply_port(op)
        if op.verb is Verb.DELETE:
            code = change(tunnel_links.DELETE_LINK, tunnel_links.named_link(op.key.name))
            return None if code in (0, *_ABSENT) else tunnel_failure(op, code)
        if op.config is None:
            return tunnel_failure(op, errno.EINVAL)
        try:
            return self._make(op, op.config)
        except (KernelError, UnencodableValue) as error:
            return Failure(op, errno.EINVAL, Reason.TUNNEL_UNAVAILABLE, str(error))

    def close(self) -> None:
        """Close the socket."""
        self._family.close()

    def _make(self, op: TunnelOp, config: TunnelConfig) -> Failure | None:
        """Bring a device to what it must be: in place where the kernel can, else made anew."""
        name = op.key.name
        found = self._device(name)
        if found is not None and found[:3] != config[:3]:
            if op.verb is Verb.ADD:
                return tunnel_failure(op, errno.EEXIST)
            code = change(tunnel_links.DELETE_LINK, tunnel_links.named_link(name))
            if code not in (0, *_ABSENT):
                return tunnel_failure(op, code)
            found = None
        if found is None:
            wanted = TunnelLink(config.kind, config.local, "", config.checksum)
            code = change(tunnel_links.NEW_LINK, tunnel_links.new_link(name, wanted), NLM_F_EXCLUSIVE_CREATE)
        else:
            code = change(tunnel_links.NEW_LINK, tunnel_links.set_up(name))
        return tunnel_failure(op, code) if code else self._open_for_all(op)

    def _open_for_all(self, op: TunnelOp) -> Failure | None:
        """Have the device take packets whose answers leave by another interface."""
        failure = self._sysctls.apply(SysctlOp(Verb.SET, _filter_key(op.key.name), _LOOSE))
        if failure is not None:
            text = f"net.ipv4.conf.{op.key.name}.rp_filter: {failure.message}"
            return Failure(op, failure.errno, Reason.TUNNEL_UNAVAILABLE, text)
        if _has_address(op.key.name):
            return None
        try:
            index = socket.if_nametoindex(op.key.name)
        except OSError as error:
            return tunnel_failure(op, error.errno or errno.ENODEV)
        packed = socket.inet_aton(ADDRESS)
        body = _ADDRESS_FORM.pack(socket.AF_INET, 32, 0, _SCOPE_HOST, index)
        code = change(_NEW_ADDRESS, body + attribute(_IFA_LOCAL, packed) + attribute(_IFA_ADDRESS, packed), 0x400)
        return tunnel_failure(op, code) if code not in (0, errno.EEXIST) else None

    def _device(self, name: str) -> TunnelConfig | None:
        """Return how a device is set; None when it is not there. Raises KernelError."""
        answer = ask(_GET_LINK, tunnel_links.named_link(name))
        if answer.code in _ABSENT:
            return None
        if answer.code:
            raise KernelError(answer.code, f"device {name} cannot be read: {describe(answer.code)}")
        try:
            flags = _LINK.unpack_from(answer.message, HEADER_SIZE)[3]
            parts = walk(answer.message, HEADER_SIZE + _LINK.size, len(answer.message))
            info = next((answer.message[first:last] for kind, first, last in parts if kind == _IFLA_INFO), b"")
            link = tunnel_links.parse_info(info)
        except (MalformedMessage, struct.error) as error:
            raise KernelError(errno.EBADMSG, f"device {name} cannot be read: {error}") from error
        if link is None:
            return TunnelConfig("", "")  # somebody else's, of another kind
        local = f"{link.remote}>{link.local}" if link.remote else link.local
        key = _filter_key(name)
        receives = bool(flags & _UP) and self._sysctls.read([key]).get(key) == _LOOSE and _has_address(name)
        return TunnelConfig(link.kind, local, link.checksum, receives)

    def _apply_port(self, op: GuePortOp) -> Failure | None:
        try:
            code = self._change_port(op)
            if code == errno.EADDRINUSE and op.verb is Verb.ADD and op.key in self.read_gue_ports():
                return None  # the kernel tries to bind before it looks whether the port is its own already
        except (KernelError, UnencodableValue) as error:
            return Failure(op, errno.EINVAL, Reason.TUNNEL_UNAVAILABLE, str(error))
        except NetlinkFailure as error:
            self._family.failed(error)
            return Failure(op, errno.EIO, Reason.TUNNEL_UNAVAILABLE, f"module fou did not answer: {error}")
        return gue_failure(op, code) if code else None

    def _change_port(self, op: GuePortOp) -> int:
        """Open or close a port and return 0 or the errno. Raises UnencodableValue, NetlinkFailure."""
        opened = self._family.socket()
        if opened is None:
            return errno.EAFNOSUPPORT
        port = fou.GuePort(*op.key)
        refused = opened.transact([fou.delete_port(port) if op.verb is Verb.DELETE else fou.add_port(port)])
        return refused[0].code if refused else 0


def _filter_key(name: str) -> SysctlKey:
    return SysctlKey(("ipv4", "conf", name, "rp_filter"))


def _has_address(name: str) -> bool:
    """Tell whether a device has an IPv4 address."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as opened:
        try:
            fcntl.ioctl(opened, _SIOCGIFADDR, _INTERFACE_REQUEST.pack(name.encode("ascii", "replace")))
        except OSError:  # EADDRNOTAVAIL: none; ENODEV: no such device
            return False
    return True
