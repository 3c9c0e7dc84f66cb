"""Whose turn it is on a node: real processes, since a lock is the kernel's."""

import asyncio
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

import pytest

from lvs_dr.agent.hostlock import HostLock, HostLockedError, turn

HOLDER = """
import sys
from pathlib import Path
from lvs_dr.agent.hostlock import HostLock
lock = HostLock(Path(sys.argv[1]), purpose="the old agent")
lock.acquire(wait=0)
print("held", flush=True)
sys.stdin.read()
"""
OPERATOR = Path(__file__).parents[3] / "operator"


async def holder(directory: Path) -> Process:
    """Start a process that has the lock until it is killed, or its standard input is closed."""
    started = await asyncio.create_subprocess_exec(
        sys.executable, "-c", HOLDER, str(directory), stdin=PIPE, stdout=PIPE, env={"PYTHONPATH": str(OPERATOR)}
    )
    assert started.stdout is not None
    async with asyncio.timeout(20):
        assert await started.stdout.readline() == b"held\n"
    return started


async def page(port: int, path: str) -> str:
    """Return the status and the text of a page."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\n\r\n".encode())
    answer = (await reader.read()).decode()
    writer.close()
    return answer.split(" ", 1)[1].split("\r\n", 1)[0] + ": " + answer.rsplit("\r\n\r\n", 1)[1].strip()


async def test_who_waits_says_so_and_follows_a_killed_agent(tmp_path: Path, unused_tcp_port: int) -> None:
    """A second pod on a node would look broken, or start before the first has let go."""
    old = await holder(tmp_path)
    told: asyncio.Queue[str] = asyncio.Queue()
    with HostLock(tmp_path, purpose="the new agent") as lock:
        listen = f"127.0.0.1:{unused_tcp_port}"
        waiting = asyncio.create_task(turn(lock, listen=listen, wait=float("inf"), tell=told.put_nowait))
        async with asyncio.timeout(20):
            assert await told.get() == (
                f"waiting for another agent on this node to leave: the old agent (pid {old.pid})"
            )
            while True:
                try:
                    ready = await page(unused_tcp_port, "/readyz")
                    break
                except ConnectionRefusedError:
                    await asyncio.sleep(0.01)
            assert ready == (f"503 Service Unavailable: another agent has this node: the old agent (pid {old.pid})")
            assert await page(unused_tcp_port, "/healthz") == "200 OK: ok"
            assert not waiting.done()
            old.kill()
            await waiting
            await old.wait()
            assert told.get_nowait() == "it is our turn now"
        with pytest.raises(ConnectionRefusedError):
            await page(unused_tcp_port, "/readyz")
        assert (tmp_path / "lock").read_text().startswith("the new agent")


async def test_waiting_has_an_end_where_one_is_given(tmp_path: Path) -> None:
    """`--lock-wait` is a promise to scripts; the error names who is in the way."""
    old = await holder(tmp_path)
    with (
        HostLock(tmp_path, purpose="the new agent") as lock,
        pytest.raises(HostLockedError, match=r"held by the old agent \(pid \d+\): one agent per node"),
    ):
        await turn(lock, listen="127.0.0.1:0", wait=0.2, tell=lambda _: None)
    old.kill()
    await old.wait()


async def test_a_taken_port_does_not_end_the_wait(tmp_path: Path, unused_tcp_port: int) -> None:
    """The agent that has the node may listen on the port that the waiting one is told to use."""
    old = await holder(tmp_path)
    taken = await asyncio.start_server(lambda *_: None, "127.0.0.1", unused_tcp_port)
    told: asyncio.Queue[str] = asyncio.Queue()
    with HostLock(tmp_path, purpose="the new agent") as lock:
        listen = f"127.0.0.1:{unused_tcp_port}"
        waiting = asyncio.create_task(turn(lock, listen=listen, wait=float("inf"), tell=told.put_nowait))
        async with asyncio.timeout(20):
            assert "waiting" in await told.get()
            assert f"cannot listen on {listen} while waiting" in await told.get()
            assert old.stdin is not None
            old.stdin.close()
            await old.wait()
            await waiting
    taken.close()
