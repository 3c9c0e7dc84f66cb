"""The process with an agent beside it: states, sockets, restarts of both."""

import asyncio
import signal
import socket

import pytest

from lvs_dr.redirect.channel import Channel
from lvs_dr.redirect.messages import (
    LONGEST_LINE,
    Hello,
    Listener,
    Load,
    RefusedLine,
    Report,
    State,
    Target,
    for_agent,
    for_redirector,
    line,
)
from lvs_dr.redirect.sockets import listening_socket
from tests.unit.redirect.node import Node, until
from tests.unit.redirect.redirecting import first_answer, free_port, listener, needs_ipv6, status

GET = b"GET /a HTTP/1.1\r\nHost: vip\r\n\r\n"


async def test_states_are_carried_out_and_reported(node: Node) -> None:
    """The agent could not know what clients get."""
    port, other = free_port(), free_port()
    await until(lambda: node.handoff.connected)
    assert (await node.page("/readyz"))[0] == 503
    await node.serve(listener(port=port), listener(port=other))
    assert (await node.page("/readyz"))[0] == 200
    for one in (port, other):
        assert status(await first_answer(("127.0.0.1", one), GET)) == 307
    assert status(await first_answer(("127.0.0.1", port), b"GET / HTTP/1.1\r\n\r\n")) == 400
    node.handoff.tell_loads([Load("192.0.2.11", port, established=5, inbound_bytes=1000)])
    node.handoff.tell_loads([Load("192.0.2.11", port, established=5, inbound_bytes=4000)])

    def told() -> bool:
        report = node.handoff.report
        first = next((each for each in report.listeners if each.key == f"127.0.0.1:{port}"), None) if report else None
        return (
            first is not None
            and sum(each.redirects for each in first.targets) == 1
            and first.refused == {"Host": 1}
            and max(each.in_flight for each in first.targets) >= 5
        )

    await until(told)
    page = (await node.page("/metrics"))[1]
    assert 'lvs_redirector_redirects_total{code="307",service="default/upload",target="storage-1"}' in page
    assert 'lvs_redirector_refused_total{reason="Host",service="default/upload"} 1' in page
    await node.serve(listener(port=other))
    with pytest.raises(ConnectionRefusedError):
        await first_answer(("127.0.0.1", port), GET)
    assert status(await first_answer(("127.0.0.1", other), GET)) == 307


class Stream:
    """Requests one after the other, each with a connection of its own."""

    def __init__(self, port: int) -> None:
        self.answered = 0
        self.failed: list[str] = []
        self._port = port
        self._going = True
        self._task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        while self._going:
            try:
                if status(await first_answer(("127.0.0.1", self._port), GET, within=60)) == 307:
                    self.answered += 1
                else:
                    self.failed.append("no redirect")
            except (OSError, asyncio.IncompleteReadError) as error:
                self.failed.append(repr(error))

    async def some(self) -> None:
        """Wait for some more answers, or a failure."""
        goal = self.answered + 3
        await until(lambda: self.answered >= goal or self.failed)

    async def end(self) -> list[str]:
        """Return what failed."""
        self._going = False
        await self._task
        return self.failed


async def test_a_restart_refuses_no_connection(node: Node) -> None:
    """Every upgrade would fail uploads."""
    port = free_port()
    await node.serve(listener(port=port))
    streams = [Stream(port) for _ in range(4)]
    for _ in range(2):
        await streams[0].some()
        assert await node.stop() == 0
        await until(lambda: not node.handoff.connected)
        await node.start()
    await streams[0].some()
    assert [await stream.end() for stream in streams] == [[], [], [], []]


async def test_a_crash_leaves_new_connections_waiting_not_refused(node: Node) -> None:
    """A crash of one small process would be an outage."""
    port = free_port()
    await node.serve(listener(port=port))
    await node.stop(signal.SIGKILL)
    waiting = asyncio.create_task(first_answer(("127.0.0.1", port), GET))
    await asyncio.sleep(0)
    await node.start()
    assert status(await waiting) == 307


