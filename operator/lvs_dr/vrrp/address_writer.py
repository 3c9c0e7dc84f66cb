"""Addresses to the kernel, from a thread of its own.

The kernel's lock for network settings may be taken for long (a namespace that is torn down, thousands of routes),
and adverts must not wait for it.
"""

import errno
import logging
import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from lvs_dr.netlink.address import add, delete
from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.netlink.rtnetlink import RouteSocket

log = logging.getLogger(__name__)

TIMEOUT: Final = 5.0
_MOST_ENCODED: Final = 8192
_GONE: Final = frozenset((errno.EADDRNOTAVAIL, errno.ENODEV))


class _Job(NamedTuple):
    addresses: Sequence[str]
    messages: list[bytes]
    harmless: frozenset[int]  # errno values that are no failure
    done: "Done"


Done = Callable[[dict[str, str]], None]
"""Called in the loop's thread with what failed: address and reason."""


class AddressWriter:
    """Does jobs one after the other. `fileno` becomes readable when some are done; then call `finish`."""

    def __init__(self, open_socket: Callable[[], RouteSocket] | None = None) -> None:
        self._open = open_socket or (lambda: RouteSocket(timeout=TIMEOUT))
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[Done, dict[str, str]]] = deque()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._encoded: dict[tuple[int, str, int], bytes] = {}
        self.pending = 0
        self._thread = threading.Thread(target=self._work, name="addresses", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def fileno(self) -> int:
        """Return the descriptor for an event loop."""
        return self._event

    def take(self, index: int, addresses: Sequence[str], lifetime: int, done: Done) -> None:
        """Add addresses, or renew them, in one batch; `lifetime` in seconds, 0 for ever."""
        self._put(addresses, [self._adding(index, each, lifetime) for each in addresses], frozenset(), done)

    def release(self, index: int, addresses: Sequence[str], done: Done) -> None:
        """Remove addresses; one that is not there is no failure."""
        self._put(addresses, [delete(index, each) for each in addresses], _GONE, done)

    def finish(self) -> None:
        """Call back for what is done."""
        try:
            os.eventfd_read(self._event)
        except BlockingIOError:
            return
        while self._done:
            done, failed = self._done.popleft()
            self.pending -= 1
            done(failed)

    def close(self, timeout: float) -> None:
        """End the thread once its jobs are done; wait `timeout` seconds at most."""
        self._jobs.put(None)
        self._thread.join(timeout)

    def _adding(self, index: int, address: str, lifetime: int) -> bytes:
        """Return the message, which is the same with each renewal."""
        key = (index, address, lifetime)
        found = self._encoded.get(key)
        if found is None:
            if len(self._encoded) >= _MOST_ENCODED:
                self._encoded.clear()
            found = self._encoded[key] = add(index, address, lifetime)
        return found

    def _put(self, addresses: Sequence[str], messages: list[bytes], harmless: frozenset[int], done: Done) -> None:
        self.pending += 1
        self._jobs.put(_Job(addresses, messages, harmless, done))

    def _work(self) -> None:
        own: RouteSocket | None = None
        while (job := self._jobs.get()) is not None:
            try:
                own = own or self._open()
                errors = own.transact(job.messages)
                failed = {job.addresses[at]: str(one) for at, one in errors.items() if one.code not in job.harmless}
            except Exception as error:  # the thread survives: the next renewal may work
                if not isinstance(error, NetlinkFailure):
                    log.exception("unexpected failure while changing addresses")
                failed = dict.fromkeys(job.addresses, str(error))
                if own is not None:
                    own.close()
                    own = None
            self._done.append((job.done, failed))
            os.eventfd_write(self._event, 1)
