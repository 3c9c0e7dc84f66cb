"""VRRPv3 advertisements: what is sent is what is understood, and nothing else is."""

import contextlib
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink.errors import UnencodableValue
from lvs_dr.vrrp.packet import (
    GROUP4,
    GROUP6,
    Advertisement,
    ChecksumForm,
    PacketRefusal,
    RefusedPacket,
    decode,
    encode,
)

SOURCE4, SOURCE6 = "192.0.2.11", "fe80::11"
ADVERT = Advertisement(51, 200, 10, ("192.0.2.100", "192.0.2.101"))


def ends(source: str, destination: str) -> tuple[bytes, bytes]:
    """Pack both addresses of the IP header."""
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    return socket.inet_pton(family, source), socket.inet_pton(family, destination)


def refusal(message: bytes, hop_limit: int = 255, source: str = SOURCE4, destination: str = GROUP4) -> str:
    """Decode what must be refused, and return the reason."""
    with pytest.raises(RefusedPacket) as caught:
        decode(message, *ends(source, destination), hop_limit)
    return caught.value.reason


def mended(message: bytes) -> bytes:
    """Return the message with its plain checksum made right."""
    body = bytearray(message)
    body[6:8] = b"\0\0"
    padded = bytes(body) + b"\0" * (len(body) % 2)
    total = sum(struct.unpack(f">{len(padded) // 2}H", padded))
    while total > 0xFFFF:
        total = (total >> 16) + (total & 0xFFFF)
    body[6:8] = (~total & 0xFFFF).to_bytes(2, "big")
    return bytes(body)


addresses = st.one_of(
    st.lists(st.ip_addresses(v=4).map(str), min_size=1, max_size=255).map(tuple),
    st.lists(st.ip_addresses(v=6).map(str), min_size=1, max_size=90).map(tuple),
)
adverts = st.builds(Advertisement, st.integers(1, 255), st.integers(0, 255), st.integers(1, 4095), addresses)


@given(adverts, st.sampled_from(ChecksumForm), st.binary(max_size=128))
def test_what_is_sent_is_what_is_received(advert: Advertisement, form: ChecksumForm, trailer: bytes) -> None:
    """Two of our speakers would not understand each other, in either checksum form."""
    six = ":" in advert.addresses[0]
    source, group = (SOURCE6, GROUP6) if six else (SOURCE4, GROUP4)
    message = encode(advert, source, group, form)
    got = decode(message, *ends(source, group), 255)
    canonical = tuple(
        socket.inet_ntop(socket.AF_INET6 if six else socket.AF_INET, ends(each, each)[0]) for each in advert.addresses
    )
    assert got.advertisement == advert._replace(addresses=canonical)
    # A sum can match both ways only when the pseudo-header's is a multiple of 0xffff: not with these addresses.
    assert got.form == (ChecksumForm.PSEUDO_HEADER if six else form)
    behind = decode(message + trailer, *ends(source, group), 255)
    assert behind.advertisement == got.advertisement
    assert behind.trailer == trailer


@given(st.binary(max_size=300), st.sampled_from(((SOURCE4, GROUP4), (SOURCE6, GROUP6))), st.integers(0, 255))
def test_no_bytes_from_the_wire_raise_anything_else(message: bytes, pair: tuple[str, str], hop_limit: int) -> None:
    """A stranger's packet would end the speaker."""
    for attempt in (message, b"\x31" + message, mended(b"\x31" + message.ljust(12, b"\1"))):
        for limit in (hop_limit, 255):
            with contextlib.suppress(RefusedPacket):
                decode(attempt, *ends(*pair), limit)


