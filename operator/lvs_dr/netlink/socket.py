"""One generic netlink socket, synchronous, for one thread at a time (call it in a worker thread).

The kernel does the work of a request inside `send` and queues the answers, so waiting is short: the timeout
bounds a kernel that does not answer at all. Changes go out in chunks with an acknowledgement on the last message
only: errors come back by sequence number without being asked for, and one bad message does not stop the others.
"""

import errno
import socket
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self

from lvs_dr.netlink import generic
from lvs_dr.netlink.batch import check, chunks
from lvs_dr.netlink.errors import (
    DumpInterrupted,
    FamilyMissing,
    MalformedMessage,
    NetlinkError,
    NetlinkFailure,
    NetlinkOverflow,
    SocketUnusable,
)
from lvs_dr.netlink.message import (
    HEADER,
    HEADER_SIZE,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSG_NOOP,
    NLMSG_OVERRUN,
    Header,
    decode_error,
    split,
)
from lvs_dr.netlink.transport import Patience, Transport, open_transport, receive

DEFAULT_TIMEOUT: Final = 5.0
"""Seconds that one call may wait for the kernel's answers (module loading happens in `send`)."""
CHUNK_BYTES: Final = 128 * 1024
"""Longest datagram of requests: the errors of all its messages fit into the receive buffer."""
DUMP_ATTEMPTS: Final = 5

_RECEIVE_BYTES: Final = 64 * 1024  # a dump datagram has at most 32 KiB (netlink_dump)
_SEQUENCES: Final = 1 << 32
_ENDS: Final = (NLMSG_DONE, NLMSG_ERROR)
_unpack_header = HEADER.unpack_from


