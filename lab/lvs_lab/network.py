"""The networks of the lab, inside the sandbox's own network namespace: bridges, and a veth pair per node on each."""

import asyncio
from collections.abc import Sequence
from typing import Literal

from lvs_lab.errors import LabError
from lvs_lab.spec import CONTROL, MANAGEMENT, Network, NodeSpec

Segment = Literal["lan", "management", "control"]
DEVICES: tuple[Segment, ...] = ("lan", "management", "control")
"""In the order of the nodes' devices vec0, vec1, vec2."""

_HOST_ADDRESSES = {
    "management": f"{MANAGEMENT[1]}/{MANAGEMENT.prefixlen}",
    "control": f"{CONTROL[1]}/{CONTROL.prefixlen}",
}
_TIMEOUT = 20.0


def port_on_bridge(spec: NodeSpec, network: Segment) -> str:
    """Name of the bridge's end of a node's veth pair."""
    return f"{network[0]}{spec.octet}-port"


def port_in_node(spec: NodeSpec, network: Segment) -> str:
    """Name of the end that the node's kernel reads and writes raw frames on."""
    return f"{network[0]}{spec.octet}-node"


def build_commands(nodes: Sequence[NodeSpec]) -> list[str]:
    """Lines for `ip -batch` that build all networks.

    No link gets an IPv6 address by itself (addrgenmode none), so the sandbox never speaks on the LAN; snooping is
    off, because nobody here sends the queries that would keep VRRP's group alive.
    """
    commands = ["link set lo up"]
    for network in DEVICES:
        commands.append(f"link add {network} type bridge stp_state 0 forward_delay 0 mcast_snooping 0")
        commands.append(f"link set {network} addrgenmode none up")
        if network in _HOST_ADDRESSES:
            commands.append(f"addr add {_HOST_ADDRESSES[network]} dev {network}")
    for spec in nodes:
        for network in DEVICES:
            port, node = port_on_bridge(spec, network), port_in_node(spec, network)
            commands.append(f"link add {port} type veth peer name {node}")
            commands.append(f"link set {node} addrgenmode none up")
            commands.append(f"link set {port} addrgenmode none master {network} up")
        # A node that is not up yet must not cost seconds of failed ARP.
        address, mac = spec.control_address, spec.mac("control")
        commands.append(f"neigh add {address} lladdr {mac} dev control nud permanent")
    return commands


class Networks:
    """Builds the networks and breaks them on demand."""

    async def build(self, nodes: Sequence[NodeSpec]) -> None:
        """Make bridges and ports. Raises LabError with what `ip` said."""
        await _ip_batch(build_commands(nodes))

    async def cut_off(self, spec: NodeSpec, network: Network) -> None:
        """Take the node's port on the bridge down."""
        await _ip_batch([f"link set {port_on_bridge(spec, network)} down"])

    async def reconnect(self, spec: NodeSpec, network: Network) -> None:
        """Take the node's port on the bridge up again."""
        await _ip_batch([f"link set {port_on_bridge(spec, network)} up"])


async def _ip_batch(commands: Sequence[str]) -> None:
    process = await asyncio.create_subprocess_exec(
        "ip",
        "-batch",
        "-",
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(_TIMEOUT):
        output, _ = await process.communicate("\n".join(commands).encode() + b"\n")
    if process.returncode:
        raise LabError(f"the lab's network could not be set up: {output.decode(errors='replace').strip()}")
