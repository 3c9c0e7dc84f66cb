"""The DirectorTable of a VirtualService with its real servers, as far as nobody has to be asked for it."""

from msgspec.structs import replace

from lvs_dr.core.objects import ForwardingMethod, Tunnel, VirtualService
from lvs_dr.core.roll import Roll
from lvs_dr.core.table import (
    FEATURE_ANY_PORT,
    FEATURE_CHANGING_WEIGHTS,
    FEATURE_CHECK_SECRETS,
    FEATURE_FIREWALL_MARK,
    FEATURE_FORWARDING,
    FEATURE_HEALTH_CHECKS,
    FEATURE_PANIC,
    FEATURE_REDIRECT,
    FEATURE_SERVICE_OPTIONS,
    FEATURE_SORRY_SERVER,
    FEATURE_VIRTUAL_CHECKS,
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
        redirect=service.redirect,
        slow_start=service.slow_start,
        load_feedback=service.load_feedback,
        sorry_server=roll.sorry_server,
        sorry_port=service.sorry_server.port if service.sorry_server is not None else 0,
        paused=service.meta.paused,
    )


def in_one_way(spec: DirectorTableSpec, before: DirectorTableSpec | None) -> DirectorTableSpec:
    """Return the table as it can be served while its method changes from or to Redirect; `before`: as it is now.

    A table is IPVS's or redirected as a whole. From Redirect to IPVS, it stays redirected until a real server has what
    its new method needs.
    """
    if spec.redirect is not None:
        return spec
    ready = tuple(each for each in spec.destinations if each.forwarding is not ForwardingMethod.REDIRECT)
    if len(ready) == len(spec.destinations):
        return spec
    if ready or before is None or before.redirect is None:
        return replace(spec, destinations=ready)
    return replace(spec, redirect=before.redirect)


def as_before(service: VirtualService, before: DirectorTableSpec) -> VirtualService:
    """Return the service with the method of a table that goes on while its change is refused.

    Target ports are for masquerading alone, and a redirected table is redirected as a whole: there, one method is
    everybody's. Elsewhere real servers follow the service, except to Redirect.
    """
    entries = before.destinations
    if before.redirect is not None:
        forwarding, tunnel = ForwardingMethod.REDIRECT, None
    elif any(each.target_port for each in before.ports):
        forwarding, tunnel = ForwardingMethod.MASQUERADE, None
    elif service.forwarding is ForwardingMethod.REDIRECT:
        forwarding = entries[0].forwarding if entries else ForwardingMethod.DIRECT_ROUTING
        tunnel = entries[0].tunnel if entries else None
    else:
        return service
    overrides = tuple(replace(each, forwarding=None, tunnel=None) for each in service.overrides)
    return replace(
        service,
        forwarding=forwarding,
        tunnel=None if tunnel is None else Tunnel(tunnel.type, tunnel.port, tunnel.checksum),
        redirect=before.redirect,
        overrides=overrides,
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
        (FEATURE_SORRY_SERVER, table.sorry_server),
        (FEATURE_PANIC, table.panic_threshold_percent),
        (FEATURE_REDIRECT, table.redirect is not None),
        (FEATURE_CHANGING_WEIGHTS, table.slow_start is not None or table.load_feedback is not None),
        (FEATURE_ANY_PORT, any(each.port == 0 for each in table.ports)),
        (FEATURE_SERVICE_OPTIONS, any(options)),
        (FEATURE_CHECK_SECRETS, check is not None and check.secret),
        (FEATURE_VIRTUAL_CHECKS, check is not None and any(each.check_mark for each in entries)),
        (FEATURE_HEALTH_CHECKS, check is not None and not (check.is_plain and plain_addresses)),
    )
    return tuple(sorted(name for name, used in needed if used))
