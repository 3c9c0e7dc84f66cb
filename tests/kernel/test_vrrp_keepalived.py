"""Our speaker and keepalived in one group, VRRPv3, both roles: they must understand each other on the wire."""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import pytest

from lvs_lab import Lab, LabError, Node, NodeSpec, cache
from lvs_lab.client import NodeProcess
from tests.conftest import lab_obstacles
from tests.kernel.vrrp_player import VIP, VIP6, Speaker, clear, holds, instance, keepalived

SPECS = (
    NodeSpec(name="ours", octet=11, kubernetes=False),
    NodeSpec(name="theirs", octet=12, kubernetes=False),
)
INTERVALS = [pytest.param(100, "0.1", id="100ms"), pytest.param(1000, "1", id="1s")]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Lab]:
    """Two directors, no Kubernetes."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    if cache.find_command("keepalived") is None:
        pytest.skip("keepalived missing: run `lab/ctl tools --with keepalived`")
    with Lab.start(nodes=SPECS, kubernetes=False) as lab:
        yield lab


@pytest.fixture
def ours(nodes: Lab) -> Iterator[Speaker]:
    """Our speaker, not started."""
    speaker = Speaker(nodes.nodes["ours"])
    yield speaker
    speaker.clear()


@pytest.fixture
def theirs(nodes: Lab) -> Iterator[Callable[..., NodeProcess]]:
    """Starts keepalived."""
    node = nodes.nodes["theirs"]
    started: list[NodeProcess] = []

    def start(priority: int, **more: Any) -> NodeProcess:
        started.append(keepalived(node, priority, **more))
        return started[-1]

    yield start
    for process in started:
        with suppress(LabError):
            process.signal(signal.SIGKILL)
            process.wait(5)
    clear(node)


def eventually(node: Node, expected: bool, within: float, vip: str = VIP) -> None:  # noqa: FBT001
    """Wait until a node holds the VIP, or does not."""
    deadline = time.monotonic() + within
    while holds(node, vip) is not expected:
        assert time.monotonic() < deadline, f"{node.name} {'does not hold' if expected else 'holds'} {vip}"
        time.sleep(0.05)


@pytest.mark.parametrize(("milliseconds", "seconds"), INTERVALS)
def test_keepalived_active_ours_backup_and_takeover_both_ways(
    nodes: Lab, ours: Speaker, theirs: Callable[..., NodeProcess], milliseconds: int, seconds: str
) -> None:
    """A site that moves from keepalived node by node would have two Actives, or none."""
    other = nodes.nodes["theirs"]
    slack = 5 * milliseconds / 1000 + 10
    process = theirs(250, seconds=seconds)
    eventually(other, expected=True, within=slack + 5)
    ours.start(instance(200, milliseconds=milliseconds, preempt=True))
    state = ours.reaches("Backup")
    time.sleep(5 * milliseconds / 1000)
    state = ours.ask(kind="state")
    assert state["instances"][0]["state"] == "Backup"
    assert state["instances"][0]["activeSource"] == other.lan_address
    assert state["packets"]["checksums"]["PseudoHeader"] > 0
    assert not any(state["packets"]["refused"].values())
    assert not holds(ours.node)
    process.signal(signal.SIGKILL)  # takeover without a word: the dead keepalived keeps its address, it has no switch
    ours.reaches("Active", within=slack)
    process.wait()
    other.run("ip", "address", "del", f"{VIP}/32", "dev", "eth0")
    theirs(250, seconds=seconds)  # it comes back with a higher priority, and preempts
    eventually(other, expected=True, within=slack + 5)
    ours.reaches("Backup", within=slack)
    eventually(ours.node, expected=False, within=3)


@pytest.mark.parametrize(("milliseconds", "seconds"), INTERVALS)
def test_ours_active_keepalived_backup_and_graceful_hand_over_both_ways(
    nodes: Lab, ours: Speaker, theirs: Callable[..., NodeProcess], milliseconds: int, seconds: str
) -> None:
    """Priority 0 must be understood by either side, or a planned stop costs three intervals."""
    other = nodes.nodes["theirs"]
    slack = 5 * milliseconds / 1000 + 10
    ours.start(instance(250, milliseconds=milliseconds, preempt=True))
    ours.reaches("Active")
    process = theirs(200, seconds=seconds)
    process.wait_for_output("BACKUP STATE", timeout=10)
    time.sleep(6 * milliseconds / 1000)
    assert "MASTER STATE" not in process.output(), "it hears us"
    assert not holds(other)
    ours.signal(signal.SIGTERM)
    eventually(other, expected=True, within=slack)
    assert ours.process is not None
    assert ours.process.wait(15) == 0
    assert "took over" in ours.log(), "its advert was heard before we let go"
    assert not holds(ours.node)
    ours.start()
    ours.reaches("Active", within=slack)
    eventually(other, expected=False, within=slack)
    ours.configure(instance(150, milliseconds=milliseconds, preempt=True))
    ours.reaches("Backup", within=slack)
    eventually(other, expected=True, within=slack)
    process.signal(signal.SIGTERM)
    state = ours.reaches("Active", within=slack)
    assert state["instances"][0]["counts"]["PriorityZero"] >= 1


def test_our_kill_is_noticed_by_keepalived(nodes: Lab, ours: Speaker, theirs: Callable[..., NodeProcess]) -> None:
    """A crash of ours would end the service, or leave the VIP on two nodes."""
    other = nodes.nodes["theirs"]
    ours.start(instance(250))
    ours.reaches("Active")
    theirs(200, seconds="0.1").wait_for_output("BACKUP STATE", timeout=10)
    ours.signal(signal.SIGKILL)
    eventually(other, expected=True, within=10)
    eventually(ours.node, expected=False, within=3)


def test_the_rfc_form_is_heard_as_well(nodes: Lab, ours: Speaker) -> None:
    """A router that follows RFC 9568 to the letter would not be heard, and both be Active."""
    second = Speaker(nodes.nodes["theirs"])
    try:
        second.start(instance(250, checksum="Plain"))
        second.reaches("Active")
        ours.start(instance(200, checksum="PseudoHeader"))
        ours.reaches("Backup")
        time.sleep(0.5)
        state = ours.ask(kind="state")
        assert state["instances"][0]["state"] == "Backup"
        assert state["packets"]["checksums"]["Plain"] > 0
    finally:
        second.clear()


def test_ipv6_is_understood_both_ways(nodes: Lab, ours: Speaker, theirs: Callable[..., NodeProcess]) -> None:
    """IPv6 clients would have two Actives, or none."""
    other = nodes.nodes["theirs"]
    process = theirs(250, seconds="0.1", vip=VIP6, family="native_ipv6")
    process.wait_for_output("MASTER STATE", timeout=15)
    ours.start(instance(200, family=6, addresses=[VIP6]))
    ours.reaches("Backup")
    time.sleep(0.5)
    state = ours.ask(kind="state")
    assert state["instances"][0]["state"] == "Backup", ours.log()
    assert state["instances"][0]["activeSource"].startswith("fe80:")
    process.signal(signal.SIGTERM)
    ours.reaches("Active")
    eventually(other, expected=False, within=5, vip=VIP6)
    process.wait()  # it goes on for a second after it has let go, and a second one would refuse to start
    ours.configure(instance(200, family=6, addresses=[VIP6]))
    second = theirs(100, seconds="0.1", vip=VIP6, family="native_ipv6")
    second.wait_for_output("BACKUP STATE", timeout=15)
    time.sleep(1)
    assert "MASTER STATE" not in second.output(), second.output()
