"""One process from start to end: wait for the Lease, wait for the kinds, list everything, work, hand over."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import kopf
from msgspec import Struct

from lvs_dr.controller import handlers
from lvs_dr.controller.apiclient import Api
from lvs_dr.controller.assembly import Parts, assemble
from lvs_dr.controller.credentials import Credentials
from lvs_dr.controller.discovery import wait_for_kinds
from lvs_dr.controller.errors import BadConfiguration, ControllerError, KindsMissing, NotLeading
from lvs_dr.controller.guard import ANNOTATION
from lvs_dr.controller.leader import ApiLease, Elector
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.readiness import Readiness
from lvs_dr.process.metrics import Metrics
from lvs_dr.process.web import StatusServer

log = logging.getLogger(__name__)

RESTART_SECONDS = 1.0
RETRY_SECONDS = 1.0
KOPF_STOP_SECONDS = 3.0
SWEEP_SECONDS = 60.0
WELL, FAILED = 0, 1


class Options(Struct, frozen=True):
    """What the command line says."""

    namespace: str
    listen: str
    identity: str
    kubeconfig: Path | None = None


class Process:
    """Owns the tasks of one process."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._metrics = Metrics(METRICS)
        self._readiness = Readiness()
        self._stop = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self._fatal: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._kopf_stop = asyncio.Event()
        self._kopf: asyncio.Task[None] | None = None
        self._code = FAILED

    async def run(self) -> int:
        """Work until SIGTERM, loss of the Lease or a fatal error; return the exit code. Raises BadConfiguration."""
        self._take_signals()
        credentials = Credentials(self._options.kubeconfig)
        api = await Api.connect(credentials)
        elector = Elector(ApiLease(api, self._options.namespace), self._options.identity, time.monotonic)
        self._metrics.gauge("lvs_controller_leading", lambda: float(elector.elected.is_set() and elector.holds()))
        listen = self._options.listen
        server = StatusServer(listen, healthy=lambda: "", ready=self._readiness.text, metrics=self._metrics)
        try:
            async with server:
                await self._work(api, credentials, elector)
        except OSError as error:
            raise BadConfiguration(f"cannot listen on {listen}: {error.strerror or error}") from error
        finally:
            await api.close()
        return self._code

    async def _work(self, api: Api, credentials: Credentials, elector: Elector) -> None:
        try:
            self._spawn("election", elector.run)
            self._spawn("leading", lambda: self._lead(api, credentials, elector))
            self._code = await self._until_the_end(elector)
        finally:
            await self._shut_down(elector)

    async def _until_the_end(self, elector: Elector) -> int:
        waits: list[asyncio.Future[Any]] = [
            asyncio.ensure_future(self._stop.wait()),
            asyncio.ensure_future(elector.lost.wait()),
            asyncio.ensure_future(asyncio.shield(self._fatal)),
        ]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if self._stop.is_set():
            log.info("asked to stop")
            return WELL
        if self._fatal.done():
            log.error("ending, to be started anew: %s", self._fatal.result())
        else:
            log.error("ending, to be started anew: the Lease is lost")
        return FAILED

    async def _shut_down(self, elector: Elector) -> None:
        """Stop writing, hand the Lease over, then take the rest down."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await elector.release()
        self._kopf_stop.set()
        if self._kopf is not None:
            await asyncio.wait([self._kopf], timeout=KOPF_STOP_SECONDS)
            if not self._kopf.done():
                # Seen when a kind had vanished. Everything of ours has ended in order, so nothing is lost.
                log.warning("the watches do not end: the process ends without them")
                logging.shutdown()
                os._exit(self._code)

    def _take_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stop.set)

    async def _lead(self, api: Api, credentials: Credentials, elector: Elector) -> None:
        await elector.elected.wait()
        self._readiness.report("start", "not everything is read yet")
        parts = assemble(api, elector, self._metrics, self._readiness, self._options.namespace)
        await wait_for_kinds(api, parts.guard, time.monotonic, lambda text: self._readiness.report("kinds", text))
        await self._first_look(parts)
        unchanged = parts.guard.compare(elector.annotations.get(ANNOTATION, ""))
        if unchanged:
            elector.note(ANNOTATION, parts.guard.note)
        else:
            self._spawn("hold", lambda: self._after_hold(parts, elector))
        parts.reconciler.mark_everything()
        for name, work in parts.loops():
            self._spawn(name, work)
        self._spawn("sweep", lambda: self._sweep(parts))
        self._kopf = asyncio.create_task(self._watch(parts, credentials), name="kopf")
        self._readiness.report("start", "")

    async def _first_look(self, parts: Parts) -> None:
        """Read everything once: before that nothing is decided."""
        said = ""
        while True:
            try:
                await parts.polls.look_at_cluster()
                await parts.polls.look_at_leases()
                await parts.pruner.list_everything()
                await parts.polls.look_at_namespaces()
                parts.intake.refresh_silence()
            except ControllerError as error:
                if str(error) != said:
                    log.warning("cannot read the cluster yet: %s", error)
                    said = str(error)
                self._readiness.report("first look", str(error))
                await asyncio.sleep(RETRY_SECONDS)
            else:
                self._readiness.report("first look", "")
                return

    async def _after_hold(self, parts: Parts, elector: Elector) -> None:
        await asyncio.sleep(parts.guard.held_for() + 0.1)
        elector.note(ANNOTATION, parts.guard.note)
        log.warning("removals are no longer held")
        parts.reconciler.mark_everything()

    async def _sweep(self, parts: Parts) -> None:
        while True:
            try:
                await parts.reconciler.sweep()
            except (KindsMissing, NotLeading):
                raise
            except ControllerError as error:
                log.warning("cannot delete what has lost its owner yet: %s", error)
            await asyncio.sleep(SWEEP_SECONDS)

    async def _watch(self, parts: Parts, credentials: Credentials) -> None:
        kopf_identity: Any = self._options.identity
        before = asyncio.all_tasks()
        try:
            tasks = await kopf.spawn_tasks(
                registry=handlers.registry(
                    parts.intake,
                    credentials,
                    relisted=parts.pruner.ask,
                    vanished=lambda kind: self._end(f"{kind.kind} is no longer served"),
                ),
                settings=handlers.settings(),
                # Without a name kopf asks for the user's, and a container's user id need not have one.
                identity=kopf_identity,
                standalone=True,
                clusterwide=True,
                stop_flag=self._kopf_stop,
            )
            # The last thing that this did is to install signal handlers; ours know the order of things.
            self._take_signals()
            await kopf.run_tasks(tasks, ignored=before)
        except Exception as error:  # noqa: BLE001 - whatever ends kopf ends us
            self._end(f"the watches ended: {type(error).__name__}: {error}")
        else:
            self._end("the watches ended")

    def _spawn(self, name: str, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.append(asyncio.create_task(self._supervise(name, work), name=name))

    async def _supervise(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Run a loop; start it anew when it fails, visibly; end the process on a fatal error."""
        while True:
            try:
                await work()
            except (KindsMissing, NotLeading) as error:
                self._end(str(error))
                return
            except Exception as error:
                log.exception("%s failed and is started anew", name)
                self._metrics.count("lvs_controller_failures_total", error=f"loop {name}")
                self._readiness.report(name, f"failed: {type(error).__name__}: {error}")
                await asyncio.sleep(RESTART_SECONDS)
            else:
                return

    def _end(self, reason: str) -> None:
        if not self._fatal.done():
            self._fatal.set_result(reason)
