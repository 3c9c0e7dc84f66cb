"""Directors that are real servers of the same VIP: no packet goes to and fro, whatever is alive (issue C, 5).

Nothing of ours runs on the nodes while packets are sent: after the agent's pass there are services, entries and
filters in the kernel only, as after kill -9 of everything.
"""

import json
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import pytest

from lvs_lab import Lab, Node, NodeSpec
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUESTS = REPOSITORY / "tests" / "kernel"
VIP, VIP6 = "192.168.35.100", "fd35::100"
VIPS = (VIP, VIP6)
PORT = 8443
IPV6: Final = b"\x86\xdd"
T = TypeVar("T")
SPECS = (
    NodeSpec(name="a", octet=11),
    NodeSpec(name="b", octet=12),
    NodeSpec(name="client", octet=51, kubernetes=False),
)
WAYS = [("tcp", VIP), ("tcp", VIP6), ("udp", VIP), ("udp", VIP6)]


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two directors that are real servers of both VIPs, guarded by passes of the agent, and a client."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=SPECS, kubernetes=False) as started:
        for name in ("a", "b"):
            node = started.nodes[name]
            guard(started, name)
            process = node.spawn(sys.executable, str(GUESTS / "guard_guest.py"), "serve", name, str(PORT))
            process.wait_for_output("ready", timeout=60)
        yield started


@pytest.fixture
def pair(lab: Lab) -> tuple[Node, Node]:
    """Both directors without services, entries and holders; their guards stand."""
    for name in ("a", "b"):
        forget(lab.nodes[name])
    return lab.nodes["a"], lab.nodes["b"]


@pytest.fixture
def guarded_again(lab: Lab) -> Iterator[None]:
    """For tests that break the guard: it stands again afterwards."""
    yield
    for name in ("a", "b"):
        guard(lab, name)


def other(name: str) -> str:
    """Return the other director."""
    return "b" if name == "a" else "a"


def address(node: Node, vip: str) -> str:
    """Return the node's own address of the VIP's family."""
    return node.lan_address6 if ":" in vip else node.lan_address


def guard(lab: Lab, name: str) -> None:
    """Make passes of the agent on a real server that is a director too; it does not hold the VIPs."""
    node, peer = lab.nodes[name], lab.nodes[other(name)]
    tables = {
        f"default/{number}": {
            "directorGroup": "default",
            "serviceGeneration": 1,
            "address": vip,
            "ports": [{"port": PORT, "protocol": protocol} for protocol in ("TCP", "UDP")],
            "scheduler": "rr",
            "onFailure": "Remove",
            "destinations": [
                {"realServer": each, "address": address(lab.nodes[each], vip), "weight": 1} for each in ("a", "b")
            ],
        }
        for number, vip in enumerate(VIPS)
    }
    peers = [{"node": other(name), "addresses": [peer.lan_address]}]
    role = {"director": {"group": "default", "tables": sorted(tables), "vrrp": {"peers": peers}}}
    asked = {
        "ledger": "/run/guard-test",
        "spec": {"decided": True, "backendAddresses": VIPS, **role},
        "tables": tables,
        "interface": "eth0",
        "macs": {other(name): [peer.mac]},
        "passes": 2,
    }
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUESTS / "pass_guest.py")]
    last: dict[str, Any] = json.loads(node.run(*argv, stdin=json.dumps(asked), timeout=120).stdout)[-1]
    assert last["failures"] == []
    assert last["guarded"]
    assert last["commands"] == []


def forget(node: Node) -> None:
    """Lose services, connection entries and the VIPs on the interface."""
    node.run("ipvsadm", "--stop-daemon", "master", check=False)
    node.run("ipvsadm", "--stop-daemon", "backup", check=False)
    node.run("ipvsadm", "-C")
    # Entries go with their timeouts only; those of removed services are dropped by packets, which is not meant here.
    node.run("sh", "-c", "modprobe=$(cat /proc/sys/kernel/modprobe); $modprobe -r ip_vs_rr ip_vs; $modprobe ip_vs")
    for vip in VIPS:
        node.run("ip", "address", "del", vip, "dev", "eth0", check=False)


def balance(node: Node, *destinations: Node, persistent: bool = False) -> None:
    """Have services for both VIPs in the kernel of a node, as an agent of ours left them."""
    lines = ["-C"]
    for vip in VIPS:
        for flag in "tu":
            shown = f"[{vip}]" if ":" in vip else vip
            lines.append(f"-A -{flag} {shown}:{PORT} -s rr{' -p 300' if persistent else ''}")
            for each in destinations:
                own = address(each, vip)
                lines.append(f"-a -{flag} {shown}:{PORT} -r {f'[{own}]' if ':' in own else own}:{PORT} -g -w 1")
    node.run("ipvsadm", "-C")
    node.run("ipvsadm", "-R", stdin="\n".join(lines[1:]) + "\n")


