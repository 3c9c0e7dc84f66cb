"""A stateful kernel that speaks generic netlink and IPVS as bytes, for tests of the socket and the codecs.

It reads and writes the wire format with code of its own, so that it can disagree with the codecs under test. Like
the real one it works inside `send`, answers errors by sequence number, acknowledges only when asked, and applies
the rest of a batch after an error.
"""

import errno
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable

FAMILY = 0x1C
CONTROLLER = 16
SCHEDULERS = {b"fo\0", b"rr\0", b"wrr\0", b"wlc\0", b"mh\0", b"sh\0"}
REQUEST, MULTI, ACK, INTERRUPTED, CAPPED, ACK_TLVS, DUMP = 0x1, 0x2, 0x4, 0x10, 0x100, 0x200, 0x300

Attributes = dict[int, bytes]
Destinations = dict[tuple[bytes, bytes], Attributes]


def attributes(data: bytes) -> Attributes:
    """Read attributes into a dictionary by type."""
    found: Attributes = {}
    while data:
        length, kind = struct.unpack_from("=HH", data)
        found[kind & 0x3FFF] = data[4:length]
        data = data[(length + 3) & ~3 :]
    return found


def attribute(kind: int, value: bytes) -> bytes:
    """Write one attribute."""
    return struct.pack("=HH", 4 + len(value), kind) + value + bytes(-len(value) % 4)


