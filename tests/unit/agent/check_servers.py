"""Real servers on loopback that can be well, refuse, hang, answer wrongly, slowly, in pieces, or with nonsense."""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.core.checks import TableHealthCheck
from lvs_dr.core.health import CheckKey

ADDRESS = "127.0.0.1"
TLS = Path(__file__).parent / "tls"
AUTHORITY = (TLS / "authority.pem").read_text()
NAME = "real.example"  # in the certificates


async def ask(
    port: int,
    *,
    checkers: Checkers | None = None,
    address: str = ADDRESS,
    source: str = "",
    timeout: float = 2,  # noqa: ASYNC109 - of the check, and shorter than the API takes
    **check: Any,
) -> str:
    """Make one check of a kind; returns what it says. Raises CannotCheckError."""
    settings = TableHealthCheck(timeout_seconds=timeout, **check)  # type: ignore[arg-type]  # shorter than the API takes
    return await (checkers or Checkers())(CheckKey(address, port, settings), source)


Answer = bytes | Callable[[bytes], bytes]
"""What a server says, or how it makes that of what it heard."""


class Stream:
    """A TCP server. It reads until `until` was heard, sends `answer` in pieces, and closes unless it holds on."""

    def __init__(self, answer: Answer = b"", *, until: bytes = b"", pieces: int = 1 << 20, hold: bool = False) -> None:
        self.answer = answer
        self.until = until
        self.pieces = pieces
        self.hold = hold
        self.heard: list[bytes] = []
        self.port = 0
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def start(self, tls: ssl.SSLContext | None = None) -> None:
        """Listen, on the same port as before."""
        self._server = await asyncio.start_server(self._serve, ADDRESS, self.port, reuse_address=True, ssl=tls)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Refuse connections, and end those there are."""
        for writer in self._open:
            writer.transport.abort()
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if self.until:
                self.heard.append(await reader.readuntil(self.until))
            answer = self.answer if isinstance(self.answer, bytes) else self.answer(self.heard[-1])
            for start in range(0, len(answer), self.pieces):
                writer.write(answer[start : start + self.pieces])
                await writer.drain()
                if self.pieces < len(answer):
                    await asyncio.sleep(0)
            if self.hold:
                await reader.read()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the check has what it wanted
        finally:
            self._open.discard(writer)
            writer.close()


@asynccontextmanager
async def stream(answer: Answer = b"", *, tls: ssl.SSLContext | None = None, **how: Any) -> AsyncIterator[Stream]:
    """Run a TCP server."""
    one = Stream(answer, **how)
    await one.start(tls)
    try:
        yield one
    finally:
        await one.stop()


def server_tls(certificate: str = "server", *alpn: str) -> ssl.SSLContext:
    """Return what a server with a certificate of `tls/` needs."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(TLS / f"{certificate}.pem")
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


@asynccontextmanager
async def datagrams(*answers: Callable[[bytes], bytes]) -> AsyncIterator[int]:
    """Run a UDP server that sends all answers to what it hears; yields its port."""
    loop = asyncio.get_running_loop()

    class Protocol(asyncio.DatagramProtocol):
        transport: asyncio.DatagramTransport

        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            for each in answers:
                self.transport.sendto(each(data), addr)

    transport, _ = await loop.create_datagram_endpoint(Protocol, local_addr=(ADDRESS, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@asynccontextmanager
async def full() -> AsyncIterator[int]:
    """Yield a port whose listener takes no more connections: it does not even refuse them."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind((ADDRESS, 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex((ADDRESS, port))
        yield port


def unused() -> int:
    """Return a port where nothing listens."""
    with socket.socket() as one:
        one.bind((ADDRESS, 0))
        found: int = one.getsockname()[1]
        return found


def dns_name(name: str) -> bytes:
    """Return a name as it stands in a message, without pointers."""
    labels = [label.encode() for label in name.split(".") if label]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


def dns_reply(asked: bytes, *records: tuple[int, bytes], code: int = 0, flags: int = 0x8180, number: int = -1) -> bytes:
    """Return an answer to a question: records of (type, data), their names a pointer to the question's."""
    number = number if number >= 0 else int.from_bytes(asked[:2], "big")
    head = struct.pack("!HHHHHH", number, flags | code, 1, len(records), 0, 0)
    body = b"".join(b"\xc0\x0c" + struct.pack("!HHIH", kind, 1, 60, len(data)) + data for kind, data in records)
    return head + asked[12:] + body


def h2_frame(kind: int, flags: int, stream_id: int, payload: bytes = b"") -> bytes:
    """Return an HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + struct.pack("!BBI", kind, flags, stream_id) + payload


def grpc_answer(message: bytes | None, *, first: bytes = b"") -> bytes:
    """Return what a gRPC server sends for one call: settings, headers, a message (None: only trailers), trailers."""
    out = h2_frame(4, 0, 0, struct.pack("!HI", 3, 100)) + h2_frame(4, 1, 0) + first
    if message is None:
        return out + h2_frame(1, 0x5, 1, b"\x88")
    data = b"\0" + len(message).to_bytes(4, "big") + message
    return (
        out + h2_frame(1, 0x4, 1, b"\x88") + h2_frame(0, 0, 1, data) + h2_frame(1, 0x5, 1, b"\x40\x0bgrpc-status\x010")
    )