class GenericNetlinkSocket:
    """A socket for one generic netlink family. Not for two threads at once; one dump at a time.

    `family` is looked up on opening, which makes the kernel load the module behind it. `timeout` is in
    seconds. Opening raises FamilyMissing, SocketUnusable or NetlinkTimeout.
    """

    def __init__(
        self,
        family: str,
        *,
        timeout: float = DEFAULT_TIMEOUT,
        transport: Transport | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.family = family
        self._timeout = timeout
        self._clock = clock
        self._buffer = bytearray(_RECEIVE_BYTES)
        self._next_sequence = 1
        self._transport: Transport | None = transport or open_transport(timeout)
        try:
            self.family_number = self._resolve(family)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; calling it again is harmless."""
        if self._transport is not None:
            self._transport.close()
            self._transport = None

    def transact(self, messages: Sequence[bytes]) -> dict[int, NetlinkError]:
        """Apply all messages in order; return the errors of those that the kernel refused, by position.

        Raises NetlinkTimeout, NetlinkOverflow, MalformedMessage or SocketUnusable; then an unknown part has
        been applied and the state must be read. Raises UnencodableValue before anything is sent.
        """
        check(messages, CHUNK_BYTES)
        errors: dict[int, NetlinkError] = {}
        for first, last in chunks(messages, CHUNK_BYTES):
            base = self._reserve(last - first)
            self._send(messages[first:last], base, NLM_F_REQUEST)
            self._collect(base, first, last, errors)
        return errors

    def dump(self, message: bytes) -> list[bytes]:
        """Return all messages of a dump, read again when it was not whole.

        That is: the table changed meanwhile (EINTR, NLM_F_DUMP_INTR), answers were lost (ENOBUFS), or an earlier
        dump that was given up still runs (EBUSY).
        Raises NetlinkError (the kernel refused the dump), DumpInterrupted or NetlinkOverflow after several
        attempts, and what `transact` raises.
        """
        check([message], CHUNK_BYTES)
        failure: NetlinkFailure = DumpInterrupted(f"{self.family}: the table changed during {DUMP_ATTEMPTS} reads")
        for _ in range(DUMP_ATTEMPTS):
            sequence = self._reserve(1)
            try:
                self._send([message], sequence, NLM_F_REQUEST | NLM_F_DUMP)
                answers = self._read_dump(sequence)
            except NetlinkOverflow as error:
                failure = error
                continue
            except NetlinkError as error:
                if error.code != errno.EBUSY:
                    raise
                failure = error
                self._drain()  # taking what is queued is what lets the kernel go on with that dump, and end it
                continue
            if answers is not None:
                return answers
        raise failure

    def request(self, message: bytes) -> bytes:
        """Return the one answer to a question that is not a dump. Raises as `dump` does."""
        check([message], CHUNK_BYTES)
        return self._request(message, self.family_number)

    def _request(self, message: bytes, family_number: int) -> bytes:
        sequence = self._reserve(1)
        self._send([message], sequence, NLM_F_REQUEST, family_number)
        patience = Patience(self._clock, self._timeout)
        while True:
            data = self._receive(patience)
            for header in split(data, len(data)):
                if header.sequence != sequence or header.kind == NLMSG_NOOP:
                    continue
                if header.kind != NLMSG_ERROR:
                    return data[header.start : header.stop]
                refused = decode_error(data, header)
                raise refused or MalformedMessage("an acknowledgement where an answer is due")
            patience.spend(self.family)

    def _resolve(self, family: str) -> int:
        try:
            answer = self._request(generic.get_family(family), generic.GENL_ID_CTRL)
        except NetlinkError as error:
            if error.code == errno.ENOENT:
                raise FamilyMissing(family) from error
            raise
        return generic.parse_family(answer)[1]

    def _reserve(self, count: int) -> int:
        """Return the first of `count` sequence numbers that no earlier request of this socket used lately."""
        if self._next_sequence + count > _SEQUENCES:
            self._next_sequence = 1  # 0 is for messages that the kernel sends on its own
        base = self._next_sequence
        self._next_sequence += count
        return base

    def _send(self, messages: Sequence[bytes], base: int, flags: int, number: int | None = None) -> None:
        """Send messages as one datagram, numbered from `base`; outside dumps the last asks for an ACK."""
        kind = self.family_number if number is None else number
        chunk = bytearray(b"".join(messages))
        position = 0
        pack = HEADER.pack_into
        for sequence, message in enumerate(messages, base):
            size = len(message)
            pack(chunk, position, size, kind, flags, sequence, 0)
            position += size
        if flags == NLM_F_REQUEST and number is None:
            last = messages[-1]
            flags |= NLM_F_ACK
            pack(chunk, position - len(last), len(last), kind, flags, base + len(messages) - 1, 0)
        try:
            sent = self._open().send(chunk)
        except OSError as error:
            if error.errno in (errno.ENOBUFS, errno.ENOMEM):
                raise NetlinkOverflow(f"{self.family}: no memory to send: {error}") from error
            raise SocketUnusable(f"{self.family}: sending failed: {error}") from error
        if sent != len(chunk):
            raise SocketUnusable(f"{self.family}: {sent} of {len(chunk)} bytes were sent")

    def _collect(self, base: int, first: int, last: int, errors: dict[int, NetlinkError]) -> None:
        """Read errors of `messages[first:last]`, numbered from `base`, up to the answer to the last."""
        final = base + (last - first) - 1
        patience = Patience(self._clock, self._timeout)
        while True:
            data = self._receive(patience)
            ours = False
            for header in split(data, len(data)):
                if header.kind != NLMSG_ERROR or not base <= header.sequence <= final:
                    continue  # late answers to an earlier call
                ours = True
                refused = decode_error(data, header)
                if refused is not None:
                    errors[first + header.sequence - base] = refused
                if header.sequence == final:
                    return
            if not ours:
                patience.spend(self.family)

    def _read_dump(self, sequence: int) -> list[bytes] | None:
        """Read a dump to its end; None when it is not one state of the table."""
        answers: list[bytes] = []
        interrupted = 0
        patience = Patience(self._clock, self._timeout)
        while True:
            data = self._receive(patience)
            position, length = 0, len(data)
            before = len(answers)
            while position < length:  # `split` without its checks' cost: thousands of messages, tens of datagrams
                if length - position < HEADER_SIZE:
                    raise MalformedMessage(f"{length - position} bytes are left where a netlink header is due")
                size, kind, flags, number, _ = _unpack_header(data, position)
                stop = position + size
                if size < HEADER_SIZE or stop > length:
                    raise MalformedMessage(f"a netlink message claims {size} of {length - position} bytes")
                if number == sequence and kind != NLMSG_NOOP:
                    interrupted |= flags & NLM_F_DUMP_INTR
                    if kind in _ENDS:
                        refused = decode_error(data, Header(kind, flags, number, position, stop))
                        if refused is not None and refused.code != errno.EINTR:
                            raise refused
                        return None if interrupted or refused is not None else answers
                    answers.append(data[position:stop])
                position = (stop + 3) & ~3
            if len(answers) == before:
                patience.spend(self.family)

    def _receive(self, patience: Patience) -> bytes:
        """Return one datagram of the kernel. Raises NetlinkTimeout, NetlinkOverflow, MalformedMessage."""
        try:
            data = receive(self._open(), self._buffer, patience, self.family)
        except NetlinkOverflow:
            self._drain()
            raise
        _refuse_overrun(data)
        return data

    def _drain(self) -> None:
        """Throw away what is queued: after a loss it answers requests that have been given up."""
        transport = self._open()
        deadline = self._clock() + self._timeout
        while self._clock() < deadline:
            try:
                transport.recvfrom_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise SocketUnusable(f"{self.family}: receiving failed: {error}") from error

    def _open(self) -> Transport:
        if self._transport is None:
            raise SocketUnusable(f"the {self.family} socket is closed")
        return self._transport


def _refuse_overrun(data: bytes) -> None:
    if len(data) >= HEADER_SIZE and HEADER.unpack_from(data)[1] == NLMSG_OVERRUN:
        raise NetlinkOverflow("the kernel reports an overrun")
