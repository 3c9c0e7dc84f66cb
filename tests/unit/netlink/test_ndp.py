"""IPv6 neighbour discovery frames on the wire and from it."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import ndp
from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.netlink.ethernet import FrameRefusal
from tests.unit.netlink.strategies import addresses

MAC = bytes.fromhex("020000000001")
OTHER = bytes.fromhex("020000000002")
VIP = "fd35::100"
OWN = "fd35::11"
FORMS = {
    "advertisement": ndp.unsolicited_advertisement(MAC, VIP),
    "probe": ndp.probe(MAC, VIP),
    "solicitation": ndp.solicitation(MAC, OWN, VIP),
}


def edited(frame: bytes, place: int, value: bytes, *, right_checksum: bool = True) -> bytes:
    """Change bytes of a frame; by default with a checksum that fits again."""
    changed = bytearray(frame)
    changed[place : place + len(value)] = value
    if right_checksum and place != 56:
        length = int.from_bytes(changed[18:20], "big")
        changed[56:58] = b"\0\0"
        total = ndp.checksum(bytes(changed[22:38]), bytes(changed[38:54]), bytes(changed[54 : 54 + length]))
        changed[56:58] = total.to_bytes(2, "big")
    return bytes(changed)


def test_advertisement_is_golden() -> None:
    """Clients take the new MAC at once: override set, hop limit 255, to all nodes (RFC 4861, 7.2.6)."""
    assert FORMS["advertisement"].hex() == (
        "333300000001" + "020000000001" + "86dd"
        "6000000000203aff" + "fd350000000000000000000000000100" + "ff020000000000000000000000000001"
        "8800" + "5833" + "20000000" + "fd350000000000000000000000000100" + "0201" + "020000000001"
    )  # fmt: skip


@given(st.binary(min_size=16, max_size=16), st.binary(min_size=16, max_size=16), st.binary(max_size=99))
def test_checksum_is_ones_complement_arithmetic(source: bytes, destination: bytes, message: bytes) -> None:
    """Peers accept our frames: the checksum is the one of RFC 1071, computed here as a remainder."""
    data = source + destination + len(message).to_bytes(4, "big") + b"\0\0\0\x3a" + message
    data += bytes(len(data) % 2)
    assert ndp.checksum(source, destination, message) == 0xFFFF - (int.from_bytes(data, "big") % 0xFFFF or 0xFFFF)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ("advertisement", (ndp.ADVERTISEMENT, VIP, "ff02::1", VIP, MAC, False, False, True, MAC)),
        ("probe", (ndp.SOLICITATION, "::", "ff02::1:ff00:100", VIP, None, False, False, False, MAC)),
        ("solicitation", (ndp.SOLICITATION, OWN, "ff02::1:ff00:100", VIP, MAC, False, False, False, MAC)),
    ],
)
def test_every_form_says_what_it_means(form: str, expected: tuple[object, ...]) -> None:
    """Each form carries the addresses that its receiver will put into its cache."""
    assert ndp.parse(FORMS[form]) == expected


def test_frames_go_where_listeners_are() -> None:
    """Solicitations reach the holder's multicast group, or one station only when asked."""
    assert FORMS["probe"][:6] == bytes.fromhex("3333ff000100")
    unicast = ndp.solicitation(MAC, OWN, VIP, OTHER)
    assert unicast[:6] == OTHER
    parsed = ndp.parse(unicast)
    assert isinstance(parsed, ndp.NeighbourMessage)
    assert parsed.destination == VIP


def test_claims_and_probes_are_told_apart() -> None:
    """A conflict is an advertisement for the address, or its use as a source; a simultaneous probe is none."""
    parsed = [ndp.parse(frame) for frame in FORMS.values()]
    told = [(each.claims(VIP), each.is_probe) for each in parsed if isinstance(each, ndp.NeighbourMessage)]
    assert told == [(True, False), (False, True), (False, False)]


