"""What users write, and Nodes and Namespaces, as the API server sends them (dicts): to the values `core` decides on.

A user's object that does not parse becomes `Invalid` with a message; it then harms only itself. The API server
refuses such objects, so this is for those it took before a rule existed. Fields nobody here knows (written by a newer
version) are ignored everywhere.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from lvs_dr.api import kinds, models
from lvs_dr.api.checks import health_check
from lvs_dr.api.models import DirectorGroupSpec, RealServerSpec, VirtualServiceSpec
from lvs_dr.api.models.real_server import DRAIN_SECONDS
from lvs_dr.api.models.selector import LabelSelector
from lvs_dr.api.translate_group import ipvs_settings, sync_settings, vrrp_settings
from lvs_dr.api.translate_load import load_feedback, slow_start
from lvs_dr.api.translate_redirect import redirect_settings
from lvs_dr.core.director_group import DirectorGroup, InterfaceChoice, MarkRange
from lvs_dr.core.objects import (
    CheckPath,
    ConnectionLimits,
    DrainPersistence,
    ForwardingMethod,
    Invalid,
    Key,
    Metadata,
    Namespace,
    Node,
    Operator,
    Override,
    Persistence,
    Port,
    Protocol,
    Quorum,
    RealServer,
    RealServerState,
    Requirement,
    Selector,
    SorryServer,
    Tunnel,
    TunnelChecksum,
    VirtualService,
)

Body = Mapping[str, Any]

Spec = TypeVar("Spec", bound=BaseModel)

PERSISTENCE_SECONDS = 300
"""Default of `persistence.timeoutSeconds`, as ipvsadm has it."""

MAXIMUM_PRIORITY = 254
_PRIORITY = re.compile(r"[0-9]{1,4}")
_SHOWN = 40
_SHOWN_ERRORS = 3
_ALL = Selector()


def virtual_service(body: Body) -> VirtualService | Invalid:
    """Parse a VirtualService."""
    meta = metadata(body)
    spec = _spec(VirtualServiceSpec, body, meta)
    if isinstance(spec, Invalid):
        return spec
    check = spec.health_check
    return VirtualService(
        meta=meta,
        director_group=spec.director_group,
        address=spec.address,
        ports=_ports(spec),
        scheduler=spec.scheduler,
        selector=_selector(spec.real_servers.selector),
        health_check=None if check is None else health_check(check),
        check_path=CheckPath.REAL_ADDRESS if check is None else check.path,
        on_failure=spec.on_failure,
        firewall_mark=spec.firewall_mark or 0,
        scheduler_flags=tuple(sorted(set(spec.scheduler_flags))),
        persistence=_persistence(spec),
        one_packet=bool(spec.one_packet),
        forwarding=spec.forwarding_method,
        tunnel=_tunnel(spec.tunnel),
        overrides=tuple(_override(each) for each in sorted(spec.real_servers.overrides, key=lambda each: each.name)),
        quiesce_seconds=spec.quiesce_seconds,
        quorum=_quorum(spec.quorum),
        sorry_server=_sorry_server(spec.sorry_server),
        panic_threshold_percent=spec.panic_threshold_percent or 0,
        redirect=redirect_settings(spec.redirect) if spec.forwarding_method is ForwardingMethod.REDIRECT else None,
        slow_start=slow_start(spec.slow_start),
        load_feedback=load_feedback(spec.load_feedback),
    )


def _quorum(given: models.Quorum | None) -> Quorum:
    if given is None:
        return Quorum()
    return Quorum(given.minimum_healthy, given.hysteresis, given.minimum_weight or 0, given.weight_hysteresis or 0)


def _sorry_server(given: models.SorryServer | None) -> SorryServer | None:
    if given is None:
        return None
    tunnel = _tunnel(given.tunnel)
    return SorryServer(given.real_server or "", given.address or "", given.port or 0, given.forwarding_method, tunnel)


def _ports(spec: VirtualServiceSpec) -> tuple[Port, ...]:
    if spec.any_port:
        return tuple(Port(0, each) for each in sorted(set(spec.any_port_protocols) or {Protocol.TCP}))
    ports = (Port(each.port, each.effective_protocol, each.name or "", each.target_port or 0) for each in spec.ports)
    return tuple(sorted(ports))


def _persistence(spec: VirtualServiceSpec) -> Persistence | None:
    given = spec.persistence
    if given is None:
        return None
    whole = ipaddress.ip_address(spec.address).max_prefixlen
    return Persistence(given.timeout_seconds or PERSISTENCE_SECONDS, given.prefix_length or whole, given.engine or "")


def _tunnel(tunnel: models.Tunnel | None) -> Tunnel | None:
    if tunnel is None:
        return None
    return Tunnel(tunnel.type, tunnel.port or 0, tunnel.checksum or TunnelChecksum.NONE)


def _limits(limits: models.ConnectionLimits | None) -> ConnectionLimits | None:
    return None if limits is None else ConnectionLimits(limits.upper, limits.lower or 0)


def _override(override: models.RealServerOverride) -> Override:
    return Override(
        real_server=override.name,
        weight=override.weight,
        forwarding=override.forwarding_method,
        tunnel=_tunnel(override.tunnel),
        limits=_limits(override.connection_limits),
    )


def real_server(body: Body) -> RealServer | Invalid:
    """Parse a RealServer. An IPv4 address comes before an IPv6 one."""
    meta = metadata(body)
    spec = _spec(RealServerSpec, body, meta)
    if isinstance(spec, Invalid):
        return spec
    drains_first = spec.drain is not None and bool(spec.drain.before_deletion)
    deleting = bool(body["metadata"].get("deletionTimestamp"))
    held = kinds.DRAIN_FINALIZER in (body["metadata"].get("finalizers") or ())
    return RealServer(
        meta=meta,
        node_name=spec.node_name or "",
        addresses=tuple(sorted(spec.addresses, key=lambda text: ":" in text)),
        weight=spec.weight,
        state=RealServerState.DRAIN if drains_first and deleting and held else spec.state,
        limits=_limits(spec.connection_limits) or ConnectionLimits(),
        check_address=spec.check_address or "",
        hostname=spec.hostname or "",
        drain_seconds=spec.drain.timeout_seconds if spec.drain is not None else DRAIN_SECONDS,
        drains_first=drains_first,
        deleting=deleting,
        held=held,
        drain_persistence=spec.drain.persistence if spec.drain is not None else DrainPersistence.HONOUR,
    )


def director_group(body: Body) -> DirectorGroup | Invalid:
    """Parse a DirectorGroup."""
    meta = metadata(body)
    spec = _spec(DirectorGroupSpec, body, meta)
    if isinstance(spec, Invalid):
        return spec
    interface = spec.interface
    return DirectorGroup(
        meta=meta,
        node_selector=_selector(spec.node_selector),
        interface=InterfaceChoice(interface.name or "", interface.subnet or "") if interface else InterfaceChoice(),
        allowed_addresses=tuple(sorted(set(spec.allowed_addresses))),
        allowed_namespaces=None if spec.allowed_namespaces is None else _selector(spec.allowed_namespaces),
        ipvs=ipvs_settings(spec.timeouts, spec.kernel_settings),
        vrrp=vrrp_settings(spec.vrrp),
        sync=sync_settings(spec.connection_sync),
        secrets=tuple(sorted(set(spec.secrets))),
        check_marks=MarkRange(spec.check_marks.first, spec.check_marks.last) if spec.check_marks else MarkRange(),
    )


def node(body: Body) -> Node:
    """Parse a Kubernetes Node; addresses that are none are left out.

    One that is cordoned (`kubectl drain` does that first) is to give its VIPs to another director.
    """
    addresses = (body.get("status") or {}).get("addresses") or ()
    internal = (_canonical(each.get("address", "")) for each in addresses if each.get("type") == "InternalIP")
    annotations = body["metadata"].get("annotations") or {}
    text = str(annotations.get(kinds.PRIORITY_ANNOTATION, "")).strip()
    priority = int(text) if _PRIORITY.fullmatch(text) else 0
    accepted = 1 <= priority <= MAXIMUM_PRIORITY
    return Node(
        meta=metadata(body),
        internal_addresses=tuple(dict.fromkeys(filter(None, internal))),
        vrrp_priority=priority if accepted else 0,
        standby=annotations.get(kinds.STANDBY_ANNOTATION, "false") != "false"
        or bool((body.get("spec") or {}).get("unschedulable")),
        refused_priority="" if accepted or kinds.PRIORITY_ANNOTATION not in annotations else text[:_SHOWN] or " ",
    )


def namespace(body: Body) -> Namespace:
    """Parse a Kubernetes Namespace."""
    meta = metadata(body)
    return Namespace(name=meta.key.name, labels=meta.labels)


def metadata(body: Body) -> Metadata:
    """Return what decisions use of an object's metadata. Core kinds have no generation: it is 0."""
    meta = body["metadata"]
    return Metadata(
        key=Key(meta.get("namespace") or "", meta["name"]),
        uid=meta.get("uid") or "",
        generation=meta.get("generation") or 0,
        created=meta.get("creationTimestamp") or "",
        labels=tuple(sorted((meta.get("labels") or {}).items())),
        paused=(meta.get("annotations") or {}).get(kinds.PAUSED_ANNOTATION, "false") != "false",
    )


def _spec(model: type[Spec], body: Body, meta: Metadata) -> Spec | Invalid:
    try:
        return model.model_validate(body.get("spec") or {})
    except ValidationError as error:
        return Invalid(meta, _explained(error))


def _explained(error: ValidationError) -> str:
    """Return `spec.field[0]: what is wrong` for the first errors."""
    texts = []
    for each in error.errors(include_url=False, include_context=False, include_input=False)[:_SHOWN_ERRORS]:
        path = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in each["loc"])
        texts.append(f"spec{path}: {each['msg'].removeprefix('Value error, ')}")
    left = error.error_count() - len(texts)
    return "; ".join(texts) + (f"; and {left} more" if left else "")


def _selector(selector: LabelSelector) -> Selector:
    if not selector.match_labels and not selector.match_expressions:
        return _ALL
    return Selector(
        match_labels=tuple(sorted(selector.match_labels.items())),
        match_expressions=tuple(
            Requirement(each.key, Operator(each.operator), tuple(sorted(each.values)))
            for each in selector.match_expressions
        ),
    )


def _canonical(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        return ""
