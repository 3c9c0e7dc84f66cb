"""Who gets the next upload."""

import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.redirect import Algorithm
from lvs_dr.redirect.algorithms import Asked, Candidate, chooser
from lvs_dr.redirect.hashing import source_slot

WEIGHTS = st.lists(st.integers(1, 12), min_size=1, max_size=8)


def candidates(weights: Sequence[int]) -> list[Candidate]:
    """Return servers a, b, c … of these weights."""
    return [Candidate("abcdefghijklmnopqrstuvwxyz"[at], weight) for at, weight in enumerate(weights)]


def client(number: int) -> Asked:
    """Return the request of one of many clients."""
    return Asked(client=(0x0A000000 + number).to_bytes(4, "big"), resource=b"/%d" % number)


def given_out(algorithm: Algorithm, servers: Sequence[Candidate], count: int) -> list[str]:
    """Return who gets `count` requests, each of another client, none of which ever ends."""
    chosen: list[str] = []
    choose = chooser(algorithm, random.Random(7).random).choose
    for number in range(count):
        one = choose(servers, client(number))
        assert one is not None
        one.in_flight += 1
        one.backlog += 1000
        chosen.append(one.name)
    return chosen


@settings(deadline=None, max_examples=30)
@given(WEIGHTS, st.integers(1, 5))
def test_wrr_gives_each_its_weight_in_every_round(weights: list[int], rounds: int) -> None:
    """A large server would idle while a small one is full."""
    chosen = given_out(Algorithm.WRR, candidates(weights), sum(weights) * rounds)
    assert Counter(chosen) == {one.name: one.weight * rounds for one in candidates(weights)}


def test_wrr_mixes_as_the_kernel_does() -> None:
    """Weights 4, 3, 2: ip_vs_wrr hands out AABABCABC; all of A first would be a burst."""
    assert "".join(given_out(Algorithm.WRR, candidates([4, 3, 2]), 9)) == "aababcabc"


def test_rr_goes_round_whatever_the_weights() -> None:
    """The simplest expectation of all."""
    assert "".join(given_out(Algorithm.RR, candidates([9, 1, 1]), 6)) == "abcabc"


@pytest.mark.parametrize(
    "algorithm",
    [Algorithm.WLC, Algorithm.SED, Algorithm.NQ, Algorithm.LEAST_INBOUND_BYTES],
)
@settings(deadline=None, max_examples=30)
@given(weights=WEIGHTS)
def test_load_is_shared_by_weight(algorithm: Algorithm, weights: list[int]) -> None:
    """After many uploads nobody has more than one upload above its share."""
    count = 5 * sum(weights)
    found = Counter(given_out(algorithm, candidates(weights), count))
    for one in candidates(weights):
        assert abs(found[one.name] - 5 * one.weight) <= len(weights)


@settings(deadline=None, max_examples=30)
@given(WEIGHTS)
def test_lc_ignores_weights(weights: list[int]) -> None:
    """lc counts connections alone, as in the kernel."""
    found = Counter(given_out(Algorithm.LC, candidates(weights), 10 * len(weights)))
    assert set(found.values()) == {10}


def test_nq_takes_an_idle_server_before_a_faster_one() -> None:
    """An idle server would wait while a busy one gets more."""
    servers = candidates([100, 1])
    assert given_out(Algorithm.NQ, servers, 2) == ["a", "b"]
    assert given_out(Algorithm.SED, candidates([100, 1]), 2) == ["a", "a"]


def test_two_choices_stay_near_the_shares() -> None:
    """Random draws alone would leave one server with far more than its share."""
    found = Counter(given_out(Algorithm.POWER_OF_TWO_CHOICES, candidates([1, 2, 3, 4]), 1000))
    for one in candidates([1, 2, 3, 4]):
        assert abs(found[one.name] - 100 * one.weight) <= 10


def test_least_inbound_bytes_counts_the_body_that_comes() -> None:
    """A huge upload would go to a tiny server because that one is idle."""
    servers = candidates([1, 100])
    servers[1].backlog = 1_000_000
    choose = chooser(Algorithm.LEAST_INBOUND_BYTES, random.random).choose
    assert choose(servers, Asked(size=100)) is servers[0]
    assert choose(servers, Asked(size=1_000_000)) is servers[1]


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_full_server_is_passed_over_and_when_all_are_full_nobody_is_chosen(algorithm: Algorithm) -> None:
    """maximumInFlightPerServer would be a wish."""
    servers = candidates([5, 5, 5])
    servers[0].full = servers[2].full = True
    choose = chooser(algorithm, random.Random(3).random).choose
    assert {choose(servers, client(number)) for number in range(200)} == {servers[1]}
    servers[1].full = True
    assert choose(servers, client(1)) is None
    assert choose([], client(1)) is None


