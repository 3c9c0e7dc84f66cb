"""How busy real servers are with uploads whose connections never come here. Pure: the time is an argument.

Known are the redirects given, with the announced size (Content-Length) of most, and what real servers report:
connections to the port, and a counter of received bytes. A redirect counts as in flight until a report that is young
enough to include it; from then on the real server's own number counts. Reports older than `stale_seconds` are
worth nothing: then an upload is in flight for `window_seconds` after its redirect.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

SETTLE_SECONDS: Final = 0.5  # from the redirect to the connection that a real server can see
FIRST_GUESS_BYTES: Final = 1024.0 * 1024  # for a body without length, before any with one was seen
MOST_REMEMBERED: Final = 10_000  # redirects for each real server: a flood must not fill the memory
_GUESS_PART: Final = 0.1  # of a new size in the mean


class ServerLoad:
    """What is known of one real server."""

    __slots__ = ("backlog", "counter", "established", "pending", "reported_at", "unsettled", "window")

    def __init__(self) -> None:
        self.window: deque[float] = deque(maxlen=MOST_REMEMBERED)  # times of redirects within the window
        self.unsettled: deque[float] = deque(maxlen=MOST_REMEMBERED)  # of those that no report includes yet
        self.pending: deque[list[float]] = deque()  # time and bytes to come, oldest first
        self.backlog = 0.0  # sum of the latter
        self.established = 0
        self.counter = -1  # received bytes at the last report, -1 before the first
        self.reported_at = float("-inf")

    def drop_oldest(self) -> None:
        """Forget the oldest body that is still to come."""
        self.backlog -= self.pending.popleft()[1]
        if not self.pending:
            self.backlog = 0.0  # without what rounding left


class Estimator:
    """Load of the real servers of one listener, by name."""

    def __init__(self, *, window_seconds: float = 60.0, stale_seconds: float = 5.0) -> None:
        self.window_seconds = window_seconds
        self.stale_seconds = stale_seconds
        self._servers: dict[str, ServerLoad] = {}
        self._guess = FIRST_GUESS_BYTES

    def keep(self, names: Iterable[str]) -> None:
        """Forget all others."""
        wanted = set(names)
        self._servers = {name: load for name, load in self._servers.items() if name in wanted}

    @property
    def expected_size(self) -> float:
        """Bytes of a body whose length is not announced: about what the others had."""
        return self._guess

    def redirected(self, name: str, now: float, size: float | None) -> None:
        """Note a redirect; `size` in bytes, None for a body of unknown length."""
        load = self._load(name)
        load.window.append(now)
        load.unsettled.append(now)
        if size is None:
            size = self._guess
        elif size > 0:
            self._guess += (size - self._guess) * _GUESS_PART
        if size > 0:
            load.pending.append([now, size])
            load.backlog += size
            if len(load.pending) > MOST_REMEMBERED:
                load.drop_oldest()
        self._expire(load, now)

    def reported(self, name: str, at: float, *, established: int, inbound_bytes: int) -> int:
        """Take a report made at time `at`; one that is older than the last is ignored.

        Returns the bytes that it has received since the last one.
        """
        load = self._load(name)
        if at < load.reported_at:
            return 0
        received = inbound_bytes - load.counter if load.counter >= 0 else 0
        if received < 0:  # the counter began anew
            received = inbound_bytes
        load.established, load.counter, load.reported_at = established, inbound_bytes, at
        while load.unsettled and load.unsettled[0] <= at - SETTLE_SECONDS:
            load.unsettled.popleft()
        self._received(load, received)
        return received

    def in_flight(self, name: str, now: float) -> float:
        """Return the uploads that it has, as far as one can know."""
        load = self._servers.get(name)
        if load is None:
            return 0.0
        self._expire(load, now)
        if now - load.reported_at <= self.stale_seconds:
            return load.established + len(load.unsettled)
        return len(load.window)

    def backlog(self, name: str, now: float) -> float:
        """Return the bytes that are still to reach it, as far as one can know."""
        load = self._servers.get(name)
        if load is None:
            return 0.0
        self._expire(load, now)
        return load.backlog

    def _load(self, name: str) -> ServerLoad:
        if name not in self._servers:
            self._servers[name] = ServerLoad()
        return self._servers[name]

    def _expire(self, load: ServerLoad, now: float) -> None:
        oldest = now - self.window_seconds
        while load.window and load.window[0] <= oldest:
            load.window.popleft()
        while load.unsettled and load.unsettled[0] <= oldest:
            load.unsettled.popleft()
        if now - load.reported_at > self.stale_seconds:
            while load.pending and load.pending[0][0] <= oldest:
                load.drop_oldest()

    @staticmethod
    def _received(load: ServerLoad, received: float) -> None:
        """Take bytes off the oldest bodies; there are no more bodies than connections, so the rest never comes."""
        while load.pending and received >= load.pending[0][1]:
            received -= load.pending[0][1]
            load.drop_oldest()
        if load.pending:
            load.pending[0][1] -= received
            load.backlog -= received
        while len(load.pending) > load.established + len(load.unsettled):
            load.drop_oldest()
