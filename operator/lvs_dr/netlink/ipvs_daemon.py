"""The daemons that carry connections from director to director, on the wire: NEW_, DEL_ and GET_DAEMON. Pure.

A network namespace has at most one daemon of each state: the master tells others of its connections, the backup
learns theirs. Group, port and TTL that a request leaves out become the kernel's defaults; here each request names them.
Sources: linux/ip_vs.h (IPVS_DAEMON_ATTR_*), ip_vs_genl_new_daemon in net/netfilter/ipvs/ip_vs_ctl.c,
start_sync_thread in net/netfilter/ipvs/ip_vs_sync.c.
"""

import ipaddress
import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.ipvs import FAMILY_VERSION
from lvs_dr.netlink.message import ATTRIBUTES_START, Buffer, attribute, generic_message, nested, text, walk

NEW_DAEMON: Final = 9
DELETE_DAEMON: Final = 10
GET_DAEMON: Final = 11
"""Commands IPVS_CMD_NEW_DAEMON, IPVS_CMD_DEL_DAEMON and IPVS_CMD_GET_DAEMON; the answers to GET carry NEW."""

LONGEST_INTERFACE: Final = 15

_DAEMON: Final = 3  # IPVS_CMD_ATTR_DAEMON
_U8: Final = struct.Struct("=B")
_U16: Final = struct.Struct("=H")
_U32: Final = struct.Struct("=I")
_ADDRESS_SIZE: Final = {4: 4, 6: 16}
_LARGEST_ID: Final = 255


class DaemonState(IntEnum):
    """What a daemon does (IP_VS_STATE_*)."""

    MASTER = 1
    BACKUP = 2


class DaemonAttribute(IntEnum):
    """Attributes of a daemon (IPVS_DAEMON_ATTR_*)."""

    STATE = 1
    INTERFACE = 2
    SYNC_ID = 3
    MAXIMUM_LENGTH = 4
    GROUP = 5
    GROUP6 = 6
    PORT = 7
    TTL = 8


class Daemon(NamedTuple):
    """A daemon. `maximum_length`: bytes of a message without its IP and UDP headers, 0 = as the interface allows."""

    state: int
    interface: str
    sync_id: int
    maximum_length: int = 0
    group: str = "224.0.0.81"
    port: int = 8848
    ttl: int = 1


def new_daemon(daemon: Daemon) -> bytes:
    """Start a daemon. Raises UnencodableValue.

    EEXIST when one of this state runs, ENODEV when the interface is missing, EADDRNOTAVAIL when it has no address
    of the group's family, EINVAL when a service has destinations of the other family.
    """
    try:
        if not 0 <= daemon.sync_id <= _LARGEST_ID:
            raise UnencodableValue(f"sync id {daemon.sync_id} is not from 0 to {_LARGEST_ID}")
        group = ipaddress.ip_address(daemon.group)
        attributes = [
            attribute(DaemonAttribute.STATE, _U32.pack(DaemonState(daemon.state))),
            text(DaemonAttribute.INTERFACE, daemon.interface, LONGEST_INTERFACE),
            attribute(DaemonAttribute.SYNC_ID, _U32.pack(daemon.sync_id)),
            attribute(DaemonAttribute.MAXIMUM_LENGTH, _U16.pack(daemon.maximum_length))
            if daemon.maximum_length
            else b"",
            attribute(DaemonAttribute.GROUP6 if group.version == 6 else DaemonAttribute.GROUP, group.packed),  # noqa: PLR2004
            attribute(DaemonAttribute.PORT, _U16.pack(daemon.port)),
            attribute(DaemonAttribute.TTL, _U8.pack(daemon.ttl)),
        ]
    except (struct.error, ValueError) as error:
        raise UnencodableValue(f"{daemon!r}: {error}") from error
    return generic_message(NEW_DAEMON, FAMILY_VERSION, nested(_DAEMON, *attributes))


def delete_daemon(state: int) -> bytes:
    """Stop the daemon of a state; ESRCH when none runs. Raises UnencodableValue."""
    try:
        named = attribute(DaemonAttribute.STATE, _U32.pack(DaemonState(state)))
    except ValueError as error:
        raise UnencodableValue(f"daemon state {state!r}: {error}") from error
    return generic_message(DELETE_DAEMON, FAMILY_VERSION, nested(_DAEMON, named))


def get_daemons() -> bytes:
    """Ask for the daemons that run (a dump)."""
    return generic_message(GET_DAEMON, FAMILY_VERSION)


def parse_daemons(messages: Iterable[Buffer]) -> dict[int, Daemon]:
    """Read the answer to `get_daemons`, by state. Raises MalformedMessage."""
    found = map(parse_daemon, messages)
    return {daemon.state: daemon for daemon in found}


def parse_daemon(message: Buffer) -> Daemon:
    """Read one daemon; what an old kernel does not tell (before 4.3) is 0 or "". Raises MalformedMessage."""
    outer = {kind: (first, last) for kind, first, last in walk(message, ATTRIBUTES_START, len(message))}
    if _DAEMON not in outer:
        raise MalformedMessage("an answer without a daemon")
    found = {kind: bytes(message[first:last]) for kind, first, last in walk(message, *outer[_DAEMON])}
    state = _number(found, DaemonAttribute.STATE, _U32)
    if state not in (DaemonState.MASTER, DaemonState.BACKUP):
        raise MalformedMessage(f"a daemon of the state {state}")
    return Daemon(
        state=state,
        interface=found.get(DaemonAttribute.INTERFACE, b"").rstrip(b"\0").decode("ascii", "replace"),
        sync_id=_number(found, DaemonAttribute.SYNC_ID, _U32),
        maximum_length=_number(found, DaemonAttribute.MAXIMUM_LENGTH, _U16, 0),
        group=_group(found),
        port=_number(found, DaemonAttribute.PORT, _U16, 0),
        ttl=_number(found, DaemonAttribute.TTL, _U8, 0),
    )


def _group(found: dict[int, bytes]) -> str:
    for kind, version in ((DaemonAttribute.GROUP, 4), (DaemonAttribute.GROUP6, 6)):
        raw = found.get(kind)
        if raw is not None:
            if len(raw) != _ADDRESS_SIZE[version]:
                raise MalformedMessage(f"a multicast group of {len(raw)} bytes")
            return str(ipaddress.ip_address(raw))
    return ""


def _number(found: dict[int, bytes], kind: DaemonAttribute, width: struct.Struct, absent: int | None = None) -> int:
    raw = found.get(kind)
    if raw is None:
        if absent is None:
            raise MalformedMessage(f"a daemon without {kind.name}")
        return absent
    if len(raw) != width.size:
        raise MalformedMessage(f"{kind.name} of {len(raw)} bytes")
    return int(width.unpack(raw)[0])