async def test_a_new_agent_takes_the_sockets_over(node: Node) -> None:
    """An upgrade of the agent would close every listener, or could not open it anew."""
    port = free_port()
    await node.serve(listener(port=port))
    stream = Stream(port)
    await stream.some()
    await node.handoff.__aexit__(None, None, None)
    assert status(await first_answer(("127.0.0.1", port), GET)) == 307  # without an agent
    node.handoff = node.new_handoff()
    async with node.handoff:
        await until(lambda: node.handoff.connected)
        assert status(await first_answer(("127.0.0.1", port), GET)) == 307  # an agent that knows nothing yet
        await node.serve(listener(port=port))
        assert node.handoff.problems == {}
        assert await node.stop() == 0  # the sockets are the new agent's: a restart now refuses nothing either
        await node.start()
        await stream.some()
        assert await stream.end() == []


async def test_an_address_that_is_taken_is_told_and_tried_again(node: Node) -> None:
    """One port that somebody else has would take down all others, or never be served."""
    taken = listening_socket("127.0.0.1", 0)
    port, other = taken.getsockname()[1], free_port()
    await node.serve(listener(port=port), listener(port=other))
    assert "cannot listen" in node.handoff.problems[f"127.0.0.1:{port}"]
    assert status(await first_answer(("127.0.0.1", other), GET)) == 307
    assert "1 of 2 listeners" in (await node.page("/readyz"))[1]
    taken.close()
    await until(lambda: not node.handoff.problems)

    await until(
        lambda: node.handoff.report is not None and not any(one.problem for one in node.handoff.report.listeners)
    )
    assert status(await first_answer(("127.0.0.1", port), GET)) == 307


async def test_a_backup_listens_on_an_address_that_it_does_not_have(node: Node) -> None:
    """After a takeover nobody would listen on the VIP."""
    needs_ipv6()
    away = Listener(service="default/upload", address="192.0.2.77", port=free_port())
    six = Listener(service="default/upload", address="2001:db8::77", port=free_port())
    await node.serve(away, six)
    assert node.handoff.problems == {}
    assert (await node.page("/readyz"))[0] == 200


async def test_garbage_on_the_agents_socket_is_refused(node: Node) -> None:
    """A stray process would bring the agent down, or take its sockets."""
    port = free_port()
    await node.serve(listener(port=port))
    for data in (b"nonsense\n", b'{"kind":"hello","protocol":1,"keys":["a"]}\n', b"\n", b""):
        reader, writer = await asyncio.open_unix_connection(str(node.path))
        writer.write(data)
        writer.write_eof()
        async with asyncio.timeout(5):
            await reader.read()
        writer.close()
    assert node.handoff.connected
    assert status(await first_answer(("127.0.0.1", port), GET)) == 307


def test_messages_are_bounded_and_unknown_ones_refused() -> None:
    """A newer or broken peer would end the process."""
    for data in (b"{}", b"[]", b'{"kind":"later"}', b'{"kind":"state","revision":-1}', b"[" * 100_000, b"\xff"):
        with pytest.raises(RefusedLine):
            for_redirector(data)
        with pytest.raises(RefusedLine):
            for_agent(data)
    assert for_agent(b'{"kind":"hello","protocol":2,"new":1}') == Hello(2)
    state = State(1, (listener(),))
    assert for_redirector(line(state)) == state
    report = Report(3)
    assert for_agent(line(report)) == report
    many = tuple(Target(name=f"n{'x' * 250}{at}"[:253], address="192.0.2.1", hostname="h" * 253) for at in range(1024))
    with pytest.raises(RefusedLine, match=str(LONGEST_LINE)):
        line(State(1, tuple(listener(port=port, targets=many) for port in range(1, 100))))


async def test_a_line_without_its_sockets_is_refused() -> None:
    """The next sockets would be taken for these."""
    ours, theirs = socket.socketpair()
    one, other = Channel(ours), Channel(theirs)
    listening = listening_socket("127.0.0.1", 0)
    await one.send(b"first\n", [listening])
    await one.send(b"x" * 200_000 + b"\n")
    assert await other.line() == b"first\n"
    taken = other.take(1)
    assert [each.getsockname() for each in taken] == [listening.getsockname()]
    with pytest.raises(RefusedLine):
        other.take(1)
    one.close()
    assert len(await other.line()) == 200_001
    assert await other.line() == b""
    other.close()
    for each in (listening, *taken):
        each.close()
