"""One client's connection: requests in, answers out, bodies read and thrown away.

llhttp (httptools) parses, with its defaults, which refuse what requests are smuggled with. We add: exactly one Host,
no Transfer-Encoding but chunked, limits of size and time. Answers are given as soon as the header is there, so 100 is
never sent. Whatever has a body, or was not understood, ends the connection after its answer: the rest is read and
discarded up to a bound and a time, so that the client reads the answer instead of a reset. Nothing behind it is ever
parsed as a request.
"""

import asyncio
import logging
from collections.abc import Callable
from enum import Enum
from typing import Final

import httptools

from lvs_dr.redirect.answers import Refusal
from lvs_dr.redirect.service import RedirectService, Request, packed

log = logging.getLogger(__name__)

_BUFFER: Final = memoryview(bytearray(64 * 1024))  # of all connections: what is read is used up before the next read
_HTTP_1_1: Final = "1.1"


class Phase(Enum):
    """What a connection waits for."""

    REQUEST = "request"  # idle, or within a header
    DISCARD = "discard"  # answered; the rest is thrown away
    LINGER = "linger"  # the bound is reached: no more is read, the client has time to read the answer
    GONE = "gone"


class Exchange(asyncio.BufferedProtocol):
    """A connection. `registry` holds the open ones, for limits and timeouts (`sweep`)."""

    __slots__ = (
        "_blocked",
        "_chunked",
        "_client",
        "_clock",
        "_fed",
        "_feeding",
        "_head",
        "_hosts",
        "_left",
        "_parser",
        "_registry",
        "_service",
        "_size",
        "_target",
        "_transfer",
        "_transport",
        "deadline",
        "phase",
    )

    def __init__(
        self, service: RedirectService, registry: "set[Exchange]", clock: Callable[[], float], *, most: int
    ) -> None:
        self._service = service
        self._registry = registry
        self._clock = clock
        self._left = most  # connections at a time, until this one is made; then bytes to discard
        self._parser: httptools.HttpRequestParser | None = None
        self._transport: asyncio.Transport | None = None
        self._client = b""
        self._fed = 0  # bytes since the last complete header
        self._feeding = False
        self._blocked = False  # the client does not read its answers
        self.phase = Phase.REQUEST
        self.deadline = 0.0
        self.on_message_begin()

    # asyncio

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to wait for the first request."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - create_server makes no other
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._client = packed(peer[0]) if isinstance(peer, tuple) else b""
        self._registry.add(self)
        self._service.connections += 1
        if len(self._registry) > self._left:
            self._refuse(Refusal.TOO_MANY_CONNECTIONS)
            self._close()
            return
        self.deadline = self._clock() + self._service.listener.settings.header_seconds

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - how it ended changes nothing
        """Forget the connection."""
        self.phase = Phase.GONE
        self._registry.discard(self)
        self._service.connections -= 1
        self._parser = self._transport = None

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002 - one buffer serves all
        """Return where to read to."""
        return _BUFFER

    def buffer_updated(self, nbytes: int) -> None:
        """Take what was read."""
        if self.phase is Phase.DISCARD:
            self._discard(nbytes)
        elif self.phase is Phase.REQUEST:
            self._feed(nbytes)

    def eof_received(self) -> bool:
        """Let the transport close: what was asked is answered already, after what is left to send."""
        return False

    def pause_writing(self) -> None:
        """Read no more of a client that does not read its answers, and wait only so long."""
        self._blocked = True
        if self._transport is not None and self.phase is Phase.REQUEST:
            self._transport.pause_reading()
            self.deadline = self._clock() + self._service.listener.settings.header_seconds

    def resume_writing(self) -> None:
        """Go on reading."""
        self._blocked = False
        if self._transport is not None and self.phase is Phase.REQUEST:
            self._transport.resume_reading()
            self.deadline = self._clock() + self._service.listener.settings.idle_seconds

    # httptools

    def on_message_begin(self) -> None:
        """Begin a request."""
        self._target = b""
        self._head = 0  # bytes
        self._hosts = 0
        self._size = 0
        self._transfer = b""
        self._chunked = False

    def on_url(self, part: bytes) -> None:
        """Take a part of the request target."""
        self._target += part
        self._head += len(part)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Note what matters; nothing else of a header is kept."""
        length = len(name)
        self._head += length + len(value)
        if length == 4:  # noqa: PLR2004 - the length first: most headers are none of these
            self._hosts += name.lower() == b"host"
        elif length == 14 and name.lower() == b"content-length":  # noqa: PLR2004
            self._size = int(value)  # digits only: llhttp has looked
        elif length == 17 and name.lower() == b"transfer-encoding":  # noqa: PLR2004
            self._chunked, self._transfer = True, value.strip().lower()

    def on_headers_complete(self) -> None:
        """Answer."""
        parser = self._parser
        if self.phase is not Phase.REQUEST or parser is None or self._transport is None:
            return
        self._fed = 0
        method = parser.get_method().decode("ascii")
        version = parser.get_http_version()
        if self._head > self._service.listener.settings.header_bytes:
            self._refuse(Refusal.HEADER_TOO_LARGE, method)
            return
        if self._hosts > 1 or (not self._hosts and version == _HTTP_1_1):
            self._refuse(Refusal.HOST, method)
            return
        if self._chunked and (self._transfer != b"chunked" or version != _HTTP_1_1):
            self._refuse(Refusal.TRANSFER_ENCODING, method)
            return
        body = self._chunked or self._size > 0
        close = (
            body
            or self._service.draining
            or version != _HTTP_1_1
            or parser.should_upgrade()
            or not parser.should_keep_alive()
        )
        now = self._clock()
        request = Request(method, self._target, self._client, None if self._chunked else self._size)
        answer, close = self._service.answer(request, now, close=close)
        self._transport.write(answer)
        if close:
            self._end(body=body or parser.should_keep_alive())
        elif not self._blocked:
            self.deadline = now + self._service.listener.settings.idle_seconds

    def on_body(self, part: bytes) -> None:
        """Count what came in one piece with the header."""
        if self._feeding:
            self._left -= len(part)
            self._service.discarded(len(part))

    def on_message_complete(self) -> None:
        """Close when the body that we discard is over."""
        if self.phase is Phase.DISCARD:
            self._close()

    # the rest

    def _feed(self, size: int) -> None:
        """Parse; the answers are given meanwhile."""
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
        if not self._fed:  # the first bytes of a header: from now on it has its time, however slowly they come
            self.deadline = self._clock() + self._service.listener.settings.header_seconds
        self._fed += size
        self._feeding = True
        try:
            self._parser.feed_data(_BUFFER[:size])
        except httptools.HttpParserUpgrade:
            pass  # answered as any other request, and the connection is ending
        except httptools.HttpParserInvalidMethodError:
            self._refuse(Refusal.UNKNOWN_METHOD)
        except httptools.HttpParserCallbackError:
            log.exception("a request could not be answered")
            self._abort()
        except httptools.HttpParserError:
            self._refuse(Refusal.MALFORMED)
        finally:
            self._feeding = False
        if self.phase is Phase.REQUEST and self._fed > self._service.listener.settings.header_bytes:
            self._refuse(Refusal.HEADER_TOO_LARGE)

    def _refuse(self, why: Refusal, method: str = "") -> None:
        """Say why, and end."""
        if self.phase is Phase.REQUEST and self._transport is not None:
            self._parser = None  # what comes is no request any more
            self._transport.write(self._service.refuse(why, method))
            self._end(body=True)

    def _end(self, *, body: bool) -> None:
        """Close after what is being sent; with a `body`, after reading and discarding up to the bound."""
        settings = self._service.listener.settings
        if not body:
            self._close()
            return
        self.phase = Phase.DISCARD
        self._left = settings.discard_bytes
        self.deadline = self._clock() + settings.discard_seconds
        if self._transport is not None:
            if self._blocked:
                self._transport.resume_reading()
            if self._transport.can_write_eof():
                self._transport.write_eof()  # says to the client that this was all

    def _discard(self, size: int) -> None:
        self._left -= size
        self._service.discarded(size)
        if self._parser is not None:
            try:
                self._parser.feed_data(_BUFFER[:size])  # to see the end of the body; requests are not looked at
            except httptools.HttpParserError:
                self._parser = None
        if self.phase is Phase.DISCARD and self._left <= 0 and self._transport is not None:
            self.phase = Phase.LINGER
            self._transport.pause_reading()

    def sweep(self, now: float) -> None:
        """End the connection if it has had its time."""
        if now < self.deadline:
            return
        if self.phase is Phase.REQUEST and self._fed and not self._blocked:
            self._refuse(Refusal.HEADER_TIMEOUT)
        elif self.phase is Phase.REQUEST and not self._blocked:
            self._close()
        else:
            self._abort()

    def stop(self, *, at_once: bool) -> None:
        """End the connection if nothing is asked on it; `at_once`: in any case."""
        if at_once:
            self._abort()
        elif self.phase is Phase.REQUEST and not self._fed:
            self._close()

    def _close(self) -> None:
        if self._transport is not None:
            self.phase = Phase.LINGER
            self.deadline = self._clock() + self._service.listener.settings.discard_seconds
            self._transport.close()

    def _abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()
