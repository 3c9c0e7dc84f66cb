"""Clients that persistence remembers, and a real server that drains: what the kernel does about them."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lvs_lab import Lab, Node, NodeSpec
from tests.conftest import lab_obstacles

REPOSITORY = Path(__file__).parents[2]
GUESTS = REPOSITORY / "tests" / "kernel"
VIP, PORT = "192.168.35.100", 8443
SERVERS = ("storage-1", "storage-2")
SPECS = (
    NodeSpec(name="director", octet=11, kubernetes=False),
    *(NodeSpec(name=name, octet=octet, kubernetes=False) for name, octet in zip(SERVERS, (21, 22), strict=True)),
    NodeSpec(name="client", octet=51, kubernetes=False),
)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """A director that holds the VIP, two real servers that carry it, and a client."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)
    with Lab.start(nodes=SPECS, kubernetes=False) as started:
        for name in SERVERS:
            make_pass(started.nodes[name], {"backendAddresses": [VIP]})
            process = started.nodes[name].spawn(
                sys.executable, str(GUESTS / "guard_guest.py"), "serve", name, str(PORT)
            )
            process.wait_for_output("ready", timeout=60)
        started.nodes["director"].run("ip", "address", "add", f"{VIP}/32", "dev", "eth0")
        yield started


def make_pass(node: Node, spec: dict[str, Any], tables: dict[str, Any] | None = None) -> None:
    """Make passes of the agent."""
    asked = {
        "ledger": "/run/persistence-test",
        "spec": {"decided": True, **spec},
        "tables": tables or {},
        "held": [VIP],
        "interface": "eth0",
        "passes": 2,
    }
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, str(GUESTS / "pass_guest.py")]
    last: dict[str, Any] = json.loads(node.run(*argv, stdin=json.dumps(asked), timeout=120).stdout)[-1]
    assert last["failures"] == []


def serve(lab: Lab, weights: dict[str, int], *, forget: bool = False) -> None:
    """Have the director serve with persistence; `forget`: as the controller tells it while drain.persistence asks."""
    entries = [
        {"realServer": name, "address": lab.nodes[name].lan_address, "weight": weight}
        for name, weight in sorted(weights.items())
    ]
    table = {
        "directorGroup": "default",
        "serviceGeneration": 1,
        "address": VIP,
        "ports": [{"port": PORT, "protocol": "TCP"}],
        "scheduler": "rr",
        "onFailure": "Remove",
        "quiesceSeconds": 0,
        "persistence": {"timeoutSeconds": 300, "prefixLength": 32},
        "destinations": entries,
    }
    settings = {"settings": {"sysctls": [{"name": "expire_quiescent_template", "value": 1}]}} if forget else {}
    role = {"group": "default", "tables": ["default/web"], **settings}
    make_pass(lab.nodes["director"], {"director": role}, {"default/web": table})


def ask(lab: Lab, times: int = 3) -> set[str]:
    """Return who answers the client."""
    argv = [sys.executable, str(GUESTS / "guard_guest.py"), "ask", "tcp", VIP, str(PORT), "0", str(times)]
    return set(json.loads(lab.nodes["client"].run(*argv, timeout=60).stdout))


def test_what_a_drain_does_with_clients_that_are_remembered(lab: Lab) -> None:
    """Honour would lose sessions, or Ignore never empty a server, if the kernel did otherwise than we tell users."""
    both = dict.fromkeys(SERVERS, 1)
    serve(lab, both)
    (mine,) = ask(lab)
    (other,) = set(SERVERS) - {mine}
    quiesced = both | {mine: 0}

    serve(lab, quiesced)
    assert ask(lab) == {mine}  # Honour: weight 0, and it still comes back

    serve(lab, quiesced, forget=True)
    assert ask(lab) == {other}  # Ignore: the next connection goes elsewhere

    serve(lab, both | {other: 0})
    assert ask(lab) == {other}  # the setting was put back: the new memory is honoured again

    serve(lab, {mine: 1})
    assert ask(lab) == {mine}  # the deadline: one that is taken out is forgotten
    value = lab.nodes["director"].run("sysctl", "-n", "net.ipv4.vs.expire_quiescent_template").stdout.strip()
    assert value == "0"
