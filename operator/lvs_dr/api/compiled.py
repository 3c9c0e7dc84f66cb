"""Compiled objects, DirectorTable and LVSNode: from and to the form in which the API server holds them.

One that does not decode is None, as if it were absent: the controller is its only writer and writes it anew.
"""

import logging
from typing import Any, TypeVar

import msgspec

from lvs_dr.api import kinds
from lvs_dr.api.translate import Body, metadata
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import NodeRecord, TableRecord

log = logging.getLogger(__name__)

Decoded = TypeVar("Decoded", bound=msgspec.Struct)


def table_record(body: Body) -> TableRecord | None:
    """Decode a DirectorTable; None (with a warning in the log) when its spec cannot be decoded."""
    meta = metadata(body)
    spec = _decoded(DirectorTableSpec, body.get("spec"), f"DirectorTable {meta.key}")
    if spec is None:
        return None
    owner = _owner(body, kinds.VIRTUAL_SERVICE.kind)
    return TableRecord(
        key=meta.key,
        uid=meta.uid,
        generation=meta.generation,
        owner_uid=str(owner.get("uid", "")),
        spec=spec,
        owner_name=str(owner.get("name", "")),
        created=meta.created,
    )


def node_record(body: Body) -> NodeRecord | None:
    """Decode an LVSNode; None (with a warning in the log) when its spec cannot be decoded.

    A spec that is absent is the default one: undecided.
    A status that cannot be decoded counts as not reported: then nothing is decided from it until the agent's next
    report, and nothing that serves is taken away.
    """
    meta = metadata(body)
    what = f"LVSNode {meta.key.name}"
    spec = _decoded(LVSNodeSpec, body.get("spec") or {}, what)
    if spec is None:
        return None
    status = body.get("status")
    return NodeRecord(
        name=meta.key.name,
        uid=meta.uid,
        generation=meta.generation,
        owner_uid=str(_owner(body, "Node").get("uid", "")),
        spec=spec,
        status=_decoded(LVSNodeStatus, status, f"{what} (status)") if status else None,
    )


def spec_body(spec: DirectorTableSpec | LVSNodeSpec) -> dict[str, Any]:
    """Return the spec of a compiled object as it is applied to the API server.

    An LVSNode always states `decided`: a server-side apply of {} over more turns the spec into null, which is refused.
    """
    body: dict[str, Any] = msgspec.to_builtins(spec)
    return {"decided": spec.decided, **body} if isinstance(spec, LVSNodeSpec) else body


def _decoded(struct: type[Decoded], raw: object, what: str) -> Decoded | None:
    try:
        return msgspec.convert(raw, struct)
    except msgspec.ValidationError as error:
        log.warning("%s cannot be decoded and counts as absent: %s", what, error)
        return None


def _owner(body: Body, kind: str) -> Body:
    """Return the reference to the owner of this kind; {} without one."""
    for owner in body["metadata"].get("ownerReferences") or ():
        if owner.get("kind") == kind:
            found: Body = owner
            return found
    return {}
