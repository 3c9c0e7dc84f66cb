"""The supervisor's end of the control channel: one TCP connection per request to the node's guest/agentd.py.

A request is one JSON line, the answer one or more JSON lines. hostfs carries no FIFOs and no unix sockets between
kernels, so this is TCP, on a network that nothing else on the node can see.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from lvs_lab.errors import CommandTimeout, LabError, NodeUnreachable
from lvs_lab.spec import AGENT_PORT

_LINE_LIMIT = 16 * 1024 * 1024
_CONNECT_TIMEOUT = 5.0

Frame = dict[str, Any]
Output = Callable[[str, str], Awaitable[None]]
"""Receives ("stdout" | "stderr", text) as it comes."""


class Channel:
    """Requests to one node's control server; every one fails with NodeUnreachable when the node goes down."""

    def __init__(self, name: str, address: str, port: int = AGENT_PORT) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.powered = False
        """Whether the node's kernel runs: without it there is nobody to wait for."""
        self._open: set[asyncio.Task[Any]] = set()

    def hang_up(self) -> None:
        """End all requests under way and refuse new ones: a kernel that was killed sends no FIN."""
        self.powered = False
        for task in list(self._open):
            task.cancel("node is down")

    async def request(self, frame: Frame, *, timeout: float | None) -> Frame:  # noqa: ASYNC109
        """Send a request that has one answer. `timeout` in seconds covers all of it; None waits for ever."""
        return await self.converse(frame, timeout=timeout)

    async def converse(self, frame: Frame, *, timeout: float | None, output: Output | None = None) -> Frame:  # noqa: ASYNC109
        """Send a request, pass its output frames on, return its last frame.

        Raises CommandTimeout (the server then kills the command), NodeUnreachable, and LabError for a refusal.
        """
        task = asyncio.create_task(self._converse(frame, output))
        self._open.add(task)
        try:
            async with asyncio.timeout(timeout):
                return await task
        except TimeoutError as error:
            what = " ".join(frame.get("argv", ())) or frame["op"]
            raise CommandTimeout(f"{self.name}: {what!r} did not end within {timeout:g} s") from error
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            raise NodeUnreachable(f"{self.name}: the node went down") from error
        finally:
            self._open.discard(task)

    async def _converse(self, frame: Frame, output: Output | None) -> Frame:
        async with self.connection() as (reader, writer):
            try:
                writer.write(json.dumps(frame).encode() + b"\n")
                await writer.drain()
                while line := await reader.readline():
                    answer: Frame = json.loads(line)
                    if "error" in answer:
                        raise LabError(f"{self.name}: {answer['error']}")
                    stream = next((name for name in ("stdout", "stderr") if name in answer), None)
                    if stream is None:
                        return answer
                    if output is not None:
                        await output(stream, answer[stream])
            except OSError as error:
                raise NodeUnreachable(f"{self.name}: {error}") from error
        raise NodeUnreachable(f"{self.name}: the control server hung up")

    @asynccontextmanager
    async def connection(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
        """Connect to the control server. Raises NodeUnreachable."""
        if not self.powered:
            raise NodeUnreachable(f"{self.name}: the node is down")
        try:
            async with asyncio.timeout(_CONNECT_TIMEOUT):
                reader, writer = await asyncio.open_connection(self.address, self.port, limit=_LINE_LIMIT)
        except (OSError, TimeoutError) as error:
            raise NodeUnreachable(f"{self.name}: no answer from {self.address}:{self.port}") from error
        try:
            yield reader, writer
        finally:
            writer.transport.abort()
