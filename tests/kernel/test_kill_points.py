"""The agent killed between any two system calls of its work: nothing of ours stays, nothing foreign changes."""

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lvs_lab import Lab

REPOSITORY = Path(__file__).parents[2]
NODES = ("client-1", "control-1")
"""Each does its part in a network namespace of its own, where no agent runs."""


def campaign(lab: Lab, what: str, first: int) -> dict[str, Any]:
    """Kill at every other step, on one node."""
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}:{REPOSITORY}", "unshare", "--net", "--mount", "sh", "-c"]
    argv += ['mount -t tmpfs none /run && exec "$@"', "sh", sys.executable, "-B"]
    argv += [str(REPOSITORY / "tests" / "kernel" / "kill_guest.py"), what, str(first), str(len(NODES))]
    done = lab.nodes[NODES[first - 1]].run(*argv, timeout=360, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def campaigns(lab: Lab, what: str) -> list[dict[str, Any]]:
    """Kill at every step, shared by the nodes; nothing may be left wrong."""
    with ThreadPoolExecutor(len(NODES)) as pool:
        parts = list(pool.map(lambda first: campaign(lab, what, first), range(1, len(NODES) + 1)))
    wrong = [f"{what}, {step}: {part}\n{text}" for found in parts for what, step, part, text in found["wrong"]]
    assert not wrong, "\n\n".join(wrong[:5]) + f"\n{len(wrong)} in all"
    return parts


def test_a_kill_in_the_middle_of_an_edit_is_survived(lab: Lab) -> None:
    """A table that serves would stay half old and half new, or lose who owns its entries."""
    parts = campaigns(lab, "edits")
    edits = [step for found in parts for kind in ("edit", "edit back") for step in found["steps"][kind]]
    assert {f"netlink 16: IPVS command {command}" for command in (2, 5, 6, 7)} <= set(edits), edits
    assert any("ledger.json.new" in step for step in edits), "the ledger half written"
    assert len(edits) > 16, edits


def test_a_kill_at_any_step_is_survived(lab: Lab) -> None:
    """A node would keep entries that nobody owns, or lose somebody else's, after a crash at the wrong moment."""
    parts = campaigns(lab, "lives")
    for kind, commands in {"add": {1, 2, 5, 6}, "remove": {2, 3, 6, 7}}.items():
        steps = [step for found in parts for step in found["steps"][kind]]
        assert {f"netlink 16: IPVS command {command}" for command in commands} <= set(steps), steps
        assert sum("netlink 0" in step for step in steps) >= 6, "addresses and routes"
        assert any("write to /proc/sys/net" in step for step in steps)
        assert any("ledger.json.new" in step for step in steps), "the ledger half written"
        assert len(steps) > 20, steps
    assert sum(len(found["steps"]["clean up by hand"]) for found in parts) >= 4
