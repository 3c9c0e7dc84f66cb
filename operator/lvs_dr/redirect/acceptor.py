"""Accepts connections on one listening socket, and can stop without losing any that it has accepted.

asyncio's own Server drops what it accepted in the turn in which it is closed; the client sees a reset.
"""

import asyncio
import errno
import logging
import socket
import ssl
from collections.abc import Callable
from typing import Final

log = logging.getLogger(__name__)

AT_ONCE: Final = 64  # connections before others get a turn
HANDSHAKE_SECONDS: Final = 10.0
SHUTDOWN_SECONDS: Final = 1.0
REST_SECONDS: Final = 1.0  # when there are no descriptors or no memory left

_EXHAUSTED: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})


class Acceptor:
    """Gives each connection a protocol of `factory`, by TLS if there is a `context`. The socket stays the caller's."""

    def __init__(
        self, listening: socket.socket, factory: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._listening = listening
        self._factory = factory
        self._context = context
        self._resting: asyncio.TimerHandle | None = None
        self.admitting: set[asyncio.Task[None]] = set()  # accepted, and no protocol yet
        self._loop.add_reader(listening.fileno(), self._accept)

    def stop(self) -> None:
        """Accept no more; what is accepted already goes on."""
        if self._resting is not None:
            self._resting.cancel()
        self._loop.remove_reader(self._listening.fileno())

    def _accept(self) -> None:
        for _ in range(AT_ONCE):
            try:
                client, _address = self._listening.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                if error.errno not in _EXHAUSTED:
                    log.warning("a connection could not be accepted: %s", error)
                    return
                log.warning("no connection can be accepted for %.0f s: %s", REST_SECONDS, error)
                self._loop.remove_reader(self._listening.fileno())
                self._resting = self._loop.call_later(REST_SECONDS, self._go_on)
                return
            task = self._loop.create_task(self._admit(client))
            self.admitting.add(task)
            task.add_done_callback(self.admitting.discard)

    def _go_on(self) -> None:
        self._resting = None
        self._loop.add_reader(self._listening.fileno(), self._accept)

    async def _admit(self, client: socket.socket) -> None:
        client.setblocking(False)
        secure = self._context is not None
        try:
            await self._loop.connect_accepted_socket(
                self._factory,
                client,
                ssl=self._context,
                ssl_handshake_timeout=HANDSHAKE_SECONDS if secure else None,
                ssl_shutdown_timeout=SHUTDOWN_SECONDS if secure else None,
            )
        except OSError as error:
            log.debug("a connection did not come about: %s", error)
            client.close()
