"""Where everything that is learnt about the cluster comes in: store first, then what it makes dirty."""

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

from lvs_dr.controller import watched
from lvs_dr.controller.pending import Pending
from lvs_dr.controller.silence import Silence
from lvs_dr.controller.store import Change, Store, version_of
from lvs_dr.controller.takeovers import Takeovers
from lvs_dr.controller.watched import Watched, key_of
from lvs_dr.core.decisions import Dirty
from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.dirty import affected, confirmation_changed, silence_changed
from lvs_dr.core.world import Cluster, NodeRecord
from lvs_dr.process.metrics import Metrics

log = logging.getLogger(__name__)


class Intake:
    """Takes watch events, LISTs and polls."""

    def __init__(
        self,
        *,
        store: Store,
        pending: Pending,
        silence: Silence,
        takeovers: Takeovers,
        metrics: Metrics,
    ) -> None:
        self.store = store
        self.mark: Callable[[Dirty], None] = lambda _: None
        """Takes what only has to be summarised."""
        self.before_group: Callable[[], Awaitable[None]] | None = None
        """Reads the namespaces; awaited before a group that asks for their labels is stored."""
        self._pending = pending
        self._silence = silence
        self._takeovers = takeovers
        self._metrics = metrics

    async def event(self, kind: Watched, event_type: str | None, body: Mapping[str, Any]) -> None:
        """Take one watch event; type None is an object of the watch's first LIST."""
        self._metrics.count("lvs_controller_events_total", kind=kind.kind)
        if event_type == "DELETED":
            change = self.store.drop(kind, key_of(body), uid=body["metadata"]["uid"], version=version_of(body))
        else:
            if kind is watched.DIRECTOR_GROUP:
                await self._prepare_group(kind, body)
            change = self.store.put(kind, body)
        if change is not None:
            self.changed(change)

    async def _prepare_group(self, kind: Watched, body: Mapping[str, Any]) -> None:
        group = kind.parse(body)
        if isinstance(group, DirectorGroup) and group.allowed_namespaces is not None and self.before_group is not None:
            await self.before_group()

    def listed(self, kind: Watched, bodies: Sequence[Mapping[str, Any]], version: str) -> int:
        """Take a full LIST; return how many changes it told that nothing else had."""
        changes = self.store.replace(kind, bodies, version)
        for change in changes:
            self.changed(change)
        return len(changes)

    def changed(self, change: Change) -> None:
        """Mark what a change makes dirty."""
        log.debug("%s %s %s", change.kind, change.key, "changed" if change.after is not None else "is gone")
        if _reported(change):
            # A sign of life, sooner than the next look at the Leases.
            self._silence.heard(change.key.name)
            self.refresh_silence()
        if change.kind == watched.NODE.kind:
            self.refresh_silence()
        if change.kind == watched.LVS_NODE.kind:
            self._takeovers.changed(self.store.world, change.before, change.after)
            self._refresh_takeovers()
        if self.store.complete:
            self.dirty(affected(self.store.world, change.kind, change.before, change.after))

    def refresh_silence(self) -> None:
        """Bring `World.silent` up to date."""
        now_silent = self._silence.silent(self.store.world.nodes.keys())
        for name in sorted(now_silent ^ self.store.silent):
            silent = name in now_silent
            log.log(
                logging.WARNING if silent else logging.INFO, "agent on %s is %s", name, "silent" if silent else "live"
            )
            (self.store.silent.add if silent else self.store.silent.discard)(name)
            if self.store.complete:
                self.dirty(silence_changed(self.store.world, name))

        self._refresh_takeovers()

    def _refresh_takeovers(self) -> None:
        """Bring `World.unconfirmed` up to date."""
        now_unconfirmed = self._takeovers.unconfirmed()
        for name in sorted(now_unconfirmed ^ self.store.unconfirmed):
            doubted = name in now_unconfirmed
            (self.store.unconfirmed.add if doubted else self.store.unconfirmed.discard)(name)
            if self.store.complete:
                self.dirty(confirmation_changed(self.store.world, name))

    def cluster(self, cluster: Cluster) -> None:
        """Take the cluster's own addresses."""
        change = self.store.set_cluster(cluster)
        if change is not None:
            log.info("Service ranges %s, API server %s", cluster.service_ranges, cluster.api_addresses)
            if self.store.complete:
                self.dirty(affected(self.store.world, "Cluster", *change))

    def dirty(self, dirty: Dirty) -> None:
        """Hand over to the compiler what compiles, to the summary the rest."""
        if dirty.services or dirty.nodes:
            self._pending.add(Dirty(services=dirty.services, nodes=dirty.nodes))
        if dirty.real_servers or dirty.groups:
            self.mark(Dirty(real_servers=dirty.real_servers, groups=dirty.groups))


def _reported(change: Change) -> bool:
    """Tell whether an agent has written its report just now (and not before we looked first)."""
    before, after = change.before, change.after
    return (
        isinstance(before, NodeRecord)
        and isinstance(after, NodeRecord)
        and after.status is not None
        and after.status != before.status
    )
