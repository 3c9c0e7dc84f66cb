"""A netlink socket on which things go wrong: it sits between the agent's real socket and a kernel that speaks netlink.

The traffic is the real one, byte for byte; a fault is done to a datagram on its way.
"""

import errno
import struct
from collections.abc import Iterable, Iterator
from itertools import chain, repeat

from tests.unit.netlink.netlink_kernel import CONTROLLER, DUMP, INTERRUPTED, NetlinkKernel, message

ERROR, DONE = 2, 3
REFUSALS = {"ENOENT": errno.ENOENT, "EEXIST": errno.EEXIST, "ENOBUFS": errno.ENOBUFS, "EINTR": errno.EINTR}
SENDING = (*REFUSALS, "no memory", "flushed", "done before")
"""A message refused with an errno; a datagram that does not leave; `ipvsadm -C`, or the same changes made by somebody
else, just before it arrives."""
RECEIVING = ("lost", "overrun", "changed meanwhile", "broken off")
"""A datagram of answers lost, silently or with ENOBUFS; a dump that lacks an entry and is marked NLM_F_DUMP_INTR; one
that ends with EINTR."""


class FaultyTransport:
    """Does the named faults to datagrams, one after the other ("" = none), and none when they are used up."""

    def __init__(
        self, kernel: NetlinkKernel, sending: Iterable[str], receiving: Iterable[str], victim: int = 0
    ) -> None:
        self._kernel = kernel
        self._sending = chain(sending, repeat(""))
        self._receiving = chain(receiving, repeat(""))
        self._victim = victim  # which message of a datagram is refused
        self.done: list[str] = []  # faults that happened

    def send(self, data: bytearray, /) -> int:
        """Hand changes to the kernel, or not quite. Questions pass."""
        messages = list(_split(bytes(data)))
        _, kind, flags, _, _ = struct.unpack_from("=IHHII", messages[0])
        if kind == CONTROLLER or flags & DUMP == DUMP or messages[0][16] == 15:
            return self._kernel.send(data)
        fault = next(self._sending)
        if fault:
            self.done.append(fault)
        if fault == "no memory":
            raise OSError(errno.ENOBUFS, "no buffer space")
        if fault == "flushed":
            self._kernel.services.clear()
        elif fault == "done before":
            self._somebody_else(messages)
        elif fault in REFUSALS:
            return self._refuse(messages, REFUSALS[fault])
        return self._kernel.send(data)

    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]:
        """Deliver a datagram, or not quite."""
        length, sender = self._kernel.recvfrom_into(buffer, nbytes, flags)
        if _kind(buffer) == CONTROLLER:
            return length, sender
        fault = next(self._receiving)
        if fault:
            self.done.append(fault)
        if fault == "lost":
            raise BlockingIOError(errno.EAGAIN, "nothing in time")
        if fault == "overrun":
            raise OSError(errno.ENOBUFS, "answers were lost")
        messages = list(_split(bytes(buffer[:length])))
        if fault == "changed meanwhile" and len(messages) > 1:
            messages = [_marked(each) for each in messages[1:]]  # an entry went by unseen
        elif fault == "broken off" and _kind(messages[-1]) == DONE:
            messages = [messages[-1][:16] + struct.pack("=i", -errno.EINTR)]
        changed = b"".join(messages)
        buffer[: len(changed)] = changed
        return len(changed), sender

    def close(self) -> None:
        """Release the descriptor."""

    def _refuse(self, messages: list[bytes], code: int) -> int:
        """Have one message refused and not carried out, the others carried out."""
        position = self._victim % len(messages)
        refused = messages[position]
        sequence = struct.unpack_from("=I", refused, 8)[0]
        if messages[:position]:
            self._kernel.send(b"".join(messages[:position]))
        self._kernel.inject(message(ERROR, 0, sequence, struct.pack("=i", -code) + refused[:16]))
        if messages[position + 1 :]:
            self._kernel.send(b"".join(messages[position + 1 :]))
        return sum(map(len, messages))

    def _somebody_else(self, messages: list[bytes]) -> None:
        """Have the same changes made through a socket of somebody else."""
        other = NetlinkKernel()
        other.services = self._kernel.services
        other.send(b"".join(messages))


def _kind(one: bytes | bytearray) -> int:
    return int(struct.unpack_from("=H", one, 4)[0])


def _marked(one: bytes) -> bytes:
    flags = struct.unpack_from("=H", one, 6)[0] | INTERRUPTED
    return one[:6] + struct.pack("=H", flags) + one[8:]


def _split(data: bytes) -> Iterator[bytes]:
    while data:
        size = (struct.unpack_from("=I", data)[0] + 3) & ~3
        yield data[:size]
        data = data[size:]
