"""Where tunnels end: the devices of our own that a real server needs, and whether they are ready.

A device takes in everything that was sent to one address of the node (RIP), whoever sent it. That is more specific
than the devices tunl0, gre0 and ip6tnl0, which CNIs use, so both work side by side. GUE needs a UDP port that takes
packets apart, and then the device that plain IPIP would need.
Sources: net/ipv4/ip_tunnel.c (ip_tunnel_lookup), net/ipv4/fou.c, net/ipv6/ip6_tunnel.c.
"""

import ipaddress
import zlib
from collections.abc import Collection, Iterable, Mapping
from typing import Final

from msgspec import Struct

from lvs_dr.core.diff import Changes, diff
from lvs_dr.core.kernel import GuePortKey, GuePortOp, KernelState, Op, TunnelConfig, TunnelKey, TunnelOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import BackendTunnel
from lvs_dr.core.objects import TunnelChecksum, TunnelType
from lvs_dr.core.reasons import Reason

NAME_PREFIX: Final = "lvs"
MODULES: Final[Mapping[str, str]] = {"ipip": "ipip", "gre": "ip_gre", "ip6tnl": "ip6_tunnel", "ip6gre": "ip6_gre"}
GUE_MODULE: Final = "fou"

_NAMES: Final[Mapping[str, str]] = {"ipip": "ipip", "gre": "gre", "ip6tnl": "tnl6", "ip6gre": "gre6"}


class Ends(Struct, frozen=True):
    """What must be there for a node's tunnels; `problems`: those that cannot be, and why."""

    devices: Mapping[TunnelKey, TunnelConfig] = {}
    gue_ports: frozenset[GuePortKey] = frozenset()
    problems: tuple[tuple[Reason, str], ...] = ()


class TunnelPlan(Struct, frozen=True):
    """What to do about tunnels, and what the ledger must say before. `foreign`: wanted names that others have."""

    ops: tuple[Op, ...]
    tunnels: tuple[TunnelKey, ...]
    gue_ports: tuple[GuePortKey, ...]
    adopted_gue_ports: tuple[GuePortKey, ...]
    foreign: tuple[TunnelKey, ...] = ()
    lost: frozenset[TunnelKey | GuePortKey] = frozenset()


def device(end: BackendTunnel) -> tuple[TunnelKey, TunnelConfig]:
    """Return the device of a tunnel: its name says kind and address, so that it is the same after a restart.

    IPv4 addresses are in the name whole (lvsipipc0a82315), IPv6 ones as a checksum; at most 15 characters.
    """
    six = ":" in end.address
    gre = end.tunnel.type is TunnelType.GRE
    kind = ("ip6gre" if gre else "ip6tnl") if six else ("gre" if gre else "ipip")
    packed = ipaddress.ip_address(end.address).packed
    number = zlib.crc32(packed) if six else int.from_bytes(packed, "big")
    checksum = gre and end.tunnel.checksum is TunnelChecksum.CHECKSUM
    return TunnelKey(f"{NAME_PREFIX}{_NAMES[kind]}{number:08x}"), TunnelConfig(kind, end.address, checksum)


def gue_port(end: BackendTunnel) -> GuePortKey | None:
    """Return the UDP port of a tunnel; None for those without."""
    return GuePortKey(end.address, end.tunnel.port) if end.tunnel.type is TunnelType.GUE else None


def ends(wanted: Iterable[BackendTunnel]) -> Ends:
    """Return what must be there. Of two tunnels that exclude each other the first, as listed, is made."""
    devices: dict[TunnelKey, TunnelConfig] = {}
    ports: set[GuePortKey] = set()
    problems: list[tuple[Reason, str]] = []
    for end in wanted:
        key, config = device(end)
        if devices.setdefault(key, config) != config:
            problems.append((Reason.TUNNEL_UNAVAILABLE, _excluded(devices[key], config)))
            continue
        port = gue_port(end)
        if port is not None:
            ports.add(port)
    return Ends(devices, frozenset(ports), tuple(problems))


def ready(wanted: Iterable[BackendTunnel], actual: KernelState, ledger: Ledger) -> tuple[BackendTunnel, ...]:
    """Return the tunnels that take packets in, by a device of ours."""
    return tuple(end for end in wanted if _ready(end, actual, ledger))


def plan_tunnels(
    devices: Mapping[TunnelKey, TunnelConfig], gue_ports: Collection[GuePortKey], actual: KernelState, ledger: Ledger
) -> TunnelPlan:
    """Return what to do. A device that is not ours is left alone even under a name of ours; a GUE port is adopted."""
    ours = frozenset(ledger.tunnels)
    foreign = tuple(sorted(key for key in devices if key in actual.tunnels and key not in ours))
    wanted = {key: config for key, config in devices.items() if key not in foreign}
    made: Changes[TunnelKey, TunnelConfig] = diff(wanted, actual.tunnels, ours, {})
    open_ports: Changes[GuePortKey, None] = diff(
        dict.fromkeys(sorted(gue_ports)),
        dict.fromkeys(sorted(actual.gue_ports)),
        frozenset(ledger.gue_ports),
        dict.fromkeys(ledger.adopted_gue_ports),
    )
    ops: list[Op] = [TunnelOp(Verb.ADD, key, config) for key, config in made.add.items()]
    ops += [TunnelOp(Verb.SET, key, config) for key, config in made.edit.items()]
    ops += [TunnelOp(Verb.DELETE, key) for key in made.delete]
    ops += [GuePortOp(Verb.ADD, port) for port in open_ports.add]
    ops += [GuePortOp(Verb.DELETE, port) for port in open_ports.delete]
    return TunnelPlan(
        ops=tuple(ops),
        tunnels=tuple(sorted(made.ours)),
        gue_ports=tuple(sorted(open_ports.ours)),
        adopted_gue_ports=tuple(sorted(open_ports.adopted)),
        foreign=foreign,
        lost=frozenset({*made.lost, *(key for key in made.edit), *open_ports.lost}),
    )


def _ready(end: BackendTunnel, actual: KernelState, ledger: Ledger) -> bool:
    key, config = device(end)
    if key not in ledger.tunnels or actual.tunnels.get(key) != config:
        return False
    port = gue_port(end)
    return port is None or port in actual.gue_ports


def _excluded(first: TunnelConfig, second: TunnelConfig) -> str:
    if first.local != second.local:
        return f"the tunnel devices of {first.local} and {second.local} would have the same name"
    return (
        f"GRE to {first.local} is wanted both with and without a checksum, and the kernel takes in only one of them: "
        "give all VirtualServices of this real server the same tunnel.checksum (to change it, go by IPIP in between)"
    )
