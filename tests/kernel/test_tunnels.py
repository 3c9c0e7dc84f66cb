"""Tunnels end to end on the lab's kernels: uploads of full-sized segments through every encapsulation."""

import ipaddress
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from lvs_dr.core.node import BackendTunnel
from lvs_lab import Lab, Node, NodeSpec
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUESTS = REPOSITORY / "tests" / "kernel"
SPECS = (
    NodeSpec(name="director", octet=11),
    NodeSpec(name="rs-1", octet=21),
    NodeSpec(name="rs-2", octet=22),
    NodeSpec(name="client", octet=51, kubernetes=False),
)
REAL_SERVERS = ("rs-1", "rs-2")
VIP, VIP6 = "192.168.35.100", "fd35::100"
PORT = 8443
GUE_PORT = 6080
SIZE = 1 << 19  # some 350 full segments
LEDGER = "/run/tunnel-test"

IPIP = {"type": "IPIP"}
GRE = {"type": "GRE"}
GRE_CHECKSUM = {"type": "GRE", "checksum": "Checksum"}
GUE = {"type": "GUE", "port": GUE_PORT}
GUE_CHECKSUM = {**GUE, "checksum": "Checksum"}
GUE_REMOTE = {**GUE, "checksum": "RemoteChecksum"}


class Case(NamedTuple):
    """A way to the real servers, and what is left of the client's 1500 bytes."""

    tunnel: dict[str, Any]
    vip: str
    six: bool  # the real servers' addresses are IPv6
    mtu: int


CASES = {
    "ipip": Case(IPIP, VIP, False, 1480),
    "gre": Case(GRE, VIP, False, 1476),
    "gue": Case(GUE, VIP, False, 1468),
    "gue-checksum": Case(GUE_CHECKSUM, VIP, False, 1468),
    "gue-remote-checksum": Case(GUE_REMOTE, VIP, False, 1460),
    "ipip-to-ipv6": Case(IPIP, VIP, True, 1460),
    "gre-to-ipv6": Case(GRE, VIP, True, 1456),
    "gue-to-ipv6": Case(GUE, VIP, True, 1448),
    "ipip-all-ipv6": Case(IPIP, VIP6, True, 1460),
    "gre-all-ipv6": Case(GRE, VIP6, True, 1456),
    "gue-all-ipv6": Case(GUE, VIP6, True, 1448),
    "gre-ipv6-to-ipv4": Case(GRE, VIP6, False, 1476),
}


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A director that holds two VIPs, two real servers that serve uploads, and a client."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=SPECS, kubernetes=False) as started:
        for name in REAL_SERVERS:
            node = started.nodes[name]
            node.run("sh", "-c", "$(cat /proc/sys/kernel/modprobe) fou")
            # The strictest that a distribution sets: the device's own 2 must win.
            node.run("sysctl", "-w", "net.ipv4.conf.all.rp_filter=1")
            process = node.spawn(sys.executable, str(GUESTS / "upload_guest.py"), "serve", name, str(PORT))
            process.wait_for_output("ready", timeout=60)
        director = started.nodes["director"]
        director.run("ip", "addr", "replace", f"{VIP}/32", "dev", "eth0")
        director.run("ip", "addr", "replace", f"{VIP6}/128", "dev", "eth0", "nodad", "preferred_lft", "0")
        yield started


def make_pass(node: Node, spec: dict[str, Any], *, passes: int = 1, **more: Any) -> dict[str, Any]:
    """Make passes of the agent on a node and return what the last one found."""
    asked = {"ledger": LEDGER, "spec": {"decided": True, **spec}, "passes": passes, **more}
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUESTS / "pass_guest.py")]
    done = node.run(*argv, stdin=json.dumps(asked), timeout=120)
    last: dict[str, Any] = json.loads(done.stdout)[-1]
    return last


def real_server_address(node: Node, *, six: bool) -> str:
    """Return a node's RIP."""
    return node.lan_address6 if six else node.lan_address


def set_up(lab: Lab, *tunnels: dict[str, Any]) -> None:
    """Have both real servers carry the VIPs and end these tunnels, by both of their addresses."""
    for name in REAL_SERVERS:
        node = lab.nodes[name]
        addresses = [real_server_address(node, six=six) for six in (False, True)]
        ends = [{"address": address, "tunnel": tunnel} for address in addresses for tunnel in tunnels]
        done = make_pass(node, {"backendAddresses": [VIP, VIP6], "backendTunnels": ends})
        assert done["failures"] == done["problems"] == []
        assert done["tunnels"] == msgspec.to_builtins(msgspec.convert(ends, list[BackendTunnel]))
        assert sorted(done["loopback"]) == sorted([VIP, VIP6])


@pytest.fixture(scope="module")
def real_servers(lab: Lab) -> Lab:
    """The lab, with real servers that understand everything at once."""
    set_up(lab, IPIP, GRE, GUE)
    return lab


def direct(lab: Lab, tunnel: dict[str, Any], vip: str, *, six: bool) -> None:
    """Have the director serve by this tunnel from now on; an earlier one is edited in place."""
    table = {
        "directorGroup": "default",
        "serviceGeneration": 1,
        "address": vip,
        "ports": [{"port": PORT, "protocol": "TCP"}],
        "scheduler": "rr",
        "onFailure": "Remove",
        "destinations": [
            {
                "realServer": name,
                "address": real_server_address(lab.nodes[name], six=six),
                "weight": 1,
                "forwarding": "Tunnel",
                "tunnel": tunnel,
            }
            for name in REAL_SERVERS
        ],
    }
    spec = {
        "director": {
            "group": "default",
            "tables": ["default/web"],
            "vrrp": {"routers": [{"id": 51, "priority": 250, "addresses": [vip]}]},
        }
    }
    assert make_pass(lab.nodes["director"], spec, tables={"default/web": table}, held=[vip])["failures"] == []


