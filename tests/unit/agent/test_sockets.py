"""What a real server's own sockets say of a drain: the truth about TCP, and nothing where they cannot know it."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from lvs_dr.agent.sockets import SocketCounts
from lvs_dr.core.node import SocketQuestion
from lvs_dr.core.node_status import SocketReport
from lvs_dr.netlink.errors import SocketUnusable
from lvs_dr.netlink.sock_diag import SocketTable

TABLE = "web/webdav"


@contextlib.contextmanager
def serving(address: str = "127.0.0.1", on: str | None = None) -> Iterator[tuple[SocketQuestion, socket.socket]]:
    """Listen on an address (or on another one that takes its connections, too); yield the question about it."""
    family = socket.AF_INET6 if ":" in (on or address) else socket.AF_INET
    with socket.create_server((on or address, 0), family=family, dualstack_ipv6=on == "::") as listener:
        yield SocketQuestion(TABLE, 2, address, (listener.getsockname()[1],)), listener


def ask(counts: SocketCounts, question: SocketQuestion, now: float) -> SocketReport | None:
    """Return the answer."""
    return next(iter(counts.follow((question,), now)), None)


@pytest.mark.parametrize(("address", "on"), [("127.0.0.1", None), ("127.0.0.1", "0.0.0.0"), ("127.0.0.1", "::")])
def test_open_connections_count_and_idle_takes_its_second(address: str, on: str | None) -> None:
    """A transfer on its way would be cut, or a server that everybody has left would be waited for."""
    counts = SocketCounts()
    with serving(address, on) as (question, listener):
        assert ask(counts, question, 0.0) == SocketReport(TABLE, 2)
        with socket.create_connection((address, question.ports[0])) as client:
            server, _ = listener.accept()
            assert ask(counts, question, 5.0) == SocketReport(TABLE, 2, 1)
            client.shutdown(socket.SHUT_WR)  # it still reads
            assert ask(counts, question, 6.0) == SocketReport(TABLE, 2, 1)
            server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")
            server.close()  # with a reset, which no director sees
            assert ask(counts, question, 7.0) == SocketReport(TABLE, 2)
            assert counts.waiting
            assert ask(counts, question, 8.0) == SocketReport(TABLE, 2, idle=True)
            assert not counts.waiting


def test_checks_through_the_vip_keep_nobody_from_leaving() -> None:
    """Directors go on checking: a drain would wait for ever where a check takes long, or cut who came last."""
    counts = SocketCounts()
    with serving() as (question, listener):
        place = ("127.0.0.1", question.ports[0])
        assert ask(counts, question, 0.0) == SocketReport(TABLE, 2)
        # Its first packet was lost, and sent again.
        with socket.create_connection(place), listener.accept()[0]:
            assert ask(counts, question, 7.0) == SocketReport(TABLE, 2, 1)
            with socket.create_connection(place):  # a check
                assert ask(counts, question, 20.0) == SocketReport(TABLE, 2, 1)
        with socket.create_connection(place):
            assert ask(counts, question, 30.0) == SocketReport(TABLE, 2, idle=True)  # and nobody new can come


def test_a_check_does_not_stay_in_the_number_that_is_told() -> None:
    """Small changes of large numbers are not told, so one would wait for a connection that is none."""
    counts = SocketCounts()
    with serving() as (question, listener), contextlib.ExitStack() as clients:
        place = ("127.0.0.1", question.ports[0])
        for _ in range(25):
            clients.enter_context(socket.create_connection(place))
            clients.enter_context(listener.accept()[0])
        with socket.create_connection(place), listener.accept()[0]:
            assert ask(counts, question, 0.0) == SocketReport(TABLE, 2, 26)
        assert ask(counts, question, 1.0) == SocketReport(TABLE, 2, 26)
        assert ask(counts, question, 9.0) == SocketReport(TABLE, 2, 25)


def test_another_question_starts_anew() -> None:
    """What was seen before directors had stopped sending proves nothing."""
    counts = SocketCounts()
    with serving() as (question, _):
        assert ask(counts, question, 0.0) == SocketReport(TABLE, 2)
        later = SocketQuestion(TABLE, 3, question.address, question.ports)
        assert ask(counts, later, 1.0) == SocketReport(TABLE, 3)


def test_nothing_is_said_where_nobody_listens() -> None:
    """A pod behind a hostPort serves from sockets that are not here: the drain would end at once, and cut them all."""
    counts = SocketCounts()
    with serving() as (question, _):
        more = SocketQuestion(TABLE, 2, question.address, (*question.ports, 1))
        assert ask(counts, more, 0.0) is None
        elsewhere = SocketQuestion(TABLE, 2, "192.0.2.100", question.ports)
        assert ask(counts, elsewhere, 0.0) is None
    assert ask(counts, question, 0.0) is None


def test_a_kernel_that_does_not_tell_leaves_it_to_the_directors() -> None:
    """Without inet_diag no drain would ever end; and what nobody asks is not read."""

    def unusable() -> SocketTable:
        raise SocketUnusable("no inet_diag")

    counts = SocketCounts(unusable)
    assert counts.follow((SocketQuestion(TABLE, 2, "192.0.2.100", (80,)),), 0.0) == ()
    assert counts.follow((), 0.0) == ()
    assert not counts.waiting
