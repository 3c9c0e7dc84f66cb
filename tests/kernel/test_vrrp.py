"""The speaker on real kernels: takeover, the dead man's switch, graceful stop, put back; seen from a client."""

import signal
import time
from collections.abc import Iterator
from typing import Any

import pytest

from lvs_lab import Lab, Node, NodeSpec
from tests.conftest import lab_obstacles
from tests.kernel.vrrp_player import VIP, VIP6, VRID, Speaker, addresses, guest, holds, instance, watching

SPECS = (
    NodeSpec(name="one", octet=11, kubernetes=False),
    NodeSpec(name="two", octet=12, kubernetes=False),
    NodeSpec(name="client", octet=51, kubernetes=False),
)
INTERVAL: dict[str, Any] = {"milliseconds": 500}
"""Of tests: a test machine under load stalls for longer than the default's three intervals."""


@pytest.fixture(scope="module")
def nodes() -> Iterator[Lab]:
    """Two directors and a client, no Kubernetes."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=SPECS, kubernetes=False) as lab:
        yield lab


@pytest.fixture
def client(nodes: Lab) -> Node:
    """Who uses the VIP."""
    return nodes.nodes["client"]


@pytest.fixture
def pair(nodes: Lab) -> Iterator[tuple[Speaker, Speaker]]:
    """Two speakers, not started."""
    both = Speaker(nodes.nodes["one"]), Speaker(nodes.nodes["two"])
    yield both
    for each in both:
        each.clear()


def elected(pair: tuple[Speaker, Speaker], *families: dict[str, Any]) -> tuple[Speaker, Speaker]:
    """Start both and return the Active one first; on a machine that stalls, it need not be the one with priority."""
    one, two = pair
    count = len(families) or 1
    one.start(*(instance(220, **INTERVAL, **family) for family in families or ({},)))
    one.reaches(*["Active"] * count)
    two.start(*(instance(210, **INTERVAL, **family) for family in families or ({},)))
    for _ in range(5):
        two.await_settled()
        if [each["state"] for each in two.ask(kind="state")["instances"]] == ["Backup"] * count:
            return one, two
        if [each["state"] for each in one.ask(kind="state")["instances"]] == ["Backup"] * count:
            return two, one
    pytest.fail(f"not elected:\n{one.log()}\n{two.log()}")


def test_the_kernel_takes_and_tells_addresses_as_ip_does(nodes: Lab) -> None:
    """VIPs would be set in another way than we believe, and a lifetime that is not set is no dead man's switch."""
    node = nodes.nodes["one"]
    vips = [[VIP, 20], [VIP6, 20], ["192.168.35.201", 0]]
    added, found = guest(node, "addresses", "eth0", [["add", vips], ["read"]])
    assert added == {}
    told = {each[1]: each for each in found}
    assert (told[VIP][2], told[VIP6][2]) == (32, 128)
    assert 18 <= told[VIP][5] <= 20
    assert told[VIP6][6] == 0, "an IPv6 VIP is never chosen as a source"
    assert told["192.168.35.201"][5] == 0xFFFFFFFF
    assert node.lan_address in told
    lines = {line.split()[3]: line for line in addresses(node).splitlines()}
    assert "scope global dynamic" in lines[f"{VIP}/32"]
    assert "deprecated" in lines[f"{VIP6}/128"]
    assert "tentative" not in lines[f"{VIP6}/128"]
    assert "valid_lft forever" in lines["192.168.35.201/32"]
    assert VIP6 not in node.run("ip", "-6", "route", "show", "table", "main").stdout, "no prefix route"
    renewed, found = guest(node, "addresses", "eth0", [["add", [[VIP, 300]]], ["read"]])
    assert renewed == {}
    assert next(each for each in found if each[1] == VIP)[5] > 290, "the same address with a new lifetime"
    gone = [[VIP], ["192.168.35.99"], [VIP6], ["192.168.35.201"]]
    deleted, found = guest(node, "addresses", "eth0", [["delete", gone], ["read"]])
    assert deleted == {"1": 99}, "EADDRNOTAVAIL for the one that was not there, and the others are gone"
    assert not {VIP, VIP6} & {each[1] for each in found}


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_dead_or_frozen_speaker_loses_the_vip(
    pair: tuple[Speaker, Speaker], client: Node, number: signal.Signals
) -> None:
    """The VIP would stay on a node whose speaker is dead: two nodes would answer for it for ever."""
    one, two = elected(pair)
    with watching(client, 8) as answers:
        one.signal(number)
        two.reaches("Active")
    print(f"gap {answers.gap():.3f} s, both {answers.both(one.node, two.node):.3f} s")  # noqa: T201 - a figure
    assert answers.macs() == {one.node.mac, two.node.mac}
    assert answers.both(one.node, two.node) < 2.5, "lifetime 1 s, and slack for a loaded machine"
    assert not holds(one.node)
    assert holds(two.node)
    if number == signal.SIGSTOP:
        one.signal(signal.SIGCONT)
        one.reaches("Backup")
        two.reaches("Active")
        assert not holds(one.node), "one that wakes up listens first: preemption is off"


