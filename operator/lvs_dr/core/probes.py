"""The IPVS services of checks through VIPs: one for each firewall mark, with the one real server it leads to.

They are the agent's own like any other entry (the ledger says so) and say nothing of a VirtualService: packets of
clients never carry these marks. On the director that holds a VIP the answers come from an address of its own, which
IPv4 drops unless two sysctls of the interface let them in.
"""

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple

from lvs_dr.core.arp_settings import SysctlRule
from lvs_dr.core.destinations import Place
from lvs_dr.core.ipvs_table import AF_INET6, destination_config, family
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationOp,
    KernelState,
    Op,
    ServiceConfig,
    ServiceFlag,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.settings import sysctl_key
from lvs_dr.core.table import DirectorTableSpec


class Probe(NamedTuple):
    """The only destination of a firewall-mark service."""

    place: Place
    config: DestinationConfig


Probes = Mapping[ServiceKey, Probe]

NO_PROBES: Final[Probes] = MappingProxyType({})

_WHOLE: Final = {True: 128, False: 32}


def probes(table: DirectorTableSpec) -> dict[ServiceKey, Probe]:
    """Return the services by which the table's destinations are checked through its VIP."""
    check = table.health_check
    if check is None or not check.can_ask_the_vip:
        return {}
    marked = [each for each in (*table.destinations, *table.pending) if each.check_mark]
    return {
        ServiceKey("", 0, 0, each.check_mark, family(table.address)): Probe(
            (each.address, 0), destination_config(each)._replace(weight=1, upper=0, lower=0)
        )
        for each in marked
    }


def probe_service(key: ServiceKey) -> ServiceConfig:
    """Return how such a service is set. One-packet: datagrams leave no connection behind; TCP does not heed it."""
    return ServiceConfig("rr", int(ServiceFlag.ONE_PACKET), prefix_length=_WHOLE[key.family == AF_INET6])


def taken(wanted: Probes, actual: KernelState, ledger: Ledger) -> frozenset[ServiceKey]:
    """Return those that somebody else has in the kernel, and differently: they are left alone.

    One that is exactly as ours would be may be ours: a ledger can be lost.
    """
    foreign = (wanted.keys() & actual.services.keys()) - ledger.own_services
    return frozenset(
        key
        for key in foreign
        if actual.services[key] != probe_service(key)
        or not actual.destinations.group(key).keys() <= {wanted[key].place}
    )


def ready(
    wanted: Probes,
    actual: KernelState,
    ours: frozenset[ServiceKey],
    done: Iterable[Op],
    undone: Iterable[Op],
) -> frozenset[tuple[ServiceKey, str]]:
    """Return the services that lead to their real server and to nobody else, each with its address.

    `actual` is what was read before the pass did `done`; `undone`: what it could not do. `ours`: by the ledger.
    """
    bad = {_service(op) for op in undone}
    changed: dict[ServiceKey, set[Place]] = {}
    gone: dict[ServiceKey, set[Place]] = {}
    added: set[ServiceKey] = set()
    for op in done:
        key = _service(op)
        if key is None or not key.mark:
            continue
        if isinstance(op, DestinationOp):
            (gone if op.verb is Verb.DELETE else changed).setdefault(key, set()).add((op.key.address, op.key.port))
        elif op.verb is Verb.ADD:
            added.add(key)
    found = set()
    for key, (place, _) in wanted.items():
        if key in bad or key not in ours or (key not in actual.services and key not in added):
            continue
        there = (actual.destinations.group(key).keys() - gone.get(key, set())) | changed.get(key, set())
        if there == {place}:
            found.add((key, place[0]))
    return frozenset(found)


def _service(op: Op) -> ServiceKey | None:
    if isinstance(op, DestinationOp):
        return op.key.service
    return op.key if isinstance(op, ServiceOp) else None


# Sysctls of the interface that faces the clients.

ACCEPT_LOCAL: Final = "accept_local"
RP_FILTER: Final = "rp_filter"
RUN_ESTIMATION: Final = sysctl_key("run_estimation")
"""0: the kernel does not add up its counters."""
EVERYWHERE: Final = SysctlKey(("ipv4", "conf", "all", RP_FILTER))
STRICT: Final = "1"


def interface_key(interface: str, name: str) -> SysctlKey:
    """Return the key of an interface's sysctl."""
    return SysctlKey(("ipv4", "conf", interface, name))


def interface_of(key: SysctlKey) -> str:
    """Return the interface that one of these sysctls is of; "" for any other sysctl."""
    path = key.path
    mine = len(path) == 4 and path[:2] == ("ipv4", "conf") and path[3] in (ACCEPT_LOCAL, RP_FILTER)  # noqa: PLR2004
    return path[2] if mine else ""


def probe_keys(interfaces: Iterable[str]) -> tuple[SysctlKey, ...]:
    """Return what to read for checks by these interfaces."""
    found = tuple(interface_key(each, name) for each in interfaces for name in (ACCEPT_LOCAL, RP_FILTER))
    return (*found, EVERYWHERE, RUN_ESTIMATION) if found else ()


def probe_rules(wanted: Probes, interface: str, *, on_lo: bool, strict: bool) -> dict[SysctlKey, SysctlRule]:
    """Return the settings that IPv4 checks need. `on_lo`: the node carries VIPs there, too.

    `strict`: rp_filter is 1 for all interfaces, and the kernel takes the larger one. IPv6 needs none.
    """
    if not interface or all(key.family == AF_INET6 for key in wanted):
        return {}
    rules = [
        SysctlRule(
            interface_key(interface, ACCEPT_LOCAL), "1", frozenset(),
            "answers to checks through a VIP come from the VIP, which the Active director holds itself",
        )
    ]  # fmt: skip
    if on_lo:
        rules.append(
            SysctlRule(
                interface_key(interface, RP_FILTER), "2", frozenset() if strict else frozenset({"0"}),
                "the same where the VIP is on lo, too: strict filtering takes lo for the only way to it",
            )
        )  # fmt: skip
    return {rule.key: rule for rule in rules}
