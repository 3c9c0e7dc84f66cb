"""Which fields of a VirtualService go together: one table for the API server (CEL) and for parsing.

Each row says what a user would otherwise find out from a service that drops packets. What the kernel and ipvsadm
would say to the same is in docs/ipvsadm.md. Rows about health checks and about Redirect are in modules of their own.
"""

import ipaddress
from typing import TYPE_CHECKING

from lvs_dr.api.models.check_combinations import CHECK_COMBINATIONS
from lvs_dr.api.models.combination_rule import OVERRIDES, REDIRECTS, Combination, methods, redirects
from lvs_dr.api.models.redirect_combinations import REDIRECT_COMBINATIONS
from lvs_dr.api.models.rules import rule
from lvs_dr.core.load_spec import FIXED_WEIGHTS, LoadSource
from lvs_dr.core.objects import ForwardingMethod, Protocol

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
SLOW_START_SCHEDULER = (
    "slowStart changes weights, which schedulers rr, lc and dh do not look at, sh, mh and dh need equal on all"
    " directors, and fo and ovf take for a rank or a limit: use wlc, wrr, sed or nq, or leave slowStart out"
)
FEEDBACK_SCHEDULER = SLOW_START_SCHEDULER.replace("slowStart", "loadFeedback")
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

_SORRY = "(has(self.sorryServer.forwardingMethod) ? self.sorryServer.forwardingMethod : self.forwardingMethod)"
_CHOICES = "[has(self.ports), has(self.anyPort) && self.anyPort, has(self.firewallMark)].filter(x, x).size()"
_ANY_PORT = "(has(self.anyPort) && self.anyPort)"
_ONLY_UDP = (
    "(has(self.firewallMark) || (has(self.ports) ? self.ports.all(p, has(p.protocol) && p.protocol == 'UDP')"
    " : (has(self.anyPortProtocols) && self.anyPortProtocols.all(p, p == 'UDP'))))"
)


def _only_udp(spec: "VirtualServiceSpec") -> bool:
    if spec.firewall_mark is not None:
        return True
    found = [port.effective_protocol for port in spec.ports] or spec.any_port_protocols
    return bool(found) and all(each is Protocol.UDP for each in found)


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
        f" && !({OVERRIDES}.exists(o, has(o.forwardingMethod) && o.forwardingMethod != 'Masquerade')))",
        TARGET_PORT,
        lambda spec: (
            all(port.target_port is None for port in spec.ports) or methods(spec) == {ForwardingMethod.MASQUERADE}
        ),
        ".ports",
    ),
    Combination(
        "!has(self.tunnel) || self.forwardingMethod == 'Tunnel'"
        f" || ({OVERRIDES}.exists(o, has(o.forwardingMethod) && o.forwardingMethod == 'Tunnel'))"
        f" || (has(self.sorryServer) && {_SORRY} == 'Tunnel')",
        TUNNEL_ALONE,
        lambda spec: spec.tunnel is None or ForwardingMethod.TUNNEL in {*methods(spec), _sorry_method(spec)},
        ".tunnel",
    ),
    Combination(
        f"!({OVERRIDES}.exists(o, has(o.tunnel)"
        " && (has(o.forwardingMethod) ? o.forwardingMethod : self.forwardingMethod) != 'Tunnel'))",
        OVERRIDE_TUNNEL,
        _override_tunnels_fit,
        ".realServers.overrides",
    ),
    *CHECK_COMBINATIONS,
    *REDIRECT_COMBINATIONS,
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
        f"!has(self.sorryServer) || {REDIRECTS} == ({_SORRY} == 'Redirect')",
        SORRY_REDIRECT,
        lambda spec: spec.sorry_server is None or redirects(spec) == (_sorry_method(spec) is ForwardingMethod.REDIRECT),
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