def upload(client: Node, vip: str, times: int = 2) -> list[str]:
    """Upload from the client; returns which real servers took everything, sorted."""
    argv = [sys.executable, str(GUESTS / "upload_guest.py"), "send", vip, str(PORT), str(SIZE), str(times)]
    answers: list[str] = json.loads(client.run(*argv, timeout=180).stdout)
    return sorted(answers)


def path_mtu(client: Node, vip: str) -> int:
    """Return what the client has learnt about the way to the VIP, in bytes; 0 = nothing."""
    found = re.search(r" mtu (\d+)", client.run("ip", "route", "get", vip).stdout)
    return int(found[1]) if found else 0


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_large_uploads_reach_both_real_servers(real_servers: Lab, case: Case) -> None:
    """Uploads through this encapsulation would hang at the first full segment, or reach one real server only."""
    client = real_servers.nodes["client"]
    for family in ("-4", "-6"):
        client.run("ip", family, "route", "flush", "cache")
    direct(real_servers, case.tunnel, case.vip, six=case.six)
    assert path_mtu(client, case.vip) == 0
    assert upload(client, case.vip) == list(REAL_SERVERS)
    assert path_mtu(client, case.vip) == case.mtu


def test_the_director_tells_the_client_that_packets_are_too_large(real_servers: Lab) -> None:
    """A client could not know that it must send less at once; its first full segment would vanish for ever."""
    client = real_servers.nodes["client"]
    client.run("ip", "-4", "route", "flush", "cache")
    direct(real_servers, IPIP, VIP, six=False)
    with client.capture("eth0", "icmp[icmptype] == icmp-unreach and icmp[icmpcode] == 4") as told:
        assert upload(client, VIP, 1)[0] in REAL_SERVERS
        told.stop()
    assert any(f"{VIP} > {client.lan_address}" in line and "mtu 1480" in line for line in told.lines)


def test_a_route_with_a_smaller_mss_avoids_the_detour(real_servers: Lab) -> None:
    """What the docs recommend, a route with advmss on the real servers, would not help."""
    client = real_servers.nodes["client"]
    client.run("ip", "-4", "route", "flush", "cache")
    direct(real_servers, GUE, VIP, six=False)
    for name in REAL_SERVERS:
        real_servers.nodes[name].run("ip", "route", "add", f"{client.lan_address}/32", "dev", "eth0", "advmss", "1400")
    try:
        assert upload(client, VIP) == list(REAL_SERVERS)
        assert path_mtu(client, VIP) == 0
    finally:
        for name in REAL_SERVERS:
            real_servers.nodes[name].run("ip", "route", "del", f"{client.lan_address}/32", "dev", "eth0")


def test_a_device_without_an_address_takes_nothing_in_and_is_repaired(real_servers: Lab) -> None:
    """The device would look fine, and every packet from it be dropped: rp_filter 2 needs an address."""
    client = real_servers.nodes["client"]
    direct(real_servers, IPIP, VIP, six=False)
    for name in REAL_SERVERS:
        node = real_servers.nodes[name]
        device = f"lvsipip{int(ipaddress.ip_address(node.lan_address)):08x}"
        node.run("ip", "address", "del", "127.76.0.1/32", "dev", device)
    assert client.run("timeout", "3", "bash", "-c", f": > /dev/tcp/{VIP}/{PORT}", check=False).returncode != 0
    set_up(real_servers, IPIP, GRE, GUE)
    assert upload(client, VIP) == list(REAL_SERVERS)


def test_gre_with_checksums(real_servers: Lab) -> None:
    """The kernel drops GRE packets with a checksum on a device without, and the other way round."""
    direct(real_servers, GRE_CHECKSUM, VIP, six=False)
    set_up(real_servers, GRE_CHECKSUM)
    try:
        assert upload(real_servers.nodes["client"], VIP) == list(REAL_SERVERS)
    finally:
        set_up(real_servers, IPIP, GRE, GUE)


def test_somebody_elses_tunnels_go_on(real_servers: Lab) -> None:
    """The CNI's tunl0, gre0 and ip6tnl0 would lose their packets to us, or be changed."""
    node = real_servers.nodes["rs-1"]
    devices = ("tunl0", "gre0", "ip6tnl0")
    before = [node.run("ip", "-d", "link", "show", name).stdout for name in devices]
    set_up(real_servers, IPIP)
    set_up(real_servers, IPIP, GRE, GUE)
    assert [node.run("ip", "-d", "link", "show", name).stdout for name in devices] == before


def test_nothing_is_left(real_servers: Lab) -> None:
    """Tunnel devices, GUE ports or VIPs of ours would stay on nodes that serve nothing."""
    for name in ("director", *REAL_SERVERS):
        node = real_servers.nodes[name]
        assert make_pass(node, {}, passes=2)["holds_nothing"]
        assert "lvs" not in node.run("ip", "link").stdout
        assert "gue" not in node.run("ip", "fou", "show", check=False).stdout  # the director has no module fou
        assert VIP not in node.run("ip", "addr", "show", "dev", "lo").stdout