def message(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Write one netlink message, padded."""
    return struct.pack("=IHHII", 16 + len(body), kind, flags, sequence, 0) + body + bytes(-len(body) % 4)


class NetlinkKernel:
    """One socket's view of the kernel; `services` is its table.

    Faults: `silent` drops every answer; `before` holds datagrams (with sender port) delivered first;
    `overflows` is how many receives fail with ENOBUFS; `interruptions` how many dumps are marked inconsistent;
    `stalled_dumps` how many stop after their first datagram, and go on (EBUSY for others) when the next is received;
    `busy` refuses every dump.
    """

    def __init__(self) -> None:
        self.services: dict[tuple[bytes, ...], tuple[Attributes, Destinations]] = {}
        self.batches: list[int] = []
        self.received: list[bytes] = []
        self.silent = False
        self.overflows = 0
        self.interruptions = 0
        self.dump_error = 0
        self.stalled_dumps = 0
        self.busy = False
        self._stalled: deque[tuple[bytes, int]] = deque()
        self.closed = False
        self._queue: deque[tuple[bytes, int]] = deque()

    def inject(self, datagram: bytes, sender: int = 0) -> None:
        """Queue a datagram that no request asked for."""
        self._queue.append((datagram, sender))

    def send(self, data: bytes | bytearray) -> int:
        """Process a datagram of requests, as netlink_rcv_skb does."""
        batch = bytes(data)
        self.batches.append(len(batch))
        while batch:
            length, kind, flags, sequence, _ = struct.unpack_from("=IHHII", batch)
            one, batch = batch[:length], batch[(length + 3) & ~3 :]
            self.received.append(one)
            if kind == CONTROLLER:
                self._controller(one, sequence)
            elif flags & DUMP == DUMP:
                self._dump(one, sequence)
            else:
                self._one(one, flags, sequence)
        return len(data)

    def recvfrom_into(self, buffer: bytearray, _nbytes: int, flags: int) -> tuple[int, tuple[int, int]]:
        """Deliver one datagram; nothing there is what a receive timeout looks like."""
        if self.overflows and not flags & socket.MSG_DONTWAIT:  # told once, then the socket goes on
            self.overflows -= 1
            raise OSError(errno.ENOBUFS, "no buffer space")
        if not self._queue or self.silent:
            if self._stalled and not self.silent:
                self._queue, self._stalled = self._stalled, self._queue
            raise BlockingIOError(errno.EAGAIN, "nothing in time")
        datagram, sender = self._queue.popleft()
        kept = datagram[: len(buffer)]
        buffer[: len(kept)] = kept
        return len(datagram), (sender, 0)

    def close(self) -> None:
        """Remember that the descriptor was released."""
        self.closed = True

    def _answer(self, data: bytes) -> None:
        self._queue.append((data, 0))

    def _error(self, request: bytes, code: int, text: bytes = b"") -> None:
        sequence = struct.unpack_from("=I", request, 8)[0]
        flags = CAPPED | (ACK_TLVS if text else 0)
        body = struct.pack("=i", -code) + request[:16] + (attribute(1, text + b"\0") if text else b"")
        self._answer(message(2, flags, sequence, body))

    def _controller(self, request: bytes, sequence: int) -> None:
        name = attributes(request[20:])[2]
        if name != b"IPVS\0":
            self._error(request, errno.ENOENT)
            return
        body = struct.pack("=BBH", 1, 2, 0) + attribute(2, name) + attribute(1, struct.pack("=H", FAMILY))
        self._answer(message(CONTROLLER, 0, sequence, body))

    def _one(self, request: bytes, flags: int, sequence: int) -> None:
        command = request[16]
        if command == 15:
            body = struct.pack("=BBH", 14, 1, 0) + attribute(1, struct.pack("=I", 0x010201))
            self._answer(message(FAMILY, 0, sequence, body + attribute(2, struct.pack("=I", 4096))))
            return
        outer = attributes(request[20:])
        code, text = self._change(command, attributes(outer[1]), attributes(outer.get(2, b"")))
        if code or flags & ACK:
            self._error(request, code, text)

    def _change(self, command: int, service: Attributes, destination: Attributes) -> tuple[int, bytes]:
        key = _service_identity(service)
        if command != 1 and key not in self.services:
            return errno.ESRCH, b""
        if command in (1, 2):
            if service[6] not in SCHEDULERS:
                return errno.ENOENT, b""
            if command == 1 and key in self.services:
                return errno.EEXIST, b""
            self.services[key] = (service, self.services[key][1] if command == 2 else {})
        elif command == 3:
            del self.services[key]
        else:
            return self._change_destination(command, self.services[key][1], destination)
        return 0, b""

    def _change_destination(self, command: int, held: Destinations, asked: Attributes) -> tuple[int, bytes]:
        key = (asked[1].ljust(16, b"\0"), asked[2])
        if (command == 5) == (key in held):
            return (errno.EEXIST if command == 5 else errno.ENOENT), b""
        if command == 7:
            del held[key]
        elif asked[6] > asked[5]:
            return errno.ERANGE, b"lower above upper"
        else:
            held[key] = asked
        return 0, b""

    def _dump(self, request: bytes, sequence: int) -> None:
        if self.busy or self._stalled or self._queue:
            self._error(request, errno.EBUSY)
            return
        interrupted = INTERRUPTED if self.interruptions else 0
        self.interruptions = max(0, self.interruptions - 1)
        found: Iterable[bytes]
        if request[16] == 4:
            found = [_service_message(service) for service, _ in self.services.values()]
        else:
            key = _service_identity(attributes(attributes(request[20:])[1]))
            found = map(destination_body, self.services.get(key, ({}, {}))[1].values())
        pair = b""
        for position, body in enumerate(found):  # two messages to a datagram
            pair += message(FAMILY, MULTI | interrupted, sequence, body)
            if position % 2:
                self._answer(pair)
                pair = b""
        done = message(3, MULTI | interrupted, sequence, struct.pack("=i", -self.dump_error))
        self._answer(pair + done)
        if self.stalled_dumps:
            self.stalled_dumps -= 1
            first = self._queue.popleft()
            self._stalled, self._queue = self._queue, deque([first])


def _service_identity(service: Attributes) -> tuple[bytes, ...]:
    if 5 in service:
        return service[1], service[5]
    return service[1], service[2], service[3].ljust(16, b"\0"), service[4]


def _service_message(service: Attributes) -> bytes:
    """Dump a service as ip_vs_genl_fill_service does: HASHED set, statistics behind."""
    flags = struct.unpack_from("=I", service[7])[0] | 0x2
    shown = {**service, 7: struct.pack("=II", flags, 0xFFFF_FFFF), 10: attribute(1, bytes(4))}
    if 3 in shown:
        shown[3] = shown[3].ljust(16, b"\0")
    order = (1, 5, 2, 3, 4, 6, 11, 7, 8, 9, 10)
    inner = b"".join(attribute(kind, shown[kind]) for kind in order if kind in shown)
    return struct.pack("=BBH", 1, 1, 0) + attribute(1, inner)


def destination_body(
    destination: Attributes, *, order: Callable[[list[int]], list[int]] = list, counters: tuple[int, ...] = (0, 0, 0)
) -> bytes:
    """Dump a destination as ip_vs_genl_fill_dest of kernel 5.3 and later does, or in another `order`."""
    shown = {13: b"\0", 14: bytes(2), 15: bytes(2), 10: attribute(1, bytes(4)), **destination}
    shown |= {kind: struct.pack("=I", count) for kind, count in zip((7, 8, 9), counters, strict=True)}
    shown[1] = shown[1].ljust(16, b"\0")
    kinds = [kind for kind in order([1, 2, 3, 4, 13, 14, 15, 5, 6, 7, 8, 9, 11, 10]) if kind in shown]
    inner = b"".join(attribute(kind, shown[kind]) for kind in kinds)
    return struct.pack("=BBH", 5, 1, 0) + attribute(2, inner)
