"""Silence of agents: only what was observed counts."""

from lvs_dr.controller.silence import POLL_SECONDS, SILENT_SECONDS, Silence
from tests.unit.controller.bodies import Clock

NODES = ("one", "two")


def looks(silence: Silence, clock: Clock, seconds: float, *, renewing: tuple[str, ...] = ()) -> None:
    """Poll for a while, with the Leases of `renewing` renewed at each look."""
    passed = 0.0
    while passed < seconds:
        clock.advance(POLL_SECONDS)
        passed += POLL_SECONDS
        silence.observe({name: f"{clock.now if name in renewing else 'old'}" for name in NODES})


def test_agent_without_a_lease_is_silent_at_once() -> None:
    """A node whose agent never ran is not taken for a live one."""
    silence = Silence(Clock())
    silence.observe({"one": "a"})
    assert silence.silent(NODES) == {"two"}


def test_restarted_controller_gives_everybody_time() -> None:
    """An old Lease counts as live until 40 s were watched: a restart of the controller declares nobody dead."""
    clock = Clock()
    silence = Silence(clock)
    silence.observe({"one": "old", "two": "old"})
    looks(silence, clock, SILENT_SECONDS - POLL_SECONDS)
    assert silence.silent(NODES) == set()
    looks(silence, clock, POLL_SECONDS)
    assert silence.silent(NODES) == {"one", "two"}


def test_renewing_agent_stays_live() -> None:
    """Only the one that stopped is silent."""
    clock = Clock()
    silence = Silence(clock)
    silence.observe({"one": "old", "two": "old"})
    looks(silence, clock, 2 * SILENT_SECONDS, renewing=("one",))
    assert silence.silent(NODES) == {"two"}


def test_our_own_blindness_is_nobodys_silence() -> None:
    """After an outage of the API server nobody is silent who could not have renewed."""
    clock = Clock()
    silence = Silence(clock)
    silence.observe({"one": "old", "two": "old"})
    looks(silence, clock, 10, renewing=NODES)
    clock.advance(600)
    silence.observe(dict.fromkeys(NODES, f"{clock.now - 600}"))
    assert silence.silent(NODES) == set()


def test_report_is_a_sign_of_life() -> None:
    """An agent that just reported is live before its Lease was looked at."""
    silence = Silence(Clock())
    silence.heard("one")
    assert silence.silent(NODES) == {"two"}


def test_silent_agent_that_comes_back_is_live() -> None:
    """One renewal ends the silence."""
    clock = Clock()
    silence = Silence(clock)
    silence.observe({"one": "old", "two": "old"})
    looks(silence, clock, 2 * SILENT_SECONDS)
    looks(silence, clock, POLL_SECONDS, renewing=NODES)
    assert silence.silent(NODES) == set()
