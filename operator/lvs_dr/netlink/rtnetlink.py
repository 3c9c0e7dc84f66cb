"""Two rtnetlink sockets: one that changes and reads (blocking, one thread), one that hears of changes.

A message comes encoded with its type and flags (`netlink.address`, `netlink.link_state`); the socket adds request
flags and sequence numbers. Batches go out as `GenericNetlinkSocket` sends them: one acknowledgement, on the last.
"""

import ctypes
import errno
import socket
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Final

from lvs_dr.netlink.address import RTM_NEWADDR
from lvs_dr.netlink.batch import check, chunks
from lvs_dr.netlink.errors import (
    DumpInterrupted,
    NetlinkError,
    NetlinkOverflow,
    SocketUnusable,
)
from lvs_dr.netlink.message import (
    HEADER,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    decode_error,
    split,
)
from lvs_dr.netlink.transport import Patience, Transport, receive

DEFAULT_TIMEOUT: Final = 5.0
CHUNK_BYTES: Final = 64 * 1024
DUMP_ATTEMPTS: Final = 5
GROUP_LINK: Final = 0x1
GROUP_ADDRESS4: Final = 0x10
GROUP_ADDRESS6: Final = 0x100

_BUFFER_BYTES: Final = 1024 * 1024
_RECEIVE_BYTES: Final = 64 * 1024
_SEQUENCES: Final = 1 << 31
_SOL_NETLINK: Final = 270
_OPTIONS: Final = (10, 11)  # NETLINK_CAP_ACK, NETLINK_EXT_ACK
_STRICT: Final = 12  # NETLINK_GET_STRICT_CHK
_SO_RCVBUFFORCE: Final = 33
_SO_ATTACH_FILTER: Final = 26
_TIMEVAL: Final = struct.Struct("@ll")

# Classic BPF (linux/filter.h): operation, jump if true, jump if false, operand. New host addresses are not heard of:
# renewing 250 lifetimes three times a second must wake nobody. Offsets: low byte of nlmsg_type, ifa_prefixlen.
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_BYTE, _JUMP_EQUAL, _RETURN = 0x30, 0x15, 0x06
_RENEWALS_DROPPED: Final = tuple(
    _INSTRUCTION.pack(*each)
    for each in (
        (_LOAD_BYTE, 0, 0, 4 if sys.byteorder == "little" else 5),
        (_JUMP_EQUAL, 0, 3, RTM_NEWADDR),
        (_LOAD_BYTE, 0, 0, 17),
        (_JUMP_EQUAL, 2, 0, 32),
        (_JUMP_EQUAL, 1, 0, 128),
        (_RETURN, 0, 0, 0xFFFF),
        (_RETURN, 0, 0, 0),
    )
)


