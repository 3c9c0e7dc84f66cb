"""/healthz, /readyz and /metrics over plain HTTP/1.1: three pages do not need a web server in every node's memory."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Self

from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

Check = Callable[[], str]  # "" = all is well, else what is not

HIGHEST_PORT = 65535
REQUEST_SECONDS = 5.0
REQUEST_BYTES = 8 * 1024
CONNECTIONS = 32  # at the same time; more are closed at once

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


def listen_address(text: str) -> tuple[str, int]:
    """Split ADDRESS:PORT; an IPv6 address stands in brackets. Raises ValueError with a text for people."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise ValueError(f"{text}: expected ADDRESS:PORT, for example 0.0.0.0:9440")
    return host.strip("[]"), int(port)


class StatusServer:
    """Answers probes while the process runs. Use as `async with`.

    Raises ValueError for a `listen` that is not ADDRESS:PORT, OSError if the address is taken.
    """

    def __init__(self, listen: str, *, healthy: Check, ready: Check, metrics: Metrics) -> None:
        self._host, self._port = listen_address(listen)
        self._checks = {"/healthz": healthy, "/readyz": ready}
        self._metrics = metrics
        self._server: asyncio.Server | None = None
        self._open = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, self._host, self._port, limit=REQUEST_BYTES)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one request and close."""
        self._open += 1
        try:
            if self._open <= CONNECTIONS:
                async with asyncio.timeout(REQUEST_SECONDS):
                    head = await reader.readuntil(b"\r\n\r\n")
                    writer.write(self._answer(head))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a request was not answered: %s", error)
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    def _answer(self, head: bytes) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path = rest.partition(" ")[0].partition("?")[0]
        if method not in ("GET", "HEAD"):
            return _page(405, "only GET and HEAD\n")
        if path == "/metrics":
            return _page(200, self._metrics.text(), _METRICS, head_only=method == "HEAD")
        if path not in self._checks:
            return _page(404, "there are /healthz, /readyz and /metrics\n", head_only=method == "HEAD")
        trouble = self._checks[path]()
        return _page(503 if trouble else 200, (trouble or "ok") + "\n", head_only=method == "HEAD")


def _page(code: int, text: str, kind: str = _TEXT, *, head_only: bool = False) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