def hold(lab: Lab, name: str, *, both: bool = False) -> None:
    """Have one node hold the VIPs (or both, as before a lifetime is over); the client knows the new one."""
    client = lab.nodes["client"]
    for vip in VIPS:
        length, more = (128, ["nodad", "preferred_lft", "0"]) if ":" in vip else (32, [])
        for each in ("a", "b"):
            if each == name or both:
                lab.nodes[each].run("ip", "address", "replace", f"{vip}/{length}", "dev", "eth0", *more)
            else:
                lab.nodes[each].run("ip", "address", "del", f"{vip}/{length}", "dev", "eth0", check=False)
        client.run("ip", "neigh", "replace", vip, "lladdr", lab.nodes[name].mac, "dev", "eth0")


def ask(lab: Lab, protocol: str, vip: str, times: int, source_port: int = 0) -> list[str]:
    """Ask the service and return who answered."""
    argv = [
        sys.executable,
        str(GUESTS / "guard_guest.py"),
        "ask",
        protocol,
        vip,
        str(PORT),
        str(source_port),
        str(times),
    ]
    answers: list[str] = json.loads(lab.nodes["client"].run(*argv, timeout=60).stdout)
    return answers


def every_way(lab: Lab, times: int, source_port: int = 0) -> list[list[str]]:
    """Ask by TCP and UDP, IPv4 and IPv6."""
    return [ask(lab, protocol, vip, times, source_port) for protocol, vip in WAYS]


def watched(pair: tuple[Node, Node], act: Callable[[], T]) -> tuple[T, Counter[int]]:
    """Return what came of it, and the hops to live of the packets for VIPs that each director got from the other."""
    one, two = pair
    to_vip = f"(dst host {VIP} or dst host {VIP6})"
    with (
        one.capture("eth0", f"{to_vip} and ether src {two.mac}") as first,
        two.capture("eth0", f"{to_vip} and ether src {one.mac}") as second,
    ):
        done = act()
        first.stop()
        second.stop()
    frames = [*first.frames(), *second.frames()]
    return done, Counter(frame[21] if frame[12:14] == IPV6 else frame[22] for frame in frames)


def test_a_former_active_with_everything_dead(lab: Lab, pair: tuple[Node, Node]) -> None:
    """Its services would send what it gets back to the new Active, until the TTL ends: clients would fail."""
    one, two = pair
    balance(one, one, two)
    balance(two, one, two)
    hold(lab, "a")
    answers, seen = watched(pair, lambda: every_way(lab, 4))
    assert [sorted(each) for each in answers] == [["a", "a", "b", "b"]] * 4, "the Active's decision holds"
    assert set(seen) == {63}, "sent once, and not again"


def test_two_holders_before_a_lifetime_is_over(lab: Lab, pair: tuple[Node, Node]) -> None:
    """While both answer for the VIP, a client may still send to the dead one."""
    one, two = pair
    balance(one, two)
    balance(two, one)
    hold(lab, "b", both=True)
    answers, seen = watched(pair, lambda: every_way(lab, 2))
    assert answers == [["a", "a"]] * 4
    assert set(seen) == {63}


def test_a_stale_connection_entry(lab: Lab, pair: tuple[Node, Node]) -> None:
    """Entries are looked at before services: one from earlier days would send the packet back for minutes."""
    one, two = pair
    balance(two, one)
    hold(lab, "b")
    assert every_way(lab, 1, 40001) == [["a"]] * 4
    balance(one, two)
    hold(lab, "a")
    answers, seen = watched(pair, lambda: every_way(lab, 2, 40001))
    assert answers == [["b", "b"]] * 4, "turned around to the service on the node itself"
    assert set(seen) == {63}


def test_synced_entries(lab: Lab, pair: tuple[Node, Node]) -> None:
    """A living Backup has the Active's entries: they outlive a connection, and its port comes again."""
    one, two = pair
    for node in pair:
        node.run("sysctl", "-qw", "net.ipv4.vs.sync_threshold=0 1")
        for role in ("master", "backup"):
            node.run("ipvsadm", "--start-daemon", role, "--mcast-interface", "eth0", "--syncid", "7")
    balance(one, one)
    hold(lab, "a")
    assert every_way(lab, 1, 40002) == [["a"]] * 4
    two.run(
        "sh", "-c", "for i in $(seq 80); do [ $(ipvsadm -Lnc | grep -c :40002) = 4 ] && exit; sleep 0.2; done; exit 1"
    )
    # The Active forgets what it has told: its port is used anew, for a connection to the other.
    forget(one)
    balance(one, two)
    hold(lab, "a")
    answers, seen = watched(pair, lambda: every_way(lab, 2, 40002))
    assert answers == [["b", "b"]] * 4
    assert set(seen) == {63}