def test_a_graceful_stop_leaves_no_gap(pair: tuple[Speaker, Speaker], client: Node) -> None:
    """Each upgrade of the speaker would cost connections."""
    one, two = elected(pair)
    with watching(client, 6) as answers:
        one.signal(signal.SIGTERM)
        two.reaches("Active")
        assert one.process is not None
        assert one.process.wait(10) == 0
    print(f"gap {answers.gap():.3f} s, both {answers.both(one.node, two.node):.3f} s")  # noqa: T201 - a figure
    assert answers.gap() < 1.0, "well under the 1.6 s that a takeover without a word takes at least"
    assert not holds(one.node)
    assert "took over" in one.log()


def test_nobody_takes_over_and_the_vip_stays_for_a_while(pair: tuple[Speaker, Speaker]) -> None:
    """The last director's upgrade would end the service; and for ever would be too long."""
    one, _ = pair
    one.start(instance(220, stopHoldSeconds=90))
    one.reaches("Active")
    one.signal(signal.SIGTERM)
    assert one.process is not None
    assert one.process.wait(10) == 0
    line = next(line for line in addresses(one.node).splitlines() if VIP in line)
    left = int(line.split("valid_lft ")[1].split("sec")[0])
    assert 60 < left <= 90
    one.start()  # with what it had on disk
    one.reaches("Active")
    assert holds(one.node)


def test_alone_is_permanent_and_a_peer_makes_it_finite(pair: tuple[Speaker, Speaker]) -> None:
    """A single director's crash would take its VIPs away, with nobody to take over."""
    one, _ = pair
    one.start(instance(220, alone=True))
    one.reaches("Active")
    assert "valid_lft forever" in next(line for line in addresses(one.node).splitlines() if VIP in line)
    one.configure(instance(220))
    time.sleep(0.5)
    assert "valid_lft 1sec" in next(line for line in addresses(one.node).splitlines() if VIP in line)


def test_what_others_remove_is_put_back_and_announced(pair: tuple[Speaker, Speaker], client: Node) -> None:
    """systemd-networkd removes what it does not know: the VIP would be away until somebody looks."""
    one, _ = pair
    one.start(instance(220))
    one.reaches("Active")
    time.sleep(6)  # the announcements of the takeover are over
    with client.capture("eth0", f"arp src host {VIP} and arp dst host {VIP}") as gratuitous:
        one.node.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
        time.sleep(1)
    assert holds(one.node)
    assert gratuitous.count() >= 2
    assert one.ask(kind="state")["addresses"]["restored"] == 1


def test_a_duplicate_is_told_with_its_mac(pair: tuple[Speaker, Speaker], client: Node) -> None:
    """Half of the clients would reach another machine, and nobody would know which."""
    one, _ = pair
    one.start(instance(220), instance(220, family=6, addresses=[VIP6]))
    one.reaches("Active", "Active")
    time.sleep(3)
    client.run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
    client.run("ip", "address", "add", f"{VIP6}/128", "dev", "eth0", "nodad")
    try:
        one.ask(kind="announce")
        time.sleep(2)
        assert one.ask(kind="state")["addresses"]["duplicates"] == {VIP: client.mac, VIP6: client.mac}
    finally:
        client.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
        client.run("ip", "address", "del", f"{VIP6}/128", "dev", "eth0")


def test_ipv6_takes_over_as_well(pair: tuple[Speaker, Speaker], client: Node) -> None:
    """IPv6 clients would be left behind."""
    one, two = elected(pair, {}, {"family": 6, "addresses": [VIP6]})
    client.run("ping", "-6", "-c", "1", "-W", "2", VIP6)
    one.signal(signal.SIGKILL)
    two.reaches("Active", "Active")
    client.run("ping", "-6", "-c", "1", "-W", "2", VIP6)
    assert two.node.mac in client.run("ip", "-6", "neigh", "show", VIP6, "dev", "eth0").stdout
    time.sleep(2.5)
    assert not holds(one.node, VIP6)


