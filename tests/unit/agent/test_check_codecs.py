"""What comes from the wire is parsed with bounds: nothing that a server sends can do more than fail its check."""

import contextlib
import socket
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.agent.health import dns_message, grpc, http2, http_message, ping
from lvs_dr.core.checks import DnsType, HttpCheck
from tests.unit.agent.check_servers import dns_name, dns_reply, grpc_answer

LABELS = st.from_regex(r"[a-z0-9_-]{1,63}", fullmatch=True)
NAMES = st.lists(LABELS, min_size=1, max_size=3).map(".".join)
KINDS = st.sampled_from(DnsType)
CUTS = st.lists(st.integers(0, 2000), max_size=8)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    """Cut bytes at some places."""
    places = sorted({0, len(data), *(cut for cut in cuts if cut < len(data))})
    return [data[start:end] for start, end in pairwise(places)]


@settings(deadline=None)
@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), CUTS)
def test_a_chunked_body_is_the_same_however_it_is_cut(chunks: list[bytes], cuts: list[int]) -> None:
    """A text that spans two packets or chunks is found."""
    wire = b"".join(b"%x\r\n%s\r\n" % (len(each), each) for each in chunks) + b"0\r\n\r\n"
    body = http_message.Body(http_message.Head(200, -1, chunked=True, size=0))
    assert b"".join(body.feed(each) for each in pieces(wire, cuts)) == b"".join(chunks)
    assert body.complete


@settings(deadline=None)
@given(st.binary(max_size=500), st.integers(-1, 600), st.booleans(), CUTS)
def test_no_body_does_more_than_fail(heard: bytes, length: int, chunked: bool, cuts: list[int]) -> None:  # noqa: FBT001
    """A body never grows beyond what was heard."""
    body = http_message.Body(http_message.Head(200, length, chunked=chunked, size=0))
    with contextlib.suppress(http_message.HttpFormatError):
        assert len(b"".join(body.feed(each) for each in pieces(heard, cuts))) <= len(heard)


@settings(deadline=None)
@given(st.one_of(st.binary(max_size=400), st.binary(max_size=400).map(lambda more: b"HTTP/1.1 200 OK\r\n" + more)))
def test_no_head_does_more_than_fail(heard: bytes) -> None:
    """Nonsense is told as that, and a head lies within what was heard."""
    with contextlib.suppress(http_message.HttpFormatError):
        found = http_message.head(heard)
        assert found is None or (0 < found.size <= len(heard) and found.length >= -1)


@settings(deadline=None)
@given(st.text(max_size=20), st.text(max_size=20))
def test_a_request_is_one_request(path: str, host: str) -> None:
    """Nothing that gets past the API can put a second request or a header on the wire."""
    with contextlib.suppress(ValueError):
        made = http_message.request(HttpCheck(path=f"/{path}", host=host or "a"), "192.0.2.1", 80)
        lines = made.decode("ascii").split("\r\n")
        assert len(lines) == 7
        assert lines[0].count(" ") == 2


@settings(deadline=None)
@given(NAMES, KINDS, st.integers(0, 65535))
def test_a_question_reads_back_as_its_own_answer_without_records(name: str, kind: DnsType, number: int) -> None:
    """Questions are well-formed: a name server's echo of it parses."""
    asked = dns_message.query(number, name, kind)
    assert dns_message.answer(dns_reply(asked), number, kind) == dns_message.Answer(0, False, ())


@settings(deadline=None)
@given(NAMES, st.lists(NAMES, max_size=4))
def test_names_in_records_are_read(name: str, targets: list[str]) -> None:
    """What a name server says is what is compared."""
    asked = dns_message.query(7, name, DnsType.NS)
    found = dns_message.answer(dns_reply(asked, *((2, dns_name(each)) for each in targets)), 7, DnsType.NS)
    assert found.records == tuple(targets)