def test_persistence(lab: Lab, pair: tuple[Node, Node]) -> None:
    """A template of the dead one would send all of a client's connections back, for the time of the persistence."""
    one, two = pair
    balance(two, one, persistent=True)
    hold(lab, "b")
    assert every_way(lab, 1) == [["a"]] * 4
    balance(one, two, persistent=True)
    hold(lab, "a")
    answers, seen = watched(pair, lambda: every_way(lab, 2))
    assert answers == [["b", "b"]] * 4
    assert set(seen) == {63}


@pytest.mark.usefixtures("guarded_again")
def test_a_guard_on_one_side_ends_the_loop(lab: Lab, pair: tuple[Node, Node]) -> None:
    """A peer whose filters were lost (somebody's `tc qdisc del`) must not bring it back."""
    one, two = pair
    two.run("tc", "qdisc", "del", "dev", "eth0", "clsact")
    balance(one, two)
    balance(two, one)
    hold(lab, "a")
    answers, seen = watched(pair, lambda: every_way(lab, 2))
    assert answers == [["a", "a"]] * 4
    assert set(seen) == {63, 62}


@pytest.mark.usefixtures("guarded_again")
def test_without_what_turns_packets_around_the_loop_still_ends(lab: Lab, pair: tuple[Node, Node]) -> None:
    """The two hops to live are the second net: it holds when only the filters for arriving packets are left."""
    for node in pair:
        node.run("tc", "filter", "del", "dev", "eth0", "egress")
    balance(pair[0], pair[1])
    balance(pair[1], pair[0])
    hold(lab, "a")
    _, seen = watched(pair, lambda: ask(lab, "udp", VIP, 2) + ask(lab, "udp", VIP6, 2))
    assert seen == {63: 4, 1: 4}


@pytest.mark.usefixtures("guarded_again")
def test_the_loop_is_there_without_the_guard(lab: Lab, pair: tuple[Node, Node]) -> None:
    """Otherwise none of these tests would show anything."""
    for node in pair:
        node.run("tc", "qdisc", "del", "dev", "eth0", "clsact")
    balance(pair[0], pair[1])
    balance(pair[1], pair[0])
    hold(lab, "a")
    answers, seen = watched(pair, lambda: ask(lab, "udp", VIP, 1))
    assert answers == ["TimeoutError"]
    assert len(seen) > 50


def test_a_mark_of_the_user(lab: Lab, pair: tuple[Node, Node]) -> None:
    """Who marks packets by a rule overwrites other marks: a guard that relied on a mark would be blind."""
    for node, peer in (pair, pair[::-1]):
        node.run("ipvsadm", "-A", "-f", "7", "-s", "rr")
        node.run("ipvsadm", "-a", "-f", "7", "-r", f"{peer.lan_address}:0", "-g")
        node.run("iptables", "-t", "mangle", "-A", "PREROUTING", "-d", VIP, "-j", "MARK", "--set-mark", "7")
    hold(lab, "a")
    try:
        answers, seen = watched(pair, lambda: [ask(lab, protocol, VIP, 2) for protocol in ("tcp", "udp")])
        assert answers == [["b", "b"]] * 2
        assert set(seen) == {63}
    finally:
        for node in pair:
            node.run("iptables", "-t", "mangle", "-F", "PREROUTING")


def test_somebody_elses_filters_are_still_asked(lab: Lab, pair: tuple[Node, Node]) -> None:
    """A CNI's filters behind ours on the same interface would not see the packets that ours change."""
    node = pair[1]
    theirs = ("dev", "eth0", "ingress", "protocol", "ip", "prio", "50")
    node.run("tc", "filter", "add", *theirs, "flower", "dst_ip", VIP, "action", "pass")
    try:
        balance(pair[0], node)
        hold(lab, "a")
        assert ask(lab, "udp", VIP, 3) == ["b"] * 3
        told = node.run("tc", "-s", "filter", "show", "dev", "eth0", "ingress", "prio", "50").stdout
        assert " 3 pkt" in told
    finally:
        node.run("tc", "filter", "del", *theirs)


def test_the_macs_of_peers_are_found(lab: Lab) -> None:
    """Without them no frame would be told from a client's. Nobody answers for an address that nobody has."""
    one, two = lab.nodes["a"], lab.nodes["b"]
    peers = [two.lan_address, two.lan_address6, "192.168.35.199"]
    program = (
        "import asyncio, json, sys; from lvs_dr.agent.wire import PacketWire;"
        "print(json.dumps(asyncio.run(PacketWire().resolve('eth0', *json.loads(sys.argv[1])))))"
    )
    asked = json.dumps([peers, [one.lan_address, one.lan_address6]])
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, "-c", program, asked]
    assert json.loads(one.run(*argv, timeout=60).stdout) == dict.fromkeys(peers[:2], two.mac)
