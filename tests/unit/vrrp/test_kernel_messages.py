"""Addresses and links as the kernel's bytes, and the socket that carries them, on a kernel made of a list."""

import errno
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import address, link_state
from lvs_dr.netlink.address import FOREVER, IFA_F_NODAD, IFA_F_NOPREFIXROUTE, RTM_NEWADDR
from lvs_dr.netlink.errors import DumpInterrupted, MalformedMessage, NetlinkTimeout, SocketUnusable, UnencodableValue
from lvs_dr.netlink.message import HEADER, NLM_F_ACK, NLM_F_DUMP_INTR, NLMSG_DONE, NLMSG_ERROR, split
from lvs_dr.netlink.rtnetlink import RouteSocket

VIP, VIP6 = "192.0.2.100", "fd35::100"


class Kernel:
    """Answers as rtnetlink does: errors at once, an ACK where asked, dumps as they are scripted."""

    def __init__(self) -> None:
        self.refuses: dict[int, int] = {}
        self.dumps: list[list[bytes]] = []
        self.queue: list[tuple[bytes, int]] = []
        self.taken: list[tuple[int, int]] = []

    def send(self, data: bytearray, /) -> int:
        """Take a batch."""
        for number, header in enumerate(split(data, len(data))):
            self.taken.append((header.kind, header.flags))
            if header.kind in (address.RTM_GETADDR, link_state.RTM_GETLINK):
                for part in self.dumps.pop(0):
                    length, kind, flags, _, _ = HEADER.unpack_from(part)
                    self.queue.append((HEADER.pack(length, kind, flags, header.sequence, 0) + part[HEADER.size :], 0))
                continue
            code = self.refuses.get(number, 0)
            if code or header.flags & NLM_F_ACK:
                body = struct.pack("=i", -code) + bytes(data[header.start : header.start + HEADER.size])
                size = HEADER.size + len(body)
                self.queue.append((HEADER.pack(size, NLMSG_ERROR, 0x100, header.sequence, 0) + body, 0))
        return len(data)

    def recvfrom_into(self, buffer: bytearray, _: int, __: int, /) -> tuple[int, tuple[int, int]]:
        """Hand out one datagram."""
        if not self.queue:
            raise BlockingIOError
        data, sender = self.queue.pop(0)
        buffer[: len(data)] = data
        return len(data), (sender, 0)

    def close(self) -> None:
        """Nothing is open."""


@given(st.ip_addresses().map(str), st.integers(1, 2**31 - 1), st.integers(0, FOREVER - 1))
def test_what_is_asked_for_is_what_the_kernel_would_read(text: str, index: int, lifetime: int) -> None:
    """A VIP would be set on another interface, or stay for another time."""
    found = address.decode(address.add(index, text, lifetime))
    assert found is not None
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    assert found.address == socket.inet_ntop(family, socket.inet_pton(family, text))
    assert found.is_host
    assert found.link == index
    assert found.valid == (lifetime or FOREVER)
    assert found.preferred == (0 if ":" in text else found.valid)
    assert found.flags == IFA_F_NOPREFIXROUTE | (IFA_F_NODAD if ":" in text else 0)


@given(st.binary(max_size=120))
def test_no_message_raises_anything_but_malformed(data: bytes) -> None:
    """A newer kernel's message would end the speaker."""
    for read in (address.decode, link_state.decode):
        try:
            read(HEADER.pack(HEADER.size + len(data), RTM_NEWADDR, 0, 0, 0) + data)
        except MalformedMessage as error:
            assert str(error)  # noqa: PT017 - either is right


@pytest.mark.parametrize(
    "wrong", [(0, VIP, 1), (1, "x", 1), (1, VIP, -1), (1, VIP, FOREVER), (2**31, VIP, 1), (1, VIP + "\0", 1)]
)
def test_what_cannot_be_encoded_is_refused(wrong: tuple[int, str, int]) -> None:
    """It would mean something else to the kernel."""
    with pytest.raises(UnencodableValue):
        address.add(*wrong)


def test_a_batch_asks_for_one_acknowledgement_and_names_who_was_refused() -> None:
    """Renewing 250 VIPs would cost 250 answers, or an error would be put down to the wrong one."""
    kernel = Kernel()
    kernel.refuses = {1: errno.EADDRNOTAVAIL, 2: errno.ENODEV}
    own = RouteSocket(transport=kernel)
    errors = own.transact([address.delete(3, VIP), address.delete(3, VIP6), address.add(3, VIP, 1)])
    assert {at: error.code for at, error in errors.items()} == {1: errno.EADDRNOTAVAIL, 2: errno.ENODEV}
    assert [bool(flags & NLM_F_ACK) for _, flags in kernel.taken] == [False, False, True]


def test_a_dump_that_was_interrupted_is_read_again() -> None:
    """A VIP that was being changed would be overlooked."""
    part = address.add(3, VIP, 1)
    done = HEADER.pack(HEADER.size + 4, NLMSG_DONE, 0, 0, 0) + bytes(4)
    torn = HEADER.pack(HEADER.size + 4, NLMSG_DONE, NLM_F_DUMP_INTR, 0, 0) + bytes(4)
    kernel = Kernel()
    kernel.dumps = [[part, torn], [part, part, done]]
    found = RouteSocket(transport=kernel).dump(address.dump())
    assert [each.address for each in address.on_interface(found, 3)] == [VIP, VIP]
    assert address.on_interface(found, 4) == []
    kernel.dumps = [[torn]] * 5
    with pytest.raises(DumpInterrupted):
        RouteSocket(transport=kernel).dump(address.dump())


def test_a_kernel_that_does_not_answer_is_given_up() -> None:
    """The thread would hang for ever, and nobody would know."""

    class Silent(Kernel):
        def send(self, data: bytearray, /) -> int:
            return len(data)

    with pytest.raises(NetlinkTimeout):
        RouteSocket(transport=Silent()).transact([address.delete(3, VIP)])

    class Broken(Kernel):
        def send(self, data: bytearray, /) -> int:
            raise OSError(errno.EBADF, f"closed, {len(data)} bytes")

    with pytest.raises(SocketUnusable):
        RouteSocket(transport=Broken()).transact([address.delete(3, VIP)])


def test_another_process_is_not_believed() -> None:
    """Anybody on the node may write to a netlink port."""
    kernel = Kernel()
    done = HEADER.pack(HEADER.size + 4, NLMSG_DONE, 0, 1, 0) + bytes(4)
    kernel.queue = [(done, 4711)]
    assert RouteSocket(transport=kernel).transact([address.delete(3, VIP)]) == {}


def test_a_link_without_carrier_is_down() -> None:
    """A pulled cable would leave the node Active."""
    body = struct.pack("=BxHiII", 0, 1, 3, 0x1, 0) + struct.pack("=HH", 9, 3) + b"eth0\0" + bytes(3)
    header = HEADER.pack(HEADER.size + len(body), link_state.RTM_NEWLINK, 0, 0, 0)
    link = link_state.decode(header + body)
    assert (link.number, link.name, link.up) == (3, "eth0", False)
