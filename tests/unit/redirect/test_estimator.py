"""Uploads in flight that nobody sees here."""

import random
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.redirect import Algorithm
from lvs_dr.redirect.algorithms import Asked, Candidate, chooser
from lvs_dr.redirect.estimator import FIRST_GUESS_BYTES, MOST_REMEMBERED, Estimator

MIB: Final = 1024 * 1024


def test_without_reports_a_redirect_counts_for_the_window() -> None:
    """wlc would be round robin, or count uploads for ever."""
    estimator = Estimator(window_seconds=10)
    for second in range(5):
        estimator.redirected("a", float(second), MIB)
    assert (estimator.in_flight("a", 5), estimator.backlog("a", 5)) == (5, 5 * MIB)
    assert (estimator.in_flight("a", 12), estimator.backlog("a", 12)) == (2, 2 * MIB)
    assert (estimator.in_flight("a", 100), estimator.backlog("a", 100)) == (0, 0)
    assert estimator.in_flight("b", 0) == estimator.backlog("b", 0) == 0


def test_a_report_counts_with_the_redirects_that_it_cannot_include() -> None:
    """Between two reports all uploads would go to the server that was idle at the last one."""
    estimator = Estimator()
    estimator.redirected("a", 0.0, MIB)
    estimator.reported("a", 1.0, established=7, inbound_bytes=0)
    assert estimator.in_flight("a", 1.0) == 7
    estimator.redirected("a", 1.2, MIB)
    estimator.redirected("a", 1.3, MIB)
    assert estimator.in_flight("a", 1.4) == 9
    estimator.reported("a", 2.0, established=9, inbound_bytes=0)
    assert estimator.in_flight("a", 2.0) == 9


def test_stale_reports_are_not_believed() -> None:
    """A server whose agent died would look idle, or full, for ever."""
    estimator = Estimator(window_seconds=60, stale_seconds=5)
    estimator.reported("a", 0.0, established=50, inbound_bytes=0)
    estimator.redirected("a", 1.0, MIB)
    assert estimator.in_flight("a", 5.0) == 51
    assert estimator.in_flight("a", 5.1) == 1
    estimator.reported("a", 10.0, established=3, inbound_bytes=0)
    estimator.reported("a", 4.0, established=99, inbound_bytes=0)  # overtaken on the way
    assert estimator.in_flight("a", 10.0) == 3


def test_received_bytes_leave_the_backlog_and_a_new_counter_does_not_hurt() -> None:
    """A server that reboots would seem to have received all, or nothing."""
    estimator = Estimator()
    estimator.reported("a", 0.0, established=0, inbound_bytes=1000 * MIB)
    estimator.redirected("a", 1.0, 10 * MIB)
    estimator.redirected("a", 1.0, 10 * MIB)
    assert estimator.reported("a", 2.0, established=2, inbound_bytes=1015 * MIB) == 15 * MIB
    assert estimator.backlog("a", 2.0) == 5 * MIB
    assert estimator.reported("a", 3.0, established=1, inbound_bytes=2 * MIB) == 2 * MIB
    assert estimator.backlog("a", 3.0) == 3 * MIB
    estimator.reported("a", 4.0, established=0, inbound_bytes=2 * MIB)  # the client gave up
    assert estimator.backlog("a", 4.0) == 0


def test_a_body_without_length_is_expected_to_be_like_the_others() -> None:
    """Chunked uploads would count as nothing."""
    estimator = Estimator()
    assert estimator.expected_size == FIRST_GUESS_BYTES
    for _ in range(100):
        estimator.redirected("a", 0.0, 50 * MIB)
    estimator.redirected("b", 0.0, None)
    assert estimator.backlog("b", 0.0) == pytest.approx(50 * MIB, rel=0.01)
    estimator.redirected("c", 0.0, 0)
    assert (estimator.in_flight("c", 0.0), estimator.backlog("c", 0.0)) == (1, 0)


def test_a_flood_does_not_fill_the_memory() -> None:
    """A minute of requests at full speed would cost a hundred megabytes for each real server."""
    estimator = Estimator()
    for number in range(MOST_REMEMBERED + 500):
        estimator.redirected("a", number / 1e6, 10)
    assert estimator.in_flight("a", 1.0) == MOST_REMEMBERED
    assert estimator.backlog("a", 1.0) == 10 * MOST_REMEMBERED


