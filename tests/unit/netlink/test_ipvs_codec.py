"""IPVS requests and answers: against pyroute2, against bytes of a real kernel, and against each other."""

import contextlib
import socket
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.generic.ipvs import ipvsmsg

from lvs_dr.netlink import ipvs_decode as decode
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.errors import MalformedMessage, UnencodableValue
from lvs_dr.netlink.ipvs import (
    Command,
    DestinationConfig,
    DestinationKey,
    Forwarding,
    Info,
    Refusal,
    ServiceConfig,
    ServiceFlag,
    ServiceKey,
    refusal,
)
from tests.unit.netlink.netlink_kernel import attribute, attributes, destination_body
from tests.unit.netlink.strategies import destination_configs, destination_keys, service_keys, services

V4, V6 = socket.AF_INET, socket.AF_INET6
WEB = ServiceKey("192.168.35.100", 443, 6, 0, V4)
WEB6 = ServiceKey("fd35::100", 443, 6, 0, V6)
MARK6 = ServiceKey("", 0, 0, 77, V6)
PLAIN = ServiceConfig("wlc", 0, 0, 32, "")
STORAGE = DestinationKey("192.168.35.21", 443, V4)
DIRECT = DestinationConfig(100, Forwarding.DIRECT_ROUTING, 0, 0, 0, 0, 0)

# A destination as kernel 6.1 dumped it: 127.0.0.1:80, direct routing, weight 100.
KERNEL_6_1 = bytes.fromhex(
    "900100001c0002000a000000a5020000050100007c010200140001007f0000010000000000000000000000000600020000500000"
    "0800030003000000080004006400000005000d000000000006000e000000000006000f000000000008000500000000000800060"
    "00000000008000700000000000800080000000000080009000000000006000b000200000064000a0008000100000000000800020"
    "000000000080003000000000004000b000c000400000000000000000004000b000c000500000000000000000008000600000000"
    "0008000700000000000800080000000000080009000000000008000a0000000000a0000c000c000100000000000000000004000"
    "b000c000200000000000000000004000b000c000300000000000000000004000b000c000400000000000000000004000b000c00"
    "0500000000000000000004000b000c000600000000000000000004000b000c000700000000000000000004000b000c000800000"
    "000000000000004000b000c000900000000000000000004000b000c000a000000000000000000"
)


def oracle(
    command: int, service: list[tuple[str, Any]], destination: list[tuple[str, Any]]
) -> dict[int, dict[int, bytes]]:
    """Encode with pyroute2; attributes of service and destination, addresses widened to the kernel's union."""
    message = ipvsmsg()
    message["cmd"], message["version"] = command, 1
    message["attrs"] = [("IPVS_CMD_ATTR_SERVICE", {"attrs": service})]
    if destination:
        message["attrs"].append(("IPVS_CMD_ATTR_DEST", {"attrs": destination}))
    message.encode()
    return contents(bytes(message.data))


def contents(message: bytes) -> dict[int, dict[int, bytes]]:
    """Take a request apart: outer attribute -> inner attribute -> bytes, address as 16 bytes."""
    taken = {kind: attributes(inner) for kind, inner in attributes(message[20:]).items()}
    for kind, address in ((1, 3), (2, 1)):
        if address in taken.get(kind, {}):
            taken[kind][address] = taken[kind][address].ljust(16, b"\0")
    return taken


def as_dumped(key: DestinationKey, config: DestinationConfig, **options: Any) -> bytes:
    """Turn our own request into the message in which the kernel would dump that destination."""
    request = encode.new_destination(WEB, key, config)
    body = destination_body(attributes(attributes(request[20:])[2]), **options)
    return struct.pack("=IHHII", 16 + len(body), 0x1C, 2, 1, 0) + body


def pyroute2_service(key: ServiceKey) -> list[tuple[str, Any]]:
    """Name a service in pyroute2's words."""
    if key.mark:
        return [("IPVS_SVC_ATTR_AF", key.family), ("IPVS_SVC_ATTR_FWMARK", key.mark)]
    return [
        ("IPVS_SVC_ATTR_AF", key.family), ("IPVS_SVC_ATTR_PROTOCOL", key.protocol),
        ("IPVS_SVC_ATTR_ADDR", key.address), ("IPVS_SVC_ATTR_PORT", key.port),
    ]  # fmt: skip