@pytest.mark.parametrize("algorithm", Algorithm)
def test_servers_may_come_and_go_between_two_requests(algorithm: Algorithm) -> None:
    """A drained server would still be chosen, or the redirector would fall over its memory of it."""
    draw = random.Random(5)
    choose = chooser(algorithm, draw.random).choose
    everybody = candidates([1, 2, 3, 4, 5, 6, 7, 8])
    for number in range(200):
        present = [one for one in everybody if draw.random() < 0.5]
        chosen = choose(present, client(number))
        assert (chosen in present) if present else chosen is None


@pytest.mark.parametrize("algorithm", [Algorithm.SH, Algorithm.MH])
def test_a_client_keeps_its_server(algorithm: Algorithm) -> None:
    """Resumed uploads would find nothing of what was sent before."""
    first = given_out(algorithm, candidates([1, 2, 3]), 500)
    assert given_out(algorithm, candidates([1, 2, 3]), 500) == first  # another director, or after a restart
    found = Counter(first)
    assert found["a"] < found["b"] < found["c"]


@pytest.mark.parametrize("algorithm", [Algorithm.DH, Algorithm.LBLC])
def test_a_path_keeps_its_server(algorithm: Algorithm) -> None:
    """Caches and chunked uploads of one file would be spread over all servers."""
    choose = chooser(algorithm, random.random).choose
    servers = candidates([1000] * 4)
    chosen = {}
    for number in range(100):
        asked = Asked(client=b"\0\0\0\1", resource=b"/%d" % (number % 20))
        one = choose(servers, asked)
        assert one is not None
        assert chosen.setdefault(asked.resource, one) is one
        one.in_flight += 1
    assert len(set(chosen.values())) == 4


def test_lblc_moves_a_path_when_its_server_is_overloaded() -> None:
    """One popular path would drown one server while others idle."""
    choose = chooser(Algorithm.LBLC, random.random).choose
    servers = candidates([10, 10])
    asked = Asked(resource=b"/popular")
    first = choose(servers, asked)
    assert first is servers[0]
    first.in_flight = 11
    servers[1].in_flight = 5
    assert choose(servers, asked) is first  # the other one is not below half of its weight
    servers[1].in_flight = 4
    assert choose(servers, asked) is servers[1]
    servers[0].in_flight = 0
    assert choose(servers, asked) is servers[1]  # it stays


def test_lblcr_spreads_a_path_and_takes_it_back_after_a_quiet_day() -> None:
    """A popular path would stay on many servers for ever, or on one only."""
    choose = chooser(Algorithm.LBLCR, random.random).choose
    servers = candidates([10, 10])

    def ask(now: float) -> Candidate | None:
        return choose(servers, Asked(resource=b"/popular", now=now))

    assert ask(0) is servers[0]
    servers[0].in_flight = 11
    assert ask(1) is servers[1]
    servers[0].in_flight, servers[1].in_flight = 3, 4
    assert ask(2) is servers[0]  # the set has both now
    assert ask(24 * 3600 + 10) is servers[0]  # and loses the more loaded one
    servers[0].in_flight = 9
    assert ask(24 * 3600 + 11) is servers[0]


def test_sh_hashes_as_the_kernel_does() -> None:
    """192.0.2.1 by hash_32 of include/linux/hash.h: (0xC0000201 * 0x61C88647 mod 2**32) >> 24."""
    assert source_slot(bytes([192, 0, 2, 1])) == ((0xC0000201 * 0x61C88647) % 2**32) >> 24
    assert source_slot(bytes(12) + bytes([192, 0, 2, 1])) == source_slot(bytes([192, 0, 2, 1]))


@settings(deadline=None, max_examples=30)
@given(st.lists(st.integers(1, 65535), min_size=2, max_size=40))
def test_sh_leaves_nobody_out_for_the_weights_of_others(weights: list[int]) -> None:
    """In the kernel large weights use all slots up, and the last servers get nothing."""
    servers = [Candidate(f"server-{at}", weight) for at, weight in enumerate(weights)]
    choose = chooser(Algorithm.SH, random.random).choose
    found = Counter(one.name for number in range(1500) if (one := choose(servers, client(number * 7919))))
    total = sum(weights)
    for one in servers:
        if one.weight / total > 0.1:
            assert found[one.name] > 0


@settings(deadline=None, max_examples=30)
@given(st.integers(3, 20), st.data())
def test_mh_moves_few_clients_when_a_server_leaves(count: int, data: st.DataObject) -> None:
    """Every client would change its server whenever one of them fails."""
    servers = [Candidate(f"server-{at}", 100) for at in range(count)]
    gone = data.draw(st.sampled_from(servers))
    left = [one for one in servers if one is not gone]
    before = given_out(Algorithm.MH, servers, 500)
    after = given_out(Algorithm.MH, left, 500)
    moved = sum(a != b for a, b in zip(before, after, strict=True) if a != gone.name)
    assert gone.name not in after
    assert moved < 100


def test_mh_shares_by_weight() -> None:
    """A large server would idle."""
    found = Counter(given_out(Algorithm.MH, candidates([1, 1, 2]), 8000))
    assert 3500 < found["c"] < 4500
