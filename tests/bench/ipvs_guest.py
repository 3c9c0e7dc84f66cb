"""Runs inside a lab node, in a network namespace of its own, and prints what it measured as JSON.

    ipvs_guest.py program SERVICES DESTINATIONS ROUNDS WAY ...
    ipvs_guest.py steady|hold SERVICES DESTINATIONS ROUNDS
    ipvs_guest.py once SERVICES DESTINATIONS 1 WAY

program: a table from empty by each way (agent, bare, ipvsadm, pyroute2) in turn; steady: passes with nothing or one
thing to do; hold: how long the event loop is held; once: like program, for counting system calls.
Each table gets a network namespace of its own: what was deleted stays in the kernel's list of old destinations for
minutes, and each later add to that namespace searches the list.
"""

import asyncio
import ctypes
import gc
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from lvs_dr.agent.memory import share_the_interpreter, use_memory_calmly
from lvs_dr.core.desired import desired
from lvs_dr.core.plan import plan
from lvs_dr.core.scope import IPVS
from tests.bench import ipvs_parts as parts

TICK_SECONDS = 0.001
TICKS_AFTER = 3
SETTLE_SECONDS = 0.5

_LIBC = ctypes.CDLL(None, use_errno=True)
_CLONE_NEWNET = 0x40000000


def fresh_namespace() -> None:
    """Move this process into a new, empty network namespace."""
    if _LIBC.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "unshare")
    time.sleep(SETTLE_SECONDS)  # the kernel takes the one before down in the background
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)


async def agent(services: int, destinations: int) -> tuple[float, int]:
    """One pass of the agent over a whole new table."""
    tables = [parts.table(number, destinations) for number in range(services)]
    with tempfile.TemporaryDirectory(dir="/run") as directory, parts.running(Path(directory)) as node:
        node.follow([])
        await node.once()  # opens sockets and loads libraries, as in an agent that runs
        node.follow(tables)
        return await node.once(), node.take()


def one(way: str, services: int, destinations: int, *, checked: bool = True) -> float:
    """Program a table from empty in one way; return the seconds."""
    if way == "agent":
        seconds, messages = asyncio.run(agent(services, destinations))
        gc.collect()  # the next round takes this one's memory
        assert messages == services * (1 + destinations), messages
    elif way == "bare":
        sender = parts.Bare()
        batch = sender.batch(services, destinations)
        seconds = sender.send(batch)
        sender.close()
    else:
        seconds = {"ipvsadm": parts.ipvsadm, "pyroute2": parts.pyroute2}[way](services, destinations)
    found = parts.entries() if checked else services * (1 + destinations)
    if found != services * (1 + destinations):
        raise SystemExit(f"{way}: {found} entries in the kernel, not {services * (1 + destinations)}")
    return seconds


def program(services: int, destinations: int, rounds: int, *ways: str) -> dict[str, Any]:
    """Program the same table in all ways in turn, again and again; only one tenth of it with pyroute2, and once."""
    result: dict[str, Any] = {way: [] for way in ways}
    for number in range(rounds):
        for way in ways:
            if way != "pyroute2" or number == 0:
                fresh_namespace()
                result[way].append(one(way, max(1, services // 10) if way == "pyroute2" else services, destinations))
    return result


async def steady(services: int, destinations: int, rounds: int) -> dict[str, Any]:
    """Passes over a table that is there: nothing to do, and one weight to change; each beside a bare dump."""
    result: dict[str, Any] = {name: [] for name in ("noop", "dump", "change", "read", "decide")}
    with tempfile.TemporaryDirectory(dir="/run") as directory, parts.running(Path(directory)) as node:
        node.follow([])
        await node.once()
        tables = [parts.table(number, destinations) for number in range(services)]
        node.follow(tables)
        result["program"] = await node.once()
        result["program messages"] = node.take()
        await node.once()
        reader = parts.Bare()
        questions = reader.questions(services)
        stamp = node.ledger.path.stat().st_mtime_ns
        for _ in range(rounds):
            result["dump"].append(reader.dump(questions))
            result["noop"].append(await node.once())
        result["noop writes"] = node.take() + (node.ledger.path.stat().st_mtime_ns != stamp)
        messages = []
        for number in range(rounds):
            changed = parts.table(services // 2, destinations, first_weight=number + 1)
            tables[services // 2] = changed
            node.change(services // 2, changed, generation=number + 2)
            wanted = node.state.take()
            began = time.perf_counter()
            actual = await node.door.read(frozenset(), IPVS)
            read = time.perf_counter()
            assert wanted.spec is not None
            goal = desired(wanted.spec, wanted.tables, {}, node.ledger.current, held=frozenset(), reserved={})
            made = plan(goal, actual, node.ledger.current, now=time.monotonic())
            decided = time.perf_counter()
            assert len(made.ops) == 1, made.ops[:3]
            result["read"].append(read - began)
            result["decide"].append(decided - read)
            result["change"].append(await node.once(deep=False))
            messages.append(node.take())
        result["change messages"] = max(messages)
    return result


async def hold(services: int, destinations: int, rounds: int) -> dict[str, Any]:
    """The longest time between two turns of the event loop: idle, while programming, during passes without change."""
    gaps: list[float] = []

    async def tick() -> None:
        before = time.perf_counter()
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = time.perf_counter()
            gaps.append(now - before - TICK_SECONDS)
            before = now

    def longest() -> float:
        found = max(gaps, default=0.0)
        gaps.clear()
        return found

    result: dict[str, Any] = {"idle": [], "resync": []}
    with tempfile.TemporaryDirectory(dir="/run") as directory, parts.running(Path(directory)) as node:
        node.follow([])
        await node.once()
        ticking = asyncio.create_task(tick())
        node.follow([parts.table(number, destinations) for number in range(services)])
        await asyncio.sleep(0.01)
        gaps.clear()
        await node.once()
        await asyncio.sleep(TICKS_AFTER * TICK_SECONDS)  # a gap is known when it has ended
        result["program"] = longest()
        gc.collect()
        for _ in range(rounds):
            gaps.clear()
            took = await node.once()
            await asyncio.sleep(TICKS_AFTER * TICK_SECONDS)
            result["resync"].append(longest())
            await asyncio.sleep(took)
            result["idle"].append(longest())
        ticking.cancel()
    return result


def main() -> None:
    """Measure what the arguments say."""
    what, (services, destinations, rounds), ways = sys.argv[1], map(int, sys.argv[2:5]), sys.argv[5:]
    use_memory_calmly()  # as the agent's own main does
    share_the_interpreter()
    fresh_namespace()
    if what == "program":
        one("bare", 1, 1)  # loads the modules
        answer: object = program(services, destinations, rounds, *ways)
    elif what == "steady":
        answer = asyncio.run(steady(services, destinations, rounds))
    elif what == "hold":
        answer = asyncio.run(hold(services, destinations, rounds))
    else:
        answer = one(ways[0], services, destinations, checked=False)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
