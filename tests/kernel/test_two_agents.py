"""Two real agents on one node, as a roll-out may overlap them: one has the node, the other waits and says so."""

import json
import sys
from pathlib import Path

from lvs_lab import Lab

REPOSITORY = Path(__file__).parents[2]
NODE = "client-1"
"""No agent runs there."""


def test_two_agents_never_fight(lab: Lab) -> None:
    """Two writers would undo each other's work for ever; a killed one must be followed at once, without a change."""
    argv = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", "unshare", "--net", sys.executable, "-B"]
    argv.append(str(REPOSITORY / "tests" / "kernel" / "overlap_guest.py"))
    done = lab.nodes[NODE].run(*argv, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = json.loads(done.stdout)
    assert seen["alive"]
    for moment in ("waiting", "still waiting", "repaired by the first"):
        code, text = seen[moment]
        assert code == 503, moment
        assert "another agent has this node: lvs-agent run (pid " in text
    assert seen["ledger untouched"]
    assert seen["before"] == seen["meanwhile"] == seen["after"] == seen["after the end"]
    assert seen["lock"]
    assert seen["code"] == 0, "SIGTERM ends it, and the kernel stays as it is"
    assert "waiting for another agent on this node to leave" in seen["new says"]
    assert "it is our turn now" in seen["new says"]
