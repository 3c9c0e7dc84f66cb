"""The control socket: a Unix socket, one JSON object a line, in both directions.

From the agent: `{"kind": "configure", "configuration": {...}}` (whole, see `configuration`), `{"kind": "alive"}`,
`{"kind": "state"}`, `{"kind": "announce"}`, `{"kind": "handOver", "vrid": 51, "family": 4}`. Each is answered by the
state, or by `{"kind": "refused", "message": "..."}`; the state is also sent whenever it changes. Answers to `configure`
and `state` name the configured addresses as well. From a probe: `{"kind": "ping"}`, answered by `{"kind": "pong"}`.
`"id"` in a request, a string, comes back in its answer.
"""

import json
import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Final

from lvs_dr.vrrp.event_loop import EventLoop

log = logging.getLogger(__name__)

LONGEST_LINE: Final = 1024 * 1024
MOST_CLIENTS: Final = 8
MOST_UNREAD: Final = 4 * LONGEST_LINE
"""Bytes that wait for a client that does not read; beyond that it is hung up on."""
_CHUNK: Final = 64 * 1024
_RETRY: Final = 0.01
_LONGEST_ID: Final = 64


class ControlRefused(ValueError):
    """A request that cannot be met; the message is the answer."""


class ControlSocket:
    """Listens at `path`. `handle` gets a request and the time, and returns the answer or raises ControlRefused."""

    def __init__(
        self, loop: EventLoop, path: str, handle: Callable[[Mapping[str, Any], float], Mapping[str, Any]]
    ) -> None:
        self._loop = loop
        self._path = path
        self._handle = handle
        self._clients: dict[int, tuple[socket.socket, bytearray]] = {}
        self._unsent: dict[int, bytearray] = {}
        self._send_timer = loop.timer(self._send_more)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)

    def open(self) -> None:
        """Start to listen; a socket left by a predecessor is replaced. Raises OSError."""
        os.makedirs(os.path.dirname(self._path) or ".", mode=0o750, exist_ok=True)  # noqa: PTH103, PTH120 - pathlib costs memory
        temporary = f"{self._path}.new"
        for path in (temporary,):
            with suppress(FileNotFoundError):
                os.unlink(path)  # noqa: PTH108
        self._listener.bind(temporary)
        os.chmod(temporary, 0o600)  # noqa: PTH101
        self._listener.listen(MOST_CLIENTS)
        os.replace(temporary, self._path)  # noqa: PTH105
        self._loop.read(self._listener.fileno(), self._accept)

    def close(self) -> None:
        """Hang up and stop listening; the path is left for whoever comes next."""
        for descriptor in tuple(self._clients):
            self._hang_up(descriptor)
        self._loop.drop(self._send_timer)
        self._loop.forget(self._listener.fileno())
        self._listener.close()

    def push(self, message: Mapping[str, Any]) -> None:
        """Send to everybody who is connected."""
        if self._clients:
            line = _line(message)
            for descriptor in tuple(self._clients):
                self._send(descriptor, line)

    def _accept(self, _: float) -> None:
        try:
            client, _address = self._listener.accept()
        except OSError:
            return
        if len(self._clients) >= MOST_CLIENTS:
            client.close()
            return
        client.setblocking(False)
        descriptor = client.fileno()
        self._clients[descriptor] = client, bytearray()
        self._loop.read(descriptor, lambda now: self._read(descriptor, now))

    def _read(self, descriptor: int, now: float) -> None:
        client, waiting = self._clients[descriptor]
        try:
            data = client.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        waiting += data
        if not data or len(waiting) > LONGEST_LINE:
            self._hang_up(descriptor)
            return
        *lines, rest = bytes(waiting).split(b"\n")
        waiting[:] = rest
        for line in lines:
            if line.strip() and descriptor in self._clients:
                self._send(descriptor, _line(self._answer(line, now)))

    def _answer(self, line: bytes, now: float) -> Mapping[str, Any]:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError) as error:
            return _refusal(error)
        if not isinstance(request, dict):
            return _refusal(ControlRefused("a request is a JSON object"))
        named = request.get("id")
        name = {"id": named} if isinstance(named, str) and len(named) <= _LONGEST_ID else {}
        try:
            return {**self._handle(request, now), **name}
        except (ValueError, RecursionError) as error:
            return {**_refusal(error), **name}

    def _send(self, descriptor: int, line: bytes) -> None:
        """Send what the other end takes now and the rest later; who never reads is hung up on."""
        unsent = self._unsent.setdefault(descriptor, bytearray())
        unsent += line
        client, _ = self._clients[descriptor]
        try:
            del unsent[: client.send(unsent, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)]
        except BlockingIOError:
            pass
        except OSError as error:
            log.debug("a control connection ended: %s", error)
            self._hang_up(descriptor)
            return
        if not unsent:
            del self._unsent[descriptor]
        elif len(unsent) > MOST_UNREAD:
            self._hang_up(descriptor)
        else:
            self._send_timer.when = min(self._send_timer.when, self._loop.clock() + _RETRY)

    def _send_more(self, _: float) -> None:
        for descriptor in tuple(self._unsent):
            self._send(descriptor, b"")

    def _hang_up(self, descriptor: int) -> None:
        self._loop.forget(descriptor)
        self._unsent.pop(descriptor, None)
        self._clients.pop(descriptor)[0].close()


def _refusal(error: Exception) -> Mapping[str, Any]:
    return {"kind": "refused", "message": str(error)[:1000]}


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
