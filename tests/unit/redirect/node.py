"""A redirector process with the agent's side beside it."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

from lvs_dr.redirect.handoff import Handoff
from lvs_dr.redirect.messages import Listener
from tests.unit.redirect.redirecting import free_port

ROOT = Path(__file__).parents[3]


async def until(condition: Callable[[], object], within: float = 60.0) -> None:
    """Wait until something is so."""
    async with asyncio.timeout(within):
        while not condition():  # noqa: ASYNC110 - what is waited for is in another process
            await asyncio.sleep(0.01)


class Node:
    """An agent's side and a redirector process."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "agent.sock"
        self.pages = free_port()
        self.process: asyncio.subprocess.Process | None = None
        self.handoff = self.new_handoff()

    def new_handoff(self) -> Handoff:
        """Return what an agent starts with."""
        return Handoff(self.path, uids=(os.getuid(),))

    async def start(self) -> None:
        """Start a redirector."""
        self.process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-m", "lvs_dr.redirect", "--socket", str(self.path), "--listen", f"127.0.0.1:{self.pages}"),
            env={**os.environ, "PYTHONPATH": str(ROOT / "operator")},
        )

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """End it."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(number)
        async with asyncio.timeout(60):
            return await self.process.wait()

    async def serve(self, *listeners: Listener) -> None:
        """Have listeners served, and wait until they are."""
        revision = self.handoff.update(listeners)
        await until(lambda: self.handoff.report is not None and self.handoff.report.revision == revision)

    async def page(self, path: str) -> tuple[int, str]:
        """Ask for a page of the process."""
        async with aiohttp.ClientSession() as session, session.get(f"http://127.0.0.1:{self.pages}{path}") as answer:
            return answer.status, await answer.text()


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Node]:
    """Run both."""
    node = Node(directory)
    await node.start()
    try:
        async with node.handoff:
            yield node
    finally:
        await node.stop(signal.SIGKILL)
