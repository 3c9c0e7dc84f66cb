"""Plays steps of `ipvs_guest` on a lab node, in a fresh network namespace, and names what comes back."""

import json
import sys
from pathlib import Path
from typing import Any, NamedTuple

from lvs_dr.netlink.ipvs import DestinationConfig, DestinationKey, ServiceConfig, ServiceKey
from lvs_lab import Lab

REPOSITORY = Path(__file__).parents[2]
NODE = "client-1"
"""No agent runs there."""

Table = dict[ServiceKey, tuple[ServiceConfig, dict[DestinationKey, DestinationConfig]]]


class Commanded(NamedTuple):
    """What a command on the node ended with."""

    code: int
    lines: list[str]
    stderr: str


def guest(lab: Lab, script: str, stdin: str = "", *, isolated: bool = True) -> Any:
    """Run a guest script and decode what it prints. Isolated: in a network namespace of its own."""
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable]
    if isolated:
        argv[:0] = ["unshare", "--net"]
    done = lab.nodes[NODE].run(*argv, str(REPOSITORY / "tests" / "kernel" / script), stdin=stdin, timeout=120)
    return json.loads(done.stdout)


def play(lab: Lab, *steps: list[Any]) -> list[Any]:
    """Play steps; the loopback device is up, without which IPVS takes no destination."""
    return list(guest(lab, "ipvs_guest.py", json.dumps([["run", "ip", "link", "set", "lo", "up"], *steps])))[1:]


def table(found: list[Any]) -> Table:
    """Name the parts of what the steps `read` and `pyroute2_read` print."""
    return {
        ServiceKey(*key): (
            ServiceConfig(*config),
            {DestinationKey(*name): DestinationConfig(*values) for name, values in destinations},
        )
        for key, config, destinations in found
    }


def lines(commanded: list[Any]) -> list[str]:
    """Return the output of a command that must have succeeded, sorted: IPVS keeps no order."""
    done = Commanded(*commanded)
    assert done.code == 0, done.stderr
    return sorted(done.lines)
