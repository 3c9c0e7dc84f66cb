"""Servers whose load follows from what a director sends them: what load feedback is tried on.

A model of the schedulers in equilibrium: wrr gives each a share of the arrivals in proportion to its weight, wlc as
many connections in proportion to it, where a server answers the slower the more it is used (M/M/1).
"""

import random
from collections.abc import Callable, Sequence
from itertools import pairwise

from lvs_dr.core.load_feedback import LoadState, adjust, effective, measure, reference
from lvs_dr.core.load_spec import TableLoadFeedback

Used = Callable[[Sequence[float], Sequence[int], float], list[float]]


def wrr(sizes: Sequence[float], weights: Sequence[int], demand: float) -> list[float]:
    """Return how much of each server is used: more than 1 is more than it can do."""
    whole = sum(weights)
    return [demand * weight / whole / size for size, weight in zip(sizes, weights, strict=True)]


def wlc(sizes: Sequence[float], weights: Sequence[int], demand: float) -> list[float]:
    """Return the same where connections are balanced."""
    if demand >= sum(sizes) * 0.999:
        return [1.0] * len(sizes)
    low, high = 0.0, 1e9
    for _ in range(50):
        middle = (low + high) / 2
        served = sum(s * middle * w / (1 + middle * w) for s, w in zip(sizes, weights, strict=True))
        low, high = (middle, high) if served < demand else (low, middle)
    return [low * w / (1 + low * w) for w in weights]


def pressure(used: float) -> float:
    """Return the CPU pressure: hardly any on a half-used machine, all the time on a full one."""
    return 100 * min(1.0, used) ** 6


def linear(used: float) -> float:
    """Return a load that is what is used."""
    return 100 * min(1.0, used)


class Simulation:
    """Real servers of some sizes with equal configured weights, and one director."""

    def __init__(
        self,
        policy: TableLoadFeedback,
        sizes: Sequence[float],
        *,
        scheduler: Used = wlc,
        load: Callable[[float], float] = pressure,
        lag: float = 0.0,
        noise: float = 0.0,
        seed: int = 1,
    ) -> None:
        self.policy = policy
        self.sizes = list(sizes)
        self.scheduler = scheduler
        self.load = load
        self.lag = lag  # seconds after which a server's use has followed its weight by two thirds
        self.noise = noise
        self.random = random.Random(seed)
        self.states = [LoadState() for _ in sizes]
        self.used: list[float] | None = None
        self.now = 0.0
        self.history: list[list[int]] = []
        self.uses: list[list[float]] = []

    @property
    def weights(self) -> list[int]:
        """The weights in force."""
        return [effective(100, 1, each.told) for each in self.states]

    def loads(self) -> list[float]:
        """The loads of now, without noise."""
        assert self.used is not None
        return [self.load(each) for each in self.used]

    def run(self, seconds: float, demand: Callable[[float], float]) -> None:
        """Let time go by: a report from each every interval, and then a decision."""
        every = self.policy.interval_seconds
        end = self.now + seconds
        while self.now < end:
            self.now += every
            goal = self.scheduler(self.sizes, self.weights, demand(self.now))
            part = 1.0 if not self.lag else min(1.0, every / self.lag)
            before = self.used or goal
            self.used = [one + (other - one) * part for one, other in zip(before, goal, strict=True)]
            for index, used in enumerate(self.used):
                told = self.load(used) * max(0.0, 1 + self.random.gauss(0, self.noise))
                self.states[index] = measure(self.states[index], self.policy, told, self.now)
            limit = reference(self.policy, self.states)
            self.states = [adjust(each, self.policy, limit, self.now) for each in self.states]
            self.history.append(self.weights)
            self.uses.append(self.used)

    def changes(self, last: int) -> int:
        """Return how often a weight changed in the last so many intervals, of all servers."""
        recent = self.history[-last:]
        return sum(one != other for before, after in pairwise(recent) for one, other in zip(before, after, strict=True))

    def swing(self, last: int) -> float:
        """Return the largest weight of a server over its smallest one in the last so many intervals, at most."""
        return max(max(column) / min(column) for column in zip(*self.history[-last:], strict=True))
