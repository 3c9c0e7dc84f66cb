"""The batched socket on a kernel that speaks netlink: errors by entry, faults, and what is still usable after them."""

import contextlib
import errno
import socket as sockets
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import ipvs_decode as decode
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.errors import (
    DumpInterrupted,
    FamilyMissing,
    MalformedMessage,
    NetlinkError,
    NetlinkOverflow,
    NetlinkTimeout,
    SocketUnusable,
    UnencodableValue,
)
from lvs_dr.netlink.generic import get_family
from lvs_dr.netlink.ipvs import DestinationConfig, DestinationKey, ServiceConfig, ServiceKey
from lvs_dr.netlink.socket import CHUNK_BYTES, DUMP_ATTEMPTS, GenericNetlinkSocket
from tests.unit.netlink.netlink_kernel import ACK, FAMILY, NetlinkKernel, message

WEB = ServiceKey("192.168.35.100", 443, 6, 0, sockets.AF_INET)
DNS = ServiceKey("fd35::100", 53, 17, 0, sockets.AF_INET6)
PLAIN = ServiceConfig("wlc", 0, 0, 32, "")
PLAIN6 = PLAIN._replace(prefix_length=128)
DIRECT = DestinationConfig(100, 3, 0, 0, 0, 0, 0)


def storage(number: int) -> DestinationKey:
    """One of many real servers."""
    return DestinationKey(f"10.0.{number >> 8}.{number & 255}", 443, sockets.AF_INET)


@pytest.fixture
def kernel() -> NetlinkKernel:
    """An empty kernel."""
    return NetlinkKernel()


@pytest.fixture
def ipvs(kernel: NetlinkKernel) -> GenericNetlinkSocket:
    """A socket to it."""
    return GenericNetlinkSocket("IPVS", transport=kernel, timeout=1)


def codes(errors: dict[int, NetlinkError]) -> dict[int, int]:
    """Errno by position in the batch."""
    return {position: error.code for position, error in errors.items()}


def test_batch_reaches_the_kernel(ipvs: GenericNetlinkSocket) -> None:
    """Services and destinations sent in one batch are what is read back."""
    batch = [encode.new_service(WEB, PLAIN), encode.new_service(DNS, PLAIN6)]
    batch += [encode.new_destination(WEB, storage(number), DIRECT) for number in range(5)]
    assert ipvs.transact(batch) == {}
    assert decode.parse_services(ipvs.dump(encode.get_services())) == {WEB: PLAIN, DNS: PLAIN6}
    destinations = decode.parse_destinations(ipvs.dump(encode.get_destinations(WEB)))
    assert destinations == {storage(number): DIRECT for number in range(5)}
    assert ipvs.dump(encode.get_destinations(DNS)) == []


def test_one_bad_message_harms_only_itself(ipvs: GenericNetlinkSocket) -> None:
    """Each error is told for the entry that caused it, and all others are applied."""
    errors = ipvs.transact(
        [
            encode.new_service(WEB, PLAIN),
            encode.new_service(DNS, PLAIN6._replace(scheduler="nonesuch")),
            encode.new_destination(WEB, storage(1), DIRECT),
            encode.new_destination(WEB, storage(1), DIRECT),
            encode.new_destination(DNS, storage(1), DIRECT),
            encode.delete_destination(WEB, storage(2)),
            encode.set_destination(WEB, storage(1), DIRECT._replace(upper=1, lower=2)),
            encode.new_destination(WEB, storage(3), DIRECT),
        ]
    )
    assert codes(errors) == {1: errno.ENOENT, 3: errno.EEXIST, 4: errno.ESRCH, 5: errno.ENOENT, 6: errno.ERANGE}
    assert errors[6].explanation == "lower above upper"
    destinations = decode.parse_destinations(ipvs.dump(encode.get_destinations(WEB)))
    assert set(destinations) == {storage(1), storage(3)}


def test_an_error_on_the_last_message_ends_the_batch(ipvs: GenericNetlinkSocket) -> None:
    """The refusal of the last message is also the end of the answers, not a timeout."""
    assert codes(ipvs.transact([encode.delete_service(WEB)])) == {0: errno.ESRCH}