EVENTS = st.lists(
    st.one_of(
        st.tuples(st.just("redirect"), st.none() | st.integers(0, 10**9)),
        st.tuples(st.just("report"), st.tuples(st.integers(0, 100), st.integers(0, 10**12))),
        st.tuples(st.just("wait"), st.integers(0, 100)),
    ),
    max_size=60,
)


@settings(deadline=None)
@given(EVENTS)
def test_estimates_stay_sane_whatever_is_reported(events: list[tuple[str, object]]) -> None:
    """A server that reports nonsense would be chosen always, or never again."""
    estimator, now, redirects = Estimator(window_seconds=50), 0.0, 0
    for kind, value in events:
        if kind == "redirect":
            estimator.redirected("a", now, value)  # type: ignore[arg-type]
            redirects += 1
        elif kind == "report":
            established, received = value  # type: ignore[misc]
            estimator.reported("a", now, established=established, inbound_bytes=received)
        else:
            now += float(value)  # type: ignore[arg-type]
        assert 0 <= estimator.in_flight("a", now) <= 100 + redirects
        assert estimator.backlog("a", now) >= -1
    assert estimator.backlog("a", now + 1000) == 0
    assert estimator.in_flight("a", now + 1000) == 0


class Server:
    """A server that shares its line among its uploads."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self.left: list[float] = []
        self.received = 0.0

    def run(self, seconds: float) -> None:
        """Receive for a while."""
        budget = self.rate * seconds
        while budget > 1e-9 and self.left:
            share = min(budget / len(self.left), *self.left)
            used = share * len(self.left)
            self.left = [rest - share for rest in self.left if rest - share > 1e-9]
            budget -= used
            self.received += used


def slowest(algorithm: Algorithm | None, seed: int, count: int, uploads: int = 150, step: float = 0.2) -> float:
    """Return when the last of many unequal uploads to unequal servers is done; None: by the true best choice.

    Uploads arrive over 70% of the time that all servers together need; every server reports once a second.
    """
    draw = random.Random(seed)
    servers = [Server(draw.choice([1.0, 2.0, 4.0, 10.0])) for _ in range(count)]
    sizes = [draw.paretovariate(1.3) * 10 for _ in range(uploads)]
    span = 0.7 * sum(sizes) / sum(server.rate for server in servers)
    arrivals = sorted((draw.random() * span, size) for size in sizes)
    arrivals.reverse()
    estimator, choose = Estimator(), chooser(algorithm or Algorithm.RR, draw.random).choose
    known = [Candidate(str(at), int(server.rate * 10)) for at, server in enumerate(servers)]
    now, reported = 0.0, 0.0
    while arrivals or any(server.left for server in servers):
        while arrivals and arrivals[-1][0] <= now:
            size = arrivals.pop()[1]
            if algorithm is None:
                best = min(servers, key=lambda server: (sum(server.left) + size) / server.rate)
                best.left.append(size)
                continue
            for one in known:
                one.in_flight, one.backlog = estimator.in_flight(one.name, now), estimator.backlog(one.name, now)
            chosen = choose(known, Asked(now=now, size=size * MIB))
            assert chosen is not None
            estimator.redirected(chosen.name, now, size * MIB)
            servers[int(chosen.name)].left.append(size)
        for server in servers:
            server.run(step)
        now += step
        if now - reported >= 1:
            reported = now
            for one, server in zip(known, servers, strict=True):
                received = int(server.received * MIB)
                estimator.reported(one.name, now, established=len(server.left), inbound_bytes=received)
    return now


@pytest.mark.parametrize("count", [2, 5, 20])
def test_least_inbound_bytes_is_near_the_true_best_choice(count: int) -> None:
    """Uploads would wait behind each other on small servers while large ones are idle."""
    seeds = range(3)
    best, ours, rr = (
        [slowest(algorithm, seed, count) for seed in seeds]
        for algorithm in (None, Algorithm.LEAST_INBOUND_BYTES, Algorithm.RR)
    )
    assert all(mine <= 1.25 * perfect for mine, perfect in zip(ours, best, strict=True))
    assert sum(ours) < 0.9 * sum(rr)
