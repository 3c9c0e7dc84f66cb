"""Netlink messages and attributes as bytes: headers, nesting, errors with their extended acks. Pure.

Sources: linux/netlink.h, net/netlink/af_netlink.c (netlink_ack, netlink_dump), net/netlink/genetlink.c.
A *message* everywhere in this package is a whole netlink message: nlmsghdr, genlmsghdr, attributes.
Encoders leave type, flags, sequence and port of the header 0; the socket fills them in when it sends.
"""

import struct
from collections.abc import Iterator
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage, NetlinkError, UnencodableValue

NLMSG_NOOP: Final = 1
NLMSG_ERROR: Final = 2
NLMSG_DONE: Final = 3
NLMSG_OVERRUN: Final = 4

NLM_F_REQUEST: Final = 0x1
NLM_F_MULTI: Final = 0x2
NLM_F_ACK: Final = 0x4
NLM_F_DUMP_INTR: Final = 0x10
NLM_F_CAPPED: Final = 0x100
NLM_F_ACK_TLVS: Final = 0x200
NLM_F_DUMP: Final = 0x300

NLMSGERR_ATTR_MSG: Final = 1
NLMSGERR_ATTR_OFFS: Final = 2

HEADER: Final = struct.Struct("=IHHII")
"""nlmsghdr: length, type, flags, sequence, port."""
HEADER_SIZE: Final = HEADER.size
GENERIC_HEADER: Final = struct.Struct("=BBH")
"""genlmsghdr: command, version, reserved."""
ATTRIBUTES_START: Final = HEADER_SIZE + GENERIC_HEADER.size
"""Where the attributes of a generic netlink message begin, in bytes."""

_ATTRIBUTE = struct.Struct("=HH")
_ATTRIBUTE_SIZE = _ATTRIBUTE.size
_NESTED = 0x8000
_TYPE_MASK = 0x3FFF
_LONGEST_ATTRIBUTE = 0xFFFF
_ERRNO = struct.Struct("=i")
_U32 = struct.Struct("=I")
_LARGEST_ERRNO = 4095

Buffer = bytes | bytearray | memoryview


class Header(NamedTuple):
    """One nlmsghdr and where its message lies: `buffer[start:stop]`, header included."""

    kind: int
    flags: int
    sequence: int
    start: int
    stop: int


def align(length: int) -> int:
    """Round up to the 4 bytes that messages and attributes are aligned to."""
    return (length + 3) & ~3


def attribute(kind: int, payload: bytes) -> bytes:
    """Encode one attribute with its padding. Raises UnencodableValue above 64 KiB."""
    length = _ATTRIBUTE_SIZE + len(payload)
    if length > _LONGEST_ATTRIBUTE:
        raise UnencodableValue(f"attribute {kind} of {len(payload)} bytes is too long")
    return _ATTRIBUTE.pack(length, kind) + payload + b"\0" * (align(length) - length)


def nested(kind: int, *attributes: bytes) -> bytes:
    """Encode an attribute that holds other attributes."""
    return attribute(kind | _NESTED, b"".join(attributes))


def text(kind: int, value: str, longest: int) -> bytes:
    """Encode a NUL-terminated string of at most `longest` bytes. Raises UnencodableValue."""
    try:
        raw = value.encode("ascii")
    except UnicodeEncodeError as error:
        raise UnencodableValue(f"{value!r} is not ASCII") from error
    if not raw or len(raw) > longest or b"\0" in raw:
        raise UnencodableValue(f"{value!r} must have 1 to {longest} characters and no NUL")
    return attribute(kind, raw + b"\0")


def generic_message(command: int, version: int, *attributes: bytes) -> bytes:
    """Encode a generic netlink message with an empty header (see the module's docstring)."""
    body = b"".join(attributes)
    header = HEADER.pack(ATTRIBUTES_START + len(body), 0, 0, 0, 0)
    return header + GENERIC_HEADER.pack(command, version, 0) + body


def command_of(message: Buffer) -> int:
    """Return the generic netlink command of a message. Raises MalformedMessage when it has none."""
    if len(message) < ATTRIBUTES_START:
        raise MalformedMessage(f"a generic netlink message of {len(message)} bytes")
    return message[HEADER_SIZE]


def split(buffer: Buffer, length: int) -> Iterator[Header]:
    """Walk the messages of one datagram that fills `buffer[:length]`. Raises MalformedMessage."""
    start = 0
    while start < length:
        if length - start < HEADER_SIZE:
            raise MalformedMessage(f"{length - start} bytes are left where a netlink header is due")
        size, kind, flags, sequence, _ = HEADER.unpack_from(buffer, start)
        if size < HEADER_SIZE or size > length - start:
            raise MalformedMessage(f"a netlink message claims {size} of {length - start} bytes")
        yield Header(kind, flags, sequence, start, start + size)
        start += align(size)


def walk(buffer: Buffer, start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Walk the attributes in `buffer[start:stop]`: type without flags, payload start, payload stop.

    Raises MalformedMessage on a length that the buffer does not hold; always ends.
    """
    while start < stop:
        if stop - start < _ATTRIBUTE_SIZE:
            raise MalformedMessage(f"{stop - start} bytes are left where an attribute is due")
        length, kind = _ATTRIBUTE.unpack_from(buffer, start)
        if length < _ATTRIBUTE_SIZE or length > stop - start:
            raise MalformedMessage(f"attribute {kind & _TYPE_MASK} claims {length} of {stop - start} bytes")
        yield kind & _TYPE_MASK, start + _ATTRIBUTE_SIZE, start + length
        start += align(length)


def decode_error(buffer: Buffer, header: Header) -> NetlinkError | None:
    """Decode an NLMSG_ERROR, or the NLMSG_DONE that ends a dump; None is success (an ACK).

    Extended acks are read when the flags announce them. Raises MalformedMessage.
    """
    position = header.start + HEADER_SIZE
    if header.stop - position < _ERRNO.size:
        if header.kind == NLMSG_DONE:
            return None  # old kernels end a dump without a code
        raise MalformedMessage("an error message without a code")
    (code,) = _ERRNO.unpack_from(buffer, position)
    if code == 0:
        return None
    if not -_LARGEST_ERRNO <= code < 0:
        raise MalformedMessage(f"an error message with the code {code}")
    position += _ERRNO.size
    if header.kind == NLMSG_ERROR:
        if header.stop - position < HEADER_SIZE:
            raise MalformedMessage("an error message without the header it answers")
        original = HEADER.unpack_from(buffer, position)[0]
        position += HEADER_SIZE if header.flags & NLM_F_CAPPED else max(HEADER_SIZE, align(original))
    if not header.flags & NLM_F_ACK_TLVS:
        return NetlinkError(-code)
    if position > header.stop:
        raise MalformedMessage("an error message shorter than the message it quotes")
    explanation, offset = _extended_ack(buffer, position, header.stop)
    return NetlinkError(-code, explanation, offset)


def _extended_ack(buffer: Buffer, start: int, stop: int) -> tuple[str, int | None]:
    explanation = ""
    offset: int | None = None
    for kind, first, last in walk(buffer, start, stop):
        if kind == NLMSGERR_ATTR_MSG:
            explanation = bytes(buffer[first:last]).rstrip(b"\0").decode("utf-8", "replace")
        elif kind == NLMSGERR_ATTR_OFFS and last - first == _U32.size:
            (offset,) = _U32.unpack_from(buffer, first)
    return explanation, offset
