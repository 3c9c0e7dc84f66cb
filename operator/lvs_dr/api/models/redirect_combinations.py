"""What forwardingMethod Redirect goes with, and what of a VirtualService it does without."""

from typing import TYPE_CHECKING

from lvs_dr.api.models.combination_rule import OVERRIDES, REDIRECTS, Combination, only, redirects
from lvs_dr.api.models.scheduling import DEFAULT_SCHEDULER
from lvs_dr.core.objects import ForwardingMethod, Protocol

if TYPE_CHECKING:
    from lvs_dr.api.models.virtual_service import VirtualServiceSpec

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
WEIGHTS_OF_REDIRECT = (
    "slowStart and loadFeedback change the weights of IPVS, which forwardingMethod Redirect does without: leave them"
    " out, and choose a redirect.algorithm that looks at load, such as leastInboundBytes"
)


def _redirect_ports(spec: "VirtualServiceSpec") -> bool:
    return not redirects(spec) or (bool(spec.ports) and only(spec, Protocol.TCP))


def _redirect_balances(spec: "VirtualServiceSpec") -> bool:
    given = (spec.scheduler != DEFAULT_SCHEDULER, spec.scheduler_flags, spec.persistence is not None, spec.one_packet)
    return not redirects(spec) or not any(given)


def _redirect_overrides(spec: "VirtualServiceSpec") -> bool:
    overrides = spec.real_servers.overrides
    if not redirects(spec):
        return not any(each.forwarding_method is ForwardingMethod.REDIRECT for each in overrides)
    return not any(each.forwarding_method is not None or each.connection_limits is not None for each in overrides)


REDIRECT_COMBINATIONS = (
    Combination(
        f"{REDIRECTS} || !has(self.redirect)",
        REDIRECT_ALONE,
        lambda spec: redirects(spec) or spec.redirect is None,
        ".redirect",
    ),
    Combination(
        f"!{REDIRECTS} || (has(self.ports) && self.ports.all(p, !has(p.protocol) || p.protocol == 'TCP'))",
        REDIRECT_PORTS,
        _redirect_ports,
        ".forwardingMethod",
    ),
    Combination(
        f"!{REDIRECTS} || (self.scheduler == '{DEFAULT_SCHEDULER}' && !has(self.schedulerFlags)"
        " && !has(self.persistence) && !(has(self.onePacket) && self.onePacket))",
        REDIRECT_BALANCES,
        _redirect_balances,
        ".forwardingMethod",
    ),
    Combination(
        f"!({OVERRIDES}.exists(o, {REDIRECTS} ? (has(o.forwardingMethod) || has(o.connectionLimits))"
        " : (has(o.forwardingMethod) && o.forwardingMethod == 'Redirect')))",
        REDIRECT_OVERRIDE,
        _redirect_overrides,
        ".realServers.overrides",
    ),
    Combination(
        f"!{REDIRECTS} || (!has(self.slowStart) && !has(self.loadFeedback))",
        WEIGHTS_OF_REDIRECT,
        lambda spec: not redirects(spec) or (spec.slow_start is None and spec.load_feedback is None),
        ".forwardingMethod",
    ),
)
