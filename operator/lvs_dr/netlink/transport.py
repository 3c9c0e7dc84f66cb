"""How datagrams reach the kernel: what a netlink socket must do, the real one, and how long to wait for it."""

import errno
import socket
import struct
from collections.abc import Callable
from typing import Final, Protocol

from lvs_dr.netlink.errors import MalformedMessage, NetlinkOverflow, NetlinkTimeout, SocketUnusable

BUFFER_BYTES: Final = 8 * 1024 * 1024
"""Send and receive buffer: room for the errors of a batch in which every message fails."""

# Not in Python's socket module (linux/netlink.h, asm-generic/socket.h).
_NETLINK_GENERIC: Final = 16
_SOL_NETLINK: Final = 270
_NETLINK_CAP_ACK: Final = 10
_NETLINK_EXT_ACK: Final = 11
_SO_SNDBUFFORCE: Final = 32
_SO_RCVBUFFORCE: Final = 33
_TIMEVAL: Final = struct.Struct("@ll")


class Transport(Protocol):
    """The part of `socket.socket` that is used; a stateful fake kernel speaks it in tests.

    `recvfrom_into` blocks at most for the receive timeout and then raises BlockingIOError.
    """

    def send(self, data: bytearray, /) -> int:
        """Hand one datagram of requests to the kernel."""

    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]:
        """Take one datagram: its true length (MSG_TRUNC) and the sender (port, groups)."""

    def close(self) -> None:
        """Release the descriptor."""


class Patience:
    """How long a call bears with answers that are not its own.

    The receive timeout bounds each wait, and a kernel that answers is at work, so only what is not for this call
    needs a clock: looking at one costs as much as a receive where the clock is a system call.
    """

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self.seconds = seconds
        self._end: float | None = None

    def spend(self, family: str) -> None:
        """Note an answer to somebody else. Raises NetlinkTimeout when they have come for too long."""
        now = self._clock()
        if self._end is None:
            self._end = now + self.seconds
        elif now >= self._end:
            raise NetlinkTimeout(f"{family}: no answer of its own within {self.seconds} s")


def receive(transport: Transport, buffer: bytearray, patience: Patience, family: str) -> bytes:
    """Return one datagram of the kernel; `buffer` holds it meanwhile, `family` names the protocol in errors.

    Raises NetlinkTimeout, NetlinkOverflow, MalformedMessage (it did not fit), SocketUnusable.
    """
    while True:
        try:
            length, sender = transport.recvfrom_into(buffer, 0, socket.MSG_TRUNC)
        except BlockingIOError as error:
            raise NetlinkTimeout(f"{family}: no answer within {patience.seconds} s") from error
        except OSError as error:
            if error.errno == errno.ENOBUFS:
                raise NetlinkOverflow(f"{family}: answers were lost") from error
            raise SocketUnusable(f"{family}: receiving failed: {error}") from error
        if sender[0] != 0:
            patience.spend(family)
            continue  # another process may write to our port; only the kernel is believed
        if length > len(buffer):
            raise MalformedMessage(f"an answer of {length} bytes was cut off")
        return bytes(memoryview(buffer)[:length])


def open_transport(timeout: float, protocol: int = _NETLINK_GENERIC) -> socket.socket:
    """Open a netlink socket that reports errors tersely and waits at most `timeout` seconds at a time.

    `protocol`: NETLINK_*, generic netlink unless it is given.
    Large buffers need CAP_NET_ADMIN; without it the system's limits apply. Raises SocketUnusable.
    """
    try:
        opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    except OSError as error:
        raise SocketUnusable(f"cannot open a netlink socket: {error}") from error
    try:
        for forced, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                opened.setsockopt(socket.SOL_SOCKET, forced, BUFFER_BYTES)
            except PermissionError:
                opened.setsockopt(socket.SOL_SOCKET, plain, BUFFER_BYTES)
        opened.setsockopt(_SOL_NETLINK, _NETLINK_CAP_ACK, 1)
        opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
        # The kernel's own timeout: Python's would cost a poll() before every receive.
        seconds, fraction = divmod(timeout, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TIMEVAL.pack(int(seconds), int(fraction * 1e6)))
        opened.bind((0, 0))
    except OSError as error:
        opened.close()
        raise SocketUnusable(f"cannot set up a netlink socket: {error}") from error
    return opened
