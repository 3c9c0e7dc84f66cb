"""Health checks with real sockets on loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

import pytest

from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.prober import Prober
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.table import TableHealthCheck, TcpCheck


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

    def __init__(self) -> None:
        self.news = asyncio.Event()
        self.changes = 0
        self.made = 0
        self.prober = Prober(changed=self._changed, check=Checkers(), counted=self._counted)

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
async def checking() -> AsyncIterator[Checks]:
    """Run a prober."""
    checks = Checks()
    task = asyncio.create_task(checks.prober.run())
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
        assert checks.prober.outcome(key).message == "connection refused"
        await target.start()
        await checks.until(lambda: checks.prober.view()[key] is Health.UP)
        assert checks.prober.outcome(key).message == ""
        assert checks.changes == 3


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


async def test_a_hanging_check_does_not_hold_up_others(target: Target, full: int) -> None:
    """One real server that hangs must not delay finding out about another."""
    slow = CheckKey("127.0.0.1", full, settings(timeout=5))
    quick = CheckKey("127.0.0.1", target.port, settings())
    async with checking() as checks:
        checks.prober.update([slow, quick])
        await checks.until(lambda: checks.made >= 5)
        assert checks.prober.view() == {slow: Health.UNKNOWN, quick: Health.UP}
