"""Checks through the VIP on the lab's kernels: an Active and a Backup director, and real servers with every fault."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from lvs_lab import Lab, Node, NodeProcess, NodeSpec
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUEST = REPOSITORY / "tests" / "kernel" / "probe_guest.py"
SERVE = REPOSITORY / "lab" / "lvs_lab" / "guest" / "serve.py"
SPECS = (
    NodeSpec(name="active", octet=11),
    NodeSpec(name="backup", octet=12),
    NodeSpec(name="rs-1", octet=21),
    NodeSpec(name="rs-2", octet=22),
)
REAL_SERVERS = ("rs-1", "rs-2")
DIRECTORS = ("active", "backup")
VIP, VIP6 = "192.168.35.100", "fd35::100"
PORT = 8443
MARKS = {"rs-1": 4097, "rs-2": 4098}
LEDGER = "/run/probe-test"
ACCEPT = "net.ipv4.conf.eth0.accept_local"


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """The Active holds both VIPs on eth0; the real servers have them on lo, silently, and serve on all addresses."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=SPECS, kubernetes=False) as started:
        started.nodes["active"].run("ip", "addr", "add", f"{VIP}/32", "dev", "eth0")
        started.nodes["active"].run("ip", "addr", "add", f"{VIP6}/128", "dev", "eth0", "nodad", "preferred_lft", "0")
        for name in REAL_SERVERS:
            node = started.nodes[name]
            node.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=1", "net.ipv4.conf.all.arp_announce=2")
            put_vips(node)
        yield started


def put_vips(node: Node) -> None:
    """Put the VIPs on lo."""
    node.run("ip", "addr", "replace", f"{VIP}/32", "dev", "lo", "scope", "host")
    node.run("ip", "addr", "replace", f"{VIP6}/128", "dev", "lo", "nodad", "preferred_lft", "0")


@pytest.fixture
def serving(lab: Lab) -> Iterator[Lab]:
    """The lab with a service on both real servers."""
    running = [serve(lab.nodes[name]) for name in REAL_SERVERS]
    yield lab
    for process in running:
        process.signal(9)


def serve(node: Node, address: str = "::") -> NodeProcess:
    """Serve on an address, "::" is all."""
    process = node.spawn(sys.executable, str(SERVE), str(PORT), address)
    process.wait_for_output("serving", timeout=60)
    return process


def check(
    node: Node, *, vip: str = VIP, seconds: float = 6, marks: Mapping[str, int] = MARKS, **more: Any
) -> dict[str, Any]:
    """Check both real servers from a director and return what came of it."""
    own, servers = node.lan_address, {"rs-1": "192.168.35.21", "rs-2": "192.168.35.22"}
    length = 24
    if vip == VIP6:
        own, servers, length = node.lan_address6, {"rs-1": "fd35::21", "rs-2": "fd35::22"}, 64
    table = {
        "directorGroup": "default",
        "serviceGeneration": 1,
        "address": vip,
        "ports": [{"port": PORT, "protocol": "TCP"}],
        "scheduler": "rr",
        "onFailure": "Quiesce",
        "destinations": [
            {"realServer": name, "address": address, "weight": 1, "checkMark": marks.get(name, 0)}
            for name, address in servers.items()
        ],
        "healthCheck": {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 1, "fall": 1},
    }
    spec = {"director": {"group": "default", "tables": ["default/web"]}}
    asked = {
        "ledger": LEDGER, "spec": {"decided": True, **spec}, "tables": {"default/web": table}, "interface": "eth0",
        "held": [vip] if node.name == "active" else [], "own": [f"{own}/{length}"], "seconds": seconds, **more,
    }  # fmt: skip
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUEST)]
    found: dict[str, Any] = json.loads(node.run(*argv, stdin=json.dumps(asked), timeout=120).stdout)
    found["of"] = {name: found["outcomes"].get(address) for name, address in servers.items()}
    return found


@pytest.mark.parametrize("vip", [VIP, VIP6])
@pytest.mark.parametrize("director", DIRECTORS)
def test_well_real_servers_are_well_from_both_directors(serving: Lab, director: str, vip: str) -> None:
    """The Active, which holds the VIP itself, would take out everybody; or the Backup would when it takes over."""
    found = check(serving.nodes[director], vip=vip)
    assert found["refused"] == []
    assert [found["of"][name]["health"] for name in REAL_SERVERS] == ["Up", "Up"], found
    assert [found["of"][name]["trouble"] for name in REAL_SERVERS] == ["", ""], found


def _lose_the_vip(node: Node) -> Callable[[], object]:
    node.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo")
    return lambda: put_vips(node)


