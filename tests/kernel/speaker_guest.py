"""Runs inside a lab node: the agent's side of the speaker that runs there, playing steps from stdin.

Each run is one life of the agent: it ends without releasing anything, and the next finds the speaker as it was left.
"""

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.speaker_client import SpeakerClient
from lvs_dr.agent.wire import PacketWire
from lvs_dr.core.kernel import AddressKey, AddressOp, Verb
from lvs_dr.vrrp.messages import Assignment, RouterAssignment, RouterKey, SpeakerState

RUN_DIRECTORY = Path("/run/speaker-test")
SECONDS = 20.0


def told(state: SpeakerState, seconds: float = 0.0) -> dict[str, Any]:
    """Return a state as JSON can carry it."""
    return {
        "routers": [each.state for each in state.routers],
        "held": list(state.held),
        "problems": [[one.address, one.reason, one.message] for one in state.problems],
        "seconds": seconds,
    }


def assignment(interface: str, addresses: list[str], peers: list[str]) -> Assignment:
    """Return virtual router 51 with these VIPs, alone in its group unless there are peers."""
    families = {4: [each for each in addresses if ":" not in each], 6: [each for each in addresses if ":" in each]}
    routers = tuple(
        RouterAssignment(RouterKey(51, family), 250, tuple(some)) for family, some in families.items() if some
    )
    return Assignment(interface, routers, alone=not peers, peers=tuple(peers))


async def settled(client: SpeakerClient) -> SpeakerState:
    """Wait until every virtual router has an end of its election, and what is given up is gone."""
    async with asyncio.timeout(SECONDS):
        while True:
            state = client.state()
            if state.connected and frozenset(state.held) == state.configured:
                return state
            await asyncio.sleep(0.01)


async def play(steps: list[list[Any]]) -> list[dict[str, Any]]:
    """Play steps: state, assign (interface, VIPs, peers), lose (an address vanishes), wait (seconds)."""
    kernel = NodeKernel()
    door = KernelDoor(kernel)
    client = SpeakerClient(kernel, door, PacketWire(), run_directory=RUN_DIRECTORY, state_directory=RUN_DIRECTORY)
    await door.call(kernel.interfaces)  # the library is loaded now, not while something is measured
    running = asyncio.create_task(client.run())
    await settled(client)
    answers = []
    for name, *arguments in steps:
        began = time.monotonic()
        if name == "assign":
            await client.assign(assignment(*arguments))
            answers.append(told(await settled(client), time.monotonic() - began))
        elif name == "lose":
            await door.apply([AddressOp(Verb.DELETE, AddressKey(*arguments))])
        elif name == "wait":
            await asyncio.sleep(arguments[0])
        else:
            answers.append(told(client.state()))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    door.close()
    return answers


print(json.dumps(asyncio.run(play(json.load(sys.stdin)))))  # noqa: T201
