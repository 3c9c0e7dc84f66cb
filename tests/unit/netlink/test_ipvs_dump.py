"""Reading a table again and again: always what the bytes say, never what they said before."""

import socket
import struct
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.netlink import ipvs_decode as decode
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.errors import MalformedMessage
from lvs_dr.netlink.ipvs import DestinationConfig, ServiceConfig, ServiceKey
from lvs_dr.netlink.ipvs import DestinationKey as WireKey
from lvs_dr.netlink.ipvs_dump import Place, TableReader
from tests.unit.netlink.netlink_kernel import attribute, attributes, destination_body
from tests.unit.netlink.strategies import destination_configs, destination_keys, service_keys, services

WEB = ServiceKey("192.168.35.100", 443, 6, 0, socket.AF_INET)
MARK = ServiceKey("", 0, 0, 7, socket.AF_INET)
PLAIN = ServiceConfig("wlc", 0, 0, 32, "")
STORAGE = WireKey("192.168.35.21", 443, socket.AF_INET)
DIRECT = DestinationConfig(100, 3, 0, 0, 0, 0, 0)

Reader = TableReader[ServiceKey, ServiceConfig, DestinationConfig]


def reader() -> Reader:
    """A reader that has read nothing yet."""
    return TableReader(ServiceKey, ServiceConfig, DestinationConfig)


def shown(key: WireKey, config: DestinationConfig, **how: Any) -> bytes:
    """A destination as the kernel dumps it."""
    request = encode.new_destination(WEB, key, config)
    return bytes(16) + destination_body(attributes(attributes(request[20:])[2]), **how)


def listed(key: ServiceKey, config: ServiceConfig, packets: int = 0, *, wide: bool = True) -> bytes:
    """A service as the kernel dumps it, counters behind, in 32 and (`wide`) in 64 bits."""
    inner = encode.new_service(key, config)[24:]
    narrow = attribute(1, bytes(4)) + attribute(2, struct.pack("=I", packets & 0xFFFF_FFFF))
    inner += attribute(10, narrow)
    if wide:
        inner += attribute(12, attribute(1, bytes(8)) + attribute(2, struct.pack("=Q", packets)))
    return bytes(20) + attribute(1, inner)


def read(
    using: Reader, messages: list[bytes], service: ServiceKey = WEB
) -> tuple[Mapping[Place, Any], dict[Place, int]]:
    """Read one service's destinations."""
    return using.destinations(service, messages, inactive_too=service.protocol == 17)


dumped = st.tuples(
    destination_keys(), destination_configs, st.tuples(*[st.integers(0, 0x7FFF_FFFF)] * 3), st.booleans()
)


@given(service_keys(), st.lists(st.lists(dumped, max_size=4, unique_by=lambda each: each[0][:2]), max_size=5))
def test_every_read_is_what_the_bytes_say(
    service: ServiceKey, reads: list[list[tuple[WireKey, DestinationConfig, tuple[int, int, int], bool]]]
) -> None:
    """A destination whose weight, limits or connections changed would be taken for the one of the read before."""
    using = reader()
    for now in reads * 2:
        messages = [
            shown(key, config, counters=counters, order=(lambda kinds: kinds[::-1]) if odd else list)
            for key, config, counters, odd in now
        ]
        configs, connections = read(using, messages, service)
        assert configs == {(key.address, key.port): config for key, config, _, _ in now}
        assert connections == {
            (key.address, key.port): active + (inactive if service.protocol == 17 else 0)
            for key, _, (active, inactive, _), _ in now
        }
        remembered = {(key.address, key.port): persistent for key, _, (_, _, persistent), _ in now}
        assert using.templates(service, messages) == remembered


def test_what_did_not_change_is_the_same_object() -> None:
    """The comparison with what is wanted would look into ten thousand tuples in every pass."""
    using = reader()
    first, _ = read(using, [shown(STORAGE, DIRECT)])
    second, connections = read(using, [shown(STORAGE, DIRECT, counters=(5, 6, 7))])
    assert second is first
    assert connections == {(STORAGE.address, STORAGE.port): 5}
    third, _ = read(using, [shown(STORAGE, DIRECT), shown(STORAGE._replace(port=7), DIRECT)])
    assert len(first) == 1, "what was handed out is not changed"
    for place, config in first.items():
        assert third[place] is config


@given(st.lists(st.lists(st.tuples(services(), st.integers(0, 3), st.booleans()), max_size=4), max_size=4))
def test_services_are_read_as_they_are(reads: list[list[tuple[Any, int, bool]]]) -> None:
    """A service that somebody edited would look unchanged, or a mark without packets as one with."""
    using = reader()
    for now in reads * 2:
        messages = [listed(key, config, packets, wide=wide) for (key, config), packets, wide in now]
        found, silent = using.services(messages)
        assert found == dict(map(decode.parse_service, messages))
        last = {key: packets for (key, _), packets, _ in now}
        told = {key for (key, _), packets, _ in now if key.mark and packets == 0}
        assert silent == told
        assert silent >= {key for key, packets in last.items() if key.mark and packets == 0}


@pytest.mark.parametrize("wide", [True, False])
def test_silence_ends_with_the_first_packet(*, wide: bool) -> None:
    """The user would go on looking for a mistake that is mended; 2^32 packets are not none where 64 bits tell it."""
    using = reader()
    assert using.services([listed(MARK, PLAIN, 0, wide=wide)])[1] == {MARK}
    assert using.services([listed(MARK, PLAIN, 1, wide=wide)])[1] == frozenset()
    assert using.services([listed(MARK, PLAIN, 1 << 32, wide=wide)])[1] == (frozenset() if wide else {MARK})
    assert using.services([listed(WEB, PLAIN, 0, wide=wide)])[1] == frozenset()


def test_a_churning_table_does_not_grow_the_reader() -> None:
    """An agent that runs for months would fill its node's memory with what it once saw."""
    using = reader()
    for number in range(200):
        key = WEB._replace(port=1 + number)
        using.services([listed(key, PLAIN)])
        read(using, [shown(STORAGE._replace(port=1 + number), DIRECT)], key)
        read(using, [shown(STORAGE, DIRECT._replace(weight=number))])
    assert len(using._services) == 1
    assert len(using._destinations) <= 2
    assert all(len(known) <= 20 for known in using._destinations.values())


@given(st.data())
def test_damaged_dumps_fail_as_documented(data: st.DataObject) -> None:
    """A reader that has seen a good table parses a damaged one or refuses it."""
    using = reader()
    good = [shown(STORAGE, DIRECT), listed(WEB, PLAIN), listed(MARK, PLAIN)]
    read(using, good[:1])
    using.services(good[1:])
    whole = data.draw(st.sampled_from(good))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=4)):
        if damaged:
            damaged[place] = data.draw(st.integers(0, 255))
    try:
        expected: Any = decode.parse_destination(bytes(damaged))
    except MalformedMessage:
        expected = None
    try:
        configs, connections = read(using, [bytes(damaged)])
    except MalformedMessage:
        assert expected is None
    else:
        assert expected is not None
        key = (expected[0], expected[1])
        assert (configs, connections) == ({key: expected[3]}, {key: expected[4]})
    try:
        using.services([bytes(damaged)])
    except MalformedMessage:
        return
