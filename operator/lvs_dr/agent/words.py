"""Kernel entries and operations as the commands people know: `ipvsadm -Sn`, `ip`, `sysctl`."""

from collections.abc import Iterable

from lvs_dr.agent.words_settings import owned_settings, setting_command
from lvs_dr.core.destinations import keys_of
from lvs_dr.core.ipvs_table import served
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DaemonOp,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    Forwarding,
    GuardOp,
    GuePortOp,
    KernelState,
    Op,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    TimeoutOp,
    TunnelFlag,
    TunnelNumber,
    TunnelOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.redirect_spec import TableRedirect
from lvs_dr.core.table import DirectorTableSpec

_PROTOCOL_FLAGS = {6: "-t", 17: "-u", 132: "--sctp-service"}
_FORWARDING_FLAGS = {
    Forwarding.DIRECT_ROUTING: "-g",
    Forwarding.TUNNEL: "-i",
    Forwarding.MASQUERADE: "-m",
    Forwarding.LOCAL: "-m",
}
_HOST_PREFIX = {2: 32, 10: 128}
_HOST_SCOPE = 254
_ONE_PACKET = 0x0004  # IP_VS_SVC_F_ONEPACKET
_SCHEDULER_FLAGS = ((0x0008, "flag-1"), (0x0010, "flag-2"), (0x0020, "flag-3"))  # IP_VS_SVC_F_SCHED1..3
_FLAG_NAMES = {  # what they mean to a scheduler
    ("sh", "flag-1"): "sh-fallback",
    ("sh", "flag-2"): "sh-port",
    ("mh", "flag-1"): "mh-fallback",
    ("mh", "flag-2"): "mh-port",
}


def endpoint(address: str, port: int) -> str:
    """Return address and port as ipvsadm writes them."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def service_words(key: ServiceKey, config: ServiceConfig | None = None) -> str:
    """Return an IPVS service's part of a command."""
    if key.mark:
        words = f"-f {key.mark}" + (" -6" if key.family == 10 else "")  # noqa: PLR2004 - AF_INET6
    else:
        words = f"{_PROTOCOL_FLAGS.get(key.protocol, '-t')} {endpoint(key.address, key.port)}"
    if config is None:
        return words
    words += f" -s {config.scheduler}"
    if config.timeout_seconds:
        words += f" -p {config.timeout_seconds}"
        if config.prefix_length != _HOST_PREFIX.get(key.family):
            words += f" -M {_mask(key, config.prefix_length)}"
    if config.engine:
        words += f" --pe {config.engine}"
    if config.flags & _ONE_PACKET:
        words += " -o"
    set_here = [name for bit, name in _SCHEDULER_FLAGS if config.flags & bit]
    flags = [_FLAG_NAMES.get((config.scheduler, name), name) for name in set_here]
    return words + (f" -b {','.join(flags)}" if flags else "")


def _mask(key: ServiceKey, length: int) -> str:
    if key.family != 2:  # noqa: PLR2004 - AF_INET
        return str(length)
    bits = (0xFFFFFFFF << (32 - length)) & 0xFFFFFFFF
    return ".".join(str(bits >> shift & 0xFF) for shift in (24, 16, 8, 0))


def destination_words(key: DestinationKey, config: DestinationConfig | None = None) -> str:
    """Return a destination's part of a command."""
    words = f"{service_words(key.service)} -r {endpoint(key.address, key.port)}"
    if config is None:
        return words
    words += f" {_FORWARDING_FLAGS.get(Forwarding(config.forwarding), '-g')} -w {config.weight}"
    if config.upper:
        words += f" -x {config.upper} -y {config.lower}"
    return words + _tunnel_words(config)


