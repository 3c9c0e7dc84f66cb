"""The IPVS codec on the lab's kernel, with ipvsadm and pyroute2 as witnesses."""

import errno
import re
import socket
import time
from typing import Any, NamedTuple

import pytest

from lvs_dr.netlink.ipvs import (
    DestinationConfig,
    DestinationKey,
    Forwarding,
    Refusal,
    ServiceConfig,
    ServiceFlag,
    ServiceKey,
    TunnelType,
)
from lvs_lab import Lab, Node
from tests.kernel.ipvs_player import NODE, guest, lines, play, table

V4, V6 = socket.AF_INET, socket.AF_INET6
TCP, UDP, SCTP = 6, 17, 132
SCHEDULERS = ("rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh")
PLAIN = ServiceConfig("wlc", 0, 0, 32, "")
PLAIN6 = PLAIN._replace(prefix_length=128)
WEB = ServiceKey("192.168.35.100", 443, TCP, 0, V4)
WEB6 = ServiceKey("fd35::100", 443, TCP, 0, V6)
STORAGE = DestinationKey("192.168.35.21", 443, V4)
STORAGE6 = DestinationKey("fd35::21", 443, V6)
DIRECT = DestinationConfig(100, Forwarding.DIRECT_ROUTING, 0, 0, 0, 0, 0)
MODULE = re.compile(r"^(\w+)", re.MULTILINE)
PERSISTENT = ServiceFlag.SCHEDULER_1 | ServiceFlag.SCHEDULER_2


class Service(NamedTuple):
    """A service as the codec has it and as `ipvsadm -Sn` writes it."""

    key: ServiceKey
    config: ServiceConfig
    line: str


class Destination(NamedTuple):
    """A destination as the codec has it and as `ipvsadm -Sn` writes it."""

    service: ServiceKey
    key: DestinationKey
    config: DestinationConfig
    line: str


SERVICES = [
    Service(WEB, PLAIN, "-A -t 192.168.35.100:443 -s wlc"),
    Service(WEB6, PLAIN6, "-A -t [fd35::100]:443 -s wlc"),
    Service(ServiceKey("192.168.35.100", 53, UDP, 0, V4), PLAIN, "-A -u 192.168.35.100:53 -s wlc"),
    Service(ServiceKey("192.168.35.100", 36412, SCTP, 0, V4), PLAIN, "-A --sctp-service 192.168.35.100:36412 -s wlc"),
    Service(ServiceKey("fd35::100", 36412, SCTP, 0, V6), PLAIN6, "-A --sctp-service [fd35::100]:36412 -s wlc"),
    Service(ServiceKey("", 0, 0, 7, V4), PLAIN, "-A -f 7 -s wlc"),
    Service(ServiceKey("", 0, 0, 2147483647, V6), PLAIN6, "-A -f 2147483647 -6 -s wlc"),
    Service(
        ServiceKey("192.168.35.101", 0, TCP, 0, V4), ServiceConfig("rr", 0, 360, 32, ""),
        "-A -t 192.168.35.101:0 -s rr -p 360",
    ),
    Service(
        ServiceKey("192.168.35.101", 80, TCP, 0, V4), ServiceConfig("mh", PERSISTENT, 60, 24, ""),
        "-A -t 192.168.35.101:80 -s mh -p 60 -M 255.255.255.0 -b mh-fallback,mh-port",
    ),
    Service(
        ServiceKey("fd35::101", 80, TCP, 0, V6), ServiceConfig("sh", ServiceFlag.SCHEDULER_2, 60, 64, ""),
        "-A -t [fd35::101]:80 -s sh -p 60 -M 64 -b sh-port",
    ),
    Service(
        ServiceKey("192.168.35.101", 514, UDP, 0, V4), ServiceConfig("rr", ServiceFlag.ONE_PACKET, 0, 32, ""),
        "-A -u 192.168.35.101:514 -s rr -o",
    ),
    Service(
        ServiceKey("192.168.35.101", 5060, UDP, 0, V4), ServiceConfig("rr", 0, 60, 32, "sip"),
        "-A -u 192.168.35.101:5060 -s rr -p 60 --pe sip",
    ),
    *(
        Service(
            ServiceKey("192.168.35.102", 1000 + number, TCP, 0, V4), PLAIN._replace(scheduler=name),
            f"-A -t 192.168.35.102:{1000 + number} -s {name}",
        )
        for number, name in enumerate(SCHEDULERS)
    ),
]  # fmt: skip


