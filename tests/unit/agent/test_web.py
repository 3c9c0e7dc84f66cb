"""Probes and metrics, as a kubelet and a Prometheus ask for them."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

import aiohttp
import pytest

from lvs_dr.agent.metrics import METRICS
from lvs_dr.process.metrics import Metrics
from lvs_dr.process.web import StatusServer


class Process:
    """What the server is asked about."""

    def __init__(self) -> None:
        self.trouble = ""
        self.metrics = Metrics(METRICS)
        self.url = ""
        self.port = 0


@pytest.fixture
async def process() -> AsyncIterator[Process]:
    """A process that answers probes."""
    one = Process()
    server = StatusServer("127.0.0.1:0", healthy=lambda: "", ready=lambda: one.trouble, metrics=one.metrics)
    async with server:
        one.url, one.port = f"http://127.0.0.1:{server.port}", server.port
        yield one


async def get(url: str) -> tuple[int, str]:
    """Ask as a client does that is not ours."""
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return answer.status, await answer.text()


async def test_readiness_says_what_is_missing(process: Process) -> None:
    """`kubectl describe pod` shows why an agent is not ready."""
    assert await get(f"{process.url}/readyz") == (200, "ok\n")
    process.trouble = "the first pass is not done yet"
    assert await get(f"{process.url}/readyz") == (503, "the first pass is not done yet\n")
    assert (await get(f"{process.url}/healthz"))[0] == 200


async def test_metrics_are_in_the_exposition_format(process: Process) -> None:
    """Prometheus reads counters and gauges with their help."""
    process.metrics.gauge("lvs_agent_held_addresses", lambda: 2)
    process.metrics.count("lvs_agent_checks_total", 3)
    status, text = await get(f"{process.url}/metrics")
    assert status == 200
    assert {
        "# HELP lvs_agent_checks_total Health checks made.",
        "# TYPE lvs_agent_checks_total counter",
        "lvs_agent_checks_total 3",
        "# HELP lvs_agent_held_addresses VIPs held as Active.",
        "# TYPE lvs_agent_held_addresses gauge",
        "lvs_agent_held_addresses 2",
    } <= set(text.splitlines())


async def test_other_pages_and_methods_are_refused(process: Process) -> None:
    """There is nothing else to find here."""
    assert (await get(f"{process.url}/etc/passwd"))[0] == 404
    async with aiohttp.ClientSession() as session, session.post(f"{process.url}/healthz") as answer:
        assert answer.status == 405


@pytest.mark.parametrize("noise", [b"", b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01", b"GET " + b"x" * 20_000])
async def test_noise_does_no_harm(process: Process, noise: bytes) -> None:
    """A port scan of the node must not disturb the agent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", process.port)
    writer.write(noise)
    writer.write_eof()
    async with asyncio.timeout(5):
        with suppress(ConnectionResetError):  # closed with our noise unread
            await reader.read()
    writer.close()
    assert (await get(f"{process.url}/healthz"))[0] == 200
