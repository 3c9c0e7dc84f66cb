"""Which agents are silent: 40 s without an *observed* renewal of their Lease.

Only what this process saw counts, by its own monotonic clock. A gap in our own observation (the API server was away)
is no silence of anybody's: the time is credited to every agent, who could not renew either.
"""

import logging
from collections.abc import Callable, Collection, Mapping

log = logging.getLogger(__name__)

SILENT_SECONDS = 40.0
POLL_SECONDS = 5.0
LONGEST_GAP_SECONDS = 2 * POLL_SECONDS
UNDER_WAY_SECONDS = 2.0
"""A report that has just arrived was written this long ago at most."""
SELECTOR = "lvs-operator.io/component=agent"


class Silence:
    """Observed signs of life. `clock` is monotonic, in seconds."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._renewals: dict[str, str] = {}
        self._heard: dict[str, float] = {}
        self._lived: dict[str, float] = {}
        self._looked_at: float | None = None
        self._asked_at: float | None = None

    def now(self) -> float:
        """Return the time by the clock."""
        return self._clock()

    def observe(self, renewals: Mapping[str, str], asked_at: float | None = None) -> None:
        """Take over one LIST of the agents' Leases: node -> an opaque mark that changes with each renewal.

        `asked_at`: when it was asked for (default: now).
        """
        now = self._clock()
        before, self._asked_at = self._asked_at, now if asked_at is None else asked_at
        if self._looked_at is not None and now - self._looked_at > LONGEST_GAP_SECONDS:
            credit = now - self._looked_at - POLL_SECONDS
            self._heard = {node: at + credit for node, at in self._heard.items()}
        self._looked_at = now
        for node, mark in renewals.items():
            if self._renewals.get(node) != mark:
                self._heard[node] = now
                if before is not None:  # it is not in the list that was asked for then
                    self._lived[node] = max(before, self.lived_at(node))
        self._renewals = dict(renewals)

    def heard(self, node: str) -> None:
        """Note another sign of life: the agent has written its report."""
        now = self._heard[node] = self._clock()
        self._lived[node] = max(now - UNDER_WAY_SECONDS, self.lived_at(node))

    def lived_at(self, node: str) -> float:
        """Return a moment, by the clock, at which or after which the agent lived for sure; minus infinity: unknown."""
        return self._lived.get(node, float("-inf"))

    def silent(self, nodes: Collection[str]) -> set[str]:
        """Return which of `nodes` are silent now; one that was never heard is."""
        now = self._clock()
        for gone in self._heard.keys() - set(nodes) - self._renewals.keys():
            del self._heard[gone]
            self._lived.pop(gone, None)
        return {node for node in nodes if now - self._heard.get(node, float("-inf")) >= SILENT_SECONDS}
