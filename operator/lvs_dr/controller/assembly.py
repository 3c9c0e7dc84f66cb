"""The parts of a leading process, wired together."""

import time
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, NamedTuple

from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api
from lvs_dr.controller.deletions import Deletions
from lvs_dr.controller.drains import Drains
from lvs_dr.controller.events import Recorder
from lvs_dr.controller.guard import Guard
from lvs_dr.controller.handovers import Handovers
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.leader import Elector
from lvs_dr.controller.pending import Pending
from lvs_dr.controller.polls import Polls
from lvs_dr.controller.prune import Pruner
from lvs_dr.controller.readiness import Readiness
from lvs_dr.controller.reconcile import Reconciler
from lvs_dr.controller.silence import Silence
from lvs_dr.controller.status import StatusKeeper
from lvs_dr.controller.store import Store
from lvs_dr.controller.takeovers import Takeovers
from lvs_dr.controller.writer import Writer
from lvs_dr.process.metrics import Metrics


class Parts(NamedTuple):
    """What `process` needs to reach."""

    guard: Guard
    intake: Intake
    polls: Polls
    pruner: Pruner
    reconciler: Reconciler
    statuses: StatusKeeper
    recorder: Recorder
    handovers: Handovers
    drains: Drains
    deletions: Deletions

    def loops(self) -> tuple[tuple[str, Callable[[], Coroutine[Any, Any, None]]], ...]:
        """Return what runs for as long as the process leads."""
        return (
            ("reconcile", self.reconciler.run),
            ("status", self.statuses.run),
            ("events", self.recorder.run),
            ("prune", self.pruner.run),
            ("handovers", self.handovers.run),
            ("drains", self.drains.run),
            ("deletions", self.deletions.run),
            ("leases", self.polls.run_leases),
            ("namespaces", self.polls.run_namespaces),
            ("cluster", self.polls.run_cluster),
        )


def assemble(api: Api, elector: Elector, metrics: Metrics, readiness: Readiness, namespace: str) -> Parts:
    """Build everything; nothing runs yet."""
    clock = time.monotonic
    store, pending, silence, guard = Store(), Pending(clock), Silence(clock), Guard(api, clock)
    takeovers = Takeovers(silence, clock)
    intake = Intake(store=store, pending=pending, silence=silence, takeovers=takeovers, metrics=metrics)
    writer = Writer(api, store, elector.holds, intake.changed, metrics)
    recorder = Recorder(api, elector.identity, metrics, clock)
    pruner = Pruner(api, intake, metrics)
    reconciler = Reconciler(
        store=store, pending=pending, writer=writer, guard=guard, metrics=metrics, relist=pruner.ask
    )
    statuses = StatusKeeper(
        store=store, writer=writer, decisions=reconciler.decisions, recorder=recorder, metrics=metrics, clock=clock
    )
    intake.mark = reconciler.compiled = statuses.mark
    polls = Polls(
        api,
        intake,
        silence,
        namespace=namespace,
        report=readiness.report,
    )
    intake.before_group = polls.before_group
    readiness.check(lambda: reconciler.problem(clock()))
    _gauges(metrics, store, pending, guard)
    handovers = Handovers(store, reconciler.decisions, intake.dirty)
    drains, deletions = Drains(store, intake.dirty), Deletions(store, writer, metrics)
    return Parts(guard, intake, polls, pruner, reconciler, statuses, recorder, handovers, drains, deletions)


def _gauges(metrics: Metrics, store: Store, pending: Pending, guard: Guard) -> None:
    metrics.gauge("lvs_controller_failing", lambda: float(len(pending.failures)))
    metrics.gauge("lvs_controller_unreadable", lambda: float(len(store.unreadable)))
    metrics.gauge("lvs_controller_silent_agents", lambda: float(len(store.silent)))
    metrics.gauge("lvs_controller_removals_held_seconds", guard.held_for)
    for kind in watched.WATCHED:
        metrics.gauge("lvs_controller_objects", partial(store.count, kind.kind), kind=kind.kind)
