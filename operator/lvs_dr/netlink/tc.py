"""Traffic control on the wire: the qdisc clsact, flower filters, and the few actions that we give them. Pure.

Sources: linux/rtnetlink.h, linux/pkt_cls.h, linux/tc_act/*.h, net/sched/cls_flower.c, act_pedit.c, act_mirred.c.
Messages here are whole, for `netlink.rtnetlink.RouteSocket`.
"""

import socket
import struct
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.message import HEADER, HEADER_SIZE, Buffer, attribute, nested, text, walk

NEW_QDISC: Final = 36
DELETE_QDISC: Final = 37
GET_QDISC: Final = 38
NEW_FILTER: Final = 44
DELETE_FILTER: Final = 45
GET_FILTER: Final = 46

INGRESS: Final = 0xFFFFFFF2  # TC_H_CLSACT | TC_H_MIN_INGRESS
EGRESS: Final = 0xFFFFFFF3
CLSACT: Final = "clsact"
FLOWER: Final = "flower"

PASS: Final = 0  # TC_ACT_OK: no further filter looks at the packet
NEXT_ACTION: Final = 3  # TC_ACT_PIPE
NEXT_FILTER: Final = -1  # TC_ACT_UNSPEC
TAKEN: Final = 4  # TC_ACT_STOLEN

_HEADER = struct.Struct("=BxxxiIII")  # tcmsg: family, interface, handle, parent, info
_CLSACT_PARENT, _CLSACT_HANDLE = 0xFFFFFFF1, 0xFFFF0000
_EXCLUSIVE_CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_KIND, _OPTIONS, _CHAIN = 1, 2, 11  # TCA_*
_LONGEST_KIND = 15
_ACTIONS, _FLAGS, _HARDWARE_COUNT = 3, 22, 86  # TCA_FLOWER_*
_SOURCE_MAC, _ETHER_TYPE, _TTL = 6, 8, 75  # TCA_FLOWER_KEY_*; the mask of a key has the next number
_DESTINATION = {socket.AF_INET: 12, socket.AF_INET6: 16}
_SKIP_HARDWARE = 1  # TCA_CLS_FLAGS_SKIP_HW
_ETHER_TYPES: Final = {socket.AF_INET: 0x0800, socket.AF_INET6: 0x86DD}
_ACTION_KIND, _ACTION_OPTIONS = 1, 2
_PARAMETERS: Final = {"pedit": (2, 4), "csum": (1,), "gact": (2,), "mirred": (2,)}  # TCA_*_PARMS
_GENERIC = struct.Struct("=IIiii")  # tc_gen: index, capabilities, action, references, bindings
_PEDIT = struct.Struct("=BB2x")  # keys, flags
_PEDIT_KEY = struct.Struct("=4s4sIIII")  # mask, value, offset, at, offset mask, shift
_U32 = struct.Struct("=I")
_U16_NETWORK = struct.Struct("!H")
_MIRRED = struct.Struct("=iI")
_IPV4_HEADER = 1  # TCA_CSUM_UPDATE_FLAG_IPV4HDR
_INGRESS_REDIRECT = 3  # TCA_INGRESS_REDIR


class Action(NamedTuple):
    """What is done with a packet, and what comes then (PASS, …). `detail` depends on the kind."""

    kind: str
    then: int
    detail: tuple[int | bytes, ...] = ()


class Match(NamedTuple):
    """Which packets a filter takes: to one address; "" any source MAC; None any hop limit (TTL)."""

    destination: str
    source_mac: str = ""
    hops: int | None = None


class Filter(NamedTuple):
    """A flower filter of chain 0. `match` None: it looks at something that this module does not know."""

    interface: int
    parent: int
    priority: int
    handle: int
    match: Match | None
    actions: tuple[Action, ...] = ()


class Qdisc(NamedTuple):
    """A queueing discipline by interface, handle and kind."""

    interface: int
    handle: int
    kind: str


def set_hops(address: str, hops: int) -> tuple[Action, ...]:
    """Return the actions that give a packet to `address` this many hops to live, then ask the next filter."""
    if ":" in address:  # the hop limit is byte 7
        return (Action("pedit", NEXT_FILTER, (4, b"\xff\xff\xff\0", bytes((0, 0, 0, hops)))),)
    edit = Action("pedit", NEXT_ACTION, (8, b"\0\xff\xff\xff", bytes((hops, 0, 0, 0))))
    return (edit, Action("csum", NEXT_FILTER, (_IPV4_HEADER,)))


