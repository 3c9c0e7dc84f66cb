"""Traffic control codec: what is encoded is read back, and rubbish is refused."""

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import tc
from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.message import attribute, nested

addresses = st.one_of(
    st.binary(min_size=4, max_size=4).map(socket.inet_ntoa),
    st.binary(min_size=16, max_size=16).map(lambda raw: socket.inet_ntop(socket.AF_INET6, raw)),
)
macs = st.one_of(st.just(""), st.binary(min_size=6, max_size=6).map(lambda raw: raw.hex(":")))


@st.composite
def filters(draw: st.DrawFn) -> tc.Filter:
    """Return any filter that the guard may need."""
    address = draw(addresses)
    interface = draw(st.integers(1, 2**31 - 1))
    actions = draw(st.sampled_from((tc.let_pass(), tc.turn_back(interface), tc.set_hops(address, 2))))
    return tc.Filter(
        interface=interface,
        parent=draw(st.sampled_from((tc.INGRESS, tc.EGRESS))),
        priority=draw(st.integers(1, 0xFFFF)),
        handle=draw(st.integers(1, 2**32 - 1)),
        match=tc.Match(address, draw(macs), draw(st.one_of(st.none(), st.integers(0, 255)))),
        actions=actions,
    )


@given(filters())
def test_a_filter_is_read_as_it_was_written(wanted: tc.Filter) -> None:
    """A filter that looked different when read would be made anew in every pass."""
    assert tc.parse_filter(tc.new_filter(wanted)) == wanted


def test_more_conditions_are_not_overlooked() -> None:
    """A filter that somebody narrowed would count as intact."""
    wanted = tc.Filter(2, tc.INGRESS, 1, 7, tc.Match("192.0.2.1"), tc.let_pass())
    message = tc.new_filter(wanted)
    narrowed = _with_option(message, attribute(9, b"\x06"))  # TCA_FLOWER_KEY_IP_PROTO: TCP only
    found = tc.parse_filter(narrowed)
    assert found is not None
    assert found.match is None


def test_a_partial_mask_is_not_overlooked() -> None:
    """A filter for a whole subnet would count as the one for a VIP."""
    message = tc.new_filter(tc.Filter(2, tc.INGRESS, 1, 7, tc.Match("192.0.2.1"), tc.let_pass()))
    found = tc.parse_filter(message.replace(attribute(13, b"\xff\xff\xff\xff"), attribute(13, b"\xff\xff\xff\x00")))
    assert found is not None
    assert found.match is None


def test_other_kinds_and_chains_are_told_apart() -> None:
    """Somebody else's filter would be taken for ours, and removed."""
    message = tc.new_filter(tc.Filter(2, tc.INGRESS, 1, 7, tc.Match("192.0.2.1"), tc.let_pass()))
    for changed in (message.replace(b"flower\0", b"flowex\0"), message + attribute(11, b"\1\0\0\0")):
        found = tc.parse_filter(changed)
        assert found is not None
        assert found.match is None
    assert tc.parse_filter(tc.get_filters(2, tc.INGRESS)) is None, "a priority without a filter"


def test_unknown_actions_are_not_what_ours_do() -> None:
    """An action that somebody added would count as intact."""
    wanted = tc.Filter(2, tc.INGRESS, 1, 7, tc.Match("192.0.2.1"), tc.let_pass())
    more = nested(2, attribute(1, b"police\0"))
    message = tc.new_filter(wanted)
    found = tc.parse_filter(_with_option(message, nested(3, more)))
    assert found is not None
    assert found.actions != wanted.actions


@given(st.binary(max_size=200))
def test_rubbish_is_refused(raw: bytes) -> None:
    """A message of a newer kernel would end the agent instead of one read."""
    for message in (raw, tc.new_filter(tc.Filter(2, tc.INGRESS, 1, 7, tc.Match("::1"), tc.let_pass())) + raw):
        with contextlib.suppress(MalformedMessage):
            tc.parse_filter(message)
        with contextlib.suppress(MalformedMessage):
            tc.parse_qdisc(message)


@pytest.mark.parametrize("match", [tc.Match("x"), tc.Match("192.0.2.1", "02:00"), tc.Match("192.0.2.1", "zz"), None])
def test_what_cannot_be_encoded_is_refused(match: tc.Match | None) -> None:
    """A broken MAC would become a filter for another one."""
    with pytest.raises(UnencodableValue):
        tc.new_filter(tc.Filter(2, tc.INGRESS, 1, 7, match, tc.let_pass()))


def test_clsact_is_read() -> None:
    """The agent would try to add the qdisc for ever."""
    assert tc.parse_qdisc(tc.new_clsact(3)) == tc.Qdisc(3, 0xFFFF0000, tc.CLSACT)


def _with_option(message: bytes, option: bytes) -> bytes:
    """Return the message with one more attribute in its options, which come last."""
    kind = attribute(1, b"flower\0")
    start = message.index(kind) + len(kind)
    length, number = struct.unpack_from("=HH", message, start)
    return message[:start] + struct.pack("=HH", length + len(option), number) + message[start + 4 :] + option