class RouteSocket:
    """Changes and reads. Not for two threads at once. Opening raises SocketUnusable.

    With `strict` the kernel looks at what a dump asks for, and leaves out the rest (NETLINK_GET_STRICT_CHK).
    """

    def __init__(
        self,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        strict: bool = False,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._timeout = timeout
        self._clock = clock
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._transport: Transport = transport or _open(
            0, timeout, options=(*_OPTIONS, _STRICT) if strict else _OPTIONS
        )
        self._sequence = 1

    def close(self) -> None:
        """Close the socket."""
        self._transport.close()

    def transact(self, messages: Sequence[bytes]) -> dict[int, NetlinkError]:
        """Apply all messages in order; return the errors of those the kernel refused, by position.

        Raises NetlinkTimeout, NetlinkOverflow, MalformedMessage or SocketUnusable: an unknown part is applied.
        """
        check(messages, CHUNK_BYTES)
        errors: dict[int, NetlinkError] = {}
        for first, last in chunks(messages, CHUNK_BYTES):
            base = self._send(messages[first:last], NLM_F_REQUEST, NLM_F_ACK)
            final = base + last - first - 1
            patience = Patience(self._clock, self._timeout)
            done = False
            while not done:
                data = receive(self._transport, self._buffer, patience, "rtnetlink")
                for header in split(data, len(data)):
                    if header.kind != NLMSG_ERROR or not base <= header.sequence <= final:
                        continue
                    refused = decode_error(data, header)
                    if refused is not None:
                        errors[first + header.sequence - base] = refused
                    done = done or header.sequence == final
                if not done:
                    patience.spend("rtnetlink")
        return errors

    def dump(self, message: bytes) -> list[bytes]:
        """Return all messages of a dump, read again when the table changed meanwhile.

        Raises NetlinkError, DumpInterrupted, and what `transact` raises.
        """
        for _ in range(DUMP_ATTEMPTS):
            answers = self._dump_once(message)
            if answers is not None:
                return answers
        raise DumpInterrupted(f"rtnetlink: the table changed during {DUMP_ATTEMPTS} reads")

    def _dump_once(self, message: bytes) -> list[bytes] | None:
        sequence = self._send([message], NLM_F_REQUEST | NLM_F_DUMP, 0)
        answers: list[bytes] = []
        interrupted = 0
        patience = Patience(self._clock, self._timeout)
        while True:
            data = receive(self._transport, self._buffer, patience, "rtnetlink")
            before = len(answers)
            for header in split(data, len(data)):
                if header.sequence != sequence:
                    continue
                interrupted |= header.flags & NLM_F_DUMP_INTR
                if header.kind in (NLMSG_DONE, NLMSG_ERROR):
                    refused = decode_error(data, header)
                    if refused is not None and refused.code != errno.EINTR:
                        raise refused
                    return None if interrupted or refused is not None else answers
                answers.append(data[header.start : header.stop])
            if len(answers) == before:
                patience.spend("rtnetlink")

    def _send(self, messages: Sequence[bytes], flags: int, last_flags: int) -> int:
        base = self._sequence
        self._sequence = 1 if base > _SEQUENCES else base + len(messages)
        chunk = bytearray(b"".join(messages))
        position = 0
        for number, message in enumerate(messages, 1):
            length, kind, own, _, _ = HEADER.unpack_from(message)
            extra = last_flags if number == len(messages) else 0
            HEADER.pack_into(chunk, position, length, kind, own | flags | extra, base + number - 1, 0)
            position += length
        try:
            sent = self._transport.send(chunk)
        except OSError as error:
            raise SocketUnusable(f"rtnetlink: sending failed: {error}") from error
        if sent != len(chunk):
            raise SocketUnusable(f"rtnetlink: {sent} of {len(chunk)} bytes were sent")
        return base


class RouteMonitor:
    """Hears of links and addresses that change, but not of new or renewed host addresses (/32, /128).

    Non-blocking: give `fileno` to an event loop.

    Opening raises SocketUnusable. `receive` raises NetlinkOverflow when news were lost: read everything again.
    """

    def __init__(self, groups: int = GROUP_LINK | GROUP_ADDRESS4 | GROUP_ADDRESS6) -> None:
        self._socket = _open(groups, None, renewals=False)
        self._buffer = bytearray(_RECEIVE_BYTES)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; remove it from the event loop first."""
        self._socket.close()

    def receive(self) -> Iterator[tuple[int, bytes]]:
        """Yield type and message of what is queued, until nothing is. Raises NetlinkOverflow, SocketUnusable."""
        while True:
            try:
                length, sender = self._socket.recvfrom_into(self._buffer, 0, socket.MSG_TRUNC)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno == errno.ENOBUFS:
                    raise NetlinkOverflow("rtnetlink: news were lost") from error
                raise SocketUnusable(f"rtnetlink: receiving failed: {error}") from error
            if sender[0] != 0:
                continue
            if length > len(self._buffer):
                raise NetlinkOverflow(f"rtnetlink: news of {length} bytes were cut off")
            data = bytes(self._buffer[:length])
            for header in split(data, length):
                yield header.kind, data[header.start : header.stop]


def drop_renewals(opened: socket.socket) -> None:
    """Have a socket not hear of new or renewed host addresses. Raises OSError."""
    code = ctypes.create_string_buffer(b"".join(_RENEWALS_DROPPED))
    described = struct.pack("@HP", len(_RENEWALS_DROPPED), ctypes.addressof(code))
    opened.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)


def _open(
    groups: int, timeout: float | None, *, renewals: bool = True, options: Sequence[int] = _OPTIONS
) -> socket.socket:
    """Open a NETLINK_ROUTE socket; without a timeout it does not block. A filter stands before the first message."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | (socket.SOCK_NONBLOCK if timeout is None else 0)
    try:
        opened = socket.socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE)
    except OSError as error:
        raise SocketUnusable(f"cannot open a netlink socket: {error}") from error
    try:
        try:
            opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER_BYTES)
        except PermissionError:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER_BYTES)
        if not renewals:
            drop_renewals(opened)
        for option in options:
            opened.setsockopt(_SOL_NETLINK, option, 1)
        if timeout is not None:
            seconds, fraction = divmod(timeout, 1)
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(seconds), int(fraction * 1e6)))
        opened.bind((0, groups))
    except OSError as error:
        opened.close()
        raise SocketUnusable(f"cannot set up a netlink socket: {error}") from error
    return opened
