"""Codecs of IPVS's timeouts, GUE ports and tunnel devices."""

import contextlib
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import fou, ipvs_config, tunnel_links
from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.ipvs_config import Timeouts
from lvs_dr.netlink.message import ATTRIBUTES_START, HEADER_SIZE, attribute, command_of, generic_message, walk
from lvs_dr.netlink.tunnel_links import TunnelLink

IFLA_INFO = 18
IFINFO_SIZE = 16

four = st.binary(min_size=4, max_size=4).filter(any).map(lambda packed: socket.inet_ntop(socket.AF_INET, packed))
six = st.binary(min_size=16, max_size=16).filter(any).map(lambda packed: socket.inet_ntop(socket.AF_INET6, packed))
none, plain = st.just(""), st.just(False)
usable = st.builds(fou.GuePort, local=four | six, port=st.integers(1, 65535))
links = st.one_of(
    st.builds(TunnelLink, kind=st.just("ipip"), local=four, remote=none, checksum=plain),
    st.builds(TunnelLink, kind=st.just("ip6tnl"), local=six, remote=none, checksum=plain),
    st.builds(TunnelLink, kind=st.just("gre"), local=four, remote=none),
    st.builds(TunnelLink, kind=st.just("ip6gre"), local=six, remote=none),
)


def info(body: bytes) -> bytes:
    """Return the attribute IFLA_LINKINFO of a message's body."""
    return next(body[first:last] for kind, first, last in walk(body, IFINFO_SIZE, len(body)) if kind == IFLA_INFO)


def test_a_timeout_of_0_is_not_sent() -> None:
    """The others would be set to what somebody else does not want."""
    message = ipvs_config.set_config(Timeouts(tcp=7200))
    assert command_of(message) == ipvs_config.SET_CONFIG
    assert [kind for kind, _, _ in walk(message, ATTRIBUTES_START, len(message))] == [4]
    assert ipvs_config.parse_config(message) == Timeouts(7200, 0, 0)


@given(st.builds(Timeouts, *[st.integers(0, 2**31 - 1)] * 3))
def test_timeouts_read_back_as_written(timeouts: Timeouts) -> None:
    """Every pass would write them again."""
    assert ipvs_config.parse_config(ipvs_config.set_config(timeouts)) == timeouts


def test_impossible_timeouts_are_refused() -> None:
    """The kernel would take -1 for never."""
    for seconds in (-1, 2**31):
        with pytest.raises(UnencodableValue):
            ipvs_config.set_config(Timeouts(udp=seconds))
    with pytest.raises(MalformedMessage):
        ipvs_config.parse_config(generic_message(ipvs_config.SET_CONFIG, 1, attribute(4, b"\0\0")))


@given(usable)
def test_gue_ports_read_back_as_written(port: fou.GuePort) -> None:
    """A port would be opened in every pass, or never closed."""
    assert fou.parse_port(fou.add_port(port)) == port


def test_ports_of_others_are_left_out() -> None:
    """A port that takes plain FOU, or packets to any address, would be taken for ours."""
    direct = generic_message(1, 1, attribute(1, b"\x17\xc0"), attribute(4, b"\1"), attribute(6, b"\xc0\0\2\1"))
    anywhere = generic_message(1, 1, attribute(1, b"\x17\xc0"), attribute(4, b"\2"), attribute(6, bytes(4)))
    assert fou.parse_port(direct) is None
    assert fou.parse_port(anywhere) is None


@pytest.mark.parametrize("port", [fou.GuePort("192.0.2.1", 0), fou.GuePort("192.0.2.1", 65536), fou.GuePort("x", 1)])
def test_impossible_ports_are_refused(port: fou.GuePort) -> None:
    """The kernel would open another port than the one wanted."""
    with pytest.raises(UnencodableValue):
        fou.add_port(port)


@given(links)
def test_tunnel_devices_read_back_as_written(link: TunnelLink) -> None:
    """A device would be made anew in every pass."""
    assert tunnel_links.parse_info(info(tunnel_links.new_link("lvs0", link))) == link


def test_gre_flags_are_big_endian() -> None:
    """The kernel would set a sequence number flag instead of the checksum's."""
    body = info(tunnel_links.new_link("lvs0", TunnelLink("gre", "192.0.2.1", "", checksum=True)))
    assert attribute(2, b"\x80\x00") in body


def test_devices_of_other_kinds_are_no_tunnels() -> None:
    """Somebody else's bridge with a name like ours would be read as garbage."""
    assert tunnel_links.parse_info(attribute(1, b"bridge\0")) is None
    assert tunnel_links.parse_info(b"") is None


@pytest.mark.parametrize("link", [TunnelLink("vxlan", "192.0.2.1"), TunnelLink("ipip", "2001:db8::1")])
def test_impossible_devices_are_refused(link: TunnelLink) -> None:
    """The kernel would make a device that ends somewhere else."""
    with pytest.raises(UnencodableValue):
        tunnel_links.new_link("lvs0", link)
    with pytest.raises(UnencodableValue):
        tunnel_links.named_link("much-too-long-a-name")


@given(st.binary(max_size=200))
def test_garbage_never_does_more_than_raise(data: bytes) -> None:
    """A surprising kernel would crash the agent."""
    message = bytes(HEADER_SIZE + 4) + data
    with contextlib.suppress(MalformedMessage):
        fou.parse_port(message)
    with contextlib.suppress(MalformedMessage):
        ipvs_config.parse_config(message)
    with contextlib.suppress(MalformedMessage):
        tunnel_links.parse_info(data)


def test_families_of_the_wire() -> None:
    """Addresses of one family would be written as the other's."""
    assert attribute(2, bytes([socket.AF_INET6])) in fou.add_port(fou.GuePort("2001:db8::1", 6080))
