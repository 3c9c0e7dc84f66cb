"""Which VIPs may be handed to the speaker: none of the node's own addresses, and none that a stranger answers for."""

import ipaddress
from collections.abc import Callable, Collection, Iterable
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.agent.wire import Wire, WireError
from lvs_dr.core.reasons import Reason
from lvs_dr.vrrp.messages import AddressProblem, Assignment

LOOPBACK: Final = "lo"
CONFLICT_SECONDS: Final = 5.0
"""How long an address that somebody else answered for is not probed again."""


class Present:
    """What is on the interfaces now."""

    def __init__(self, interfaces: Iterable[Interface]) -> None:
        self.names: set[str] = set()
        self._hosts: dict[str, set[str]] = {}
        self._others: dict[str, set[str]] = {}  # with a network's prefix: the node's own
        for one in interfaces:
            self.names.add(one.name)
            for text in one.addresses:
                own = ipaddress.ip_interface(text)
                host = own.network.prefixlen == own.max_prefixlen
                (self._hosts if host else self._others).setdefault(one.name, set()).add(str(own.ip))

    def hosts(self, interface: str) -> AbstractSet[str]:
        """Return the host addresses (/32, /128) on an interface."""
        return self._hosts.get(interface, set())

    def own(self, address: str, interface: str) -> str:
        """Return where an address is the node's own: on `interface` with a network, or anywhere but there and lo."""
        for found, here in ((self._others, True), (self._hosts, False)):
            for name in sorted(found):
                if address in found[name] and name != LOOPBACK and (here or name != interface):
                    return name
        return ""


@dataclass(frozen=True, slots=True)
class Sorted:
    """VIPs sorted out; `fresh` ones must be probed for."""

    admitted: frozenset[str]
    fresh: frozenset[str] = frozenset()
    problems: tuple[AddressProblem, ...] = ()


class Admission:
    """Remembers for a while who answered for which VIP."""

    def __init__(self, wire: Wire, clock: Callable[[], float]) -> None:
        self._wire = wire
        self._clock = clock
        self._conflicts: dict[tuple[str, str], tuple[str, float]] = {}  # MAC, and not to be probed before

    def look(self, assignment: Assignment, present: Present, known: AbstractSet[str], ours: AbstractSet[str]) -> Sorted:
        """Sort the VIPs of an assignment; `known` the speaker has on this interface, `ours` on any."""
        interface = assignment.interface
        wanted = assignment.addresses
        self._conflicts = {key: seen for key, seen in self._conflicts.items() if key[1] in wanted}
        if interface not in present.names:
            text = f"there is no interface {interface}" if interface else "no interface faces the clients"
            return Sorted(wanted & known, problems=_each(wanted, Reason.NO_INTERFACE, text))
        reserved = {address: where for address in wanted - ours if (where := present.own(address, interface))}
        problems = tuple(
            AddressProblem(
                address,
                Reason.RESERVED_ADDRESS,
                f"{address} is an address of this node on {where}; it cannot be a VIP here",
            )
            for address, where in sorted(reserved.items())
        )
        fresh = wanted - known - reserved.keys() - present.hosts(interface)
        return Sorted(frozenset(wanted - reserved.keys() - fresh), frozenset(fresh), problems)

    async def probe(self, assignment: Assignment, found: Sorted) -> Sorted:
        """Admit those of the fresh VIPs that nobody answers for but the other directors, who may hold them."""
        interface, now = assignment.interface, self._clock()
        asked = {
            each
            for each in found.fresh
            if (interface, each) not in self._conflicts or self._conflicts[interface, each][1] <= now
        }
        if asked:
            peers = frozenset(assignment.peers)
            try:
                claims = await self._wire.probe(interface, sorted(asked | peers))
            except WireError as error:
                text = f"it could not be probed for: {error}"
                return Sorted(
                    found.admitted, problems=(*found.problems, *_each(found.fresh, Reason.NO_INTERFACE, text))
                )
            directors = frozenset(mac for peer in peers for mac in claims.get(peer, ()))
            for each in asked:
                self._conflicts.pop((interface, each), None)
                strangers = sorted(claims.get(each, frozenset()) - directors)
                if strangers:
                    self._conflicts[interface, each] = ", ".join(strangers), self._clock() + CONFLICT_SECONDS
        refused = {
            each: self._conflicts[interface, each][0] for each in found.fresh if (interface, each) in self._conflicts
        }
        problems = tuple(
            AddressProblem(
                each,
                Reason.ADDRESS_IN_USE,
                f"another machine ({mac}) answers for {each} on {interface}; remove it there",
            )
            for each, mac in sorted(refused.items())
        )
        return Sorted(found.admitted | (found.fresh - refused.keys()), problems=(*found.problems, *problems))


def _each(addresses: Collection[str], reason: Reason, text: str) -> tuple[AddressProblem, ...]:
    return tuple(AddressProblem(address, reason, text) for address in sorted(addresses))