def tunnel(kind: TunnelType, port: int = 0, flags: int = 0) -> DestinationConfig:
    """A destination behind a tunnel."""
    return DestinationConfig(1, Forwarding.TUNNEL, 0, 0, kind, port, flags)


def at(number: int) -> DestinationKey:
    """One of several real servers."""
    return DestinationKey(f"192.168.35.{number}", 443, V4)


_TO = "-a -t 192.168.35.100:443 -r"
DESTINATIONS = [
    Destination(WEB, STORAGE, DIRECT, f"{_TO} 192.168.35.21:443 -g -w 100"),
    Destination(WEB, at(22), DIRECT._replace(weight=0), f"{_TO} 192.168.35.22:443 -g -w 0"),
    Destination(WEB, at(23), DIRECT._replace(weight=65535), f"{_TO} 192.168.35.23:443 -g -w 65535"),
    Destination(
        WEB, DestinationKey("192.168.35.24", 8443, V4), DestinationConfig(1, Forwarding.MASQUERADE, 0, 0, 0, 0, 0),
        f"{_TO} 192.168.35.24:8443 -m -w 1",
    ),
    Destination(WEB, at(25), tunnel(TunnelType.IPIP), f"{_TO} 192.168.35.25:443 -i -w 1 --tun-type ipip"),
    Destination(
        WEB, at(26), tunnel(TunnelType.GUE, 6080),
        f"{_TO} 192.168.35.26:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum",
    ),
    Destination(
        WEB, at(27), tunnel(TunnelType.GUE, 6080, 2),
        f"{_TO} 192.168.35.27:443 -i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum",
    ),
    Destination(
        WEB, at(28), tunnel(TunnelType.GRE, 0, 1), f"{_TO} 192.168.35.28:443 -i -w 1 --tun-type gre --tun-csum"
    ),
    Destination(WEB, STORAGE6, tunnel(TunnelType.IPIP), f"{_TO} [fd35::21]:443 -i -w 1 --tun-type ipip"),
    Destination(WEB6, STORAGE6, DIRECT, "-a -t [fd35::100]:443 -r [fd35::21]:443 -g -w 100"),
    Destination(
        ServiceKey("", 0, 0, 7, V4), DestinationKey("192.168.35.21", 0, V4), DIRECT,
        "-a -f 7 -r 192.168.35.21:0 -g -w 100",
    ),
    Destination(
        ServiceKey("", 0, 0, 2147483647, V6), DestinationKey("fd35::21", 0, V6), DIRECT,
        "-a -f 2147483647 -6 -r [fd35::21]:0 -g -w 100",
    ),
]  # fmt: skip
WHOLE = {
    each.key: (each.config, {one.key: one.config for one in DESTINATIONS if one.service == each.key})
    for each in SERVICES
}
LINES = sorted([*(each.line for each in SERVICES), *(each.line for each in DESTINATIONS)])