@settings(deadline=None)
@given(st.binary(max_size=600), KINDS)
def test_no_dns_answer_does_more_than_fail(heard: bytes, kind: DnsType) -> None:
    """Nonsense is told as that."""
    with contextlib.suppress(dns_message.DnsFormatError):
        dns_message.answer(heard, int.from_bytes(heard[:2], "big"), kind)


@settings(deadline=None)
@given(NAMES, KINDS, st.integers(0, 300), st.integers(0, 255))
def test_no_damaged_dns_answer_does_more_than_fail(name: str, kind: DnsType, at: int, byte: int) -> None:
    """Pointers that lead in circles, lengths that lead outside."""
    heard = bytearray(dns_reply(dns_message.query(7, name, kind), (dns_message.TYPES[kind], b"\xc0\x0c" * 8)))
    heard[2 + at % (len(heard) - 2)] = byte
    with contextlib.suppress(dns_message.DnsFormatError):
        assert len(dns_message.answer(bytes(heard), 7, kind).records) <= 1


def test_a_pointer_in_circles_ends() -> None:
    """One datagram must not hold the agent for ever."""
    loop = b"\0\7\x80\0\0\1\0\0\0\0\0\0" + b"\xc0\x0c" + b"\0\1\0\1"
    with pytest.raises(dns_message.DnsFormatError):
        dns_message.answer(loop, 7, DnsType.A)


@pytest.mark.parametrize("name", ["a..b", "a" * 64, ".".join(["a" * 60] * 5), "ä"])
def test_what_is_no_name_is_not_asked_for(name: str) -> None:
    """It would be another question."""
    with pytest.raises(ValueError):  # noqa: PT011 - one kind is enough
        dns_message.query(7, name, DnsType.A)


@settings(deadline=None)
@given(st.binary(max_size=300), CUTS)
def test_a_grpc_message_is_the_same_however_it_is_cut(message: bytes, cuts: list[int]) -> None:
    """Frames that span packets are put together."""
    answer = http2.Answer()
    told = [answer.feed(each) for each in pieces(grpc_answer(message), cuts)]
    assert [each.ended for each in told] == [False] * (len(told) - 1) + [True]
    assert answer.data[5:] == message


@settings(deadline=None)
@given(st.binary(max_size=400), CUTS)
def test_no_http2_answer_does_more_than_fail(heard: bytes, cuts: list[int]) -> None:
    """Nonsense is told as that, also after a good start."""
    answer = http2.Answer()
    with contextlib.suppress(http2.Http2Error):
        for each in pieces(http2.frame(4, 0, 0, b"") + heard, cuts):
            answer.feed(each)


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_no_health_message_does_more_than_fail(data: bytes) -> None:
    """A length that leads outside is no status."""
    with contextlib.suppress(ValueError, IndexError):
        grpc.status(data)
    with contextlib.suppress(ValueError, IndexError):
        grpc.status(b"\0" + len(data).to_bytes(4, "big") + data)


@settings(deadline=None)
@given(st.text(max_size=300))
def test_a_service_of_any_length_is_asked_for(service: str) -> None:
    """The length of a name takes one byte or two."""
    asked = grpc.request(service)
    size = len(service.encode())
    assert len(asked) == (0 if not size else size + (2 if size < 128 else 3))


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from((socket.AF_INET, socket.AF_INET6)))
def test_no_ping_answer_does_more_than_fail(heard: bytes, family: int) -> None:
    """A raw socket shows whatever comes."""
    ping.reply(family, heard)


def test_only_the_reply_to_a_ping_is_one() -> None:
    """On loopback the request itself comes in, too."""
    token = b"12345678"
    asked = ping.request(socket.AF_INET, 3, token)
    assert ping.checksum(asked) == 0
    header = b"\x45" + bytes(19)
    assert ping.reply(socket.AF_INET, header + asked) is None
    assert ping.reply(socket.AF_INET, header + b"\0" + asked[1:]) == (3, token)
    assert ping.reply(socket.AF_INET6, b"\x81" + asked[1:]) == (3, token)
