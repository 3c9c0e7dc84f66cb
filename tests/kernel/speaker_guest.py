"""Runs inside a lab node: the address holder on the node's own eth0, playing steps from stdin.

Each run is one life of the agent: it ends without releasing anything, and the next finds its ledger.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.speaker import AddressHolder
from lvs_dr.agent.wire import PacketWire
from lvs_dr.core.kernel import AddressKey
from lvs_dr.vrrp.messages import Assignment, SpeakerState

RUN_DIRECTORY = Path("/run/speaker-test")


def told(state: SpeakerState, seconds: float = 0.0) -> dict[str, Any]:
    """Return a state as JSON can carry it."""
    return {
        "role": state.role,
        "held": list(state.held),
        "problems": [[one.address, one.reason, one.message] for one in state.problems],
        "seconds": seconds,
    }


async def play(steps: list[list[Any]]) -> list[dict[str, Any]]:
    """Play steps: state, assign, lose (an address vanishes), wait (seconds, announcing)."""
    kernel = NodeKernel()
    ledger = LedgerFile(RUN_DIRECTORY, kernel.boot_id())
    ledger.load()
    door = KernelDoor(kernel)
    holder = AddressHolder(kernel, door, ledger, PacketWire())
    await door.call(kernel.interfaces)  # the library is loaded now, not while something is measured
    running = asyncio.create_task(holder.run())
    answers = []
    for name, *arguments in steps:
        began = time.monotonic()
        if name == "assign":
            interface, addresses = arguments
            state = await holder.assign(Assignment(interface, tuple(addresses)))
            answers.append(told(state, time.monotonic() - began))
        elif name == "lose":
            await door.call(kernel.delete_address, AddressKey(*arguments))
        elif name == "wait":
            await asyncio.sleep(arguments[0])
        else:
            answers.append(told(holder.state()))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    door.close()
    return answers


print(json.dumps(asyncio.run(play(json.load(sys.stdin)))))  # noqa: T201