@pytest.fixture(scope="module")
def by_codec(lab: Lab) -> dict[str, Any]:
    """The whole table added by the codec, with every destination set and set back, and read in three ways."""
    adds = [
        *(["new_service", each.key, each.config] for each in SERVICES),
        *(["new_destination", each.service, each.key, each.config] for each in DESTINATIONS),
    ]
    edits = [
        *(["set_service", each.key, each.config._replace(scheduler="lc")] for each in SERVICES),
        *(["set_service", each.key, each.config] for each in SERVICES),
        *(["set_destination", each.service, each.key, each.config._replace(weight=3)] for each in DESTINATIONS),
        *(["set_destination", each.service, each.key, each.config] for each in DESTINATIONS),
    ]
    removals = [
        *(["delete_destination", each.service, each.key] for each in DESTINATIONS),
        *(["delete_service", each.key] for each in SERVICES),
    ]
    reads = [["run", "ipvsadm", "-Sn"], ["read"], ["pyroute2_read"]]
    names = ("add", "ipvsadm", "codec", "pyroute2", "edit", "ipvsadm after edit", "remove", "left")
    found = play(
        lab, ["apply", *adds], *reads, ["apply", *edits], ["run", "ipvsadm", "-Sn"], ["apply", *removals], ["read"]
    )
    return dict(zip(names, found, strict=True))


def test_what_the_codec_adds_is_what_others_read(by_codec: dict[str, Any]) -> None:
    """ipvsadm shows exactly the rules that were asked for, attribute by attribute."""
    assert by_codec["add"] == {}
    assert lines(by_codec["ipvsadm"]) == LINES


def test_the_codec_reads_back_what_it_wrote(by_codec: dict[str, Any]) -> None:
    """A pass after a pass finds no difference: nothing is written twice."""
    assert table(by_codec["codec"]) == WHOLE


def test_pyroute2_reads_the_same(by_codec: dict[str, Any]) -> None:
    """An independent decoder agrees about every field, thresholds and tunnels included."""
    assert table(by_codec["pyroute2"]) == WHOLE


def test_edits_keep_everything_else(by_codec: dict[str, Any]) -> None:
    """Setting a scheduler or weight there and back leaves persistence, limits and tunnels as they were."""
    assert by_codec["edit"] == {}
    assert lines(by_codec["ipvsadm after edit"]) == LINES


def test_what_was_added_can_be_removed(by_codec: dict[str, Any]) -> None:
    """Nothing is left behind of any kind of service."""
    assert by_codec["remove"] == {}
    assert by_codec["left"] == []


def test_what_ipvsadm_adds_is_what_the_codec_reads(lab: Lab) -> None:
    """Somebody else's rules are seen as they are, whatever their kind."""
    rules = "\n".join([*(each.line for each in SERVICES), *(each.line for each in DESTINATIONS)])
    restored, found = play(lab, ["run", "sh", "-c", f"ipvsadm -R <<'RULES'\n{rules}\nRULES"], ["read"])
    assert lines(restored) == []
    assert table(found) == WHOLE


def test_thresholds_survive_both_ways(lab: Lab) -> None:
    """Connection limits, which `ipvsadm -S` does not print, are written and read right."""
    limited = DIRECT._replace(upper=5000, lower=4000)
    add = ["apply", ["new_service", WEB, PLAIN], ["new_destination", WEB, STORAGE, limited]]
    shown = ["run", "ipvsadm", "-Ln", "--thresholds"]
    other = ["run", "sh", "-c", "ipvsadm -a -t 192.168.35.100:443 -r 192.168.35.22 -g -x 20 -y 10"]
    errors, listed, added, found = play(lab, add, shown, other, ["read"])
    assert errors == {}
    assert any(line.split()[-4:-2] == ["5000", "4000"] for line in lines(listed)), listed
    assert lines(added) == []
    destinations = table(found)[WEB][1]
    assert destinations[STORAGE] == limited
    assert (destinations[at(22)].upper, destinations[at(22)].lower) == (20, 10)


