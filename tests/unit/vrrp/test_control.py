"""The control socket and the loop it lives in: requests, refusals, pushed states, and nothing that ends them."""

import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from lvs_dr.vrrp.control import LONGEST_LINE, ControlRefused, ControlSocket
from lvs_dr.vrrp.event_loop import EventLoop


class Served:
    """A control socket, its loop, and a handler that remembers."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.loop = EventLoop()
        self.seen: list[Mapping[str, Any]] = []
        self.control = ControlSocket(self.loop, self.path, self.handle)
        self.control.open()

    def handle(self, request: Mapping[str, Any], _: float) -> Mapping[str, Any]:
        """Answer, refuse, or fail."""
        if request.get("kind") == "bad":
            raise ControlRefused("not like this")
        if request.get("kind") == "bug":
            raise RuntimeError("a bug")
        self.seen.append(request)
        return {"kind": "state", "number": len(self.seen)}

    def client(self) -> socket.socket:
        """Connect."""
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(5)
        client.connect(self.path)
        self.loop.turn()
        return client

    def answers(self, client: socket.socket, data: bytes, turns: int = 1) -> list[Any]:
        """Send bytes, let the loop work, and read what came back."""
        client.sendall(data)
        for _ in range(turns):
            self.loop.turn()
        client.setblocking(False)
        try:
            return [json.loads(line) for line in client.recv(100_000).splitlines()]
        except BlockingIOError:
            return []


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    """A control socket that listens."""
    one = Served(tmp_path / "run" / "speaker.sock")
    yield one
    one.control.close()


def test_lines_are_answered_one_by_one(served: Served) -> None:
    """The agent would not know which configuration is in force."""
    with served.client() as client:
        found = served.answers(client, b'{"kind": "alive"}\n{"kind": "bad"}\nnonsense\n[]\n{"kind"')
        assert [each["kind"] for each in found] == ["state", "refused", "refused", "refused"]
        assert found[1]["message"] == "not like this"
        assert served.answers(client, b': "state"}\n') == [{"kind": "state", "number": 2}]


def test_changes_reach_everybody_who_listens(served: Served) -> None:
    """The agent would learn of a takeover with its next question."""
    with served.client() as one, served.client() as other:
        served.control.push({"kind": "state"})
        assert json.loads(one.recv(1000)) == json.loads(other.recv(1000)) == {"kind": "state"}


def test_a_bug_in_the_handler_does_not_end_the_loop(served: Served) -> None:
    """Adverts must go on whatever an agent sends."""
    with served.client() as client:
        assert served.answers(client, b'{"kind": "bug"}\n') == []
        assert served.loop.failures == 1
        assert "a bug" in served.loop.last_failure
        assert served.answers(client, b'{"kind": "alive"}\n')


def test_endless_lines_and_deep_nesting_are_cut_off(served: Served) -> None:
    """A broken client would eat the memory, or the stack."""
    with served.client() as client:
        assert served.answers(client, b"[" * 5000 + b"\n")[0]["kind"] == "refused"
    with served.client() as client:
        client.setblocking(False)
        taken = 0
        with suppress(BrokenPipeError, ConnectionResetError):
            while taken < 4 * LONGEST_LINE:
                try:
                    taken += client.send(b"x" * 65536)
                except BlockingIOError:
                    served.loop.turn()
        assert taken < 4 * LONGEST_LINE, "hung up"


def test_a_socket_that_was_left_is_replaced(tmp_path: Path) -> None:
    """A speaker that was killed could not be started again."""
    path = tmp_path / "speaker.sock"
    first = Served(path)
    second = Served(path)
    with second.client() as client:
        assert second.answers(client, b'{"kind": "alive"}\n') == [{"kind": "state", "number": 1}]
    first.control.close()
    second.control.close()


def test_data_comes_before_timers() -> None:
    """A process that was held up would act on a clock before it has read what happened meanwhile."""
    loop = EventLoop()
    order: list[str] = []
    reading, writing = socket.socketpair()
    with reading, writing:

        def read(_: float) -> None:
            reading.recv(1)
            order.append("data")

        timer = loop.timer(lambda _: order.append("timer"))
        loop.read(reading.fileno(), read)
        timer.when = loop.clock()
        writing.send(b"x")
        loop.turn()
        loop.turn()
    assert order == ["data", "timer"]


def test_a_large_state_reaches_a_client_that_reads_slowly(served: Served) -> None:
    """The agent of a director with thousands of VIPs would be hung up on with every state."""
    state = {"kind": "state", "held": [f"2001:db8::{number:x}" for number in range(60_000)]}
    with served.client() as client:
        served.control.push(state)
        data = b""
        while not data.endswith(b"\n"):
            served.loop.turn()
            data += client.recv(65536)
        assert json.loads(data) == state
        for _ in range(10):
            served.control.push(state)  # and nobody reads
        assert not served.control._clients, "hung up"


def test_an_answer_is_told_from_pushed_states(served: Served) -> None:
    """The agent would take an older state for the answer to its new configuration."""
    with served.client() as client:
        found = served.answers(client, b'{"kind": "alive", "id": "7"}\n{"kind": "bad", "id": "8"}\n{"kind": "alive"}\n')
        assert [each.get("id") for each in found] == ["7", "8", None]
