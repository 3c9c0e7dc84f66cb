"""Netlink headers, attributes and errors as bytes."""

import contextlib
import errno
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink.errors import MalformedMessage, NetlinkError, UnencodableValue
from lvs_dr.netlink.generic import get_family, parse_family
from lvs_dr.netlink.message import attribute, command_of, decode_error, nested, split, text, walk


def error_message(code: int, *, flags: int = 0x100, quoted: int = 0, tail: bytes = b"") -> bytes:
    """An NLMSG_ERROR that answers a request of 16 + `quoted` bytes."""
    original = struct.pack("=IHHII", 16 + quoted, 0x1C, 5, 7, 0) + bytes(quoted)
    body = struct.pack("=i", code) + (original[:16] if flags & 0x100 else original) + tail
    return struct.pack("=IHHII", 16 + len(body), 2, flags, 7, 0) + body


def decoded(message: bytes) -> NetlinkError | None:
    """Decode the only message of a datagram as an error."""
    (header,) = split(message, len(message))
    return decode_error(message, header)


@given(st.lists(st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=40))))
def test_attributes_round_trip(pairs: list[tuple[int, bytes]]) -> None:
    """What is encoded as attributes is read back, whatever the padding."""
    data = b"".join(attribute(kind, value) for kind, value in pairs)
    assert pairs == [(kind, data[start:stop]) for kind, start, stop in walk(data, 0, len(data))]


def test_nested_attribute_shows_its_own_type() -> None:
    """The NESTED bit is not mistaken for a part of the type."""
    data = nested(2, attribute(1, b"abcd"))
    assert list(walk(data, 0, len(data))) == [(2, 4, 12)]


@pytest.mark.parametrize("value", ["", "x" * 16, "a\0b", "grün"])
def test_impossible_names_are_refused(value: str) -> None:
    """A scheduler name that the kernel would cut or reject never leaves the program."""
    with pytest.raises(UnencodableValue):
        text(6, value, 15)


def test_oversized_attribute_is_refused() -> None:
    """A length that does not fit 16 bits cannot wrap round."""
    with pytest.raises(UnencodableValue):
        attribute(1, bytes(0x10000))


def test_acknowledgement_is_no_error() -> None:
    """Code 0 means that all went well."""
    assert decoded(error_message(0)) is None


def test_error_with_kernel_explanation() -> None:
    """The kernel's own words and the place of the fault reach the user."""
    tail = attribute(1, b"no such scheduler\0") + attribute(2, struct.pack("=I", 24))
    error = decoded(error_message(-2, flags=0x300, tail=tail))
    assert error is not None
    assert (error.code, error.explanation, error.offset) == (errno.ENOENT, "no such scheduler", 24)
    assert str(error) == "ENOENT: No such file or directory (no such scheduler)"


def test_explanation_behind_a_quoted_request() -> None:
    """Kernels without capped answers quote the request before their explanation."""
    error = decoded(error_message(-22, flags=0x200, quoted=30, tail=bytes(2) + attribute(1, b"why\0")))
    assert error is not None
    assert (error.code, error.explanation) == (errno.EINVAL, "why")


def test_done_without_code_ends_a_dump_well() -> None:
    """Kernels that send an empty NLMSG_DONE are understood."""
    assert decoded(struct.pack("=IHHII", 16, 3, 2, 7, 0)) is None


@pytest.mark.parametrize("code", [1, -4096, -(2**31)])
def test_impossible_error_codes_are_malformed(code: int) -> None:
    """A code that is no errno is not reported as one."""
    with pytest.raises(MalformedMessage):
        decoded(error_message(code))


@given(st.binary(max_size=200))
def test_splitting_random_bytes_ends(data: bytes) -> None:
    """No datagram makes the reader loop, read beyond it, or fail in an undocumented way."""
    try:
        for header in split(data, len(data)):
            assert 0 <= header.start < header.stop <= len(data)
            decode_error(data, header)
    except MalformedMessage:
        pass


@given(st.binary(max_size=200))
def test_walking_random_bytes_ends(data: bytes) -> None:
    """No attribute list makes the reader loop, read beyond it, or fail in an undocumented way."""
    try:
        for _, start, stop in walk(data, 0, len(data)):
            assert 0 <= start <= stop <= len(data)
    except MalformedMessage:
        pass


@given(st.binary(max_size=80))
def test_random_errors_fail_as_documented(body: bytes) -> None:
    """Error messages with any content decode or are malformed, nothing else."""
    for kind, flags in ((2, 0x100), (2, 0x200), (2, 0x300), (3, 0x200)):
        message = struct.pack("=IHHII", 16 + len(body), kind, flags, 7, 0) + body
        with contextlib.suppress(MalformedMessage):
            decoded(message)


def test_command_of_a_stub() -> None:
    """A message too short to have a command is refused, not misread."""
    with pytest.raises(MalformedMessage):
        command_of(bytes(19))
    assert command_of(get_family("IPVS")) == 3


@given(st.binary(max_size=60))
def test_random_controller_answers_fail_as_documented(body: bytes) -> None:
    """The answer to the family look-up is checked before it is used."""
    with contextlib.suppress(MalformedMessage):
        parse_family(bytes(20) + body)


def test_family_answer() -> None:
    """Name and number are found behind whatever else the controller says."""
    answer = bytes(20) + attribute(3, bytes(4)) + attribute(2, b"IPVS\0") + attribute(1, b"\x1c\0")
    assert parse_family(answer) == ("IPVS", 0x1C)