def test_a_lost_link_moves_the_vip_and_a_mended_one_does_not_move_it_back(pair: tuple[Speaker, Speaker]) -> None:
    """A bad cable would take the service with it, or move it with each flap."""
    one, two = elected(pair)
    one.node.run("ip", "link", "set", "eth0", "down")
    try:
        one.reaches("Initialize")
        assert not holds(one.node)
        two.reaches("Active")
    finally:
        one.node.run("ip", "link", "set", "eth0", "up")
    state = one.reaches("Backup")
    assert state["instances"][0]["faults"] == []
    time.sleep(1.5)
    assert [one.ask(kind="state")["instances"][0]["state"], two.ask(kind="state")["instances"][0]["state"]] == [
        "Backup",
        "Active",
    ]


def test_a_planned_hand_over_moves_the_vip_without_a_gap(pair: tuple[Speaker, Speaker], client: Node) -> None:
    """A drained node would drop its clients."""
    one, two = elected(pair)
    with watching(client, 6) as answers:
        one.ask(kind="handOver", vrid=VRID, family=4)
        two.reaches("Active")
    assert answers.gap() < 1.0
    one.reaches("Backup")
    assert not holds(one.node)


def test_what_is_not_to_be_believed_is_counted_and_what_is_valid_is_obeyed(
    pair: tuple[Speaker, Speaker], client: Node
) -> None:
    """Anybody beyond a router could take the VIP away; or the checks refuse what is right."""
    one, _ = pair
    one.start(instance(220, **INTERVAL, peers=["192.168.35.12"]))
    one.reaches("Active")
    for ttl, version, vrid in ((254, 3, VRID), (255, 2, VRID), (255, 3, 77)):
        guest(client, "inject", client.lan_address, [VIP], vrid, ttl, version)
    state = one.ask(kind="state")
    refused = {reason: count for reason, count in state["packets"]["refused"].items() if count}
    assert refused == {"HopLimit": 1, "Version": 1}
    assert state["packets"]["foreign"] == [{"vrid": 77, "family": 4, "source": client.lan_address}]
    guest(client, "inject", client.lan_address, ["192.168.35.250"], VRID, 255, 3)
    state = one.ask(kind="state")
    assert state["instances"][0]["counts"]["BecameBackup"] == 1, "other addresses: not obeyed"
    assert client.lan_address in state["instances"][0]["conflicts"][0]
    guest(client, "inject", client.lan_address, [VIP], VRID, 255, 3)
    state = one.ask(kind="state")
    assert state["instances"][0]["counts"]["BecameBackup"] == 2, "ours, by a stranger: obeyed, no second holder"
    one.reaches("Active")


def test_a_killed_speaker_with_no_peer_alive_is_back_with_the_vip(pair: tuple[Speaker, Speaker]) -> None:
    """A peer that is configured but dead would make each crash an outage until it is repaired."""
    one, _ = pair
    one.start(instance(220, **INTERVAL))
    one.reaches("Active")
    one.signal(signal.SIGKILL)
    one.start()
    one.reaches("Active")
    time.sleep(1.5)
    assert holds(one.node)


def test_a_silent_agent_lowers_the_priority_and_the_vip_stays(pair: tuple[Speaker, Speaker]) -> None:
    """A dead agent would take the VIP away though nobody else can serve it; or keep it though somebody can."""
    one, two = pair
    degraded: dict[str, Any] = {"degradedBelow": 200}
    one.start(instance(220, **INTERVAL, **degraded), agentTimeoutSeconds=2, agentSilentLowersBy=100)
    one.reaches("Active")
    time.sleep(4)
    assert holds(one.node)
    two.start(instance(210, **INTERVAL, **degraded))
    two.reaches("Active")
    assert "Backup" in one.log().splitlines()[-1]


def test_memory_stays_small(pair: tuple[Speaker, Speaker]) -> None:
    """The speaker runs on every director: memory counts."""
    one, _ = elected(pair)
    assert one.process is not None
    status = one.node.run("cat", f"/proc/{one.process.pid}/status").stdout
    kibibytes = int(status.split("VmRSS:")[1].split()[0])
    print(f"speaker RSS {kibibytes / 1024:.1f} MiB")  # noqa: T201 - a figure
    assert kibibytes < 24 * 1024
    assert one.ask(kind="state")["instances"][0]["vrid"] == VRID