def test_options_can_be_taken_back(lab: Lab) -> None:
    """Setting replaces: persistence, engine, flags, limits and tunnel that are no longer wanted are gone."""
    key = ServiceKey("192.168.35.100", 5060, UDP, 0, V4)
    rich = ServiceConfig("sh", ServiceFlag.SCHEDULER_2, 60, 24, "sip")
    limited = DestinationConfig(5, Forwarding.TUNNEL, 20, 10, TunnelType.GUE, 6080, 1)
    add = ["apply", ["new_service", key, rich], ["new_destination", key, STORAGE, limited]]
    edit = ["apply", ["set_service", key, PLAIN], ["set_destination", key, STORAGE, DIRECT]]
    added, before, edited, after = play(lab, add, ["read"], edit, ["read"])
    assert added == edited == {}
    assert table(before) == {key: (rich, {STORAGE: limited})}
    assert table(after) == {key: (PLAIN, {STORAGE: DIRECT})}


def test_one_bad_message_harms_only_itself(lab: Lab) -> None:
    """On the real kernel, too, errors come by entry and the rest of the batch is applied."""
    changes: list[list[Any]] = [
        ["new_service", WEB, PLAIN],
        ["new_service", WEB6, PLAIN6._replace(scheduler="nonesuch")],
        ["new_destination", WEB, STORAGE, DIRECT],
        ["new_service", WEB, PLAIN],
        ["new_destination", WEB, STORAGE, DIRECT],
        ["new_destination", WEB6, STORAGE6, DIRECT],
        ["set_destination", WEB, at(99), DIRECT],
        ["delete_destination", WEB, at(99)],
        ["set_service", WEB6, PLAIN6],
        ["delete_service", WEB6],
        ["new_destination", WEB, at(98), DIRECT._replace(upper=1, lower=2)],
        ["new_destination", WEB, DestinationKey("224.0.0.1", 443, V4), DIRECT],
        ["new_service", WEB._replace(port=444), PLAIN._replace(engine="nonesuch")],
        ["new_destination", WEB, at(22), DIRECT],
    ]
    errors, found = play(lab, ["apply", *changes], ["read"])
    assert {int(position): tuple(error) for position, error in errors.items()} == {
        1: (errno.ENOENT, Refusal.SCHEDULER_MISSING),
        3: (errno.EEXIST, Refusal.EXISTS),
        4: (errno.EEXIST, Refusal.EXISTS),
        5: (errno.ESRCH, Refusal.SERVICE_MISSING),
        6: (errno.ENOENT, Refusal.DESTINATION_MISSING),
        7: (errno.ENOENT, Refusal.DESTINATION_MISSING),
        8: (errno.ESRCH, Refusal.SERVICE_MISSING),
        9: (errno.ESRCH, Refusal.SERVICE_MISSING),
        10: (errno.ERANGE, Refusal.INVALID),
        11: (errno.EINVAL, Refusal.INVALID),
        12: (errno.ENOENT, Refusal.SCHEDULER_MISSING),
    }
    assert table(found) == {WEB: (PLAIN, {STORAGE: DIRECT, at(22): DIRECT})}


def test_a_directors_own_address_is_read_back_as_written(lab: Lab) -> None:
    """A director that is a real server too does not look changed: the kernel keeps direct routing as it is."""
    own = DestinationKey("127.0.0.1", 443, V4)
    add = ["apply", ["new_service", WEB, PLAIN], ["new_destination", WEB, own, DIRECT]]
    errors, found, counters = play(lab, add, ["read"], ["connections", WEB])
    assert errors == {}
    assert table(found) == {WEB: (PLAIN, {own: DIRECT})}
    assert counters == [[[*own], [0, 0]]]


def test_pyroute2_update_deletes(lab: Lab) -> None:
    """Why pyroute2 does not write IPVS here: its "update" removes the service (0.9.7)."""
    add = ["apply", ["new_service", WEB, PLAIN]]
    _, before, _, after = play(lab, add, ["read"], ["pyroute2_update", WEB], ["read"])
    assert set(table(before)) == {WEB}
    assert after == []


