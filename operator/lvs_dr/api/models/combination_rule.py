"""What a rule about several fields of a VirtualService is, and what many of them ask, in CEL and in Python."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from lvs_dr.core.objects import ForwardingMethod, Protocol

if TYPE_CHECKING:
    from lvs_dr.api.models.virtual_service import VirtualServiceSpec

REDIRECTS = "(self.forwardingMethod == 'Redirect')"
OVERRIDES = "has(self.realServers.overrides) && self.realServers.overrides"


class Combination(NamedTuple):
    """One rule about several fields, for both who check it."""

    cel: str
    message: str
    holds: Callable[["VirtualServiceSpec"], bool]
    field_path: str = ""


def methods(spec: "VirtualServiceSpec") -> set[ForwardingMethod]:
    """Return the methods that the service and its overrides name."""
    overrides = (each.forwarding_method for each in spec.real_servers.overrides)
    return {spec.forwarding_method, *(each for each in overrides if each is not None)}


def redirects(spec: "VirtualServiceSpec") -> bool:
    """Tell whether the service answers with redirects instead of passing packets on."""
    return spec.forwarding_method is ForwardingMethod.REDIRECT


def only(spec: "VirtualServiceSpec", protocol: Protocol) -> bool:
    """Tell whether all ports that are named have this protocol."""
    return all(port.effective_protocol is protocol for port in spec.ports)
