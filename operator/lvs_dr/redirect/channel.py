"""One end of the Unix socket between agent and redirector: lines, and sockets that come with them."""

import array
import asyncio
import os
import socket
import struct
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, NamedTuple

from lvs_dr.redirect.messages import LONGEST_LINE, SOCKETS_A_LINE, RefusedLine

SEND_SECONDS: Final = 10.0
_CHUNK: Final = 64 * 1024
_MOST_WAITING: Final = 1024  # sockets that no line has named yet
_CREDENTIALS: Final = struct.Struct("3i")


class Credentials(NamedTuple):
    """Who is at the other end, as the kernel says."""

    pid: int
    uid: int
    gid: int


class Channel:
    """A connected Unix stream socket. One task may read and one may send at a time."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()
        self._waiting = bytearray()
        self._searched = 0
        self._descriptors: deque[int] = deque()

    @property
    def peer(self) -> Credentials:
        """Who is at the other end."""
        packed = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        return Credentials(*_CREDENTIALS.unpack(packed))

    async def line(self) -> bytes:
        """Return the next line; b"" at the end. Raises RefusedLine if it is too long, OSError."""
        while (end := self._waiting.find(b"\n", self._searched)) < 0:
            self._searched = len(self._waiting)
            if self._searched > LONGEST_LINE:
                raise RefusedLine(f"a line is longer than {LONGEST_LINE} bytes")
            if not await self._receive():
                return b""
        found = bytes(self._waiting[: end + 1])
        del self._waiting[: end + 1]
        self._searched = 0
        return found

    def take(self, count: int) -> list[socket.socket]:
        """Return the sockets that came with the line read last. Raises RefusedLine if there are fewer."""
        if len(self._descriptors) < count:
            raise RefusedLine(f"a line names {count} sockets, and {len(self._descriptors)} came with it")
        taken = [socket.socket(fileno=self._descriptors.popleft()) for _ in range(count)]
        for one in taken:
            one.setblocking(False)  # else its dup() would make it block for both processes: the flag is shared
        return taken

    async def send(self, data: bytes, sockets: Sequence[socket.socket] = ()) -> None:
        """Send a line, and sockets with its first byte. Raises TimeoutError, OSError."""
        async with asyncio.timeout(SEND_SECONDS):
            if sockets:
                rights = array.array("i", [one.fileno() for one in sockets[:SOCKETS_A_LINE]])
                ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights.tobytes())]
                sent = await self._send_first(data, ancillary)
                data = data[sent:]
            await self._loop.sock_sendall(self._socket, data)

    def shut(self) -> None:
        """End the connection; whoever reads sees the end, and closes."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Hang up."""
        self._socket.close()
        while self._descriptors:
            os.close(self._descriptors.popleft())

    async def _receive(self) -> bool:
        """Read what there is; False at the end."""
        while True:
            try:
                data, ancillary, flags, _ = self._socket.recvmsg(
                    _CHUNK, socket.CMSG_SPACE(4 * SOCKETS_A_LINE), socket.MSG_CMSG_CLOEXEC
                )
            except BlockingIOError:
                await self._ready(writing=False)
            else:
                break
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                found = array.array("i")
                found.frombytes(content[: len(content) - len(content) % found.itemsize])
                self._descriptors.extend(found)
        if flags & socket.MSG_CTRUNC or len(self._descriptors) > _MOST_WAITING:
            raise RefusedLine("more sockets came than a line may have")
        self._waiting += data
        return bool(data)

    async def _send_first(self, data: bytes, ancillary: list[tuple[int, int, bytes]]) -> int:
        while True:
            try:
                return self._socket.sendmsg([data], ancillary, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                await self._ready(writing=True)

    async def _ready(self, *, writing: bool) -> None:
        """Wait until the socket can be read or written."""
        ready: asyncio.Future[None] = self._loop.create_future()
        descriptor = self._socket.fileno()
        add, remove = (
            (self._loop.add_writer, self._loop.remove_writer)
            if writing
            else (self._loop.add_reader, self._loop.remove_reader)
        )

        def found() -> None:
            if not ready.done():
                ready.set_result(None)

        add(descriptor, found)
        try:
            await ready
        finally:
            remove(descriptor)
