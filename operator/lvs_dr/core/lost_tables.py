"""Tables that were deleted by mistake: directors go on serving them until they are made anew."""

from lvs_dr.core.claims import judge
from lvs_dr.core.node import table_key
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.own_tables import own_tables, possible_owners
from lvs_dr.core.reasons import Reason
from lvs_dr.core.world import NodeRecord, World


def lost_tables(world: World, record: NodeRecord, group: str) -> list[Key]:
    """Return the tables the director was told of, or has in its kernel, that are gone while their VirtualServices live.

    They were deleted by mistake, are about to be made anew, and are served meanwhile; unless another service has taken
    their VIP, port or mark in the meantime.
    """
    role, status = record.spec.director, record.status
    known = set(role.tables if role is not None and role.group == group else ())
    if not record.spec.decided and status is not None:
        known.update(report.table for report in status.tables)
    gone = (key for key in map(table_key, known) if key not in world.tables)
    return [key for key in gone if _losers(world, key, group)]


def _losers(world: World, table: Key, group: str) -> list[VirtualService | Invalid]:
    """Return the services that may miss the table; one that has another lets go of this name."""
    found = (world.virtual_services.get(key) for key in possible_owners(table))
    return [each for each in found if each and not own_tables(world, each) and _is_for(world, each, group)]


_TAKEN = frozenset({Reason.ADDRESS_CLAIMED, Reason.PORT_CLAIMED, Reason.MARK_CLAIMED})


def _is_for(world: World, service: VirtualService | Invalid, group: str) -> bool:
    if isinstance(service, Invalid):
        return True
    return service.director_group == group and judge(world, service).reason not in _TAKEN


def wanted_addresses(world: World, keys: list[Key], group: str) -> set[str]:
    """Return the VIPs of the tables, by their VirtualServices."""
    services = (each for key in keys for each in _losers(world, key, group))
    return {service.address for service in services if isinstance(service, VirtualService)}
