"""The DirectorTable of a VirtualService with its real servers, as far as nobody has to be asked for it."""

from lvs_dr.core.objects import ForwardingMethod, VirtualService
from lvs_dr.core.roll import Roll
from lvs_dr.core.table import (
    FEATURE_ANY_PORT,
    FEATURE_CHECK_SECRETS,
    FEATURE_FIREWALL_MARK,
    FEATURE_FORWARDING,
    FEATURE_HEALTH_CHECKS,
    FEATURE_PANIC,
    FEATURE_SERVICE_OPTIONS,
    DirectorTableSpec,
    TablePersistence,
    TablePort,
)


def table_spec(service: VirtualService, roll: Roll) -> DirectorTableSpec:
    """Return the table; its virtual router and the features it requires are left to the caller."""
    given = service.persistence
    return DirectorTableSpec(
        director_group=service.director_group,
        service_generation=service.meta.generation,
        address=service.address,
        ports=tuple(
            TablePort(port=each.port, protocol=each.protocol, target_port=each.target_port) for each in service.ports
        ),
        scheduler=service.scheduler,
        on_failure=service.on_failure,
        destinations=roll.destinations,
        pending=roll.pending,
        health_check=service.health_check,
        firewall_mark=service.firewall_mark,
        scheduler_flags=service.scheduler_flags,
        persistence=None
        if given is None
        else TablePersistence(
            timeout_seconds=given.timeout_seconds, prefix_length=given.prefix_length, engine=given.engine
        ),
        one_packet=service.one_packet,
        quiesce_seconds=service.quiesce_seconds,
        panic_threshold_percent=service.panic_threshold_percent,
        paused=service.meta.paused,
    )


def required(table: DirectorTableSpec) -> tuple[str, ...]:
    """Return the features that an agent must know to serve the table as it is meant, sorted.

    A plain table requires nothing, so that agents of any version serve it.
    """
    entries = (*table.destinations, *table.pending)
    check = table.health_check
    checked = check.port if check is not None else 0
    plain_addresses = not any(each.check_address for each in entries)
    options = (
        table.scheduler_flags,
        table.persistence,
        table.one_packet,
        checked,
        any(each.target_port for each in table.ports),
        any(each.upper or each.lower for each in entries),
    )
    needed = (
        (FEATURE_FORWARDING, any(each.forwarding is not ForwardingMethod.DIRECT_ROUTING for each in entries)),
        (FEATURE_FIREWALL_MARK, table.firewall_mark),
        (FEATURE_PANIC, table.panic_threshold_percent),
        (FEATURE_ANY_PORT, any(each.port == 0 for each in table.ports)),
        (FEATURE_SERVICE_OPTIONS, any(options)),
        (FEATURE_CHECK_SECRETS, check is not None and check.secret),
        (FEATURE_HEALTH_CHECKS, check is not None and not (check.is_plain and plain_addresses)),
    )
    return tuple(sorted(name for name, used in needed if used))