def test_only_the_last_of_a_chunk_is_acknowledged(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A large batch costs one answer per chunk, and chunks stay within what a socket buffer takes."""
    kernel.received.clear()
    kernel.batches.clear()
    batch = [encode.new_service(WEB, PLAIN)]
    batch += [encode.new_destination(WEB, storage(number), DIRECT) for number in range(3000)]
    batch.insert(2500, encode.delete_service(DNS))
    assert codes(ipvs.transact(batch)) == {2500: errno.ESRCH}
    acknowledged = [struct.unpack_from("=H", one, 6)[0] & ACK for one in kernel.received]
    assert len(kernel.received) == len(batch)
    assert sum(map(bool, acknowledged)) == len(kernel.batches) == -(-sum(map(len, batch)) // CHUNK_BYTES)
    assert max(kernel.batches) <= CHUNK_BYTES


@given(st.lists(st.tuples(st.sampled_from(("new", "set", "delete")), st.integers(0, 5)), max_size=30))
def test_errors_match_a_model_of_the_table(operations: list[tuple[str, int]]) -> None:
    """For any sequence of changes exactly the impossible ones are reported, each at its place."""
    ipvs = GenericNetlinkSocket("IPVS", transport=NetlinkKernel(), timeout=1)
    assert ipvs.transact([encode.new_service(WEB, PLAIN)]) == {}
    held: set[int] = set()
    batch: list[bytes] = []
    expected: dict[int, int] = {}
    for position, (operation, number) in enumerate(operations):
        if operation == "delete":
            batch.append(encode.delete_destination(WEB, storage(number)))
        else:
            make = encode.new_destination if operation == "new" else encode.set_destination
            batch.append(make(WEB, storage(number), DIRECT))
        if (operation == "new") == (number in held):
            expected[position] = errno.EEXIST if operation == "new" else errno.ENOENT
        elif operation == "new":
            held.add(number)
        elif operation == "delete":
            held.remove(number)
    assert codes(ipvs.transact(batch)) == expected
    assert set(decode.parse_destinations(ipvs.dump(encode.get_destinations(WEB)))) == set(map(storage, held))


def test_nothing_to_do_sends_nothing(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """An empty batch makes no system call."""
    kernel.batches.clear()
    assert ipvs.transact([]) == {}
    assert kernel.batches == []


def test_question_with_one_answer(ipvs: GenericNetlinkSocket) -> None:
    """A question that is no dump gets its one answer, or the kernel's error."""
    assert decode.parse_info(ipvs.request(encode.get_info())).version == (1, 2, 1)
    with pytest.raises(NetlinkError) as refused:
        ipvs.request(encode.delete_service(WEB))
    assert refused.value.code == errno.ESRCH


def test_missing_module_is_told_by_name() -> None:
    """A kernel without the family is one clear error, and its socket is closed."""
    kernel = NetlinkKernel()
    with pytest.raises(FamilyMissing, match="nonesuch"):
        GenericNetlinkSocket("nonesuch", transport=kernel, timeout=1)
    assert kernel.closed


def test_silent_kernel_is_a_timeout(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """No call waits for ever, and late answers are not taken for those of the next call."""
    kernel.silent = True
    for call in (ipvs.transact, lambda batch: ipvs.dump(batch[0])):
        with pytest.raises(NetlinkTimeout):
            call([encode.delete_service(WEB)])
    kernel.silent = False  # now the late ESRCH comes first
    assert ipvs.transact([encode.new_service(WEB, PLAIN)]) == {}
    assert set(decode.parse_services(ipvs.dump(encode.get_services()))) == {WEB}


def test_endless_strangers_are_a_timeout(kernel: NetlinkKernel) -> None:
    """Answers to nobody cannot hold a call beyond its time."""
    ticks = iter(range(1000))
    ipvs = GenericNetlinkSocket("IPVS", transport=kernel, timeout=10, clock=lambda: next(ticks))
    for _ in range(50):
        kernel.inject(message(2, 0, 99_999, bytes(20)))
    with pytest.raises(NetlinkTimeout):
        ipvs.transact([encode.new_service(WEB, PLAIN)])


def test_lost_answers_mean_read_again(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """After an overflow the caller is told, the queue is emptied, and the same socket goes on."""
    kernel.overflows = 1
    with pytest.raises(NetlinkOverflow):
        ipvs.transact([encode.new_service(WEB, PLAIN)])
    assert set(decode.parse_services(ipvs.dump(encode.get_services()))) == {WEB}


def test_changing_table_is_read_again(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A dump that the kernel marks as inconsistent is repeated, and given up after some attempts."""
    ipvs.transact([encode.new_service(WEB, PLAIN)])
    kernel.interruptions = DUMP_ATTEMPTS - 1
    assert len(ipvs.dump(encode.get_services())) == 1
    kernel.interruptions = DUMP_ATTEMPTS
    with pytest.raises(DumpInterrupted):
        ipvs.dump(encode.get_services())


def test_lost_dump_is_read_again(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """Answers lost in the middle of a read mean another read, not a short table; and an end to trying."""
    ipvs.transact([encode.new_service(WEB, PLAIN)])
    kernel.overflows = DUMP_ATTEMPTS - 1
    assert len(ipvs.dump(encode.get_services())) == 1
    kernel.overflows = DUMP_ATTEMPTS
    with pytest.raises(NetlinkOverflow):
        ipvs.dump(encode.get_services())


def test_dump_that_was_given_up_does_not_block_the_next(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """After a timeout in the middle of a dump the kernel says EBUSY until that one is read to its end."""
    batch = [encode.new_service(WEB, PLAIN)]
    batch += [encode.new_destination(WEB, storage(number), DIRECT) for number in range(9)]
    ipvs.transact(batch)
    kernel.stalled_dumps = 1
    with pytest.raises(NetlinkTimeout):
        ipvs.dump(encode.get_destinations(WEB))
    found = decode.parse_destinations(ipvs.dump(encode.get_destinations(WEB)))
    assert found.keys() == {storage(number) for number in range(9)}


def test_kernel_that_stays_busy_says_so(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A dump that is refused for ever is the kernel's own error in the end, not an endless loop."""
    kernel.busy = True
    with pytest.raises(NetlinkError) as refused:
        ipvs.dump(encode.get_services())
    assert refused.value.code == errno.EBUSY


def test_short_dump_is_not_a_table(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A dump without its end would look like a table that somebody emptied."""
    ipvs.transact([encode.new_service(WEB, PLAIN)])
    kernel.dump_error = errno.EINTR
    with pytest.raises(DumpInterrupted):
        ipvs.dump(encode.get_services())


def test_error_at_the_end_of_a_dump(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A dump that ends with an error is not taken for a short table."""
    ipvs.transact([encode.new_service(WEB, PLAIN)])
    kernel.dump_error = errno.ENOMEM
    with pytest.raises(NetlinkError) as refused:
        ipvs.dump(encode.get_services())
    assert refused.value.code == errno.ENOMEM


def test_other_processes_cannot_answer(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """A forged success from another process does not hide the kernel's refusal."""
    forged = message(2, 0, 2, bytes(20))  # the sequence number of the next request
    kernel.inject(forged, sender=4711)
    assert codes(ipvs.transact([encode.delete_service(WEB)])) == {0: errno.ESRCH}


@pytest.mark.parametrize(
    ("datagram", "error"),
    [
        (bytes(70_000), MalformedMessage),
        (b"\x05\0\0\0", MalformedMessage),
        (message(2, 0, 2, b"\0"), MalformedMessage),
        (message(4, 0, 0, b""), NetlinkOverflow),
    ],
    ids=["cut off", "no header", "error without a code", "overrun"],
)
def test_broken_answers_are_told(
    kernel: NetlinkKernel, ipvs: GenericNetlinkSocket, datagram: bytes, error: type[Exception]
) -> None:
    """What cannot be understood is an error of its own kind, never a success."""
    kernel.inject(datagram)
    with pytest.raises(error):
        ipvs.transact([encode.new_service(WEB, PLAIN)])


@given(st.lists(st.binary(max_size=100), max_size=5))
def test_random_answers_fail_as_documented(datagrams: list[bytes]) -> None:
    """No bytes from the kernel's side loop the socket or fail in an undocumented way."""
    kernel = NetlinkKernel()
    ipvs = GenericNetlinkSocket("IPVS", transport=kernel, timeout=1)
    for datagram in datagrams:
        kernel.inject(datagram + bytes(-len(datagram) % 4))
        kernel.inject(struct.pack("=IHHII", 16 + len(datagram), 2, 0x300, 2, 0) + datagram)
    with contextlib.suppress(MalformedMessage, NetlinkOverflow):
        ipvs.transact([encode.new_service(WEB, PLAIN)])


@pytest.mark.parametrize("size", [0, 15, 17, CHUNK_BYTES + 4])
def test_misshapen_messages_are_not_sent(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket, size: int) -> None:
    """A message that would make the kernel skip the rest of its chunk never reaches it."""
    kernel.batches.clear()
    with pytest.raises(UnencodableValue):
        ipvs.transact([encode.new_service(WEB, PLAIN), bytes(size)])
    assert kernel.batches == []


def test_closed_socket_says_so(kernel: NetlinkKernel, ipvs: GenericNetlinkSocket) -> None:
    """Using a socket after its end is an error of this package; closing twice is none."""
    with ipvs:
        pass
    ipvs.close()
    assert kernel.closed
    with pytest.raises(SocketUnusable):
        ipvs.transact([encode.delete_service(WEB)])


def test_sequence_numbers_wrap(ipvs: GenericNetlinkSocket) -> None:
    """A socket that lives long enough to use up its numbers goes on."""
    ipvs._next_sequence = (1 << 32) - 2
    assert ipvs.transact([encode.new_service(WEB, PLAIN)] * 5).keys() == {1, 2, 3, 4}
    assert len(ipvs.dump(encode.get_services())) == 1


def test_real_socket_reads_the_controller() -> None:
    """On this machine's own kernel: a family is resolved and a dump is complete, without any privilege."""
    with GenericNetlinkSocket("nlctrl", timeout=2) as controller:
        assert controller.family_number == 16
        families = controller.dump(get_family("nlctrl"))
    assert any(b"nlctrl\0" in family for family in families)
    with pytest.raises(FamilyMissing):
        GenericNetlinkSocket("no_such_family", timeout=2)


def test_family_number_is_the_kernels(ipvs: GenericNetlinkSocket) -> None:
    """Requests go to the number that this kernel gave IPVS."""
    assert ipvs.family_number == FAMILY
