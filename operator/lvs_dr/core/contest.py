"""Who contests a VIP or a port with whom, so that a change of one claim asks only those again."""

from collections.abc import Mapping
from typing import NamedTuple

from lvs_dr.core.index import ANY_PORT, REDIRECTED_PORT, ClaimedPort, Place
from lvs_dr.core.objects import Key, Protocol, VirtualService
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import World


class Claim(NamedTuple):
    """A VIP with ports, claimed by a VirtualService or held by a DirectorTable."""

    address: str
    namespace: str
    group: str
    ports: frozenset[tuple[int, Protocol]]
    excluded: frozenset[tuple[int, Protocol]]
    """Two claims of one address contest each other when namespace or group differ, they share a port, or one has
    what the other excludes."""


def claim_of(key: Key, holder: VirtualService | DirectorTableSpec) -> Claim:
    """Return what the VirtualService wants, or what a table of it holds."""
    ports = frozenset((each.port, each.protocol) for each in holder.ports)
    excluded = frozenset[tuple[int, Protocol]]()
    if holder.redirect is not None:
        excluded = frozenset({ANY_PORT})
    elif ANY_PORT in ports:
        excluded = frozenset({REDIRECTED_PORT})
    return Claim(holder.address, key.namespace, holder.director_group, ports, excluded)


def rival_tables(world: World, claim: Claim) -> set[Key]:
    """Return the DirectorTables that contest the claim, found without a look at all others of the VIP."""
    index = world.index
    return _rivals(claim, index.tables_by_address, index.tables_by_place, index.tables_by_port)


def rival_services(world: World, claim: Claim) -> set[Key]:
    """Return the VirtualServices that contest the claim, by what they want."""
    index = world.index
    return _rivals(claim, index.services_by_address, index.services_by_place, index.services_by_port)


def _rivals(
    claim: Claim,
    by_address: Mapping[str, set[Key]],
    by_place: Mapping[Place, set[Key]],
    by_port: Mapping[ClaimedPort, set[Key]],
) -> set[Key]:
    everybody = by_address.get(claim.address, frozenset[Key]())
    here = by_place.get((claim.address, claim.namespace, claim.group), frozenset[Key]())
    found = set(everybody - here) if len(here) != len(everybody) else set[Key]()
    for port, protocol in claim.ports | claim.excluded:
        found |= by_port.get((claim.address, port, protocol), frozenset())
    return found


def contesting(world: World, *changed: Claim) -> set[Key]:
    """Return the VirtualServices whose right to their VIP may depend on the claims, at first or at second hand.

    At second hand: who is refused because of A, which is refused because of B, depends on B.
    """
    found: set[Key] = set()
    frontier = list(changed)
    asked: set[Claim] = set()
    while frontier:
        claim = frontier.pop()
        if claim in asked:
            continue
        asked.add(claim)
        hit = (world.owners(rival_tables(world, claim)) | rival_services(world, claim)) - found
        found |= hit
        frontier += (each for key in hit for each in _claims(world, key) if each.address == claim.address)
    return found


def _claims(world: World, key: Key) -> list[Claim]:
    service = world.virtual_services.get(key)
    found = [claim_of(key, service)] if isinstance(service, VirtualService) else []
    tables = (world.tables[each].spec for each in world.index.tables_by_owner.get(key, ()))
    return [*found, *(claim_of(key, spec) for spec in tables)]
