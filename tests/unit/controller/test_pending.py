"""Debounce and back-off: bursts become one pass, and what failed comes back."""

import asyncio

from lvs_dr.controller.pending import FIRST_RETRY_SECONDS, IDLE_SECONDS, LONGEST_SECONDS, Item, Pending
from lvs_dr.core.decisions import Dirty
from lvs_dr.core.objects import Key
from tests.unit.controller.bodies import Clock

WEB = Key("shop", "web")


def services(*names: str) -> Dirty:
    """Dirty services of one namespace."""
    return Dirty(services=frozenset(Key("shop", name) for name in names))


def pending(clock: Clock) -> Pending:
    """A queue without jitter."""
    return Pending(clock, jitter=lambda: 0.5)


def test_nothing_waits_at_first() -> None:
    """An idle controller does not spin."""
    assert pending(Clock()).due_in() is None


def test_burst_becomes_one_pass() -> None:
    """Changes that follow each other closely are handed over together."""
    clock = Clock()
    queue = pending(clock)
    queue.add(services("a"))
    clock.advance(IDLE_SECONDS / 2)
    queue.add(services("b"))
    due = queue.due_in()
    assert due is not None
    assert due > IDLE_SECONDS / 2
    assert queue.take() == services("a", "b")


def test_endless_stream_is_not_put_off_for_ever() -> None:
    """A change is compiled within a tenth of a second even when others never stop coming."""
    clock = Clock()
    queue = pending(clock)
    for _ in range(100):
        queue.add(services("a"))
        if queue.due_in() == 0:
            break
        clock.advance(IDLE_SECONDS / 2)
    assert clock.now - 1000.0 <= LONGEST_SECONDS + IDLE_SECONDS


def test_failed_item_comes_back_later_and_later() -> None:
    """A key that cannot be written is neither lost nor retried in a tight loop."""
    clock = Clock()
    queue, item, pauses = pending(clock), Item("service", WEB), []
    for _ in range(4):
        queue.failed(item, "no")
        due = queue.due_in()
        assert due is not None
        assert queue.take() == Dirty()
        pauses.append(round(due, 3))
        clock.advance(due)
        assert queue.take() == services("web")
    assert pauses == [FIRST_RETRY_SECONDS * 2**n for n in range(4)]


def test_success_forgets_the_failure() -> None:
    """A key that works again starts from the shortest pause and leaves readiness."""
    clock = Clock()
    queue, item = pending(clock), Item("service", WEB)
    queue.failed(item, "no")
    queue.succeeded(item)
    assert queue.due_in() is None
    assert not queue.failures


def test_change_of_a_failed_item_is_tried_at_once() -> None:
    """A user who corrects an object does not wait for the back-off."""
    clock = Clock()
    queue = pending(clock)
    for _ in range(8):
        queue.failed(Item("service", WEB), "no")
    queue.add(services("web"))
    due = queue.due_in()
    assert due is not None
    assert due <= IDLE_SECONDS


def test_nodes_are_taken_along_and_services_stay() -> None:
    """What tables change for nodes joins the running pass; services wait for the next one."""
    queue = pending(Clock())
    queue.add(Dirty(services=frozenset({WEB}), nodes=frozenset({"one"})))
    assert queue.take_nodes() == Dirty(nodes=frozenset({"one"}))
    assert queue.take() == services("web")


async def test_next_wakes_up_for_a_late_change() -> None:
    """A waiting loop sees a change without polling."""
    queue = Pending(asyncio.get_running_loop().time)
    waiting = asyncio.ensure_future(queue.next())
    await asyncio.sleep(0)
    queue.add(services("web"))
    async with asyncio.timeout(2):
        assert await waiting == services("web")
