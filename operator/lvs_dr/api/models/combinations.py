"""Which fields of a VirtualService go together: one table for the API server (CEL) and for parsing.

Each row says what a user would otherwise find out from a service that drops packets. What the kernel and ipvsadm
would say to the same is in docs/ipvsadm.md.
"""

import ipaddress
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from lvs_dr.api.models.rules import rule
from lvs_dr.api.models.scheduling import DEFAULT_SCHEDULER
from lvs_dr.core.load_spec import FIXED_WEIGHTS, LoadSource
from lvs_dr.core.objects import CheckPath, ForwardingMethod, Protocol

if TYPE_CHECKING:
    from lvs_dr.api.models.virtual_service import VirtualServiceSpec

ONE_CHOICE = "exactly one of ports, anyPort: true and firewallMark must be set"
PROTOCOLS_ALONE = "anyPortProtocols is for anyPort: set anyPort: true, or leave it out and give each port its protocol"
ANY_PORT_PERSISTENCE = (
    "anyPort needs persistence, because only that keeps the ports of one client together: add"
    " persistence: {timeoutSeconds: 300}"
)
FLAG_OF_ANOTHER = (
    "sh-fallback and sh-port belong to scheduler sh, mh-fallback and mh-port to mh: change scheduler, or leave the"
    " flag out"
)
PREFIX_TOO_LONG = "an IPv4 VIP has clients with 32-bit addresses: prefixLength must be 1 to 32"
ENGINE_WITHOUT_UDP = (
    "engine sip reads SIP over UDP alone: give every port protocol UDP (anyPortProtocols: [UDP]), or leave engine out"
)
ONE_PACKET_WITHOUT_UDP = (
    "onePacket is for UDP alone: give every port protocol UDP (anyPortProtocols: [UDP]), or use firewallMark"
)
TARGET_PORT = (
    "targetPort needs forwardingMethod Masquerade for every real server, because direct routing and tunnels leave the"
    " port as it is: use Masquerade, or let the real servers listen on the VIP's port"
)
TUNNEL_ALONE = "tunnel is for forwardingMethod Tunnel: set that, here or in an override, or leave tunnel out"
OVERRIDE_TUNNEL = "an override with tunnel needs forwardingMethod Tunnel, there or in spec: set it, or leave tunnel out"
TCP_ONLY = (
    "tcp, http, https and grpc checks work on TCP ports only: name the port to ask, such as tcp: {port: 53}, or put UDP"
    " and SCTP ports into a VirtualService of their own"
)
UDP_ONLY = (
    "a udp check works on UDP ports only: name the port to ask, such as udp: {port: 53}, or put TCP and SCTP ports into"
    " a VirtualService of their own"
)
CHECK_PORT = (
    "anyPort and firewallMark name no port to ask: write one, such as tcp: {port: 443}; or use ping or exec, or leave"
    " healthCheck out"
)

PATH_NOT_SEEN = (
    "path VirtualAddress is for forwardingMethod DirectRouting and Tunnel, because only there real servers answer on"
    " the VIP: change the method (overrides count, too), or use path RealAddress"
)
PANIC_UNCHECKED = (
    "panicThresholdPercent needs healthCheck: without one all real servers count as healthy and get connections anyway"
)

REDIRECT_ALONE = "redirect is for forwardingMethod Redirect: set that, or leave redirect out"
REDIRECT_PORTS = "forwardingMethod Redirect answers HTTP: name ports, all of protocol TCP"
REDIRECT_BALANCES = (
    "scheduler, schedulerFlags, persistence and onePacket are IPVS's, which forwardingMethod Redirect does without:"
    " leave them out, and set redirect.algorithm"
)
REDIRECT_OVERRIDE = (
    "forwardingMethod Redirect is a whole service's: an override there can change weight alone (for limits set"
    " redirect.maximumInFlightPerServer), and none can name Redirect; make two VirtualServices"
)
SLOW_START_SCHEDULER = (
    "slowStart changes weights, which schedulers rr, lc and dh do not look at, sh, mh and dh need equal on all"
    " directors, and fo and ovf take for a rank or a limit: use wlc, wrr, sed or nq, or leave slowStart out"
)
FEEDBACK_SCHEDULER = SLOW_START_SCHEDULER.replace("slowStart", "loadFeedback")
WEIGHTS_OF_REDIRECT = (
    "slowStart and loadFeedback change the weights of IPVS, which forwardingMethod Redirect does without: leave them"
    " out, and choose a redirect.algorithm that looks at load, such as leastInboundBytes"
)
CONNECTIONS_WITHOUT_TCP = (
    "loadFeedback by Connections counts TCP connections, and no port here is TCP: take another source"
)
SORRY_PORT = (
    "sorryServer.port needs forwardingMethod Masquerade or Redirect, there or in spec: set it, or leave port out"
)
SORRY_TUNNEL = "sorryServer.tunnel needs forwardingMethod Tunnel, there or in spec: set it, or leave tunnel out"
SORRY_REDIRECT = (
    "with forwardingMethod Redirect clients are redirected to the sorry server, too, and else they never are: leave"
    " sorryServer.forwardingMethod out"
)
SORRY_PANIC = (
    "panicThresholdPercent sends to failed real servers where sorryServer sends to none of them: leave one of the two"
    " out"
)

