"""A few pages over plain HTTP/1.1, such as /healthz and /metrics: they need no web server in every node's memory."""

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Self

from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

Check = Callable[[], str]  # "" = all is well, else what is not

HIGHEST_PORT = 65535
REQUEST_SECONDS = 5.0
REQUEST_BYTES = 8 * 1024
CONNECTIONS = 32  # at the same time; more are closed at once

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"
_REASONS = {200: "OK", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


class Page(NamedTuple):
    """What is answered."""

    code: int
    text: str
    kind: str = _TEXT


def listen_address(text: str) -> tuple[str, int]:
    """Split ADDRESS:PORT; an IPv6 address stands in brackets. Raises ValueError with a text for people."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or int(port) > HIGHEST_PORT:
        raise ValueError(f"{text}: expected ADDRESS:PORT, for example 0.0.0.0:9440")
    return host.strip("[]"), int(port)


class PageServer:
    """Answers GET and HEAD, one request for each connection. Use as `async with`.

    Raises ValueError for a `listen` that is not ADDRESS:PORT, OSError if the address is taken. `*` is every address of
    both families.
    """

    def __init__(self, listen: str) -> None:
        self._host, self._port = listen_address(listen)
        self._server: asyncio.Server | None = None
        self._open = 0
        self.port = 0

    async def __aenter__(self) -> Self:
        host = None if self._host == "*" else self._host
        self._server = await asyncio.start_server(self._connected, host, self._port, limit=REQUEST_BYTES)
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
                    writer.write(await self._answer(head, writer.get_extra_info("sockname")[0]))
                    await writer.drain()
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.LimitOverrunError) as error:
            log.debug("a request was not answered: %s", error)
        finally:
            self._open -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, head: bytes, local: str) -> bytes:
        method, _, rest = head.partition(b"\r\n")[0].decode("latin-1").partition(" ")
        path, _, query = rest.partition(" ")[0].partition("?")
        if method not in ("GET", "HEAD"):
            return _page(405, "only GET and HEAD\n")
        code, text, kind = await self.page(path, query, local)
        return _page(code, text, kind, head_only=method == "HEAD")

    async def page(self, path: str, query: str, local: str) -> Page:
        """Return what is at a path; `local`: the own address that was asked."""
        raise NotImplementedError


class StatusServer(PageServer):
    """Answers probes while the process runs."""

    def __init__(self, listen: str, *, healthy: Check, ready: Check, metrics: Metrics) -> None:
        super().__init__(listen)
        self._checks = {"/healthz": healthy, "/readyz": ready}
        self._metrics = metrics

    async def page(self, path: str, query: str, local: str) -> Page:  # noqa: ARG002 - the same for all
        """Return a page."""
        if path == "/metrics":
            return Page(200, self._metrics.text(), _METRICS)
        if path not in self._checks:
            return Page(404, "there are /healthz, /readyz and /metrics\n")
        trouble = self._checks[path]()
        return Page(503 if trouble else 200, (trouble or "ok") + "\n")


def _page(code: int, text: str, kind: str = _TEXT, *, head_only: bool = False) -> bytes:
    body = text.encode()
    head = (
        f"HTTP/1.1 {code} {_REASONS[code]}\r\nContent-Type: {kind}\r\n"
        f"Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    )
    return head.encode() + (b"" if head_only else body)