@pytest.mark.parametrize("key", [WEB, WEB6, MARK6], ids=str)
@pytest.mark.parametrize("command", [encode.new_service, encode.set_service])
def test_service_request_matches_pyroute2(command: Any, key: ServiceKey) -> None:
    """A service reaches the kernel with the values that an independent encoder would send."""
    config = ServiceConfig("mh", ServiceFlag.SCHEDULER_1 | ServiceFlag.ONE_PACKET, 360, 24, "sip")
    # IPv6 masks are a bare prefix length, which pyroute2 can only write as an address
    mask = "255.255.255.0" if key.family == V4 else socket.inet_ntoa(struct.pack("=I", 24))
    expected = oracle(
        command(key, config)[16],
        [
            *pyroute2_service(key), ("IPVS_SVC_ATTR_SCHED_NAME", "mh"),
            ("IPVS_SVC_ATTR_FLAGS", {"flags": 0x1 | 0x4 | 0x8, "mask": 0xFFFFFFFF}),
            ("IPVS_SVC_ATTR_TIMEOUT", 360), ("IPVS_SVC_ATTR_NETMASK", mask), ("IPVS_SVC_ATTR_PE_NAME", "sip"),
        ],
        [],
    )  # fmt: skip
    assert expected == contents(command(key, config))


@pytest.mark.parametrize("key", [STORAGE, DestinationKey("fd35::21", 443, V6)], ids=str)
@pytest.mark.parametrize("command", [encode.new_destination, encode.set_destination])
def test_destination_request_matches_pyroute2(command: Any, key: DestinationKey) -> None:
    """A destination reaches the kernel with the values that an independent encoder would send."""
    request = command(WEB, key, DestinationConfig(5, Forwarding.TUNNEL, 20, 10, 1, 6080, 1))
    expected = oracle(
        request[16],
        pyroute2_service(WEB),
        [
            ("IPVS_DEST_ATTR_ADDR_FAMILY", key.family), ("IPVS_DEST_ATTR_ADDR", key.address),
            ("IPVS_DEST_ATTR_PORT", key.port), ("IPVS_DEST_ATTR_FWD_METHOD", 2), ("IPVS_DEST_ATTR_WEIGHT", 5),
            ("IPVS_DEST_ATTR_U_THRESH", 20), ("IPVS_DEST_ATTR_L_THRESH", 10), ("IPVS_DEST_ATTR_TUN_TYPE", 1),
            ("IPVS_DEST_ATTR_TUN_PORT", socket.htons(6080)), ("IPVS_DEST_ATTR_TUN_FLAGS", 1),
        ],
    )  # fmt: skip
    assert expected == contents(request)


def test_delete_requests_match_pyroute2() -> None:
    """Deleting names exactly one object."""
    service = pyroute2_service(WEB)
    destination = [
        ("IPVS_DEST_ATTR_ADDR_FAMILY", V4), ("IPVS_DEST_ATTR_ADDR", STORAGE.address), ("IPVS_DEST_ATTR_PORT", 443)
    ]  # fmt: skip
    assert oracle(3, service, []) == contents(encode.delete_service(WEB))
    assert oracle(7, service, destination) == contents(encode.delete_destination(WEB, STORAGE))


def test_requests_are_golden() -> None:
    """The bytes of one request of each kind, checked against pyroute2 once, never change by accident."""
    mark = ServiceKey("", 0, 0, 9, V4)
    assert encode.new_destination(mark, STORAGE, DIRECT).hex() == (
        "700000000000000000000000000000000501000014000180060001000200000008000500090000004800028006000b0002000000"
        "14000100c0a823150000000000000000000000000600020001bb0000080003000300000008000400640000000800050000000000"
        "0800060000000000"
    )
    assert encode.get_info().hex() == "140000000000000000000000000000000f010000"


@given(services())
def test_service_round_trip(service: tuple[ServiceKey, ServiceConfig]) -> None:
    """A service is read back as it was written: no pass of the agent sees a difference that is none."""
    key, config = service
    assert decode.parse_service(encode.new_service(key, config)) == (key, config)
    assert decode.parse_service(encode.set_service(key, config)) == (key, config)


