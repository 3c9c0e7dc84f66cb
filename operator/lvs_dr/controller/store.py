"""What the API server holds, parsed, with the indexes that decisions use: the live `World`.

Three sources feed it: watch events, full LISTs, and the answers to our own writes. They overtake each other, so
each object carries its resourceVersion and an older one never replaces a newer one (versions of one API server compare
as integers: promised since Kubernetes 1.35, true before). Deleted objects leave a tombstone for the same reason.
"""

import logging
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from lvs_dr.controller import watched
from lvs_dr.controller.watched import Watched, key_of
from lvs_dr.core.index import Index
from lvs_dr.core.indexing import reindex
from lvs_dr.core.objects import Key
from lvs_dr.core.status import DirectorGroupStatus, RealServerStatus, VirtualServiceStatus
from lvs_dr.core.world import Cluster, World

log = logging.getLogger(__name__)

MAXIMUM_TOMBSTONES = 10_000

Status = VirtualServiceStatus | RealServerStatus | DirectorGroupStatus
STATUS_TYPES: dict[str, type[Status]] = {
    "VirtualService": VirtualServiceStatus,
    "RealServer": RealServerStatus,
    "DirectorGroup": DirectorGroupStatus,
}


class Change(NamedTuple):
    """One object before and after; None is absent."""

    kind: str
    key: Key
    before: Any
    after: Any


class _Seen(NamedTuple):
    uid: str
    version: int


class Store:
    """Mappings behind `World`. Not thread-safe: one event loop owns it."""

    def __init__(self) -> None:
        self._objects: dict[str, dict[Any, Any]] = {each.kind: {} for each in (*watched.WATCHED, watched.NAMESPACE)}
        self._seen: dict[str, dict[Key, _Seen]] = {kind: {} for kind in self._objects}
        self._tombstones: dict[tuple[str, str], int] = {}  # (kind, uid) -> version of the deletion
        self.statuses: dict[tuple[str, Key], Status] = {}
        self.listed: set[str] = set()
        self.unreadable: dict[tuple[str, Key], str] = {}
        self.silent: set[str] = set()
        self.unconfirmed: set[str] = set()
        self.overdue: set[str] = set()
        self.drain_over: set[Key] = set()
        self.world = World(
            virtual_services=self._objects["VirtualService"],
            real_servers=self._objects["RealServer"],
            groups=self._objects["DirectorGroup"],
            nodes=self._objects["Node"],
            namespaces=self._objects["Namespace"],
            tables=self._objects["DirectorTable"],
            lvs_nodes=self._objects["LVSNode"],
            silent=self.silent,
            cluster=Cluster(),
            index=Index(),
            unconfirmed=self.unconfirmed,
            overdue=self.overdue,
            drain_over=self.drain_over,
        )

    @property
    def complete(self) -> bool:
        """True once every watched kind has had a full LIST: before that nothing may be decided."""
        return self.listed >= {each.kind for each in watched.WATCHED}

    def set_cluster(self, cluster: Cluster) -> tuple[Cluster, Cluster] | None:
        """Replace the cluster's own addresses; return (before, after) when they changed."""
        before = self.world.cluster
        if before == cluster:
            return None
        self.world = msgspec.structs.replace(self.world, cluster=cluster)
        return before, cluster

    def count(self, kind: str) -> int:
        """Return how many objects of a kind are known."""
        return len(self._objects[kind])

    def uid(self, kind: str, key: Key) -> str:
        """Return the uid of a stored object, "" when there is none."""
        seen = self._seen[kind].get(key)
        return seen.uid if seen else ""

    def put(self, kind: Watched, body: Mapping[str, Any]) -> Change | None:
        """Store one object; None when it is older than what is known, or nothing in it matters here."""
        key, uid, version = key_of(body), body["metadata"].get("uid", ""), version_of(body)
        seen = self._seen[kind.kind].get(key)
        if (seen is not None and version < seen.version) or self._tombstones.get((kind.kind, uid), -1) >= version:
            return None
        try:
            after = kind.parse(body)
        except (ValueError, TypeError, KeyError, LookupError) as error:
            # Of a newer version, most likely. The last readable one stays in use, and the failure is shown.
            self.unreadable[kind.kind, key] = f"{type(error).__name__}: {error}"
            log.warning("%s %s cannot be read and is left as it was: %s", kind.kind, key, error)
            return None
        self.unreadable.pop((kind.kind, key), None)
        self._seen[kind.kind][key] = _Seen(uid, version)
        self._remember_status(kind.kind, key, body)
        return self._set(kind, key, after)

    def drop(self, kind: Watched, key: Key, *, uid: str, version: int | None = None) -> Change | None:
        """Forget a deleted object, unless a namesake has taken its place.

        `version` is the version of the deletion; None: all that is known so far is older.
        """
        seen = self._seen[kind.kind].get(key)
        if version is None:
            version = seen.version if seen is not None else 0
        self._tombstones[kind.kind, uid] = max(version, self._tombstones.pop((kind.kind, uid), 0))
        while len(self._tombstones) > MAXIMUM_TOMBSTONES:
            del self._tombstones[next(iter(self._tombstones))]
        if seen is None or seen.uid != uid:
            return None
        del self._seen[kind.kind][key]
        self.statuses.pop((kind.kind, key), None)
        self.unreadable.pop((kind.kind, key), None)
        return self._set(kind, key, None)

    def replace(self, kind: Watched, bodies: Iterable[Mapping[str, Any]], list_version: str) -> list[Change]:
        """Take over a full LIST made at `list_version`: store what it has, forget what it has not."""
        present: set[Key] = set()
        changes: list[Change | None] = []
        for body in bodies:
            present.add(key_of(body))
            changes.append(self.put(kind, body))
        at = int(list_version) if list_version.isdecimal() else 0
        for key, seen in list(self._seen[kind.kind].items()):
            if key not in present and seen.version <= at:
                changes.append(self.drop(kind, key, uid=seen.uid, version=at))
        self.listed.add(kind.kind)
        return [change for change in changes if change is not None]

    def _set(self, kind: Watched, key: Key, after: Any) -> Change | None:  # noqa: ANN401 - one of World's values
        objects = self._objects[kind.kind]
        name = key if kind.namespaced else key.name
        before = objects.get(name)
        if before == after:
            return None
        if after is None:
            del objects[name]
        else:
            objects[name] = after
        reindex(self.world, kind.kind, key, before, after)
        return Change(kind.kind, key, before, after)

    def _remember_status(self, kind: str, key: Key, body: Mapping[str, Any]) -> None:
        status_type = STATUS_TYPES.get(kind)
        if status_type is None:
            return
        try:
            self.statuses[kind, key] = msgspec.convert(body["status"], status_type)
        except (KeyError, msgspec.ValidationError):
            # None yet, or of another version: it is written anew.
            self.statuses.pop((kind, key), None)


def version_of(body: Mapping[str, Any]) -> int:
    """Return an object's resourceVersion as a number; 0 when it is none."""
    text = str(body["metadata"].get("resourceVersion", ""))
    return int(text) if text.isdecimal() else 0
