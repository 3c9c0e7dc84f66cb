"""The time limit of a check on a director that is short of CPU."""

import asyncio
import time

import pytest

from lvs_dr.agent.health.attempt import CannotCheckError
from lvs_dr.agent.health.deadline import Deadline, StolenTime
from lvs_dr.core.checks import TcpCheck
from tests.unit.agent.check_servers import ask, full, stream


async def test_what_is_done_in_time_is_let_go() -> None:
    """A timer that stays behind would cancel the next check."""
    deadline = Deadline(0.05, StolenTime())
    async with deadline:
        pass
    await asyncio.sleep(0.1)
    assert not deadline.starved


async def test_what_takes_too_long_is_cut_off() -> None:
    """A real server that hangs is found out."""
    deadline = Deadline(0.05, StolenTime())
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(60)


async def test_a_cancellation_from_outside_stays_one() -> None:
    """The agent could not stop."""

    async def limited() -> None:
        async with Deadline(60, StolenTime()):
            await asyncio.sleep(60)

    task = asyncio.create_task(limited())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_an_answer_that_was_there_in_time_counts_however_late_it_is_seen() -> None:
    """A director that is held up for a moment would take out all its real servers at once."""

    async def hold_up() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.5)  # noqa: ASYNC251 - what this test is about

    async with stream(b"hello", hold=True) as server:
        holding = asyncio.create_task(hold_up())
        check = ask(server.port, timeout=0.3, tcp=TcpCheck(expect=b"hello".hex()))
        assert await check == ""
        await holding


async def test_a_director_that_never_gets_its_turn_says_nothing_of_the_real_server() -> None:
    """It would call dead what it cannot see."""

    async def hold_up() -> None:
        await asyncio.sleep(0.01)
        time.sleep(1)  # noqa: ASYNC251 - what this test is about

    async with full() as port:
        holding = asyncio.create_task(hold_up())
        with pytest.raises(CannotCheckError, match="too busy"):
            await ask(port, timeout=0.2, tcp=TcpCheck())
        await holding


async def test_a_hanging_real_server_is_found_out_on_a_busy_director() -> None:
    """Stolen time is given back, and then the silence counts."""

    async def hold_up() -> None:
        await asyncio.sleep(0.01)
        time.sleep(0.5)  # noqa: ASYNC251 - what this test is about

    deadline = Deadline(0.4, StolenTime())
    began = asyncio.get_running_loop().time()
    holding = asyncio.create_task(hold_up())
    with pytest.raises(TimeoutError):
        async with deadline:
            await asyncio.sleep(60)
    await holding
    assert not deadline.starved
    assert asyncio.get_running_loop().time() - began > 0.7
