"""The kernel's list of TCP sockets: the question, the answers, and this machine's own kernel."""

import contextlib
import errno
import socket
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.netlink.errors import MalformedMessage, NetlinkError, NetlinkTimeout, SocketUnusable
from lvs_dr.netlink.message import HEADER, attribute
from lvs_dr.netlink.sock_diag import SocketTable, TcpSocket, TcpState, decode, request

DONE, ERROR, DIAG = 3, 2, 20


def answer(
    address: str, port: int, *, state: int = TcpState.ESTABLISHED, cookie: int = 7, received: int | None = None
) -> bytes:
    """Return one inet_diag_msg as the kernel lays it out."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    packed = socket.inet_pton(family, address).ljust(16, b"\0")
    body = struct.pack("=BBBB", family, state, 0, 0) + struct.pack(">HH", port, 50_000) + packed + bytes(16)
    body += struct.pack("=IQ", 0, cookie) + struct.pack("=IIIII", 0, 0, 0, 0, 1234)
    assert len(body) == 72
    if received is not None:
        body += attribute(2, bytes(128) + struct.pack("=Q", received) + bytes(96))
    return HEADER.pack(16 + len(body), DIAG, 2, 1, 0) + body


class Kernel:
    """Answers dumps as the kernel does: numbered like the question, in datagrams of a few messages."""

    def __init__(self, *dumps: list[bytes], code: int = 0) -> None:
        self.dumps = list(dumps)
        self.code = code
        self.asked: list[bytes] = []
        self.queue: list[tuple[bytes, int]] = []
        self.closed = False

    def send(self, data: bytearray, /) -> int:
        """Take a question."""
        self.asked.append(bytes(data))
        sequence = HEADER.unpack_from(data)[3]
        messages = self.dumps.pop(0) if self.dumps else []
        self.queue += [(self.numbered(each, sequence), 0) for each in messages]
        kind = ERROR if self.code else DONE
        body = struct.pack("=i", -self.code) + (bytes(data[:16]) if self.code else b"")
        self.queue.append((HEADER.pack(16 + len(body), kind, 0, sequence, 0) + body, 0))
        return len(data)

    @staticmethod
    def numbered(message: bytes, sequence: int) -> bytes:
        """Return a message with the number of the question."""
        length, kind, flags, _, port = HEADER.unpack_from(message)
        return HEADER.pack(length, kind, flags, sequence, port) + message[16:]

    def recvfrom_into(self, buffer: bytearray, nbytes: int, flags: int, /) -> tuple[int, tuple[int, int]]:
        """Hand out one datagram."""
        del nbytes, flags
        if not self.queue:
            raise BlockingIOError
        data, sender = self.queue.pop(0)
        buffer[: len(data)] = data
        return len(data), (sender, 0)

    def close(self) -> None:
        """Note it."""
        self.closed = True


def test_the_question_names_family_states_and_port() -> None:
    """A wrong mask would list nothing, or every socket of a busy server."""
    asked = request(socket.AF_INET, [TcpState.ESTABLISHED, TcpState.LISTEN], 443, received=True)
    length, kind, flags, _, _ = HEADER.unpack_from(asked)
    assert (length, kind, flags) == (len(asked), DIAG, 0x301)
    assert len(asked) == 16 + 56, "nlmsghdr and inet_diag_req_v2"
    assert struct.unpack_from("=BBBxI", asked, 16) == (2, 6, 2, 1 << 1 | 1 << 10)
    assert struct.unpack_from(">HH", asked, 24) == (443, 0)
    assert asked[-8:] == b"\xff" * 8, "no cookie"


def test_answers_of_both_families() -> None:
    """Connections of IPv4 clients to a server that listens on :: are IPv4 connections."""
    kernel = Kernel(
        [answer("192.0.2.100", 443, received=12_345), answer("0.0.0.0", 443, state=TcpState.LISTEN)],
        [answer("::ffff:192.0.2.100", 8443, cookie=8), answer("2001:db8::100", 443, cookie=9)],
    )
    with SocketTable(transport=kernel) as table:
        found = list(table.sockets([TcpState.ESTABLISHED, TcpState.LISTEN], received=True))
    assert [(each.text, each.port, each.state, each.cookie, each.received) for each in found] == [
        ("192.0.2.100", 443, 1, 7, 12_345),
        ("0.0.0.0", 443, 10, 7, -1),
        ("192.0.2.100", 8443, 1, 8, -1),
        ("2001:db8::100", 443, 1, 9, -1),
    ]
    assert kernel.closed


def test_what_is_not_for_this_question_is_passed_over() -> None:
    """Another process, or the rest of a dump before, would count as connections."""
    kernel = Kernel([answer("192.0.2.100", 443)])
    kernel.queue += [(answer("192.0.2.66", 1), 4711), (Kernel.numbered(answer("192.0.2.67", 1), 99), 0)]
    found = list(SocketTable(transport=kernel).sockets([TcpState.ESTABLISHED]))
    assert [each.text for each in found] == ["192.0.2.100"]


def test_a_kernel_without_inet_diag_says_so() -> None:
    """Nobody would know why there are no numbers."""
    with pytest.raises(NetlinkError) as caught:
        list(SocketTable(transport=Kernel(code=errno.ENOENT)).sockets([TcpState.ESTABLISHED]))
    assert caught.value.code == errno.ENOENT


def test_silence_ends() -> None:
    """The agent would hang."""
    table = SocketTable(transport=(kernel := Kernel()))
    kernel.send = len  # type: ignore[method-assign,assignment]
    with pytest.raises(NetlinkTimeout):
        list(table.sockets([TcpState.ESTABLISHED]))


@settings(deadline=None)
@given(st.binary(max_size=300))
def test_noise_is_refused(noise: bytes) -> None:
    """Whatever comes, it is a socket or an error of its own."""
    try:
        found = decode(HEADER.pack(16 + len(noise), DIAG, 0, 1, 0) + noise)
    except MalformedMessage:
        return
    assert isinstance(found, TcpSocket)


@contextlib.contextmanager
def connected(family: int, address: str) -> Iterator[tuple[socket.socket, socket.socket, int]]:
    """Yield both ends of a connection to a listener, and the listener's port."""
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            server, _ = listener.accept()
            with server:
                yield client, server, port


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")])
def test_this_machines_kernel_lists_a_connection(family: int, address: str) -> None:
    """The layout is the kernel's: state, port, address and received bytes stand where they are looked for."""
    with connected(family, address) as (client, server, port):
        client.sendall(b"x" * 1000)
        assert server.recv(1000, socket.MSG_WAITALL)
        try:
            with SocketTable() as table:
                found = list(table.sockets([TcpState.ESTABLISHED, TcpState.LISTEN], port=port, received=True))
        except (NetlinkError, SocketUnusable) as error:
            pytest.skip(f"no sock_diag here: {error}")
    assert sorted((each.state, each.port, each.received) for each in found) == [
        (TcpState.ESTABLISHED, port, 1000),
        (TcpState.LISTEN, port, -1),
    ]
    assert next(each.text for each in found if each.state == TcpState.ESTABLISHED) == "127.0.0.1"