@given(service_keys(), destination_keys(), destination_configs)
def test_destination_round_trip(service: ServiceKey, key: DestinationKey, config: DestinationConfig) -> None:
    """A destination is read back as it was written, in the order of our requests."""
    for request in (encode.new_destination(service, key, config), encode.set_destination(service, key, config)):
        assert decode.parse_destinations([request]) == {key: config}


@given(destination_keys(), destination_configs, st.tuples(*[st.integers(0, 0xFFFF_FFFF)] * 3))
def test_dumped_destination_reads_the_same_either_way(
    key: DestinationKey, config: DestinationConfig, counters: tuple[int, int, int]
) -> None:
    """The fast way for the kernel's order of attributes and the general way agree."""
    fast = as_dumped(key, config, counters=counters)
    slow = as_dumped(key, config, counters=counters, order=lambda kinds: kinds[::-1])
    for message in (fast, slow):
        assert decode.parse_destinations([message]) == {key: config}
        assert decode.parse_destination(message)[-2:] == counters[:2]


def test_kernel_dump_is_read() -> None:
    """A real kernel's message, byte for byte, in the fast way."""
    key = DestinationKey("127.0.0.1", 80, V4)
    assert decode.parse_destinations([KERNEL_6_1]) == {key: DIRECT}
    assert decode.parse_destination(KERNEL_6_1)[-2:] == (0, 0)


def test_kernel_bits_are_not_configuration() -> None:
    """HASHED and PERSISTENT in a dump do not make a service look changed."""
    config = ServiceConfig("rr", ServiceFlag.SCHEDULER_2, 300, 32, "")
    request = encode.new_service(WEB, config)
    dumped = request.replace(struct.pack("=II", 0x11, 0xFFFFFFFF), struct.pack("=II", 0x13, 0xFFFFFFFF))
    assert dumped != request
    assert decode.parse_service(dumped) == (WEB, config)


def test_timeout_without_persistence_is_no_persistence() -> None:
    """What the kernel ignores is not shown as if it worked."""
    request = encode.new_service(WEB, PLAIN._replace(timeout_seconds=60))
    plain = request.replace(struct.pack("=II", 1, 0xFFFFFFFF), struct.pack("=II", 2, 0xFFFFFFFF))
    assert decode.parse_service(plain) == (WEB, PLAIN)


def test_persistence_with_timeout_zero_can_be_put_back() -> None:
    """An odd service of somebody else survives being read and written."""
    odd = PLAIN._replace(flags=1)
    assert decode.parse_service(encode.new_service(WEB, odd)) == (WEB, odd)


def test_mask_with_holes_is_read() -> None:
    """Another tool's odd mask cannot stop the agent from reading the table."""
    request = encode.new_service(WEB, PLAIN).replace(attribute(9, b"\xff" * 4), attribute(9, b"\xff\0\xff\0"))
    assert decode.parse_service(request)[1].prefix_length == 8


@pytest.mark.parametrize(
    ("key", "config"),
    [
        (WEB._replace(address="192.168.35.300"), PLAIN),
        (WEB._replace(address="fd35::1"), PLAIN),
        (WEB._replace(address="1.2.3.4\0"), PLAIN),
        (WEB._replace(family=1), PLAIN),
        (WEB._replace(port=65536), PLAIN),
        (WEB._replace(protocol=-1), PLAIN),
        (WEB._replace(mark=1 << 32), PLAIN),
        (WEB, PLAIN._replace(prefix_length=33)),
        (WEB, PLAIN._replace(timeout_seconds=-1)),
        (WEB, PLAIN._replace(flags=1 << 32)),
        (WEB, PLAIN._replace(scheduler="x" * 16)),
        (WEB, PLAIN._replace(scheduler="")),
        (WEB, PLAIN._replace(engine="x" * 16)),
    ],
)
def test_impossible_services_are_refused(key: ServiceKey, config: ServiceConfig) -> None:
    """A value that does not fit is an error here, not another value in the kernel."""
    with pytest.raises(UnencodableValue):
        encode.new_service(key, config)