def let_pass() -> tuple[Action, ...]:
    """Return the action that ends the search for filters."""
    return (Action("gact", PASS),)


def turn_back(interface: int) -> tuple[Action, ...]:
    """Return the action that has a packet which leaves arrive at an interface instead."""
    return (Action("mirred", TAKEN, (_INGRESS_REDIRECT, interface)),)


def new_clsact(interface: int) -> bytes:
    """Encode: add clsact, unless there is one (or an ingress qdisc)."""
    return _qdisc(NEW_QDISC, interface, _EXCLUSIVE_CREATE)


def delete_clsact(interface: int) -> bytes:
    """Encode: remove clsact with all filters in it."""
    return _qdisc(DELETE_QDISC, interface, 0)


def get_qdiscs() -> bytes:
    """Encode: tell all qdiscs (a dump)."""
    return _message(GET_QDISC, 0, 0, 0, 0, 0)


def get_filters(interface: int, parent: int) -> bytes:
    """Encode: tell the filters of one interface and direction (a dump)."""
    return _message(GET_FILTER, 0, interface, 0, parent, 0)


def new_filter(wanted: Filter) -> bytes:
    """Encode: add a filter, unless one has its handle. Raises UnencodableValue."""
    match = wanted.match
    if match is None:
        raise UnencodableValue("a filter that matches nothing known")
    family, packed = _packed(match.destination)
    key = _DESTINATION[family]
    parts = [
        attribute(_ETHER_TYPE, _U16_NETWORK.pack(_ETHER_TYPES[family])),
        attribute(key, packed),
        attribute(key + 1, b"\xff" * len(packed)),
        attribute(_FLAGS, _U32.pack(_SKIP_HARDWARE)),
    ]
    if match.source_mac:
        parts += [attribute(_SOURCE_MAC, _mac(match.source_mac)), attribute(_SOURCE_MAC + 1, b"\xff" * 6)]
    if match.hops is not None:
        parts += [attribute(_TTL, bytes((match.hops,))), attribute(_TTL + 1, b"\xff")]
    encoded = (_encode_action(order, action) for order, action in enumerate(wanted.actions, 1))
    parts.append(nested(_ACTIONS, *encoded))
    options = (text(_KIND, FLOWER, _LONGEST_KIND), nested(_OPTIONS, *parts))
    return _about_filter(NEW_FILTER, _EXCLUSIVE_CREATE, wanted, family, *options)


def delete_filter(wanted: Filter) -> bytes:
    """Encode: remove the filter with this handle. Raises UnencodableValue."""
    if wanted.match is None:
        raise UnencodableValue("a filter that matches nothing known")
    family, _ = _packed(wanted.match.destination)
    return _about_filter(DELETE_FILTER, 0, wanted, family, text(_KIND, FLOWER, _LONGEST_KIND))


def parse_qdisc(message: Buffer) -> Qdisc:
    """Decode one message of a dump. Raises MalformedMessage."""
    _, interface, handle, _, _ = _head(message)
    return Qdisc(interface, handle, _kind(_attributes(message, HEADER_SIZE + _HEADER.size, len(message)).get(_KIND)))


def parse_filter(message: Buffer) -> Filter | None:
    """Decode one message of a dump; None for what only announces filters of a priority. Raises MalformedMessage."""
    _, interface, handle, parent, info = _head(message)
    found = _attributes(message, HEADER_SIZE + _HEADER.size, len(message))
    if not handle:
        return None
    plain = Filter(interface, parent, info >> 16, handle, None)
    if _kind(found.get(_KIND)) != FLOWER or any(found.get(_CHAIN, b"")):
        return plain
    options = _attributes(found.get(_OPTIONS, b""))
    actions = tuple(_decode_action(raw) for _, raw in sorted(_attributes(options.pop(_ACTIONS, b"")).items()))
    return plain._replace(match=_decode_match(options), actions=actions)


def _decode_match(options: dict[int, bytes]) -> Match | None:
    """Return what is looked at; None when it is more than this module knows, or under a partial mask."""
    ether_type = options.get(_ETHER_TYPE, b"")
    family = next((one for one, number in _ETHER_TYPES.items() if _U16_NETWORK.pack(number) == ether_type), None)
    if family is None:
        return None
    keys = (_DESTINATION[family], _SOURCE_MAC, _TTL)
    known = {_ETHER_TYPE, _FLAGS, _HARDWARE_COUNT, *keys, *(key + 1 for key in keys)}
    whole = all(options.get(key + 1) == b"\xff" * len(options[key]) for key in keys if key in options)
    destination = options.get(keys[0], b"")
    if not whole or not options.keys() <= known or len(destination) != (4 if family == socket.AF_INET else 16):
        return None
    mac = ":".join(f"{byte:02x}" for byte in options.get(_SOURCE_MAC, b""))
    hops = options.get(_TTL)
    return Match(socket.inet_ntop(family, destination), mac, hops[0] if hops else None)


