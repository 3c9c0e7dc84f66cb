"""Whole uploads by clients that are not ours."""

import asyncio
import hashlib
import http.client
import io
import os
import shutil
import subprocess
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest
import requests

from lvs_dr.core.redirect import Algorithm
from lvs_dr.redirect.messages import Settings, Target
from tests.unit.redirect.node import Node
from tests.unit.redirect.redirecting import free_port, listener
from tests.unit.redirect.storage import Storage

BODY = os.urandom(3 * 1024 * 1024)


async def by_aiohttp(url: str) -> int:
    """aiohttp follows 307 with method and body."""
    async with aiohttp.ClientSession() as session, session.put(url, data=io.BytesIO(BODY), expect100=True) as answer:
        return answer.status


async def by_requests(url: str) -> int:
    """python-requests sends the body, then reads the answer, then sends it again."""
    return (await asyncio.to_thread(requests.put, url, data=BODY, timeout=20)).status_code


async def by_http_client(url: str) -> int:
    """http.client follows nothing: the caller does."""

    def upload() -> int:
        goal = url
        for _ in range(2):
            _, _, rest = goal.partition("//")
            place, _, path = rest.partition("/")
            connection = http.client.HTTPConnection(place, timeout=20)
            connection.request("PUT", f"/{path}", body=BODY)
            answer = connection.getresponse()
            answer.read()
            connection.close()
            if answer.status != 307:
                break
            goal = answer.headers["Location"]
        return answer.status

    return await asyncio.to_thread(upload)


async def by_curl(url: str, *more: str) -> int:
    """Follow with curl, the body from standard input or a file."""
    if shutil.which("curl") is None:
        pytest.skip("curl is missing: apt install curl")
    process = await asyncio.create_subprocess_exec(
        *("curl", "-sS", "-L", "-o", "/dev/null", "-w", "%{http_code}", "-m", "20", *more, url),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    output, _ = await process.communicate(BODY if "-" in more else None)
    return int(output)


Upload = Callable[[str], Awaitable[int]]
CLIENTS: dict[str, Upload] = {"aiohttp": by_aiohttp, "requests": by_requests, "http.client": by_http_client}


@pytest.mark.parametrize("client", [*CLIENTS, "curl with Expect", "curl without Expect"])
async def test_an_upload_lands_whole_on_a_real_server(node: Node, tmp_path: Path, client: str) -> None:
    """What all of this is for."""
    file = tmp_path / "body"
    file.write_bytes(BODY)
    with Storage() as first, Storage() as second:
        targets = (
            Target(name="storage-1", address="127.0.0.1", hostname=f"{first.host}"),
            Target(name="storage-2", address="127.0.0.1", hostname=f"{second.host}"),
        )
        port = free_port()
        settings = Settings(algorithm=Algorithm.RR, port=first.port, discard_bytes=8 << 20)
        second.use_port_of(first)
        await node.serve(listener(port=port, targets=targets, settings=settings))
        for number in range(2):
            url = f"http://127.0.0.1:{port}/file%20{number}?part={number}"
            if client in CLIENTS:
                code = await CLIENTS[client](url)
            elif client == "curl with Expect":
                code = await by_curl(url, "-T", str(file), "-H", "Expect: 100-continue")
            else:
                code = await by_curl(url, "-T", str(file), "-H", "Expect:")
            assert code == 201
        digest = hashlib.sha256(BODY).hexdigest()
        assert first.stored == {"/file%200?part=0": ("PUT", digest)}
        assert second.stored == {"/file%201?part=1": ("PUT", digest)}
