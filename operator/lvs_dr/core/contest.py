"""Who contests a VIP or a port with whom, so that a change of one claim asks only those again."""

from typing import NamedTuple

from lvs_dr.core.objects import Key, Protocol, VirtualService
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import World


class Claim(NamedTuple):
    """A VIP with ports, claimed by a VirtualService or held by a DirectorTable."""

    address: str
    namespace: str
    group: str
    ports: frozenset[tuple[int, Protocol]]

    def contests(self, other: "Claim") -> bool:
        """Tell whether the two cannot both be served (`claims.judge`)."""
        if self.address != other.address:
            return False
        return (self.namespace, self.group) != (other.namespace, other.group) or not self.ports.isdisjoint(other.ports)


def claim_of(key: Key, holder: VirtualService | DirectorTableSpec) -> Claim:
    """Return what the VirtualService wants, or what a table of it holds."""
    ports = frozenset((each.port, each.protocol) for each in holder.ports)
    return Claim(holder.address, key.namespace, holder.director_group, ports)


def contesting(world: World, *changed: Claim) -> set[Key]:
    """Return the VirtualServices whose right to their VIP may depend on the claims, at first or at second hand.

    At second hand: who is refused because of A, which is refused because of B, depends on B.
    """
    found: set[Key] = set()
    for address in {claim.address for claim in changed}:
        owners = world.owners(world.tables_by_address.get(address))
        left = {key: _claims(world, key) for key in owners.union(world.services_by_address.get(address, ()))}
        frontier = [claim for claim in changed if claim.address == address]
        while frontier and left:
            claim = frontier.pop()
            hit = [key for key, claims in left.items() if any(claim.contests(each) for each in claims)]
            for key in hit:
                frontier += left.pop(key)
            found.update(hit)
    return found


def _claims(world: World, key: Key) -> list[Claim]:
    service = world.virtual_services.get(key)
    found = [claim_of(key, service)] if isinstance(service, VirtualService) else []
    tables = (world.tables[each].spec for each in sorted(world.index.tables_by_owner.get(key, ())))
    return [*found, *(claim_of(key, spec) for spec in tables)]