_TCP_KINDS = ("tcp", "http", "https", "grpc")
_PORT_KINDS = (*_TCP_KINDS, "dns", "udp")


_SORRY = "(has(self.sorryServer.forwardingMethod) ? self.sorryServer.forwardingMethod : self.forwardingMethod)"


def _portless(kinds: Sequence[str]) -> str:
    """Return the CEL expression: the check is one of these kinds, and names no port."""
    check = "self.healthCheck"
    cases = (f"(has({check}.{kind}) && !has({check}.{kind}.port))" for kind in kinds)
    return f"(has({check}) && ({' || '.join(cases)}))"


_CHOICES = "[has(self.ports), has(self.anyPort) && self.anyPort, has(self.firewallMark)].filter(x, x).size()"
_ANY_PORT = "(has(self.anyPort) && self.anyPort)"
_ONLY_UDP = (
    "(has(self.firewallMark) || (has(self.ports) ? self.ports.all(p, has(p.protocol) && p.protocol == 'UDP')"
    " : (has(self.anyPortProtocols) && self.anyPortProtocols.all(p, p == 'UDP'))))"
)
_REDIRECTS = "(self.forwardingMethod == 'Redirect')"
_OVERRIDES = "has(self.realServers.overrides) && self.realServers.overrides"


def _only_udp(spec: "VirtualServiceSpec") -> bool:
    if spec.firewall_mark is not None:
        return True
    found = [port.effective_protocol for port in spec.ports] or spec.any_port_protocols
    return bool(found) and all(each is Protocol.UDP for each in found)


def _methods(spec: "VirtualServiceSpec") -> set[ForwardingMethod]:
    """Return the methods that the service and its overrides name."""
    overrides = (each.forwarding_method for each in spec.real_servers.overrides)
    return {spec.forwarding_method, *(each for each in overrides if each is not None)}


def _redirects(spec: "VirtualServiceSpec") -> bool:
    return spec.forwarding_method is ForwardingMethod.REDIRECT


def _redirect_ports(spec: "VirtualServiceSpec") -> bool:
    return not _redirects(spec) or (bool(spec.ports) and _only(spec, Protocol.TCP))


def _redirect_balances(spec: "VirtualServiceSpec") -> bool:
    given = (spec.scheduler != DEFAULT_SCHEDULER, spec.scheduler_flags, spec.persistence is not None, spec.one_packet)
    return not _redirects(spec) or not any(given)


def _redirect_overrides(spec: "VirtualServiceSpec") -> bool:
    overrides = spec.real_servers.overrides
    if not _redirects(spec):
        return not any(each.forwarding_method is ForwardingMethod.REDIRECT for each in overrides)
    return not any(each.forwarding_method is not None or each.connection_limits is not None for each in overrides)


def _names_no_port(spec: "VirtualServiceSpec", kinds: Sequence[str]) -> bool:
    check = spec.health_check
    given = (getattr(check, kind) for kind in kinds) if check is not None else ()
    return any(each is not None and each.port is None for each in given)


def _only(spec: "VirtualServiceSpec", protocol: Protocol) -> bool:
    return all(port.effective_protocol is protocol for port in spec.ports)


def _prefix_fits(spec: "VirtualServiceSpec") -> bool:
    length = spec.persistence.prefix_length if spec.persistence is not None else None
    return length is None or length <= ipaddress.ip_address(spec.address).max_prefixlen


def _override_tunnels_fit(spec: "VirtualServiceSpec") -> bool:
    return all(
        each.tunnel is None or (each.forwarding_method or spec.forwarding_method) is ForwardingMethod.TUNNEL
        for each in spec.real_servers.overrides
    )


def _sorry_method(spec: "VirtualServiceSpec") -> ForwardingMethod:
    sorry = spec.sorry_server
    return sorry.forwarding_method if sorry is not None and sorry.forwarding_method else spec.forwarding_method


class Combination(NamedTuple):
    """One rule about several fields, for both who check it."""

    cel: str
    message: str
    holds: Callable[["VirtualServiceSpec"], bool]
    field_path: str = ""


