"""A redirector on loopback, with sockets and states of its own, for tests and benchmarks."""

import asyncio
import random
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest
from msgspec.structs import replace

from lvs_dr.process.metrics import Metrics
from lvs_dr.redirect.__main__ import METRICS, tally
from lvs_dr.redirect.listeners import Listeners
from lvs_dr.redirect.messages import Listener, Settings, State, Target
from lvs_dr.redirect.sockets import bound_key, listening_socket

TARGETS = (
    Target(name="storage-1", address="192.0.2.11", hostname="s1.example.org"),
    Target(name="storage-2", address="192.0.2.12", hostname="s2.example.org"),
)


def listener(
    *, port: int = 80, targets: Sequence[Target] = TARGETS, settings: Settings | None = None, **more: Any
) -> Listener:
    """Return a listener on loopback."""
    return Listener(
        service="default/upload",
        address=more.pop("address", "127.0.0.1"),
        port=port,
        settings=settings or Settings(),
        targets=tuple(targets),
        **more,
    )


class Redirector:
    """A redirector without an agent: one listener."""

    def __init__(self) -> None:
        self.metrics = Metrics(METRICS)
        self.wall = time.time  # tests change it
        self.listeners = Listeners(
            tally=tally(self.metrics),
            uniform=random.Random(1).random,
            wall=lambda: self.wall(),  # noqa: PLW0108 - asked anew each time
            most_connections=1000,
        )
        self.port = 0
        self.revision = 0

    async def serve(self, one: Listener) -> None:
        """Serve this listener, on a port that is free."""
        key = f"[{one.address}]" if ":" in one.address else one.address
        if not self.port:
            listening = listening_socket(one.address, 0)
            self.port = listening.getsockname()[1]
            assert bound_key(listening) == f"{key}:{self.port}"
            self.listeners.give(bound_key(listening), listening)
        self.revision += 1
        self.listeners.apply(State(self.revision, (replace(one, port=self.port),)))

    @property
    def address(self) -> tuple[str, int]:
        """Where clients connect."""
        return "127.0.0.1", self.port

    async def quiet(self) -> None:
        """Wait until no client is connected."""
        async with asyncio.timeout(10):
            while self.listeners.exchanges:  # noqa: ASYNC110 - a set tells nobody
                await asyncio.sleep(0.01)

    def refused(self, reason: str) -> float:
        """Return how many requests were refused for a reason."""
        return self.metrics.value("lvs_redirector_refused_total", service="default/upload", reason=reason)


@asynccontextmanager
async def redirecting(one: Listener | None = None) -> AsyncIterator[Redirector]:
    """Run a redirector."""
    running = Redirector()
    await running.serve(one or listener())
    care = asyncio.create_task(running.listeners.look_after())
    try:
        yield running
    finally:
        care.cancel()
        await asyncio.gather(care, return_exceptions=True)
        await running.listeners.drain(0)
        running.listeners.close()


async def talk(address: tuple[str, int], *parts: bytes, pause: float = 0.0, within: float = 30.0) -> bytes:
    """Send bytes as they are, and return everything that comes back until the other side ends."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(within):
            for part in parts:
                writer.write(part)
                await writer.drain()
                await asyncio.sleep(pause)
            return await reader.read()
    finally:
        writer.close()


async def first_answer(address: tuple[str, int], request: bytes, within: float = 30.0) -> bytes:
    """Send a request, and return the first answer's header."""
    reader, writer = await asyncio.open_connection(*address)
    try:
        async with asyncio.timeout(within):
            writer.write(request)
            return await reader.readuntil(b"\r\n\r\n")
    finally:
        writer.close()


def status(answer: bytes) -> int:
    """Return the code of an answer."""
    return int(answer.split(b" ", 2)[1])


def header(answer: bytes, name: str) -> str:
    """Return a header of the first answer; "" when it has none."""
    for line in answer.partition(b"\r\n\r\n")[0].decode("latin-1").split("\r\n")[1:]:
        key, _, value = line.partition(": ")
        if key.lower() == name.lower():
            return value
    return ""


def needs_ipv6() -> None:
    """Skip where IPv6 is switched off."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"IPv6 is missing: {error}")


def free_port() -> int:
    """Return a port that nobody has now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port
