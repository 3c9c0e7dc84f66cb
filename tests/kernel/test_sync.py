"""Sync daemons on real kernels: seen with ipvsadm, and by a connection that outlives its director."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lvs_lab import Lab, Node
from tests.bench.survival import NODES, STANDARD, Stage
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUEST = REPOSITORY / "tests" / "kernel" / "pass_guest.py"
LEDGER = "/run/sync-test"
SYNC = {"id": 51, "interface": "eth0", "threshold": 2, "period": 0, "refreshSeconds": 10, "maximumLength": 160}
BOTH = ["backup sync daemon (mcast=eth0, syncid=51", "master sync daemon (mcast=eth0, syncid=51"]


@pytest.fixture(scope="module")
def nodes() -> Iterator[Lab]:
    """Two directors, two real servers and a client, without Kubernetes."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=NODES, kubernetes=False) as lab:
        yield lab


@pytest.fixture
def node(nodes: Lab) -> Iterator[Node]:
    """A director that keeps no daemons."""
    director = nodes.nodes["director-1"]
    yield director
    for state in ("master", "backup"):
        director.run("ipvsadm", "--stop-daemon", state, check=False)


def make_pass(node: Node, sync: dict[str, Any] | None, *, passes: int = 1) -> dict[str, Any]:
    """Make passes as a director with this sync, and return what the last one found."""
    spec = {"decided": True, "director": {"group": "default", **({"sync": sync} if sync else {})}}
    asked = {"ledger": LEDGER, "spec": spec, "passes": passes}
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUEST)]
    last: dict[str, Any] = json.loads(node.run(*argv, stdin=json.dumps(asked), timeout=120).stdout)[-1]
    assert last["failures"] == []
    return last


def seen(node: Node) -> list[str]:
    """Return the daemons as ipvsadm lists them."""
    return sorted(node.run("ipvsadm", "-L", "--daemon").stdout.splitlines())


def both(node: Node) -> bool:
    """Tell whether both daemons run as wished."""
    found = seen(node)
    return len(found) == len(BOTH) and all(one.startswith(start) for one, start in zip(found, BOTH, strict=True))


def deaf(node: Node) -> bool:
    """Tell whether no program on the node has joined the multicast group on eth0 any more."""
    return "224.0.0.81" not in node.run("ip", "maddr", "show", "dev", "eth0").stdout


def test_daemons_come_with_the_wish_and_go_with_it(node: Node) -> None:
    """A director would tell nobody of its connections, or go on for ever."""
    done = make_pass(node, SYNC)
    started = [one for one in done["commands"] if "daemon" in one]
    assert len(started) == 2
    assert both(node), seen(node)
    assert node.run("sysctl", "-n", "net.ipv4.vs.sync_threshold").stdout.split() == ["2", "0"]
    assert make_pass(node, SYNC)["commands"] == []
    assert make_pass(node, None, passes=2)["holds_nothing"]
    assert seen(node) == []
    assert node.run("sysctl", "-n", "net.ipv4.vs.sync_threshold").stdout.split() == ["3", "50"]
    for command in started:  # what the agent says it did is what a person can type
        node.run(*command.split())
    assert both(node), seen(node)


def test_a_foreign_daemon_is_left_alone(node: Node) -> None:
    """keepalived's daemon would be replaced by ours, and back, for ever."""
    node.run("ipvsadm", "--start-daemon", "master", "--mcast-interface", "eth0", "--syncid", "9")
    before = seen(node)
    done = make_pass(node, SYNC)
    assert done["foreign_daemons"] == ["master"]
    assert before[0] in seen(node)
    assert make_pass(node, SYNC)["commands"] == []
    assert make_pass(node, None, passes=2)["holds_nothing"]
    assert seen(node) == before


def test_daemons_outlive_a_link_that_goes_down_and_up(node: Node) -> None:
    """A cable pulled for a second would end sync until somebody looks."""
    make_pass(node, SYNC)
    node.run("ip", "link", "set", "eth0", "down")
    node.run("ip", "link", "set", "eth0", "up")
    assert make_pass(node, SYNC)["commands"] == []
    assert both(node)
    assert not deaf(node), "the backup would hear nothing"
    make_pass(node, None, passes=2)


def test_a_new_interface_of_the_same_name_gets_daemons_of_its_own(node: Node) -> None:
    """The daemons would run on, bound to the interface that is gone, and carry nothing."""
    wish = {**SYNC, "interface": "sync0"}
    make = ["ip link add sync0 type dummy", "ip address add 198.51.100.1/24 dev sync0", "ip link set sync0 up"]
    node.run("sh", "-ec", "\n".join(make))
    try:
        make_pass(node, wish)
        node.run("ip", "link", "del", "sync0")
        assert make_pass(node, wish)["commands"] == [], "stopped without an interface, they could not come back"
        node.run("sh", "-ec", "\n".join(make))
        assert len([one for one in make_pass(node, wish)["commands"] if "daemon" in one]) == 2
        assert "224.0.0.81" in node.run("ip", "maddr", "show", "dev", "sync0").stdout
        make_pass(node, None, passes=2)
    finally:
        node.run("ip", "link", "del", "sync0", check=False)


def test_established_connections_outlive_their_director(nodes: Lab) -> None:
    """A client in the middle of an upload would be cut off whenever a director dies."""
    row = STANDARD._replace(sloppy=0)  # nothing but what was carried over
    stage = Stage(nodes, 5)
    stage.prepare(1)
    outcome = stage.fail(row, 1)
    old = Counter({key: count for key, count in outcome.counts.items() if float(key.split()[0]) > 2.0})
    assert sum(old.values()) == 15
    assert not [key for key in old if key.endswith("lost")], outcome.counts
