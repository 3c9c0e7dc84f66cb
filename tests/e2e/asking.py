"""A client that asks a VIP all the time; a guest script and its other end.

On the client: asking.py ADDRESS PORT connects every 50 ms, reads the server's name, and prints when it began each
attempt that was answered within a second, in seconds of the client's own clock.
"""

import asyncio
import contextlib
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvs_lab import Node

EVERY_SECONDS = 0.05
PATIENCE_SECONDS = 1.0


class Asker:
    """The test's end: a process on a node that asks one VIP."""

    def __init__(self, node: "Node", address: str, port: int) -> None:
        self._process = node.spawn(sys.executable, str(Path(__file__)), address, str(port))
        self._process.wait_for_output("ready", timeout=30)

    def until_answered(self, within: float = 30) -> None:
        """Wait for the first answer."""
        self._process.wait_for_output("answered ", timeout=within)

    def answered(self) -> list[float]:
        """Return when the attempts began that were answered so far, in order."""
        words = (line.partition(" ") for line in self._process.output().rpartition("\n")[0].splitlines())
        return sorted(float(when) for what, _, when in words if what == "answered" and when)

    def end(self) -> None:
        """Stop asking."""
        self._process.signal(9)


async def _ask(address: str, port: int) -> None:
    began = time.monotonic()
    with contextlib.suppress(OSError):
        async with asyncio.timeout(PATIENCE_SECONDS):
            reader, writer = await asyncio.open_connection(address, port)
            with contextlib.closing(writer):
                if await reader.readline():
                    print(f"answered {began:.3f}", flush=True)  # noqa: T201


async def _main(address: str, port: int) -> None:
    """Ask until killed."""
    print("ready", flush=True)  # noqa: T201
    under_way: set[asyncio.Task[None]] = set()
    while True:
        task = asyncio.create_task(_ask(address, port))
        under_way.add(task)
        task.add_done_callback(under_way.discard)
        await asyncio.sleep(EVERY_SECONDS)


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
