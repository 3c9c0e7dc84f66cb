"""Runs inside a lab node: checks real servers through their VIPs with the agent's own parts, on this kernel.

Input on stdin: {"ledger": path, "spec": LVSNodeSpec, "tables": {name: DirectorTableSpec}, "held": [VIP, ...],
"interface": the director's, "own": [addresses with prefix length], "seconds": how long}; spec and tables as in their
objects. Prints the last outcome of each check, and what the kernel has. There is no speaker and no API server here.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.marks import Done, Marks
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.core.desired import desired
from lvs_dr.core.health import check_keys
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.plan import plan
from lvs_dr.core.probes import EVERYWHERE, STRICT
from lvs_dr.core.scope import scope
from lvs_dr.core.table import DirectorTableSpec

PASS_SECONDS = 1.0


async def check(kernel: NodeKernel, ledger: LedgerFile, asked: dict[str, Any]) -> dict[str, Any]:
    """Make passes and checks for a while."""
    spec = msgspec.convert(asked["spec"], LVSNodeSpec)
    tables = {name: msgspec.convert(table, DirectorTableSpec) for name, table in asked.get("tables", {}).items()}
    interface, held = asked.get("interface", ""), frozenset(asked.get("held", ()))
    door, checkers = KernelDoor(kernel), Checkers()
    marks = Marks(door.mark_use, changed=lambda: prober.marks_changed())  # noqa: PLW0108 - it is made after the marks
    checkers.asked, checkers.hops = marks.asked, marks.hops
    prober = Prober(changed=lambda: None, check=checkers, marks=marks)
    prober.use_addresses(tuple(asked["own"]), tuple(asked["own"]))
    keys = [key for table in tables.values() for key in check_keys(table)]
    prober.update(keys)
    running = asyncio.create_task(prober.run())
    refused: list[str] = []
    for _ in range(max(1, round(asked["seconds"] / PASS_SECONDS))):
        before = await door.read(held, scope(spec, ledger.current, interface))
        strict = before.sysctls.get(EVERYWHERE) == STRICT
        goal = desired(
            spec, tables, prober.view(), ledger.current,
            held=held, reserved={}, interface=interface, strict=strict,
        )  # fmt: skip
        made = plan(goal, before, ledger.current, now=time.monotonic())
        ledger.save_plan(made.ledger)
        failures = await door.apply(made.ops)
        refused += [failure.message for failure in failures]
        undone = [failure.op for failure in failures]
        marks.follow(goal.probes, before, Done(made.ops, undone, made.taken, made.ledger), interface)
        await asyncio.sleep(PASS_SECONDS)
    outcomes = {key.address: msgspec.to_builtins(prober.outcome(prober.view(), key)) for key in keys}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    checkers.close()
    after = await door.read(held, scope(spec, ledger.current, interface))
    door.close()
    return {
        "outcomes": outcomes,
        "refused": refused,
        "marks": {str(key.mark): count for key, count in after.mark_packets.items()},
        "holds_nothing": ledger.current.holds_nothing,
    }


def main() -> None:
    """Make the passes and checks."""
    asked = json.load(sys.stdin)
    kernel = NodeKernel()
    directory = Path(asked["ledger"])
    directory.mkdir(parents=True, exist_ok=True)
    ledger = LedgerFile(directory, kernel.boot_id())
    ledger.load()
    json.dump(asyncio.run(check(kernel, ledger, asked)), sys.stdout)


if __name__ == "__main__":
    main()
