"""Anything may come from the wire, in pieces of any size."""

import asyncio
import itertools
from collections.abc import Sequence

from hypothesis import example, given, settings
from hypothesis import strategies as st

from lvs_dr.core.redirect import Algorithm
from lvs_dr.process.metrics import Metrics
from lvs_dr.redirect import exchange
from lvs_dr.redirect.__main__ import METRICS, tally
from lvs_dr.redirect.exchange import Exchange, Phase
from lvs_dr.redirect.messages import Settings
from lvs_dr.redirect.service import RedirectService
from tests.unit.redirect.redirecting import listener

PIECES = (
    *(b"GET ", b"PUT ", b"OPTIONS ", b"CONNECT ", b"/", b"/a?b#c", b"*", b"http://x/y", b"//", b"\\", b"%0d%0a"),
    *(b" HTTP/1.1\r\n", b" HTTP/1.0\r\n", b"Host: vip\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b"\0", b" ", b":"),
    *(
        b"Content-Length: 3\r\n",
        b"Content-Length: 0\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
    ),
    *(
        b"Connection: close\r\n",
        b"Connection: Upgrade\r\nUpgrade: x\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n\r\n",
        b"abc",
        b"\xff",
    ),
    *(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n", b"PUT /u HTTP/1.1\r\nHost: vip\r\nContent-Length: 2\r\n\r\nxy"),
)
WIRE = st.lists(st.sampled_from(PIECES) | st.binary(max_size=5), max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=10)


class Wire(asyncio.Transport):
    """What a connection writes, without a network."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ended = self.reading = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Remember."""
        assert not self.ended
        self.written += bytes(data)

    def can_write_eof(self) -> bool:
        """As TCP."""
        return True

    def write_eof(self) -> None:
        """End our side."""
        self.ended = True

    def close(self) -> None:
        """End."""
        self.ended = True

    def abort(self) -> None:
        """Only after a bug in an answer, which would be logged: none is expected."""
        raise AssertionError("a request could not be answered")

    def pause_reading(self) -> None:
        """Read no more."""


def said(parts: Sequence[bytes]) -> tuple[bytes, Phase]:
    """Return what is answered to bytes that come in these parts."""
    one = listener(settings=Settings(algorithm=Algorithm.RR))
    service = RedirectService(one, tally=tally(Metrics(METRICS)), uniform=lambda: 0.0, wall=lambda: 0.0)
    connection, wire = Exchange(service, set(), lambda: 0.0, most=10), Wire()
    connection.connection_made(wire)
    for part in parts:
        if connection.phase in (Phase.REQUEST, Phase.DISCARD):
            exchange._BUFFER[: len(part)] = part
            connection.buffer_updated(len(part))
    return wire.written, connection.phase


@settings(deadline=None, max_examples=300)
@given(WIRE, CUTS)
@example(b"GET / HTTP/1.1\r\nHost: vip\r\n\r\n" * 3, [5, 40, 41])
def test_the_answer_does_not_depend_on_how_the_bytes_arrive(data: bytes, cuts: list[int]) -> None:
    """A request could be hidden in another by the place where a packet ends."""
    edges = sorted({0, *(cut for cut in cuts if cut < len(data)), len(data)})
    parts = [data[start:end] for start, end in itertools.pairwise(edges)]
    assert said(parts) == said([data] if data else [])


@settings(deadline=None, max_examples=300)
@given(WIRE)
def test_every_answer_is_whole_and_leads_to_a_real_server(data: bytes) -> None:
    """A client could have our answers split in two, or itself sent elsewhere."""
    rest, _ = said([data] if data else [])
    while rest:
        head, end, rest = rest.partition(b"\r\n\r\n")
        assert end
        first, *lines = head.split(b"\r\n")
        assert first.split(b" ")[1] in {b"204", b"307", b"400", b"405", b"431", b"501"}
        assert all(line.count(b": ") >= 1 and b"\n" not in line and b"\r" not in line for line in lines)
        headers = dict(line.split(b": ", 1) for line in lines)
        if b"Location" in headers:
            assert headers[b"Location"].startswith((b"http://s1.example.org/", b"http://s2.example.org/"))
        rest = rest[int(headers.get(b"Content-Length", b"0")) :]