def test_flags_are_what_was_asked() -> None:
    """A director that forwards says so, and a hint without override does not take over a cache entry."""
    parsed = ndp.parse(ndp.unsolicited_advertisement(MAC, VIP, router=True, override=False))
    assert isinstance(parsed, ndp.NeighbourMessage)
    assert (parsed.router, parsed.solicited, parsed.override) == (True, False, False)


@given(addresses(socket.AF_INET6).filter(lambda address: not address.startswith("ff") and address != "::"))
def test_round_trip(address: str) -> None:
    """Any unicast address is read back as it was written."""
    for frame in (ndp.unsolicited_advertisement(MAC, address), ndp.probe(MAC, address)):
        parsed = ndp.parse(frame)
        assert isinstance(parsed, ndp.NeighbourMessage)
        assert parsed.target == address


@pytest.mark.parametrize(
    ("form", "place", "value", "reason"),
    [
        ("probe", 12, b"\x08\x06", FrameRefusal.OTHER_PROTOCOL),
        ("probe", 14, b"\x45", FrameRefusal.BAD_HEADER),
        ("probe", 20, b"\x11", FrameRefusal.OTHER_PROTOCOL),
        ("probe", 54, b"\x80", FrameRefusal.OTHER_PROTOCOL),
        ("probe", 21, b"\xfe", FrameRefusal.HOP_LIMIT),
        ("probe", 56, b"\x00\x00", FrameRefusal.BAD_CHECKSUM),
        ("probe", 55, b"\x01", FrameRefusal.BAD_HEADER),
        ("probe", 62, b"\xff", FrameRefusal.BAD_ADDRESS),
        ("probe", 38, b"\xfd", FrameRefusal.BAD_ADDRESS),
        ("probe", 22, b"\xff", FrameRefusal.BAD_ADDRESS),
        ("advertisement", 58, b"\x60", FrameRefusal.BAD_ADDRESS),
        ("advertisement", 22, bytes(16), FrameRefusal.BAD_ADDRESS),
        ("advertisement", 6, b"\x33", FrameRefusal.BAD_ADDRESS),
        ("advertisement", 79, b"\x00", FrameRefusal.BAD_OPTION),
        ("advertisement", 79, b"\x02", FrameRefusal.BAD_OPTION),
        ("solicitation", 22, bytes(16), FrameRefusal.BAD_ADDRESS),
    ],
)
def test_refusals_have_a_reason(form: str, place: int, value: bytes, reason: FrameRefusal) -> None:
    """Every check of RFC 4861, section 7.1 refuses, under its own reason."""
    assert ndp.parse(edited(FORMS[form], place, value)) is reason


@pytest.mark.parametrize("form", FORMS)
def test_short_frames_are_refused(form: str) -> None:
    """A frame that was cut short is never read beyond its end."""
    frame = FORMS[form]
    assert {ndp.parse(frame[:length]) for length in range(len(frame))} == {FrameRefusal.TRUNCATED}


@given(st.binary(max_size=120), st.sampled_from(sorted(FORMS)), st.integers(0, 90))
def test_garbage_is_refused(data: bytes, form: str, place: int) -> None:
    """Whatever is on the wire, the parser answers; options that lie about their length end."""
    frame = FORMS[form]
    for each in (data, frame[:14] + data, edited(frame, place, data[:4], right_checksum=False)):
        assert isinstance(ndp.parse(each), ndp.NeighbourMessage | FrameRefusal)


@given(st.binary(max_size=40))
def test_random_options_end(options: bytes) -> None:
    """No list of options loops the parser, also when the checksum is right."""
    frame = bytearray(FORMS["advertisement"][:78] + options)
    frame[18:20] = (24 + len(options)).to_bytes(2, "big")
    assert isinstance(ndp.parse(edited(bytes(frame), 78, options)), ndp.NeighbourMessage | FrameRefusal)


@pytest.mark.parametrize(("mac", "address"), [(MAC[:5], VIP), (MAC, "192.168.35.100"), (MAC, "x"), (MAC, "::\0")])
def test_impossible_addresses_are_refused(mac: bytes, address: str) -> None:
    """No frame with another meaning leaves for a wrong address."""
    with pytest.raises(UnencodableValue):
        ndp.unsolicited_advertisement(mac, address)
