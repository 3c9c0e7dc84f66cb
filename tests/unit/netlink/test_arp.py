"""ARP frames on the wire and from it."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import arp
from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ethernet import BROADCAST, FrameRefusal, mac_text
from tests.unit.netlink.strategies import addresses

MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
VIP = "192.168.35.100"

unicast_macs = st.binary(min_size=6, max_size=6).map(lambda raw: bytes((raw[0] & 0xFE,)) + raw[1:])


def test_probe_is_golden() -> None:
    """A probe claims nothing: its sender is 0.0.0.0, so no peer changes its cache (RFC 5227, 2.1.1)."""
    assert (
        arp.probe(MAC, VIP).hex()
        == ("ffffffffffff0200000000010806" + "0001080006040001" + "02000000000100000000" + "000000000000c0a82364")
        + "00" * 18
    )


@pytest.mark.parametrize(
    ("frame", "expected"),
    [
        (arp.gratuitous_request(MAC, VIP), (arp.REQUEST, MAC, VIP, bytes(6), VIP, MAC)),
        (arp.gratuitous_reply(MAC, VIP), (arp.REPLY, MAC, VIP, MAC, VIP, MAC)),
        (arp.request(MAC, "192.168.35.11", VIP), (arp.REQUEST, MAC, "192.168.35.11", bytes(6), VIP, MAC)),
        (arp.reply(MAC, VIP, OTHER, "192.168.35.51"), (arp.REPLY, MAC, VIP, OTHER, "192.168.35.51", MAC)),
        (arp.probe(MAC, VIP), (arp.REQUEST, MAC, "0.0.0.0", bytes(6), VIP, MAC)),
    ],
    ids=["gratuitous request", "gratuitous reply", "request", "reply", "probe"],
)
def test_every_form_says_what_it_means(frame: bytes, expected: tuple[object, ...]) -> None:
    """Each form carries the addresses that its receiver will put into its cache."""
    assert arp.parse(frame) == expected


def test_announcements_go_to_everyone_and_requests_may_go_to_one() -> None:
    """All clients hear of a takeover; a doctor's question bothers one station only."""
    for frame in (arp.gratuitous_request(MAC, VIP), arp.gratuitous_reply(MAC, VIP), arp.probe(MAC, VIP)):
        assert frame[:6] == BROADCAST
    assert arp.request(MAC, "192.168.35.11", VIP, OTHER)[:6] == OTHER
    assert arp.reply(MAC, VIP, OTHER, "192.168.35.51")[:6] == OTHER


def test_claims_and_probes_are_told_apart() -> None:
    """A conflict is any ARP packet whose sender has the address; a simultaneous probe is none."""
    answer, probe, announcement = (
        arp.parse(frame)
        for frame in (arp.reply(OTHER, VIP, MAC, "0.0.0.0"), arp.probe(OTHER, VIP), arp.gratuitous_reply(OTHER, VIP))
    )
    assert isinstance(answer, arp.ArpMessage)
    assert isinstance(probe, arp.ArpMessage)
    assert isinstance(announcement, arp.ArpMessage)
    assert [each.claims(VIP) for each in (answer, probe, announcement)] == [True, False, True]
    assert [each.is_probe for each in (answer, probe, announcement)] == [False, True, False]
    assert [each.is_gratuitous for each in (answer, probe, announcement)] == [False, False, True]


@given(unicast_macs, addresses(socket.AF_INET), addresses(socket.AF_INET))
def test_round_trip(mac: bytes, address: str, target: str) -> None:
    """Any addresses are read back as they were written."""
    assert arp.parse(arp.request(mac, address, target)) == (arp.REQUEST, mac, address, bytes(6), target, mac)


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (12, b"\x08\x00", FrameRefusal.OTHER_PROTOCOL),
        (14, b"\x00\x06", FrameRefusal.OTHER_PROTOCOL),
        (18, b"\x10", FrameRefusal.OTHER_PROTOCOL),
        (20, b"\x00\x03", FrameRefusal.BAD_HEADER),
        (22, b"\xff", FrameRefusal.BAD_ADDRESS),
        (6, b"\xff", FrameRefusal.BAD_ADDRESS),
    ],
)
def test_refusals_have_a_reason(place: int, value: bytes, reason: FrameRefusal) -> None:
    """A frame that breaks a rule changes nothing and is counted under its reason."""
    frame = bytearray(arp.probe(MAC, VIP))
    frame[place : place + len(value)] = value
    assert arp.parse(bytes(frame)) is reason


@given(st.binary(max_size=80))
def test_garbage_is_refused(data: bytes) -> None:
    """Whatever is on the wire, the parser answers."""
    for frame in (data, arp.probe(MAC, VIP)[: len(data)], arp.probe(MAC, VIP)[:14] + data):
        assert isinstance(arp.parse(frame), arp.ArpMessage | FrameRefusal)


def test_short_frames_are_refused() -> None:
    """A frame that was cut short is never read beyond its end."""
    frame = arp.probe(MAC, VIP)
    assert {arp.parse(frame[:length]) for length in range(42)} == {FrameRefusal.TRUNCATED}


@pytest.mark.parametrize(("mac", "address"), [(MAC[:5], VIP), (MAC, "fd35::1"), (MAC, "x"), (MAC, "1.2.3.4\0")])
def test_impossible_addresses_are_refused(mac: bytes, address: str) -> None:
    """No frame with another meaning leaves for a wrong address."""
    with pytest.raises(UnencodableValue):
        arp.gratuitous_request(mac, address)


def test_mac_is_written_for_people() -> None:
    """Conflicts are reported with the address as it stands on a switch."""
    assert mac_text(MAC) == "02:00:00:00:00:01"