def _drop_the_vip(node: Node) -> Callable[[], object]:
    rule = ("INPUT", "-d", VIP, "-j", "DROP")
    node.run("iptables-legacy", "-A", *rule)
    return lambda: node.run("iptables-legacy", "-D", *rule)


@pytest.mark.parametrize("fault", [_lose_the_vip, _drop_the_vip])
@pytest.mark.parametrize("director", DIRECTORS)
def test_a_real_server_that_is_dead_on_the_vip_is_found_out(
    serving: Lab, director: str, fault: Callable[[Node], Callable[[], object]]
) -> None:
    """Its own address answers, so a check of that would go on sending clients into silence."""
    mend = fault(serving.nodes["rs-1"])
    try:
        found = check(serving.nodes[director])["of"]
        plain = check(serving.nodes[director], marks={}, seconds=3)["of"]
    finally:
        mend()
    assert (found["rs-1"]["health"], found["rs-1"]["blackholed"]) == ("Down", True), found
    assert found["rs-2"]["health"] == "Up"
    assert plain["rs-1"]["health"] == "Up"


@pytest.mark.parametrize("director", DIRECTORS)
def test_a_service_bound_to_the_vip_alone_is_well(lab: Lab, director: str) -> None:
    """It serves clients, and refuses connections to the real server's own address."""
    running = [serve(lab.nodes["rs-1"], VIP), serve(lab.nodes["rs-2"])]
    try:
        found = check(lab.nodes[director])["of"]
    finally:
        for process in running:
            process.signal(9)
    assert found["rs-1"]["health"] == "Up", found


@pytest.mark.parametrize("director", DIRECTORS)
def test_a_service_that_is_down_is_not_called_blackholed(serving: Lab, director: str) -> None:
    """People would look for a wrong VIP while the service is down."""
    serving.nodes["rs-1"].run("sh", "-c", "pkill -f '[g]uest/serve.py'", check=False)
    found = check(serving.nodes[director])["of"]
    assert (found["rs-1"]["health"], found["rs-1"]["blackholed"]) == ("Down", False), found
    assert found["rs-2"]["health"] == "Up"


@pytest.mark.parametrize("director", DIRECTORS)
def test_a_rewritten_mark_is_a_broken_check(serving: Lab, director: str) -> None:
    """Packets would go to any real server, and one that is dead would be called well without a word."""
    node, fresh = serving.nodes[director], {"rs-1": 4201, "rs-2": 4202}
    rule = ("OUTPUT", "-p", "tcp", "--dport", str(PORT), "-j", "MARK", "--set-mark", "0")
    node.run("iptables-legacy", "-t", "mangle", "-A", *rule)
    try:
        found = check(node, seconds=8, marks=fresh)["of"]
    finally:
        node.run("iptables-legacy", "-t", "mangle", "-D", *rule)
    for name in REAL_SERVERS:
        assert found[name]["health"] == "Up", found  # by a check of its own address
        assert "changes the mark" in found[name]["trouble"], found


def test_somebody_elses_mark_is_left_alone(serving: Lab) -> None:
    """Their traffic would go to our real server, and our checks to theirs."""
    node = serving.nodes["backup"]
    check(node, seconds=4, tables={}, spec={"decided": True})
    theirs = f"-A -f {MARKS['rs-1']} -s wrr"
    node.run("ipvsadm", "-A", "-f", str(MARKS["rs-1"]), "-s", "wrr")
    try:
        found = check(node, seconds=9)["of"]
        assert theirs in node.run("ipvsadm", "-Sn").stdout
    finally:
        node.run("ipvsadm", "-D", "-f", str(MARKS["rs-1"]))
    assert "somebody else has an IPVS service" in found["rs-1"]["trouble"], found
    assert found["rs-2"]["health"] == "Up"


@pytest.mark.parametrize("director", DIRECTORS)
def test_nothing_is_left(serving: Lab, director: str) -> None:
    """Firewall-mark services or a changed accept_local would stay on nodes that check nothing any more."""
    node = serving.nodes[director]
    check(node, seconds=2)
    assert node.run("sysctl", "-n", ACCEPT).stdout.strip() == "1"
    assert str(MARKS["rs-1"]) in node.run("ipvsadm", "-Sn").stdout
    found = check(node, seconds=5, tables={}, spec={"decided": True})
    assert found["holds_nothing"]
    assert node.run("sysctl", "-n", ACCEPT).stdout.strip() == "0"
    assert node.run("ipvsadm", "-Sn").stdout.strip() == ""
