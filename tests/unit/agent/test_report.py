"""Reports: at once after a change, then bundled, and only what changed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from lvs_dr.agent.apiclient import ApiClient
from lvs_dr.agent.report import Reporter, gap
from lvs_dr.core.node_status import LVSNodeStatus
from tests.unit.agent.bench import NODE
from tests.unit.agent.fake_api import FakeApi


class Clock:
    """Time that passes when a test says so; who sleeps is told apart from who has woken."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.asleep: list[float] = []
        self._tick = asyncio.Condition()

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        until = self.now + seconds
        async with self._tick:
            self.asleep.append(seconds)
            self._tick.notify_all()
            await self._tick.wait_for(lambda: self.now >= until)
            self.asleep.remove(seconds)

    async def sleeper(self) -> float:
        """Wait until somebody sleeps, and return for how long."""
        async with asyncio.timeout(5), self._tick:
            await self._tick.wait_for(lambda: bool(self.asleep))
            return self.asleep[0]

    async def advance(self, seconds: float) -> None:
        async with self._tick:
            self.now += seconds
            self._tick.notify_all()


def status(repairs: int) -> LVSNodeStatus:
    """Return a status that differs from others by one number."""
    return LVSNodeStatus(agent_version="0.1.0", repairs=repairs)


@asynccontextmanager
async def reporting(api: FakeApi, client: ApiClient) -> AsyncIterator[tuple[Reporter, Clock]]:
    """Run a reporter for a node that exists."""
    await api.put("lvsnodes", NODE, {})
    clock = Clock()
    reporter = Reporter(client, NODE, clock=clock, sleep=clock.sleep)
    task = asyncio.create_task(reporter.run())
    try:
        yield reporter, clock
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def told(api: FakeApi) -> list[int]:
    """Return the numbers that were reported."""
    return [written.get("repairs", 0) for written in api.status_writes]


async def written(api: FakeApi, reporter: Reporter, number: int) -> None:
    """Wait until a status was written, and the reporter knows that it was."""
    await api.status_where(lambda one: one["repairs"] == number)
    async with asyncio.timeout(5):
        while reporter.pending:  # noqa: ASYNC110 - the answer is on its way
            await asyncio.sleep(0.005)


async def test_the_first_change_is_written_at_once_and_the_next_ones_together(api: FakeApi, client: ApiClient) -> None:
    """The controller's order waits for the first; a storm of changes costs the API server one write a second."""
    async with reporting(api, client) as (reporter, clock):
        reporter.offer(status(1))
        await written(api, reporter, 1)
        for number in (2, 3, 4):
            reporter.offer(status(number))
        assert await clock.sleeper() == pytest.approx(1.0)
        assert told(api) == [1]
        await clock.advance(1.0)
        await written(api, reporter, 4)
        assert told(api) == [1, 4]


async def test_after_a_quiet_second_a_change_is_written_at_once(api: FakeApi, client: ApiClient) -> None:
    """Nothing waits that need not."""
    async with reporting(api, client) as (reporter, clock):
        reporter.offer(status(1))
        await written(api, reporter, 1)
        await clock.advance(1.0)
        reporter.offer(status(2))
        await written(api, reporter, 2)
        assert clock.asleep == []


async def test_what_did_not_change_is_not_written(api: FakeApi, client: ApiClient) -> None:
    """500 nodes at rest write nothing."""
    async with reporting(api, client) as (reporter, clock):
        for _ in range(3):
            reporter.offer(status(1))
            await written(api, reporter, 1)
            await clock.advance(2.0)
        reporter.offer(status(2))
        await written(api, reporter, 2)
        assert told(api) == [1, 2]


async def test_a_status_that_somebody_removed_is_written_again(api: FakeApi, client: ApiClient) -> None:
    """The controller waits for the report of an LVSNode that was made anew."""
    async with reporting(api, client) as (reporter, clock):
        reporter.offer(status(1))
        await written(api, reporter, 1)
        await clock.advance(2.0)
        api.status_writes.clear()
        reporter.offer(status(1), again=True)
        await written(api, reporter, 1)


async def test_a_failed_write_is_tried_again_with_the_newest(api: FakeApi, client: ApiClient) -> None:
    """An API server that is busy gets the truth of now, not of then."""
    async with reporting(api, client) as (reporter, clock):
        api.refuse_status = 500
        reporter.offer(status(1))
        await clock.sleeper()
        assert reporter.pending
        reporter.offer(status(2))
        api.refuse_status = 0
        await clock.advance(20.0)
        await written(api, reporter, 2)
        assert told(api) == [2]
        assert not reporter.pending


def test_larger_reports_are_written_less_often() -> None:
    """A director of 1,000 tables does not write megabytes every second."""
    assert gap(500) == 1.0
    assert gap(100_000) > 3.0
    assert gap(10_000_000) == 10.0