def _tunnel_words(config: DestinationConfig) -> str:
    if config.tunnel_type == TunnelNumber.IPIP:
        return ""
    words = (
        " --tun-type gre"
        if config.tunnel_type == TunnelNumber.GRE
        else f" --tun-type gue --tun-port {config.tunnel_port}"
    )
    if config.tunnel_flags & TunnelFlag.REMOTE_CHECKSUM:
        return words + " --tun-remcsum"
    return words + (" --tun-csum" if config.tunnel_flags & TunnelFlag.CHECKSUM else " --tun-nocsum")


def redirect_words(table: DirectorTableSpec, settings: TableRedirect) -> Iterable[str]:
    """Return what the redirector answers on each port of a table; the kernel knows nothing of it."""
    for each in served(table):
        serving = sum(1 for one in table.destinations if one.weight)
        scheme = "https" if settings.tls_secret else "http"
        yield (
            f"{scheme}://{endpoint(each.service.address, each.service.port)} redirected ({settings.status_code},"
            f" {settings.algorithm}) to port {each.target_port} of {serving} real servers, as far as they are healthy"
        )


def address_words(key: AddressKey, config: AddressConfig | None = None) -> str:
    """Return an address's part of a command."""
    words = f"{key.address}/{128 if ':' in key.address else 32} dev {key.interface}"
    if config is None:
        return words
    if ":" in key.address:
        return words + " nodad" + (" preferred_lft 0" if config.deprecated else "")
    return words + (" scope host" if config.scope == _HOST_SCOPE else "")


def sysctl_words(key: SysctlKey, value: str) -> str:
    """Return a sysctl's part of a command."""
    return f"net.{'.'.join(key.path)}={value}"


def command(op: Op) -> str:
    """Return an operation as the command a person would type."""
    if isinstance(op, ServiceOp):
        flag = {Verb.ADD: "-A", Verb.SET: "-E", Verb.DELETE: "-D"}[op.verb]
        return f"ipvsadm {flag} {service_words(op.key, op.config)}"
    if isinstance(op, DestinationOp):
        flag = {Verb.ADD: "-a", Verb.SET: "-e", Verb.DELETE: "-d"}[op.verb]
        return f"ipvsadm {flag} {destination_words(op.key, op.config)}"
    if isinstance(op, TimeoutOp | TunnelOp | GuePortOp | DaemonOp | GuardOp):
        return setting_command(op)
    verb = {Verb.ADD: "add", Verb.SET: "change", Verb.DELETE: "del"}[op.verb]
    if isinstance(op, AddressOp):
        return f"ip address {verb} {address_words(op.key, op.config)}"
    if isinstance(op, RouteOp):
        return f"ip route {verb} blackhole {_route(op.key)}"
    return f"sysctl -w {sysctl_words(op.key, op.value)}"


def owned(ledger: Ledger, state: KernelState) -> Iterable[str]:
    """Return what is ours in the kernel, line by line: IPVS as `ipvsadm -Sn` prints it, then the rest."""
    services = {*ledger.services, *(key for key, _ in ledger.adopted_services)}
    destinations = ledger.known_destinations
    for service in sorted(services & state.services.keys()):
        yield f"-A {service_words(service, state.services[service])}"
        group = state.destinations.group(service)
        for key in keys_of(service, sorted(group)):
            if key in destinations:
                yield f"-a {destination_words(key, state.destinations[key])}"
    adopted = {key for key, _ in ledger.adopted_addresses}
    for address in sorted({*ledger.addresses, *adopted} & state.addresses.keys()):
        note = "  # found there and taken over" if address in adopted else ""
        yield f"ip address add {address_words(address, state.addresses[address])}{note}"
    for route in sorted({*ledger.routes, *ledger.adopted_routes} & state.routes):
        yield f"ip route add blackhole {_route(route)}"
    for record in ledger.sysctls:
        if record.key in state.sysctls:
            value = state.sysctls[record.key]
            yield f"sysctl -w {sysctl_words(record.key, value)}  # was {record.found}"
    yield from owned_settings(ledger, state)


def _route(key: RouteKey) -> str:
    return f"{key.address}/{128 if ':' in key.address else 32}"