_TABLE = (
    Combination(
        f"{_ANY_PORT} || !has(self.anyPortProtocols)",
        PROTOCOLS_ALONE,
        lambda spec: bool(spec.any_port) or not spec.any_port_protocols,
        ".anyPortProtocols",
    ),
    Combination(
        f"!{_ANY_PORT} || has(self.persistence)",
        ANY_PORT_PERSISTENCE,
        lambda spec: not spec.any_port or spec.persistence is not None,
        ".anyPort",
    ),
    Combination(
        "!has(self.schedulerFlags) || self.schedulerFlags.all(f, f.startsWith(self.scheduler + '-'))",
        FLAG_OF_ANOTHER,
        lambda spec: all(flag.startswith(f"{spec.scheduler}-") for flag in spec.scheduler_flags),
        ".schedulerFlags",
    ),
    Combination(
        "!has(self.persistence) || !has(self.persistence.prefixLength) || !isIP(self.address)"
        " || ip(self.address).family() == 6 || self.persistence.prefixLength <= 32",
        PREFIX_TOO_LONG,
        _prefix_fits,
        ".persistence.prefixLength",
    ),
    Combination(
        f"!has(self.persistence) || !has(self.persistence.engine) || {_ONLY_UDP}",
        ENGINE_WITHOUT_UDP,
        lambda spec: spec.persistence is None or spec.persistence.engine is None or _only_udp(spec),
        ".persistence.engine",
    ),
    Combination(
        f"!has(self.onePacket) || !self.onePacket || {_ONLY_UDP}",
        ONE_PACKET_WITHOUT_UDP,
        lambda spec: not spec.one_packet or _only_udp(spec),
        ".onePacket",
    ),
    Combination(
        "!has(self.ports) || !self.ports.exists(p, has(p.targetPort)) || (self.forwardingMethod == 'Masquerade'"
        f" && !({_OVERRIDES}.exists(o, has(o.forwardingMethod) && o.forwardingMethod != 'Masquerade')))",
        TARGET_PORT,
        lambda spec: (
            all(port.target_port is None for port in spec.ports) or _methods(spec) == {ForwardingMethod.MASQUERADE}
        ),
        ".ports",
    ),
    Combination(
        "!has(self.tunnel) || self.forwardingMethod == 'Tunnel'"
        f" || ({_OVERRIDES}.exists(o, has(o.forwardingMethod) && o.forwardingMethod == 'Tunnel'))"
        f" || (has(self.sorryServer) && {_SORRY} == 'Tunnel')",
        TUNNEL_ALONE,
        lambda spec: spec.tunnel is None or ForwardingMethod.TUNNEL in {*_methods(spec), _sorry_method(spec)},
        ".tunnel",
    ),
    Combination(
        f"!({_OVERRIDES}.exists(o, has(o.tunnel)"
        " && (has(o.forwardingMethod) ? o.forwardingMethod : self.forwardingMethod) != 'Tunnel'))",
        OVERRIDE_TUNNEL,
        _override_tunnels_fit,
        ".realServers.overrides",
    ),
    Combination(
        f"!{_portless(_TCP_KINDS)} || !has(self.ports) || self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP')",
        TCP_ONLY,
        lambda spec: not _names_no_port(spec, _TCP_KINDS) or _only(spec, Protocol.TCP),
        ".healthCheck",
    ),
    Combination(
        f"!{_portless(['udp'])} || !has(self.ports) || self.ports.all(p, has(p.protocol) && p.protocol == 'UDP')",
        UDP_ONLY,
        lambda spec: not _names_no_port(spec, ["udp"]) or _only(spec, Protocol.UDP),
        ".healthCheck",
    ),
    Combination(
        f"!{_portless(_PORT_KINDS)} || has(self.ports)",
        CHECK_PORT,
        lambda spec: not _names_no_port(spec, _PORT_KINDS) or bool(spec.ports),
        ".healthCheck",
    ),
    Combination(
        "!has(self.healthCheck) || !has(self.healthCheck.path) || self.healthCheck.path != 'VirtualAddress'"
        " || (self.forwardingMethod in ['DirectRouting', 'Tunnel'] && !("
        f"{_OVERRIDES}.exists(o, has(o.forwardingMethod) && !(o.forwardingMethod in ['DirectRouting', 'Tunnel']))))",
        PATH_NOT_SEEN,
        lambda spec: (
            spec.health_check is None
            or spec.health_check.path is not CheckPath.VIRTUAL_ADDRESS
            or _methods(spec) <= {ForwardingMethod.DIRECT_ROUTING, ForwardingMethod.TUNNEL}
        ),
        ".healthCheck",
    ),
    Combination(
        "!has(self.panicThresholdPercent) || has(self.healthCheck)",
        PANIC_UNCHECKED,
        lambda spec: spec.panic_threshold_percent is None or spec.health_check is not None,
        ".panicThresholdPercent",
    ),
    Combination(
        f"{_REDIRECTS} || !has(self.redirect)",
        REDIRECT_ALONE,
        lambda spec: _redirects(spec) or spec.redirect is None,
        ".redirect",
    ),
    Combination(
        f"!{_REDIRECTS} || (has(self.ports) && self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP'))",
        REDIRECT_PORTS,
        _redirect_ports,
        ".forwardingMethod",
    ),
    Combination(
        f"!{_REDIRECTS} || (self.scheduler == '{DEFAULT_SCHEDULER}' && !has(self.schedulerFlags)"
        " && !has(self.persistence) && !(has(self.onePacket) && self.onePacket))",
        REDIRECT_BALANCES,
        _redirect_balances,
        ".forwardingMethod",
    ),
    Combination(
        f"!({_OVERRIDES}.exists(o, {_REDIRECTS} ? (has(o.forwardingMethod) || has(o.connectionLimits))"
        " : (has(o.forwardingMethod) && o.forwardingMethod == 'Redirect')))",
        REDIRECT_OVERRIDE,
        _redirect_overrides,
        ".realServers.overrides",
    ),
    Combination(
        f"!{_REDIRECTS} || (!has(self.slowStart) && !has(self.loadFeedback))",
        WEIGHTS_OF_REDIRECT,
        lambda spec: not _redirects(spec) or (spec.slow_start is None and spec.load_feedback is None),
        ".forwardingMethod",
    ),
    Combination(
        f"!has(self.slowStart) || !(self.scheduler in {sorted(FIXED_WEIGHTS)})",
        SLOW_START_SCHEDULER,
        lambda spec: spec.slow_start is None or spec.scheduler not in FIXED_WEIGHTS,
        ".slowStart",
    ),
    Combination(
        f"!has(self.loadFeedback) || !(self.scheduler in {sorted(FIXED_WEIGHTS)})",
        FEEDBACK_SCHEDULER,
        lambda spec: spec.load_feedback is None or spec.scheduler not in FIXED_WEIGHTS,
        ".loadFeedback",
    ),
    Combination(
        "!has(self.loadFeedback) || self.loadFeedback.source != 'Connections' || !has(self.ports)"
        " || self.ports.exists(p, !has(p.protocol) || p.protocol == 'TCP')",
        CONNECTIONS_WITHOUT_TCP,
        lambda spec: (
            spec.load_feedback is None
            or spec.load_feedback.source is not LoadSource.CONNECTIONS
            or not spec.ports
            or any(port.effective_protocol is Protocol.TCP for port in spec.ports)
        ),
        ".loadFeedback",
    ),
    Combination(
        f"!has(self.sorryServer) || !has(self.sorryServer.port) || {_SORRY} in ['Masquerade', 'Redirect']",
        SORRY_PORT,
        lambda spec: (
            spec.sorry_server is None
            or spec.sorry_server.port is None
            or _sorry_method(spec) in (ForwardingMethod.MASQUERADE, ForwardingMethod.REDIRECT)
        ),
        ".sorryServer.port",
    ),
    Combination(
        f"!has(self.sorryServer) || !has(self.sorryServer.tunnel) || {_SORRY} == 'Tunnel'",
        SORRY_TUNNEL,
        lambda spec: (
            spec.sorry_server is None
            or spec.sorry_server.tunnel is None
            or _sorry_method(spec) is ForwardingMethod.TUNNEL
        ),
        ".sorryServer.tunnel",
    ),
    Combination(
        f"!has(self.sorryServer) || {_REDIRECTS} == ({_SORRY} == 'Redirect')",
        SORRY_REDIRECT,
        lambda spec: (
            spec.sorry_server is None or _redirects(spec) == (_sorry_method(spec) is ForwardingMethod.REDIRECT)
        ),
        ".sorryServer",
    ),
    Combination(
        "!has(self.sorryServer) || !has(self.panicThresholdPercent)",
        SORRY_PANIC,
        lambda spec: spec.sorry_server is None or spec.panic_threshold_percent is None,
        ".sorryServer",
    ),
)

RULES = (
    rule(f"{_CHOICES} == 1", ONE_CHOICE, message_expression=f"'{ONE_CHOICE}, got %d'.format([{_CHOICES}])"),
    *(rule(each.cel, each.message, field_path=each.field_path) for each in _TABLE),
)


def check(spec: "VirtualServiceSpec") -> None:
    """Raise ValueError with the text of the first rule that does not hold."""
    choices = (bool(spec.ports), bool(spec.any_port), spec.firewall_mark is not None)
    if sum(choices) != 1:
        raise ValueError(f"{ONE_CHOICE}, got {sum(choices)}")
    for each in _TABLE:
        if not each.holds(spec):
            raise ValueError(each.message)
