"""Runs inside a lab node: makes the agent's passes on this kernel and prints what they did, as JSON.

Input on stdin: {"ledger": path, "spec": LVSNodeSpec, "tables": {name: DirectorTableSpec}, "held": [VIP, ...],
"interface": the director's, "macs": {peer's node: [MAC, ...]}, "passes": number}; spec and tables as in their objects.
Beside `agent.onepass` there are no checks, no speaker and no API server here, so a test says by itself which VIPs the
node holds.
"""

import json
import sys
from pathlib import Path
from typing import Any

import msgspec

from lvs_dr.agent.interface import ledger_addresses, sync_link
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.words import command
from lvs_dr.core.desired import desired, loopback_addresses
from lvs_dr.core.loop_guard import INTACT
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.plan import plan
from lvs_dr.core.scope import scope
from lvs_dr.core.settings import other_owner, unmet
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.tunnels import ready


def once(kernel: NodeKernel, ledger: LedgerFile, asked: dict[str, Any]) -> dict[str, Any]:
    """Make one pass and read what came of it."""
    spec = msgspec.convert(asked["spec"], LVSNodeSpec)
    tables = {name: msgspec.convert(table, DirectorTableSpec) for name, table in asked.get("tables", {}).items()}
    addresses = frozenset({table.address for table in tables.values()} | ledger_addresses(ledger.current))
    owner = other_owner({interface.name for interface in kernel.interfaces()})
    interface = asked.get("interface", "")
    before = kernel.read(addresses, scope(spec, ledger.current, interface))
    held = frozenset(asked.get("held", ()))
    link = sync_link(spec.director, "", kernel.interfaces(), held)
    goal = desired(
        spec, tables, {}, ledger.current,
        held=held, reserved={}, owner=owner, link=link, interface=interface, macs=asked.get("macs", {}),
    )  # fmt: skip
    made = plan(goal, before, ledger.current)
    ledger.save_plan(made.ledger)
    failures = kernel.apply(made.ops)
    after = kernel.read(addresses, scope(spec, ledger.current, interface))
    return {
        "commands": [command(op) for op in made.ops],
        "failures": [[command(failure.op), failure.reason, failure.message] for failure in failures],
        "repairs": len(made.repairs),
        "tunnels": msgspec.to_builtins(ready(spec.backend_tunnels, after, ledger.current)),
        "loopback": loopback_addresses(goal, after),
        "timeouts": {key.name: seconds for key, seconds in after.timeouts.items()},
        "problems": [list(problem) for problem in (*goal.shared.problems, *goal.tunnels.problems)],
        "unmet": list(unmet(spec.director.settings if spec.director else None, after)),
        "owner": owner,
        "foreign_daemons": [key.state for key in made.foreign_daemons],
        "guarded": not goal.guard.unheard and all(after.guards.get(key) == INTACT for key in goal.guard.wanted),
        "holds_nothing": ledger.current.holds_nothing,
    }


def main() -> None:
    """Make the passes."""
    asked = json.load(sys.stdin)
    kernel = NodeKernel()
    directory = Path(asked["ledger"])
    directory.mkdir(parents=True, exist_ok=True)
    ledger = LedgerFile(directory, kernel.boot_id())
    ledger.load()
    json.dump([once(kernel, ledger, asked) for _ in range(asked.get("passes", 1))], sys.stdout)
    kernel.close()


if __name__ == "__main__":
    main()