def unload_ipvs(node: Node) -> None:
    """Unload ip_vs and its schedulers; the namespaces of earlier tests let go of them a little later."""
    deadline = time.monotonic() + 20
    while loaded := [name for name in MODULE.findall(node.read_file("/proc/modules")) if name.startswith("ip_vs")]:
        assert time.monotonic() < deadline, f"still in use: {loaded}"
        node.run("rmmod", *sorted(loaded, key=len, reverse=True), check=False)


def test_modules_load_by_themselves(lab: Lab) -> None:
    """On a node where nobody loaded ip_vs, looking it up and adding a service are enough."""
    unload_ipvs(lab.nodes[NODE])
    version, errors, found = play(lab, ["info"], ["apply", ["new_service", WEB, PLAIN]], ["read"])
    assert version[:2] == [1, 2]
    assert errors == {}
    assert table(found) == {WEB: (PLAIN, {})}


def test_large_batch_is_complete(lab: Lab) -> None:
    """Several chunks of a batch arrive whole, and far faster than one command per rule."""
    (measured,) = play(lab, ["speed", 100, 20])
    assert (measured["entries"], measured["failed"]) == (2000, 0)


def test_marks_use_all_32_bits(lab: Lab) -> None:
    """The largest mark is itself, though ipvsadm writes it as -1."""
    key = ServiceKey("", 0, 0, 0xFFFF_FFFF, V4)
    errors, found, witness = play(lab, ["apply", ["new_service", key, PLAIN]], ["read"], ["pyroute2_read"])
    assert errors == {}
    assert table(found) == table(witness) == {key: (PLAIN, {})}


def test_the_agents_reader_sees_the_kernels_table(lab: Lab) -> None:
    """What the agent compares with what is wanted is what is there, on the first read and on every later one."""
    adds = [
        *(["new_service", each.key, each.config] for each in SERVICES),
        *(["new_destination", each.service, each.key, each.config] for each in DESTINATIONS),
    ]
    errors, found = play(lab, ["apply", *adds], ["reader_read"])
    assert errors == {}
    assert (found["same as the codec"], found["same again"]) == (True, True)
    assert found["silent"] == [7, 2147483647]
    assert found["slots"] >= 256


def test_a_mark_is_silent_until_its_first_packet(lab: Lab) -> None:
    """The user who forgot to mark packets is told, and no longer when they come."""
    mark = ServiceKey("", 0, 0, 7, V4)
    own = DestinationKey("127.0.0.1", 0, V4)
    add = ["apply", ["new_service", mark, PLAIN], ["new_destination", mark, own, DIRECT]]
    address = ["run", "ip", "address", "add", "10.0.0.1/32", "dev", "lo"]
    _, errors, before, _, after = play(
        lab, address, add, ["reader_read"], ["send_marked", "10.0.0.1", 7], ["reader_read"]
    )
    assert errors == {}
    assert before["silent"] == [7]
    assert after["silent"] == []


@pytest.fixture(scope="module")
def wire(lab: Lab) -> dict[str, Any]:
    """What happened on a cable between the packet socket and this kernel."""
    return dict(guest(lab, "packet_guest.py"))


def test_frames_mean_to_a_kernel_what_they_say(wire: dict[str, Any]) -> None:
    """A real kernel takes over a gratuitous ARP and an unsolicited NA, ignores a probe, and answers one."""
    own, peer = wire["own"], wire["peer"]
    assert [wire[form] for form in ("gratuitous request", "gratuitous reply", "advertisement")] == [own] * 3
    assert wire["after a probe"] == "02:00:00:00:00:99"
    assert (wire["free"], wire["taken"], wire["taken6"]) == ([], [peer], [peer])


def test_packet_socket_hears_only_its_protocol(wire: dict[str, Any]) -> None:
    """Clients' packets do not wake the program, and a dead interface is an error that names it."""
    assert (wire["traffic"], wire["noise"]) == (10, [])
    assert wire["down"] == ["interface own: Network is down"]
    assert wire["gone"].startswith("interface own: No such device")
    assert wire["missing"] == "interface own: No such device"