@pytest.mark.parametrize(
    ("key", "config"),
    [
        (STORAGE._replace(address="nowhere"), DIRECT),
        (STORAGE._replace(family=V6), DIRECT),
        (STORAGE._replace(port=-1), DIRECT),
        (STORAGE, DIRECT._replace(weight=-1)),
        (STORAGE, DIRECT._replace(upper=1 << 32)),
        (STORAGE, DIRECT._replace(tunnel_type=256)),
        (STORAGE, DIRECT._replace(tunnel_port=65536)),
    ],
)
def test_impossible_destinations_are_refused(key: DestinationKey, config: DestinationConfig) -> None:
    """A value that does not fit is an error here, not another value in the kernel."""
    with pytest.raises(UnencodableValue):
        encode.new_destination(WEB, key, config)
    if config == DIRECT:
        with pytest.raises(UnencodableValue):
            encode.delete_destination(WEB, key)


PARSERS = (
    decode.parse_service,
    decode.parse_info,
    lambda message: decode.parse_destinations([message]),
    decode.parse_destination,
    decode.packets_in,
    decode.statistics_size,
)


@given(st.binary(max_size=300))
def test_random_bytes_fail_as_documented(body: bytes) -> None:
    """Whatever arrives, a parser answers or says MalformedMessage."""
    for parse in PARSERS:
        for message in (body, bytes(20) + body, bytes(20) + attribute(2, body), bytes(20) + attribute(1, body)):
            with contextlib.suppress(MalformedMessage):
                parse(message)


@given(st.data())
def test_damaged_messages_fail_as_documented(data: st.DataObject) -> None:
    """Real messages, cut short or with flipped bytes, are parsed or refused."""
    whole = data.draw(st.sampled_from((KERNEL_6_1, encode.new_service(WEB6, PLAIN._replace(engine="sip")))))
    damaged = bytearray(whole[: data.draw(st.integers(0, len(whole)))])
    for place in data.draw(st.lists(st.integers(0, max(0, len(damaged) - 1)), max_size=4)):
        if damaged:
            damaged[place] = data.draw(st.integers(0, 255))
    for parse in PARSERS:
        with contextlib.suppress(MalformedMessage):
            parse(bytes(damaged))


def test_info_is_read() -> None:
    """The version of the kernel's IPVS is shown as people write it."""
    message = bytes(20) + attribute(1, struct.pack("=I", 0x010201)) + attribute(2, struct.pack("=I", 4096))
    assert decode.parse_info(message) == Info((1, 2, 1), 4096)


@pytest.mark.parametrize(
    ("command", "code", "expected"),
    [
        (Command.NEW_SERVICE, 17, Refusal.EXISTS),
        (Command.NEW_DESTINATION, 17, Refusal.EXISTS),
        (Command.NEW_SERVICE, 2, Refusal.SCHEDULER_MISSING),
        (Command.SET_SERVICE, 2, Refusal.SCHEDULER_MISSING),
        (Command.SET_DESTINATION, 2, Refusal.DESTINATION_MISSING),
        (Command.DELETE_DESTINATION, 2, Refusal.DESTINATION_MISSING),
        (Command.DELETE_SERVICE, 3, Refusal.SERVICE_MISSING),
        (Command.NEW_DESTINATION, 3, Refusal.SERVICE_MISSING),
        (Command.NEW_SERVICE, 22, Refusal.INVALID),
        (Command.NEW_DESTINATION, 34, Refusal.INVALID),
        (Command.NEW_SERVICE, 1, Refusal.NOT_PERMITTED),
        (Command.NEW_SERVICE, 97, Refusal.FAMILY_UNSUPPORTED),
        (Command.NEW_SERVICE, 5, Refusal.OTHER),
    ],
)
def test_errno_has_a_meaning_by_command(command: Command, code: int, expected: Refusal) -> None:
    """Each refusal of the kernel is named for what its reader can do about it."""
    assert refusal(command, code) is expected


def test_keys_are_written_for_people() -> None:
    """Log lines name services and destinations the usual way."""
    assert [str(WEB), str(WEB6), str(MARK6), str(STORAGE)] == [
        "TCP 192.168.35.100:443",
        "TCP [fd35::100]:443",
        "fwmark 77 -6",
        "192.168.35.21:443",
    ]
