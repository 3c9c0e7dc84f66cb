"""Carries the host's connections to the API server inside the sandbox.

The listening socket was made on the host's loopback before the sandbox was, and inherited: the sandbox needs no
network of the host. Bytes are passed on as they are; TLS ends at the API server.
"""

import asyncio
import contextlib
import socket

CHUNK = 64 * 1024
CONNECT_SECONDS = 5.0


class Relay:
    """Accepts on an inherited socket and pumps to one address."""

    def __init__(self, listening_fd: int, host: str, port: int) -> None:
        self._listening = socket.socket(fileno=listening_fd)
        self._target = (host, port)
        self._server: asyncio.Server | None = None
        self._writers: set[asyncio.StreamWriter] = set()

    async def start(self) -> None:
        """Begin to accept."""
        self._listening.setblocking(False)
        self._server = await asyncio.start_server(self._serve, sock=self._listening)

    async def stop(self) -> None:
        """Stop accepting and end every connection."""
        if self._server is not None:
            self._server.close()
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                far_reader, far_writer = await asyncio.open_connection(*self._target)
        except (OSError, TimeoutError):
            # No API server: the client must see a broken connection at once, as without a relay.
            writer.transport.abort()
            return
        pair = {writer, far_writer}
        self._writers |= pair
        try:
            await asyncio.gather(_pump(reader, far_writer), _pump(far_reader, writer))
        finally:
            self._writers -= pair
            for each in pair:
                each.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until one side ends; a reset of one side is a reset of the other."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        writer.transport.abort()
        return
    with contextlib.suppress(OSError):
        writer.write_eof()
