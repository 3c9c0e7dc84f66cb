"""The loop: at once when woken, never in a spin, and alive only while it makes progress."""

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from lvs_dr.agent.door import KernelDoor, KernelStuckError
from lvs_dr.agent.loop import Loop
from lvs_dr.core.scope import IPVS
from tests.contract.fake_kernel import FakeKernel


class Passes:
    """Counts passes; a test says what they do."""

    def __init__(self) -> None:
        self.deep: list[bool] = []
        self.polls = 0
        self.drifted = False
        self.error: Exception | None = None
        self.seconds = 0.0
        self.news = asyncio.Event()

    async def once(self, deep: bool) -> None:  # noqa: FBT001 - as the loop calls it
        self.deep.append(deep)
        self.news.set()
        await asyncio.sleep(self.seconds)
        if self.error is not None:
            raise self.error

    async def poll(self) -> bool:
        self.polls += 1
        self.news.set()
        drifted, self.drifted = self.drifted, False
        return drifted

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not condition():
                self.news.clear()
                await self.news.wait()


@asynccontextmanager
async def looping(
    passes: Passes, *, resync: float = 60.0, poll_every: float = 60.0, clock: Callable[[], float] = time.monotonic
) -> AsyncIterator[Loop]:
    """Run a loop."""
    loop = Loop(passes.once, passes.poll, resync=resync, poll_every=poll_every, clock=clock)
    task = asyncio.create_task(loop.run())
    try:
        yield loop
    finally:
        loop.stop()
        async with asyncio.timeout(5):
            await task


async def test_it_is_ready_after_the_first_pass() -> None:
    """A rolling update goes on to the next node once this one has done its work."""
    passes = Passes()
    async with looping(passes) as loop:
        assert loop.ready() == "the first pass is not done yet"
        await loop.first_done.wait()
        assert loop.ready() == ""
        assert passes.deep == [True]


async def test_a_wake_is_acted_on_at_once() -> None:
    """No timer stands between a change and the kernel."""
    passes = Passes()
    async with looping(passes) as loop:
        await loop.first_done.wait()
        await asyncio.sleep(0.05)
        began = time.monotonic()
        loop.wake()
        await passes.until(lambda: len(passes.deep) == 2)
        assert time.monotonic() - began < 0.05
        assert passes.deep == [True, False]


async def test_a_storm_of_wakes_shares_passes() -> None:
    """A thousand events do not mean a thousand reads of the kernel."""
    passes = Passes()
    passes.seconds = 0.02
    async with looping(passes) as loop:
        await loop.first_done.wait()
        for _ in range(200):
            loop.wake()
            await asyncio.sleep(0.001)
        assert len(passes.deep) < 20


async def test_it_looks_again_without_being_told() -> None:
    """IPVS sends no events: only reading finds what somebody removed."""
    passes = Passes()
    async with looping(passes, resync=0.05):
        await passes.until(lambda: len(passes.deep) >= 4)
        assert all(passes.deep)


async def test_a_hint_that_comes_too_soon_is_not_lost() -> None:
    """Links that change twice in a moment are looked at twice, not again after the resync period."""
    passes = Passes()
    async with looping(passes) as loop:
        await loop.first_done.wait()
        loop.look_around()
        await passes.until(lambda: passes.deep.count(True) == 2)


async def test_polls_go_on_between_passes_and_start_one_when_needed() -> None:
    """ARP settings are looked at every second, at the cost of a few small reads."""
    passes = Passes()
    async with looping(passes, poll_every=0.02) as loop:
        await passes.until(lambda: passes.polls >= 3)
        assert loop.passes == 1
        passes.drifted = True
        await passes.until(lambda: len(passes.deep) == 2)


async def test_a_failed_pass_is_told_and_not_the_last() -> None:
    """A bug in one pass must not leave a node without an agent, nor hide."""
    passes = Passes()
    passes.error = RuntimeError("boom")
    async with looping(passes) as loop:
        await passes.until(lambda: passes.deep)
        await asyncio.sleep(0.02)
        assert "boom" in loop.ready()
        assert loop.alive()
        passes.error = None
        loop.wake()
        await asyncio.wait_for(loop.first_done.wait(), 5)
        assert loop.ready() == ""


async def test_a_stuck_kernel_is_no_progress() -> None:
    """An agent that cannot reach its kernel must not look alive, or nobody would take over."""
    passes = Passes()
    passes.error = KernelStuckError("no answer")
    now = [0.0]
    async with looping(passes, clock=lambda: now[0]) as loop:
        await passes.until(lambda: passes.deep)
        assert loop.alive()
        now[0] = 31.0
        loop.wake()
        await passes.until(lambda: len(passes.deep) == 2)
        assert not loop.alive()
        passes.error = None
        loop.wake()
        await passes.until(lambda: len(passes.deep) == 3)
        await asyncio.sleep(0.02)
        assert loop.alive()


async def test_the_door_gives_up_on_a_call_that_hangs_and_recovers() -> None:
    """A hanging netlink call stops passes, not the process; health and the API go on."""
    release = threading.Event()
    door = KernelDoor(FakeKernel(), seconds=0.05)
    with pytest.raises(KernelStuckError, match="did not return"):
        await door.call(release.wait)
    assert door.stuck
    with pytest.raises(KernelStuckError, match="has not returned"):
        await door.read_sysctls()
    release.set()
    async with asyncio.timeout(5):
        while door.stuck:  # noqa: ASYNC110 - a thread tells nothing
            await asyncio.sleep(0.005)
    assert await door.read_sysctls()
    door.close()


async def test_the_door_passes_errors_on() -> None:
    """What the kernel says reaches the report."""
    kernel = FakeKernel()
    kernel.read_error = RuntimeError("boom")
    door = KernelDoor(kernel)
    with pytest.raises(RuntimeError, match="boom"):
        await door.read(frozenset(), IPVS)
    door.close()
    assert kernel.closed