def _encode_action(order: int, action: Action) -> bytes:
    kind, then, detail = action
    head = _GENERIC.pack(0, 0, then, 0, 0)
    match kind, detail:
        case "pedit", (int(offset), bytes(mask), bytes(value)):
            raw = head + _PEDIT.pack(1, 0) + _PEDIT_KEY.pack(mask, value, offset, 0, 0, 0)
        case "csum", (int(flags),):
            raw = head + _U32.pack(flags)
        case "gact", ():
            raw = head
        case "mirred", (int(what), int(interface)):
            raw = head + _MIRRED.pack(what, interface)
        case _:
            raise UnencodableValue(f"action {kind} with {detail}")
    options = nested(_ACTION_OPTIONS, attribute(_PARAMETERS[kind][0], raw))
    return nested(order, text(_ACTION_KIND, kind, _LONGEST_KIND), options)


def _decode_action(raw: bytes) -> Action:
    """Decode an action; one of an unknown kind or form keeps its kind only."""
    found = _attributes(raw)
    kind = _kind(found.get(_ACTION_KIND))
    options = _attributes(found.get(_ACTION_OPTIONS, b""))
    told = next((options[number] for number in _PARAMETERS.get(kind, ()) if number in options), b"")
    try:
        then = _GENERIC.unpack_from(told)[2]
        rest = told[_GENERIC.size :]
        detail: tuple[int | bytes, ...] = ()
        if kind == "pedit":
            count, _ = _PEDIT.unpack_from(rest)
            if count != 1:
                return Action(kind, then)
            mask, value, offset, *_ = _PEDIT_KEY.unpack_from(rest, _PEDIT.size)
            detail = (offset, mask, value)
        elif kind == "csum":
            detail = _U32.unpack_from(rest)
        elif kind == "mirred":
            detail = _MIRRED.unpack_from(rest)
    except struct.error:
        return Action(kind, PASS)
    return Action(kind, then, detail)


def _about_filter(command: int, flags: int, one: Filter, family: int, *attributes: bytes) -> bytes:
    info = one.priority << 16 | socket.htons(_ETHER_TYPES[socket.AddressFamily(family)])
    return _message(command, flags, one.interface, one.handle, one.parent, info, *attributes)


def _qdisc(command: int, interface: int, flags: int) -> bytes:
    kind = text(_KIND, CLSACT, _LONGEST_KIND)
    return _message(command, flags, interface, _CLSACT_HANDLE, _CLSACT_PARENT, 0, kind)


def _message(  # noqa: PLR0917 - the fields of the header, in its order
    command: int, flags: int, interface: int, handle: int, parent: int, info: int, *attributes: bytes
) -> bytes:
    body = _HEADER.pack(0, interface, handle, parent, info) + b"".join(attributes)
    return HEADER.pack(HEADER_SIZE + len(body), command, flags, 0, 0) + body


def _head(message: Buffer) -> tuple[int, int, int, int, int]:
    if len(message) < HEADER_SIZE + _HEADER.size:
        raise MalformedMessage(f"a traffic control message of {len(message)} bytes")
    family, interface, handle, parent, info = _HEADER.unpack_from(message, HEADER_SIZE)
    return family, interface, handle, parent, info


def _attributes(buffer: Buffer, start: int = 0, stop: int | None = None) -> dict[int, bytes]:
    end = len(buffer) if stop is None else stop
    return {kind: bytes(buffer[first:last]) for kind, first, last in walk(buffer, start, end)}


def _kind(raw: bytes | None) -> str:
    return (raw or b"").rstrip(b"\0").decode("ascii", "replace")


def _packed(address: str) -> tuple[socket.AddressFamily, bytes]:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        return family, socket.inet_pton(family, address)
    except OSError as error:
        raise UnencodableValue(f"{address!r} is no address") from error


def _mac(mac: str) -> bytes:
    try:
        raw = bytes.fromhex(mac.replace(":", ""))
    except ValueError as error:
        raise UnencodableValue(f"{mac!r} is no MAC address") from error
    if len(raw) != 6:  # noqa: PLR2004 - Ethernet
        raise UnencodableValue(f"{mac!r} is no MAC address")
    return raw
