"""Which health checks go with which ports and forwarding methods of a VirtualService."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from lvs_dr.api.models.combination_rule import OVERRIDES, Combination, methods, only
from lvs_dr.core.objects import CheckPath, ForwardingMethod, Protocol

if TYPE_CHECKING:
    from lvs_dr.api.models.virtual_service import VirtualServiceSpec

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

_TCP_KINDS = ("tcp", "http", "https", "grpc")
_PORT_KINDS = (*_TCP_KINDS, "dns", "udp")


def _portless(kinds: Sequence[str]) -> str:
    """Return the CEL expression: the check is one of these kinds, and names no port."""
    check = "self.healthCheck"
    cases = (f"(has({check}.{kind}) && !has({check}.{kind}.port))" for kind in kinds)
    return f"(has({check}) && ({' || '.join(cases)}))"


def _names_no_port(spec: "VirtualServiceSpec", kinds: Sequence[str]) -> bool:
    check = spec.health_check
    given = (getattr(check, kind) for kind in kinds) if check is not None else ()
    return any(each is not None and each.port is None for each in given)


CHECK_COMBINATIONS = (
    Combination(
        f"!{_portless(_TCP_KINDS)} || !has(self.ports) || self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP')",
        TCP_ONLY,
        lambda spec: not _names_no_port(spec, _TCP_KINDS) or only(spec, Protocol.TCP),
        ".healthCheck",
    ),
    Combination(
        f"!{_portless(['udp'])} || !has(self.ports) || self.ports.all(p, has(p.protocol) && p.protocol == 'UDP')",
        UDP_ONLY,
        lambda spec: not _names_no_port(spec, ["udp"]) or only(spec, Protocol.UDP),
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
        f"{OVERRIDES}.exists(o, has(o.forwardingMethod) && !(o.forwardingMethod in ['DirectRouting', 'Tunnel']))))",
        PATH_NOT_SEEN,
        lambda spec: (
            spec.health_check is None
            or spec.health_check.path is not CheckPath.VIRTUAL_ADDRESS
            or methods(spec) <= {ForwardingMethod.DIRECT_ROUTING, ForwardingMethod.TUNNEL}
        ),
        ".healthCheck",
    ),
    Combination(
        "!has(self.panicThresholdPercent) || has(self.healthCheck)",
        PANIC_UNCHECKED,
        lambda spec: spec.panic_threshold_percent is None or spec.health_check is not None,
        ".panicThresholdPercent",
    ),
)
