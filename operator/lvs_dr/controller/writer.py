"""Writes compiled objects and statuses by server-side apply, and deletes compiled objects; only while leading.

Every write carries the uid it is meant for, so a namesake is never changed, and its answer goes to the store at once:
the next pass decides on what was written, not on what the watch has told so far.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
from msgspec import Struct

from lvs_dr.api import compiled
from lvs_dr.api.kinds import DRAIN_FINALIZER
from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api, Body
from lvs_dr.controller.errors import Conflict, NotFound, NotLeading, OwnerGone
from lvs_dr.controller.store import Change, Store
from lvs_dr.controller.watched import Watched
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.objects import Key
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)

IN_FLIGHT = 16
FINALIZER_MANAGER = "lvs-controller-drain"
OWNERS = {watched.DIRECTOR_TABLE: watched.VIRTUAL_SERVICE, watched.LVS_NODE: watched.NODE}


class Owner(NamedTuple):
    """The object that a compiled object belongs to: it goes when that goes."""

    key: Key
    uid: str


class Writer:
    """The only place that changes anything in the API server, the Lease and Events apart."""

    def __init__(
        self, api: Api, store: Store, leads: Callable[[], bool], changed: Callable[[Change], None], metrics: Metrics
    ) -> None:
        self._api = api
        self._store = store
        self._leads = leads
        self._changed = changed
        self._metrics = metrics
        self._slots = asyncio.Semaphore(IN_FLIGHT)

    async def table(self, key: Key, spec: DirectorTableSpec, owner: Owner) -> bool:
        """Write a DirectorTable unless the store has it like this; return whether it was written.

        Raises OwnerGone, NotLeading, ApiError or Unreachable.
        """
        record = self._store.world.tables.get(key)
        if record is not None and (record.spec, record.owner_uid, record.owner) == (spec, owner.uid, owner.key):
            return False
        uid = record.uid if record is not None else ""
        await self._apply(watched.DIRECTOR_TABLE, key, spec, uid=uid, owner=owner)
        return True

    async def node(self, name: str, spec: LVSNodeSpec, owner_uid: str) -> bool:
        """Write an LVSNode's spec likewise; its owner is the Node."""
        record = self._store.world.lvs_nodes.get(name)
        if record is not None and record.spec == spec and record.owner_uid == owner_uid:
            return False
        uid = record.uid if record is not None else ""
        key = Key("", name)
        await self._apply(watched.LVS_NODE, key, spec, uid=uid, owner=Owner(key, owner_uid))
        return True

    async def delete(self, kind: Watched, key: Key, uid: str) -> None:
        """Delete exactly this compiled object; that it is gone already is fine."""
        try:
            await self._send(self._api.delete, kind.path(key), uid=uid)
            log.info("deleted %s %s", kind.kind, key)
            self._metrics.count("lvs_controller_writes_total", kind=kind.kind, verb="delete")
        except NotFound:
            log.debug("%s %s was gone already", kind.kind, key)
        except Conflict:
            # A namesake has taken its place; its own event says more.
            log.info("%s %s was replaced meanwhile", kind.kind, key)
        change = self._store.drop(kind, key, uid=uid)
        if change is not None:
            self._changed(change)

    async def delete_without_owner(self, kind: Watched, key: Key, *, uid: str, owner: Owner) -> bool:
        """Delete a compiled object whose owner is not in the store, when the API server says so too."""
        if owner.uid and await self._live(OWNERS[kind], owner):
            return False
        await self.delete(kind, key, uid)
        return True

    async def finalizer(self, key: Key, *, hold: bool) -> None:
        """Put our finalizer on a RealServer, or take it off. One that is gone meanwhile is no error.

        Others' finalizers are theirs: server-side apply owns ours alone. Raises ControllerError.
        """
        kind = watched.REAL_SERVER
        body = _body(kind, key, self._store.uid(kind.kind, key))
        if hold:
            body["metadata"]["finalizers"] = [DRAIN_FINALIZER]
        path = f"{kind.path(key)}"
        try:
            answer = await self._send(self._api.apply, path, body, manager=FINALIZER_MANAGER)
        except (NotFound, Conflict):
            log.debug("RealServer %s is gone or was replaced: its finalizer is left", key)
            return
        self._metrics.count("lvs_controller_writes_total", kind=kind.kind, verb="finalizer")
        log.info("RealServer %s %s drained before it is deleted", key, "is" if hold else "needs no longer be")
        self._learn(kind, answer)

    async def status(self, kind: Watched, key: Key, status: Struct) -> None:
        """Write the whole status of a user's object. One that is gone meanwhile is no error."""
        body = _body(kind, key, self._store.uid(kind.kind, key)) | {"status": msgspec.to_builtins(status)}
        try:
            answer = await self._send(self._api.apply, f"{kind.path(key)}/status", body)
        except (NotFound, Conflict):
            log.debug("%s %s is gone or was replaced: no status written", kind.kind, key)
            return
        self._metrics.count("lvs_controller_writes_total", kind=kind.kind, verb="status")
        self._learn(kind, answer)

    async def _apply(
        self, kind: Watched, key: Key, spec: DirectorTableSpec | LVSNodeSpec, *, uid: str, owner: Owner
    ) -> None:
        owner_kind = OWNERS[kind]
        # A new object may bring back what was just cleaned up, so its owner is asked for and not remembered.
        if not uid and not await self._live(owner_kind, owner):
            raise OwnerGone(f"{owner_kind.kind} {owner.key} is gone or being deleted")
        body = _body(kind, key, uid)
        body["metadata"]["ownerReferences"] = [
            {
                "apiVersion": owner_kind.api_version,
                "kind": owner_kind.kind,
                "name": owner.key.name,
                "uid": owner.uid,
                "controller": True,
            }
        ]
        body["spec"] = compiled.spec_body(spec)
        answer = await self._send(self._api.apply, kind.path(key), body)
        self._metrics.count("lvs_controller_writes_total", kind=kind.kind, verb="apply")
        log.debug("wrote %s %s", kind.kind, key)
        self._learn(kind, answer)

    async def _live(self, kind: Watched, owner: Owner) -> bool:
        try:
            metadata = (await self._send(self._api.get, kind.path(owner.key)))["metadata"]
        except NotFound:
            return False
        return metadata["uid"] == owner.uid and not metadata.get("deletionTimestamp")

    async def _send(self, call: Callable[..., Any], *arguments: object, **named: object) -> Body:
        async with self._slots:
            if not self._leads():
                raise NotLeading("this process does not hold the Lease: nothing is written")
            answer: Body = await call(*arguments, **named)
            return answer

    def _learn(self, kind: Watched, answer: Body) -> None:
        change = self._store.put(kind, answer)
        if change is not None:
            self._changed(change)


def _body(kind: Watched, key: Key, uid: str) -> Body:
    metadata = {"name": key.name}
    if kind.namespaced:
        metadata["namespace"] = key.namespace
    if uid:
        metadata["uid"] = uid
    return {"apiVersion": kind.api_version, "kind": kind.kind, "metadata": metadata}
