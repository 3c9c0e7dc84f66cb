"""VIPs on the wire: probed for, announced, kept over a restart, released; peers are kernels of their own."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lvs_lab import Lab, Node

REPOSITORY = Path(__file__).parents[2]
PYTHON = ("env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, "-B")
VIP, VIP6 = "192.168.35.200", "fd35::200"
PROBE = f"arp[6:2] = 1 and arp[14:4] = 0 and arp[24:4] = {int.from_bytes(bytes(map(int, VIP.split('.'))), 'big')}"
GRATUITOUS = f"arp src host {VIP} and arp dst host {VIP}"
ADVERTISEMENT = "icmp6 and ip6[40] = 136 and ip6 dst host ff02::1"


def play(node: Node, *steps: list[Any]) -> list[dict[str, Any]]:
    """Live one life of the agent on a node."""
    argv = [*PYTHON]
    argv.append(str(REPOSITORY / "tests" / "kernel" / "speaker_guest.py"))
    return list(json.loads(node.run(*argv, stdin=json.dumps(steps), timeout=60).stdout))


def addresses(node: Node, interface: str = "eth0") -> str:
    """Return what `ip` says of an interface."""
    return node.run("ip", "-o", "address", "show", "dev", interface).stdout


@pytest.fixture
def holder(lab: Lab) -> Iterator[Node]:
    """The node that holds VIPs: a speaker of ours runs there, and no agent."""
    node = lab.nodes["client-1"]
    run = "/run/speaker-test"
    speaker = node.spawn(*PYTHON, "-m", "lvs_dr.vrrp", "--run-directory", run, "--state-directory", run)
    yield node
    speaker.signal(9)
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        node.run("ip", "address", "del", address, "dev", "eth0", check=False)
    node.run("rm", "-rf", "/run/speaker-test")


@pytest.fixture
def peer(lab: Lab) -> Iterator[Node]:
    """Another machine on the segment, which may have the VIP as well."""
    node = lab.nodes["control-1"]
    yield node
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        for interface in ("eth0", "lo"):
            node.run("ip", "address", "del", address, "dev", interface, check=False)
    node.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0", check=False)


def test_an_address_that_another_machine_has_is_not_taken(holder: Node, peer: Node) -> None:
    """Two machines would answer for one address, and clients reach either."""
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        peer.run("ip", "address", "add", address, "dev", "eth0", *(["nodad"] if ":" in address else []))
    [state] = play(holder, ["assign", "eth0", [VIP, VIP6], []])
    assert state["held"] == []
    assert {(address, reason) for address, reason, _ in state["problems"]} == {
        (VIP, "AddressInUse"),
        (VIP6, "AddressInUse"),
    }
    assert all(peer.mac in message for _, _, message in state["problems"])
    assert VIP not in addresses(holder)
    assert VIP6 not in addresses(holder)


def test_a_director_that_holds_the_vip_is_no_conflict(holder: Node, peer: Node) -> None:
    """No director but the first could be told a VIP, and nobody would ever take over."""
    peer.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
    [state] = play(holder, ["assign", "eth0", [VIP], [peer.lan_address]])
    assert state["problems"] == []
    assert state["held"] == [VIP]


def test_a_real_server_with_the_vip_on_lo_is_no_conflict(holder: Node, peer: Node) -> None:
    """No VIP could be taken once its backends are set up, which is what happens first."""
    peer.run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=1")
    peer.run("ip", "address", "add", f"{VIP}/32", "dev", "lo", "scope", "host")
    peer.run("ip", "address", "add", f"{VIP6}/128", "dev", "lo", "nodad")
    [state] = play(holder, ["assign", "eth0", [VIP, VIP6], []])
    assert state["held"] == [VIP, VIP6]


def test_a_vip_is_probed_for_announced_and_reachable(holder: Node, peer: Node) -> None:
    """Clients would keep sending to the machine that had the VIP before."""
    peer.run("ip", "neigh", "replace", VIP, "lladdr", "02:00:00:00:00:99", "dev", "eth0", "nud", "stale")
    with (
        peer.capture("eth0", PROBE) as probes,
        peer.capture("eth0", GRATUITOUS) as gratuitous,
        peer.capture("eth0", ADVERTISEMENT) as advertisements,
    ):
        [state] = play(holder, ["assign", "eth0", [VIP, VIP6], []], ["wait", 2.5])
    assert state["held"] == [VIP, VIP6]
    assert state["routers"] == ["Active", "Active"]
    assert probes.count() >= 3, "more are sent with later announcements"
    assert gratuitous.count() >= 6, "request and reply, several times"
    assert advertisements.count() >= 3
    assert state["seconds"] < 5, "three probes, a short wait, and the announcement"
    assert f"{VIP}/32 scope global" in addresses(holder)
    assert "deprecated" in addresses(holder)
    assert holder.mac in peer.run("ip", "neigh", "show", VIP, "dev", "eth0").stdout
    peer.run("ping", "-c", "1", "-W", "2", VIP)
    peer.run("ping", "-c", "1", "-W", "2", VIP6)


def test_a_restart_neither_releases_nor_probes(holder: Node, peer: Node) -> None:
    """Restarting the agent would interrupt the service."""
    play(holder, ["assign", "eth0", [VIP], []], ["wait", 4.5])  # it is announced for four seconds
    assert VIP in addresses(holder), "the end of the process must not release"
    with peer.capture("eth0", PROBE) as probes, peer.capture("eth0", GRATUITOUS) as gratuitous:
        first, second = play(holder, ["state"], ["assign", "eth0", [VIP], []], ["wait", 0.3])
    assert first["held"] == [VIP]
    assert second["held"] == [VIP]
    assert probes.count() == 0, "nobody was asked"
    assert gratuitous.count() == 0, "nor told again: nothing happened"


def test_what_vanishes_is_put_back_and_what_is_released_is_gone(holder: Node, peer: Node) -> None:
    """A VIP would stay away after somebody's mistake, or stay behind after its VirtualService."""
    play(holder, ["assign", "eth0", [VIP, VIP6], []])
    with peer.capture("eth0", GRATUITOUS) as gratuitous:
        again, _ = play(
            holder,
            ["lose", "eth0", VIP],
            ["lose", "eth0", VIP6],
            ["wait", 1.0],
            ["assign", "eth0", [VIP, VIP6], []],
            ["state"],
        )
    assert again["held"] == [VIP, VIP6]
    assert gratuitous.count() >= 2
    assert VIP in addresses(holder)
    assert VIP6 in addresses(holder)
    [gone] = play(holder, ["assign", "eth0", [], []])
    assert gone["held"] == []
    assert VIP not in addresses(holder)
    assert VIP6 not in addresses(holder)
    assert holder.lan_address in addresses(holder), "the node's own address stays"
