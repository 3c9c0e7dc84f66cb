"""Health checks with real sockets on loopback."""

import asyncio
import itertools
import resource
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from msgspec import structs

from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.prober import Check, Prober, allowed_at_once
from lvs_dr.core.checks import ExecCheck, TableHealthCheck, TcpCheck
from lvs_dr.core.health import CheckKey, Health


def settings(*, rise: int = 2, fall: int = 3, interval: float = 0.02, timeout: float = 0.5) -> TableHealthCheck:
    """Return check settings shorter than the API takes."""
    return TableHealthCheck(TcpCheck(), interval, timeout, rise, fall)  # type: ignore[arg-type]


class Target:
    """A real server on loopback that can be stopped and started on the same port."""

    def __init__(self) -> None:
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, reuse_address=True)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
            self._server = None

    async def _accept(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    """A real server that is up."""
    one = Target()
    await one.start()
    yield one
    await one.stop()


@pytest.fixture
def full() -> Iterator[int]:
    """A port whose listener takes no more connections: it does not even refuse them."""
    with socket.socket() as listener, socket.socket() as first, socket.socket() as second:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        port = listener.getsockname()[1]
        for one in (first, second):
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        yield port


class Checks:
    """A prober that runs, and what a test waits for."""

    def __init__(self, check: Check | None = None) -> None:
        self.news = asyncio.Event()
        self.changes = 0
        self.made = 0
        noon = datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()
        self.prober = Prober(
            changed=self._changed, check=check or Checkers(), counted=self._counted, clock=lambda: noon
        )

    def _changed(self) -> None:
        self.changes += 1
        self.news.set()

    def _counted(self, _: bool) -> None:  # noqa: FBT001 - a result
        self.made += 1
        self.news.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def checking(check: Check | None = None) -> AsyncIterator[Checks]:
    """Run a prober, with real checks unless told otherwise."""
    checks = Checks(check)
    task = asyncio.create_task(checks.prober.run())
    await asyncio.sleep(0)
    try:
        yield checks
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_first_result_comes_at_once(target: Target) -> None:
    """A new real server does not wait an interval for its first connection."""
    key = CheckKey("127.0.0.1", target.port, settings(interval=60))
    async with checking() as checks:
        checks.prober.update([key])
        await checks.until(lambda: checks.prober.view()[key] is Health.UP)


async def test_what_is_told_is_what_the_kernel_was_programmed_by(target: Target) -> None:
    """Status that is ahead of the kernel sends a person, or a script, to a real server that gets no connection yet."""
    key = CheckKey("127.0.0.1", target.port, settings(interval=60))
    async with checking() as checks:
        checks.prober.update([key])
        decided = checks.prober.view()
        await checks.until(lambda: checks.prober.view()[key] is Health.UP)
        assert checks.prober.outcome(decided, key).health is Health.UNKNOWN
        assert checks.prober.outcome(checks.prober.view(), key).health is Health.UP


async def test_it_goes_down_after_fall_failures_and_up_after_rise_successes(target: Target) -> None:
    """One lost packet takes no real server out, and one lucky answer brings none back."""
    key = CheckKey("127.0.0.1", target.port, settings())
    async with checking() as checks:
        checks.prober.update([key])
        await checks.until(lambda: checks.prober.view()[key] is Health.UP)
        await target.stop()
        made = checks.made
        await checks.until(lambda: checks.prober.view()[key] is Health.DOWN)
        assert checks.made - made >= 2  # one may have been under way
        assert checks.prober.outcome(checks.prober.view(), key).message == "connection refused"
        await target.start()
        await checks.until(lambda: checks.prober.view()[key] is Health.UP)
        assert checks.prober.outcome(checks.prober.view(), key).message == ""
        assert checks.changes == 3


async def test_what_flaps_is_told_so_with_what_brings_it_back() -> None:
    """A person who sees good checks and no connections would look for the fault in the wrong place."""
    key = CheckKey("127.0.0.1", 1, settings(rise=1, fall=1))
    answers = itertools.cycle(("", "connection refused"))

    async def flapping(_key: CheckKey, _source: str) -> str:
        return next(answers)

    async with checking(flapping) as checks:
        checks.prober.update([key])
        await checks.until(lambda: checks.prober.outcome(checks.prober.view(), key).flapping)
        told = checks.prober.outcome(checks.prober.view(), key)
    assert told.health is Health.DOWN
    assert told.message.startswith("connection refused; failed 4 times")
    assert told.message.endswith("it comes back after 2 of them")


async def test_what_the_kernel_serves_starts_as_up(target: Target) -> None:
    """A restart of the agent takes no real server out before its checks say so."""
    await target.stop()
    key = CheckKey("127.0.0.1", target.port, settings(interval=0.2))
    async with checking() as checks:
        checks.prober.update([key], [key])
        assert checks.prober.view()[key] is Health.UP
        await checks.until(lambda: checks.made == 1)
        assert checks.prober.view()[key] is Health.UP
        await checks.until(lambda: checks.prober.view()[key] is Health.DOWN)


async def test_a_check_that_is_no_longer_wanted_ends(target: Target) -> None:
    """A removed real server is left in peace."""
    key = CheckKey("127.0.0.1", target.port, settings())
    async with checking() as checks:
        checks.prober.update([key])
        await checks.until(lambda: checks.made >= 2)
        checks.prober.update([])
        await asyncio.sleep(0.03)
        before = target.connections
        await asyncio.sleep(0.1)
        assert target.connections == before
        assert checks.prober.view() == {}


async def test_equal_checks_run_once(target: Target) -> None:
    """Ten services with the same real server do not send it ten times the checks."""
    key = CheckKey("127.0.0.1", target.port, settings(interval=60))
    async with checking() as checks:
        checks.prober.update([key] * 10)
        await checks.until(lambda: checks.made == 1)
        await asyncio.sleep(0.05)
        assert checks.made == 1


async def test_a_check_that_cannot_be_made_changes_no_verdict(tmp_path: Path) -> None:
    """A script that is not mounted would take every real server out, or bring a dead one in."""
    check = TableHealthCheck(script=ExecCheck("missing"), interval_seconds=0.02, timeout_seconds=0.5)  # type: ignore[arg-type]
    serving, entering = CheckKey("127.0.0.1", 1, check), CheckKey("127.0.0.1", 2, check)
    async with checking(Checkers(tmp_path)) as checks:
        checks.prober.update([serving, entering], [serving])
        await checks.until(lambda: checks.prober.broken >= 6)
        assert checks.prober.view() == {serving: Health.UP, entering: Health.UNKNOWN}
        outcome = checks.prober.outcome(checks.prober.view(), serving)
        assert outcome.trouble.startswith("there is no script")
        assert (outcome.message, outcome.since) == ("", "2026-11-23T12:00:00Z")
        assert checks.changes == 2  # told once for each, however often it is tried
        (tmp_path / "missing").write_text("#!/bin/sh\nexit 0\n")
        (tmp_path / "missing").chmod(0o755)
        await checks.until(lambda: checks.prober.view()[entering] is Health.UP)
        await checks.until(lambda: not checks.prober.outcome(checks.prober.view(), serving).trouble)


async def test_a_check_that_breaks_unexpectedly_is_made_again() -> None:
    """A fault of ours must neither end the checks nor count against the real server."""
    attempts = itertools.count()

    async def faulty(_key: CheckKey, _source: str) -> str:
        if next(attempts) < 2:
            raise RuntimeError("a fault of ours")
        return ""

    key = CheckKey("127.0.0.1", 1, settings())
    async with checking(faulty) as checks:
        checks.prober.update([key], [key])
        await checks.until(lambda: checks.prober.broken == 2)
        assert "log" in checks.prober.outcome(checks.prober.view(), key).trouble
        await checks.until(lambda: checks.made >= 3 and not checks.prober.outcome(checks.prober.view(), key).trouble)
        assert checks.prober.view()[key] is Health.UP


async def test_the_network_that_checks_must_come_from() -> None:
    """Each director asks from its own address there; one that has none says so and changes nothing."""
    asked: list[str] = []

    async def check(_key: CheckKey, source: str) -> str:
        asked.append(source)
        return ""

    there = CheckKey("192.0.2.9", 80, structs.replace(settings(), source_network="198.51.100.0/24"))
    six = CheckKey("2001:db8::9", 80, structs.replace(settings(), source_network="2001:db8::/64"))
    nowhere = CheckKey("192.0.2.9", 80, structs.replace(settings(), source_network="203.0.113.0/24"))
    async with checking(check) as checks:
        checks.prober.use_addresses(("192.0.2.1/24", "198.51.100.7/24", "2001:db8::7/64"))
        checks.prober.update([there, six, nowhere])
        await checks.until(lambda: set(asked) == {"198.51.100.7", "2001:db8::7"} and checks.prober.broken > 0)
        assert checks.prober.view()[nowhere] is Health.UNKNOWN
        assert "203.0.113.0/24" in checks.prober.outcome(checks.prober.view(), nowhere).trouble
        checks.prober.use_addresses(("203.0.113.7/24",))
        await checks.until(lambda: checks.prober.view()[nowhere] is Health.UP)


async def test_in_doubt_it_asks_again_soon(target: Target) -> None:
    """With a fast interval a dead real server is out after one interval, not after three."""
    check = structs.replace(settings(interval=0.2), fast_interval_seconds=0.01)
    key = CheckKey("127.0.0.1", target.port, check)
    async with checking() as checks:
        checks.prober.update([key], [key])
        await checks.until(lambda: checks.made >= 1)
        await target.stop()
        began = asyncio.get_running_loop().time()
        await checks.until(lambda: checks.prober.view()[key] is Health.DOWN)
        assert asyncio.get_running_loop().time() - began < 0.2 + 0.35  # three slow ones take 0.4 s at least


async def test_what_starts_late_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent with more checks than it can make says so, and does not make up for them in a burst."""
    blocked = asyncio.Event()

    async def slow(_key: CheckKey, _source: str) -> str:
        await blocked.wait()
        return ""

    keys = [CheckKey("127.0.0.1", port, settings(interval=0.05)) for port in range(1, 4)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: (100, 100))  # files for one check at once
    async with checking(slow) as checks:
        checks.prober.update(keys, keys)
        await asyncio.sleep(0.1)  # two wait for their turn, and it passes
        blocked.set()
        await checks.until(lambda: checks.prober.late >= 2)


@pytest.mark.parametrize(("soft", "hard", "allowed"), [(1024, 1024, 768), (100, 100, 1), (10**6, 10**6, 4096)])
def test_files_bound_what_is_checked_at_once(
    soft: int, hard: int, allowed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The agent's own connections must not fail because its checks have used up all files."""
    monkeypatch.setattr(resource, "getrlimit", lambda _: (soft, hard))
    assert allowed_at_once() == allowed


async def test_a_hanging_check_does_not_hold_up_others(target: Target, full: int) -> None:
    """One real server that hangs must not delay finding out about another."""
    slow = CheckKey("127.0.0.1", full, settings(timeout=5))
    quick = CheckKey("127.0.0.1", target.port, settings())
    async with checking() as checks:
        checks.prober.update([slow, quick])
        await checks.until(lambda: checks.made >= 5)
        assert checks.prober.view() == {slow: Health.UNKNOWN, quick: Health.UP}