@given(adverts, st.data())
def test_a_flipped_bit_is_noticed(advert: Advertisement, data: Any) -> None:
    """A damaged packet would be believed."""
    six = ":" in advert.addresses[0]
    source, group = (SOURCE6, GROUP6) if six else (SOURCE4, GROUP4)
    message = bytearray(encode(advert, source, group, ChecksumForm.PSEUDO_HEADER))
    position = data.draw(st.integers(0, len(message) * 8 - 1))
    message[position // 8] ^= 1 << position % 8
    refusal(bytes(message), source=source, destination=group)


def test_the_known_bytes_of_both_forms() -> None:
    """We would agree with ourselves, and with nobody else."""
    one = Advertisement(51, 100, 100, ("192.168.35.100",))
    plain = encode(one, "192.168.35.11", GROUP4, ChecksumForm.PLAIN)
    assert plain.hex() == "313364010064" + plain[6:8].hex() + "c0a82364"
    assert mended(plain) == plain
    words = struct.unpack(">6H", plain[:6] + b"\0\0" + plain[8:])
    pseudo = struct.unpack(">6H", socket.inet_aton("192.168.35.11") + socket.inet_aton(GROUP4) + b"\0\x70\0\x0c")
    total = sum(words) + sum(pseudo)
    total = (total >> 16) + (total & 0xFFFF)
    other = encode(one, "192.168.35.11", GROUP4, ChecksumForm.PSEUDO_HEADER)
    assert other[6:8] == (~total & 0xFFFF).to_bytes(2, "big")


@pytest.mark.parametrize(
    ("message", "hop_limit", "reason"),
    [
        pytest.param(b"", 255, PacketRefusal.LENGTH, id="empty"),
        pytest.param(b"\x31\x01", 255, PacketRefusal.LENGTH, id="short"),
        pytest.param(b"\x21" + bytes(19), 255, PacketRefusal.VERSION, id="version 2"),
        pytest.param(b"\x32" + bytes(19), 255, PacketRefusal.TYPE, id="type"),
        pytest.param(mended(bytes.fromhex("3133640200640000c0a82364")), 255, PacketRefusal.LENGTH, id="cut"),
        pytest.param(mended(bytes.fromhex("3133640100640000c0a82364")), 254, PacketRefusal.HOP_LIMIT, id="routed"),
        pytest.param(bytes.fromhex("3133640100640001c0a82364"), 255, PacketRefusal.CHECKSUM, id="checksum"),
        pytest.param(mended(bytes.fromhex("3100640100640000c0a82364")), 255, PacketRefusal.VRID, id="vrid 0"),
        pytest.param(mended(bytes.fromhex("3133640000640000")), 255, PacketRefusal.COUNT, id="no address"),
        pytest.param(mended(bytes.fromhex("3133640100000000c0a82364")), 255, PacketRefusal.INTERVAL, id="interval 0"),
    ],
)
def test_each_fault_has_its_reason(message: bytes, hop_limit: int, reason: PacketRefusal) -> None:
    """The counters would not tell the operator what is wrong."""
    assert refusal(message, hop_limit) == reason


def test_a_long_tail_is_no_trailer() -> None:
    """Anything could be smuggled behind a valid head."""
    message = encode(ADVERT, SOURCE4, GROUP4, ChecksumForm.PLAIN)
    assert refusal(message + bytes(129)) == PacketRefusal.LENGTH


def test_reserved_bits_are_ignored() -> None:
    """A later version of the protocol may use them (RFC 9568, 5.2.6)."""
    message = bytearray(encode(ADVERT, SOURCE4, GROUP4, ChecksumForm.PLAIN))
    message[4] |= 0xF0
    assert decode(mended(bytes(message)), *ends(SOURCE4, GROUP4), 255).advertisement == ADVERT


@pytest.mark.parametrize(
    "advert",
    [
        ADVERT._replace(vrid=0),
        ADVERT._replace(vrid=256),
        ADVERT._replace(priority=256),
        ADVERT._replace(interval=0),
        ADVERT._replace(interval=4096),
        ADVERT._replace(addresses=()),
        ADVERT._replace(addresses=("192.0.2.1",) * 256),
        ADVERT._replace(addresses=("fd35::1",)),
    ],
)
def test_what_does_not_fit_is_not_sent(advert: Advertisement) -> None:
    """A wrapped field would mean something else to the peers."""
    with pytest.raises(UnencodableValue):
        encode(advert, SOURCE4, GROUP4, ChecksumForm.PLAIN)
