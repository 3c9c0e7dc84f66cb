"""Settings of IPVS on a real kernel, seen with the tools that administrators use."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lvs_lab import Lab, Node, NodeSpec
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUEST = REPOSITORY / "tests" / "kernel" / "pass_guest.py"
LEDGER = "/run/settings-test"
SETTINGS = {
    "tcpSeconds": 7200,
    "udpSeconds": 30,
    "sysctls": [{"name": "conn_reuse_mode", "value": 0}, {"name": "sloppy_tcp", "value": 1}],
}
DEFAULTS = ["Timeout (tcp tcpfin udp): 900 120 300", "1", "0"]
WANTED = ["Timeout (tcp tcpfin udp): 7200 120 30", "0", "1"]


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    """A node on which nothing has used IPVS yet."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=(NodeSpec(name="alone", octet=11),), kubernetes=False) as lab:
        yield lab.nodes["alone"]


def make_pass(node: Node, settings: dict[str, Any] | None, *, passes: int = 1) -> dict[str, Any]:
    """Make passes as a director with these settings, and return what the last one found."""
    spec = {"decided": True, "director": {"group": "default", **({"settings": settings} if settings else {})}}
    asked = {"ledger": LEDGER, "spec": spec, "passes": passes}
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUEST)]
    last: dict[str, Any] = json.loads(node.run(*argv, stdin=json.dumps(asked), timeout=120).stdout)[-1]
    assert last["failures"] == []
    return last


def seen(node: Node) -> list[str]:
    """Return what ipvsadm and sysctl say."""
    names = ("net.ipv4.vs.conn_reuse_mode", "net.ipv4.vs.sloppy_tcp")
    timeouts = node.run("ipvsadm", "-L", "--timeout").stdout
    return [*timeouts.splitlines(), *node.run("sysctl", "-n", *names).stdout.split()]


def test_settings_are_there_with_the_first_pass_and_gone_with_the_wish(node: Node) -> None:
    """Settings would be missed while ip_vs is not loaded, or stay on the node for ever."""
    assert "ip_vs" not in node.read_file("/proc/modules")
    done = make_pass(node, SETTINGS)
    assert sorted(done["commands"]) == [
        "ipvsadm --set 0 0 30",
        "ipvsadm --set 7200 0 0",
        "sysctl -w net.ipv4.vs.conn_reuse_mode=0",
        "sysctl -w net.ipv4.vs.sloppy_tcp=1",
    ]
    assert seen(node) == WANTED
    assert make_pass(node, SETTINGS)["commands"] == []
    node.run("ipvsadm", "--set", "1000", "0", "0")
    again = make_pass(node, SETTINGS)
    assert (again["commands"], again["repairs"]) == (["ipvsadm --set 7200 0 0"], 1)
    assert make_pass(node, None, passes=2)["holds_nothing"]
    assert seen(node) == DEFAULTS


def test_an_administrators_newer_value_stays(node: Node) -> None:
    """A value set by hand while ours was wished would be undone when the wish ends."""
    make_pass(node, SETTINGS)
    node.run("sysctl", "-w", "net.ipv4.vs.conn_reuse_mode=2")
    node.run("ipvsadm", "--set", "0", "0", "77")
    assert make_pass(node, None, passes=2)["holds_nothing"]
    assert seen(node) == ["Timeout (tcp tcpfin udp): 900 120 77", "2", "0"]
    node.run("sysctl", "-w", "net.ipv4.vs.conn_reuse_mode=1")
    node.run("ipvsadm", "--set", "0", "0", "300")


def test_kube_proxy_keeps_its_settings(node: Node) -> None:
    """kube-proxy sets them once when it starts: changed or put back by us, they would stay wrong."""
    make_pass(node, SETTINGS)
    node.run("ip", "link", "add", "kube-ipvs0", "type", "dummy")
    node.run("sysctl", "-w", "net.ipv4.vs.conn_reuse_mode=0", "net.ipv4.vs.sloppy_tcp=0")
    try:
        done = make_pass(node, SETTINGS)
        assert done["commands"] == []
        assert "kube-proxy" in done["owner"]
        assert done["unmet"] == ["net.ipv4.vs.sloppy_tcp is 0, not 1"]
        assert make_pass(node, None)["commands"] == []
        assert seen(node) == ["Timeout (tcp tcpfin udp): 7200 120 30", "0", "0"]
    finally:
        node.run("ip", "link", "del", "kube-ipvs0")
