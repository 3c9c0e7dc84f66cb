"""Codec of IPVS's sync daemons."""

import contextlib
import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import ipvs_daemon
from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.ipvs_daemon import Daemon, DaemonState
from lvs_dr.netlink.message import ATTRIBUTES_START, HEADER_SIZE, attribute, command_of, generic_message, nested, walk

DAEMON = 3

four = st.binary(min_size=4, max_size=4).map(lambda packed: socket.inet_ntop(socket.AF_INET, packed))
six = st.binary(min_size=16, max_size=16).map(lambda packed: socket.inet_ntop(socket.AF_INET6, packed))
names = st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=1, max_size=15)
usable = st.builds(
    Daemon,
    state=st.sampled_from(DaemonState),
    interface=names,
    sync_id=st.integers(0, 255),
    maximum_length=st.integers(0, 65535),
    group=four | six,
    port=st.integers(0, 65535),
    ttl=st.integers(0, 255),
)


def inner(message: bytes) -> dict[int, bytes]:
    """Return the attributes of the daemon in a message."""
    outer = {kind: (first, last) for kind, first, last in walk(message, ATTRIBUTES_START, len(message))}
    return {kind: message[first:last] for kind, first, last in walk(message, *outer[DAEMON])}


def answer(*attributes: bytes) -> bytes:
    """Return a message of a kernel with these attributes."""
    return generic_message(ipvs_daemon.NEW_DAEMON, 1, nested(DAEMON, *attributes))


@given(usable)
def test_daemons_read_back_as_written(daemon: Daemon) -> None:
    """A daemon would be started anew in every pass."""
    assert ipvs_daemon.parse_daemons([ipvs_daemon.new_daemon(daemon)]) == {daemon.state: daemon}


def test_numbers_have_the_width_and_order_of_the_kernel() -> None:
    """The kernel would listen on another port than the other directors send to."""
    found = inner(ipvs_daemon.new_daemon(Daemon(DaemonState.MASTER, "eth0", 51, 1472, "224.0.0.81", 8848, 1)))
    assert found == {
        1: struct.pack("=I", 1), 2: b"eth0\0", 3: struct.pack("=I", 51), 4: struct.pack("=H", 1472),
        5: bytes((224, 0, 0, 81)), 7: struct.pack("=H", 8848), 8: b"\1",
    }  # fmt: skip
    assert 6 in inner(ipvs_daemon.new_daemon(Daemon(DaemonState.BACKUP, "eth0", 51, group="ff02::81")))


def test_a_length_of_0_is_left_to_the_kernel() -> None:
    """The kernel would take it for the shortest message there is."""
    assert 4 not in inner(ipvs_daemon.new_daemon(Daemon(DaemonState.MASTER, "eth0", 1)))


def test_a_daemon_is_stopped_by_its_state_alone() -> None:
    """The other daemon would be stopped as well, or none."""
    message = ipvs_daemon.delete_daemon(DaemonState.BACKUP)
    assert command_of(message) == ipvs_daemon.DELETE_DAEMON
    assert inner(message) == {1: struct.pack("=I", 2)}
    assert command_of(ipvs_daemon.get_daemons()) == ipvs_daemon.GET_DAEMON


@pytest.mark.parametrize(
    "daemon",
    [
        Daemon(3, "eth0", 1),
        Daemon(1, "", 1),
        Daemon(1, "much-too-long-a-name", 1),
        Daemon(1, "eth0", 256),
        Daemon(1, "eth0", -1),
        Daemon(1, "eth0", 1, 65536),
        Daemon(1, "eth0", 1, group="nonsense"),
        Daemon(1, "eth0", 1, port=65536),
        Daemon(1, "eth0", 1, ttl=256),
    ],
)
def test_impossible_daemons_are_refused(daemon: Daemon) -> None:
    """The kernel would start something else than what was wanted."""
    with pytest.raises(UnencodableValue):
        ipvs_daemon.new_daemon(daemon)


def test_there_are_two_states() -> None:
    """A slip would stop no daemon and say nothing."""
    with pytest.raises(UnencodableValue):
        ipvs_daemon.delete_daemon(0)


def test_what_an_old_kernel_leaves_out_is_read_as_absent() -> None:
    """A kernel before 4.3 could not be read at all."""
    told = answer(attribute(1, struct.pack("=I", 2)), attribute(2, b"eth0\0"), attribute(3, struct.pack("=I", 7)))
    assert ipvs_daemon.parse_daemon(told) == Daemon(2, "eth0", 7, 0, "", 0, 0)


@pytest.mark.parametrize(
    "message",
    [
        generic_message(ipvs_daemon.NEW_DAEMON, 1),
        answer(attribute(3, struct.pack("=I", 7))),
        answer(attribute(1, struct.pack("=I", 9)), attribute(3, struct.pack("=I", 7))),
        answer(attribute(1, struct.pack("=I", 1)), attribute(3, b"\0")),
        answer(attribute(1, struct.pack("=I", 1)), attribute(3, struct.pack("=I", 7)), attribute(5, b"\0")),
    ],
)
def test_answers_that_make_no_sense_are_refused(message: bytes) -> None:
    """A daemon would be read that is not there."""
    with pytest.raises(MalformedMessage):
        ipvs_daemon.parse_daemon(message)


@given(st.binary(max_size=200))
def test_garbage_never_does_more_than_raise(data: bytes) -> None:
    """A surprising kernel would crash the agent."""
    for message in (bytes(HEADER_SIZE + 4) + data, answer(data)):
        with contextlib.suppress(MalformedMessage):
            ipvs_daemon.parse_daemon(message)
