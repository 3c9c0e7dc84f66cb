"""What the redirector of a director is to do for one table: the same health, weights and states as IPVS gets."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from lvs_dr.core.ipvs_table import Served
from lvs_dr.core.kernel import ServiceKey
from lvs_dr.core.redirect_spec import TableRedirect
from lvs_dr.core.table import DirectorTableSpec, TableDestination
from lvs_dr.core.table_entries import TableEntries


class Standing(StrEnum):
    """Whether a real server gets requests."""

    SERVING = "Serving"  # as its weight says
    AWAITED = "Awaited"  # nobody knows yet: it goes on as it was
    FAILED = "Failed"


class RedirectTarget(NamedTuple):
    """One real server of a listener. `weight`: 0 takes no new requests."""

    entry: TableDestination
    weight: int
    standing: Standing


class Redirected(NamedTuple):
    """One port of a VIP whose requests are redirected. `target_port`: of the real servers."""

    table: str  # namespace/name
    service: ServiceKey
    target_port: int
    settings: TableRedirect
    targets: tuple[RedirectTarget, ...]
    sorry: tuple[str, int] | None = None  # host and port of the sorry server, while it serves


def redirected(
    name: str, table: DirectorTableSpec, services: Sequence[Served], entries: TableEntries
) -> tuple[Redirected, ...]:
    """Return a listener for each of the services; `entries`: what the table would ask of IPVS for them."""
    settings = table.redirect
    if settings is None:
        return ()
    return tuple(
        Redirected(
            name,
            one.service,
            one.target_port,
            settings,
            tuple(_targets(table, one, entries)),
            _sorry(table, one, entries),
        )
        for one in services
    )


def _sorry(table: DirectorTableSpec, one: Served, entries: TableEntries) -> tuple[str, int] | None:
    entry = table.sorry_server
    if entry is None or one.service not in entries.sorry:
        return None
    return entry.hostname or entry.address, table.sorry_port or one.target_port


def _targets(table: DirectorTableSpec, one: Served, entries: TableEntries) -> Sequence[RedirectTarget]:
    wanted = entries.destinations.get(one.service, {})
    unsure = entries.uncertain.get(one.service, frozenset())
    found: list[RedirectTarget] = []
    for each in (*table.destinations, *table.pending):
        place = (each.address, one.target_port)
        config = wanted.get(place)
        if config is None:
            found.append(RedirectTarget(each, each.weight, Standing.FAILED))
        else:
            found.append(RedirectTarget(each, config.weight, Standing.AWAITED if place in unsure else Standing.SERVING))
    return found
