"""Load feedback in a model: requests at three servers, one with a quarter of the power, balanced by wlc.

Virtual time and the decisions of `core`, so minutes of traffic take a moment, and the machine's own load changes
nothing. What is modelled: Poisson arrivals, one queue for each server, exponential work. Servers tell how long their
last requests took, as an application does by HTTP. Kernel and network have no part in it.
"""

import heapq
import random
from typing import NamedTuple

from lvs_dr.core.load_feedback import LoadState, adjust, effective, measure, reference
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback
from tests.bench.figures import quantile

POWERS = (100.0, 100.0, 25.0)  # requests a second
DEMAND = 0.7  # of all of it
SETTLING_SECONDS, MEASURED_SECONDS = 300.0, 300.0
POLICY = TableLoadFeedback(LoadSource.HTTP, target=20, port=80, path="/", interval_seconds=5, minimum_percent=5)


class Result(NamedTuple):
    """Milliseconds of the measured requests, and the part of them that the weak server got."""

    p50: float
    p99: float
    weak_share: float


class _Server:
    def __init__(self, power: float) -> None:
        self.power = power
        self.waiting: list[float] = []  # arrival times, the first is being served
        self.weight = 100
        self.recent: list[float] = []  # milliseconds of what ended since the last report


def run(*, aware: bool, seed: int) -> Result:
    """Return what requests met: with static weights, or with such that follow the servers' response times."""
    dice = random.Random(seed)
    servers = [_Server(power) for power in POWERS]
    states = [LoadState() for _ in servers]
    rate = DEMAND * sum(POWERS)
    took: list[float] = []
    weak = now = 0.0
    ends: list[tuple[float, int]] = []  # of the request that each server works on
    arrival, report = dice.expovariate(rate), float(POLICY.interval_seconds)
    while now < SETTLING_SECONDS + MEASURED_SECONDS:
        now = min(arrival, report, ends[0][0] if ends else arrival)
        if now == report:
            report += POLICY.interval_seconds
            if aware:
                states = _decided(states, servers, now)
        elif ends and now == ends[0][0]:
            _, index = heapq.heappop(ends)
            server = servers[index]
            milliseconds = (now - server.waiting.pop(0)) * 1000
            server.recent.append(milliseconds)
            if now > SETTLING_SECONDS:
                took.append(milliseconds)
                weak += index == len(servers) - 1
            if server.waiting:
                heapq.heappush(ends, (now + dice.expovariate(server.power), index))
        else:
            arrival = now + dice.expovariate(rate)
            # wlc: the fewest connections for its weight (ip_vs_wlc.c)
            index = min(range(len(servers)), key=lambda each: len(servers[each].waiting) / servers[each].weight)
            servers[index].waiting.append(now)
            if len(servers[index].waiting) == 1:
                heapq.heappush(ends, (now + dice.expovariate(servers[index].power), index))
    return Result(quantile(took, 0.5), quantile(took, 0.99), weak / len(took))


def _decided(states: list[LoadState], servers: list[_Server], now: float) -> list[LoadState]:
    """Take a report of each server, and set its weight anew."""
    for index, server in enumerate(servers):
        if server.recent:
            states[index] = measure(states[index], POLICY, sum(server.recent) / len(server.recent), now)
            server.recent.clear()
    limit = reference(POLICY, [each for each in states if each.average is not None])
    states = [adjust(each, POLICY, limit, now) for each in states]
    for server, state in zip(servers, states, strict=True):
        server.weight = effective(100, 1, state.told)
    return states
