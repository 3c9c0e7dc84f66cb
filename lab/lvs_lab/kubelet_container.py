"""One container on a node: start, restart with back-off, probes, end."""

import asyncio
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from lvs_lab.errors import LabError, NodeUnreachable
from lvs_lab.image import SYSTEM_PATH
from lvs_lab.nodelink import NodeLink
from lvs_lab.podspec import ContainerPlan, PodPlan
from lvs_lab.podstatus import LOST, ContainerState
from lvs_lab.probes import Counter, Probe, ask
from lvs_lab.spec import Completed

LOG = logging.getLogger(__name__)
PYTHON = str(Path(sys.executable).resolve())
SETUP_FAILED = 125
TERM, KILL = 15, 9
BACKOFF_SECONDS, BACKOFF_LIMIT_SECONDS, BACKOFF_RESET_SECONDS = 0.5, 10.0, 30.0
POLL_SECONDS = 0.05


class ContainerWorker:
    """Runs one container and keeps its `state`; `changed` is called after every change of it."""

    def __init__(
        self, link: NodeLink, pod: PodPlan, plan: ContainerPlan, state: ContainerState, changed: Callable[[], None]
    ) -> None:
        self.plan = plan
        self.state = state
        self._link = link
        self._pod = pod
        self._changed = changed
        self._directory = pod.directory / "containers" / plan.name
        self._over = asyncio.Event()
        self._over.set()
        self._stopping = False
        self._boots = 0
        self._launcher = 0

    @property
    def log_path(self) -> Path:
        """Output of the present run of the container, at the same path on host and node."""
        return self._directory / f"{self.state.restarts}.log"

    def log(self) -> str:
        """Return what all runs of the container have printed."""
        files = sorted(self._directory.glob("*.log"), key=lambda file: int(file.stem))
        return "".join(file.read_text(errors="replace") for file in files)

    @property
    def plan_path(self) -> Path:
        """The plan that guest/container.py carries out."""
        return self._directory / "plan.json"

    async def run(self, restart_policy: str) -> int:
        """Run until the policy says not to run again, or the node died (then LOST); return the last exit code."""
        backoff = 0.0
        while True:
            began = time.monotonic()
            code = await self._run_once()
            again = restart_policy == "Always" or (restart_policy == "OnFailure" and code != 0)
            if code == LOST or self._stopping or not again:
                return code
            if time.monotonic() - began > BACKOFF_RESET_SECONDS:
                backoff = 0.0
            if backoff:
                self.state.wait("CrashLoopBackOff", f"back-off {backoff:g}s restarting failed container")
                self._changed()
            await asyncio.sleep(backoff)
            backoff = min(max(backoff * 2, BACKOFF_SECONDS), BACKOFF_LIMIT_SECONDS)
            self.state.restarts += 1

    async def _run_once(self) -> int:
        await self._link.until_answering()
        self._directory.mkdir(parents=True, exist_ok=True)
        self.plan_path.write_text(json.dumps(self.plan.runtime))
        for name in ("pid", "error"):
            (self._directory / name).unlink(missing_ok=True)
        self._over.clear()
        try:
            code, message = await self._launch()
        except LabError as error:
            LOG.info("%s/%s on %s: lost: %s", self._pod.name, self.plan.name, self._link.name, error)
            code, message = LOST, "the node died"
        finally:
            self._over.set()
        self.state.end(code, time.time(), message)
        self._changed()
        LOG.info("%s/%s on %s: ended with %s %s", self._pod.name, self.plan.name, self._link.name, code, message)
        return code

    async def _launch(self) -> tuple[int, str]:
        handle = self._link.handle
        # Only the first process of a PID namespace takes all others with it; unshare waits and hands on its end.
        unshare = ["unshare", "--mount", "--pid", "--ipc", "--fork", "--kill-child"]
        argv = [*unshare, PYTHON, "-ES", str(self._link.runtime), "run", str(self.plan_path)]
        self._boots = handle.boots
        self._launcher = await handle.spawn(argv, self.log_path, {"PATH": SYSTEM_PATH}, clear_env=True)
        ended = asyncio.create_task(handle.wait(self._launcher))
        probes: asyncio.Task[None] | None = None
        try:
            pid = await self._until_started(ended)
            if pid:
                self.state.run(pid, time.time())
                self._changed()
                probes = asyncio.create_task(self._probe_all())
            code = await ended
        finally:
            ended.cancel()
            if probes is not None:
                probes.cancel()
        complaint = self._directory / "error"
        message = complaint.read_text(errors="replace") if code == SETUP_FAILED and complaint.exists() else ""
        return (code if code >= 0 else 128 - code), message

    async def _until_started(self, ended: "asyncio.Task[int]") -> int:
        file = self._directory / "pid"
        while not ended.done():
            # Nothing but regular files crosses hostfs, so this is looked at rather than waited for.
            text = file.read_text() if file.exists() else ""
            if text.endswith("\n"):
                return int(text)
            await asyncio.sleep(POLL_SECONDS)
        return 0

    async def signal(self, number: int) -> None:
        """Signal the container's first process. Raises NodeUnreachable, LabError when it does not run."""
        if not self.state.pid:
            raise LabError(f"container {self.plan.name} of {self._pod.name} does not run")
        await self._link.handle.signal(self.state.pid, number)

    async def execute(self, argv: Sequence[str], stdin: str = "", seconds: float = 30) -> Completed:
        """Run a command in the container's namespaces, as its user with its capabilities."""
        if not self.state.pid:
            raise LabError(f"container {self.plan.name} of {self._pod.name} does not run")
        runtime = [PYTHON, "-ES", str(self._link.runtime), "exec", str(self.plan_path), str(self.state.pid)]
        return await self._link.handle.run([*runtime, *argv], stdin, seconds)

    async def stop(self, grace_seconds: float) -> None:
        """End the container for good: preStop, SIGTERM, and SIGKILL when the grace is over. On a dead node: nothing."""
        self._stopping = True
        if self._over.is_set():
            return
        deadline = time.monotonic() + grace_seconds
        if grace_seconds > 0 and self.state.pid:
            await self._pre_stop(grace_seconds)
        await self._terminate(max(deadline - time.monotonic(), 0))

    async def _pre_stop(self, grace_seconds: float) -> None:
        try:
            if self.plan.pre_stop:
                done = await self.execute(self.plan.pre_stop, seconds=grace_seconds)
                if done.returncode:
                    LOG.warning("%s/%s: preStop ended with %s", self._pod.name, self.plan.name, done.returncode)
            if self.plan.pre_stop_sleep:
                await self._ended_within(min(self.plan.pre_stop_sleep, grace_seconds))
        except LabError as error:
            LOG.warning("%s/%s: preStop: %s", self._pod.name, self.plan.name, error)

    async def _terminate(self, grace_seconds: float) -> None:
        """Signal until the container is gone."""
        if grace_seconds > 0 and self.state.pid:
            await self._try_signal(self.state.pid, TERM)
            if await self._ended_within(grace_seconds):
                return
        while not self._over.is_set():
            # The launcher takes a container along that is only being set up.
            await self._try_signal(self.state.pid or self._launcher, KILL)
            await self._ended_within(1.0)

    async def _try_signal(self, pid: int, number: int) -> None:
        try:
            if pid:
                await self._link.handle.signal(pid, number)
        except LabError as error:
            LOG.info("%s/%s: signal %s: %s", self._pod.name, self.plan.name, number, error)

    async def _ended_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._over.wait()
        except TimeoutError:
            return False
        return True

    async def _probe_all(self) -> None:
        """Do what kubelet does with probes while the container runs."""
        probes = self.plan.probes
        if startup := probes.get("startup"):
            await self._probe(startup, "startup", lambda verdict: verdict)
        self.state.started = True
        self.state.ready = "readiness" not in probes
        self._changed()
        async with asyncio.TaskGroup() as group:
            if readiness := probes.get("readiness"):
                group.create_task(self._probe(readiness, "readiness", self._set_ready))
            if liveness := probes.get("liveness"):
                group.create_task(self._probe(liveness, "liveness", lambda _: False))

    def _set_ready(self, verdict: bool) -> bool:  # noqa: FBT001 - the verdict is the datum
        if self.state.ready != verdict:
            self.state.ready = verdict
            self._changed()
        return False

    async def _probe(self, probe: Probe, kind: str, enough: Callable[[bool], bool]) -> None:
        """Ask again and again; end when `enough` says so. A failed startup or liveness probe ends the container."""
        await asyncio.sleep(probe.initial_delay)
        counter = Counter(probe)
        while True:
            reason = await self._ask(probe)
            if reason is not None:
                verdict = counter.add(not reason)
                if reason:
                    LOG.info(
                        "%s/%s on %s: %s probe failed: %s",
                        self._pod.name,
                        self.plan.name,
                        self._link.name,
                        kind,
                        reason,
                    )
                if verdict is False and kind != "readiness":
                    LOG.info(
                        "%s/%s on %s: killed by its %s probe", self._pod.name, self.plan.name, self._link.name, kind
                    )
                    grace = probe.grace_seconds if probe.grace_seconds is not None else self._pod.grace_seconds
                    await self._terminate(grace)
                    return
                if verdict is not None and enough(verdict):
                    return
            await asyncio.sleep(probe.period)

    async def _ask(self, probe: Probe) -> str | None:
        """Return an empty text for success, else the reason; None when the node could not be asked."""
        try:
            if probe.kind == "exec":
                done = await self.execute(probe.command, seconds=probe.timeout + 2)
                return "" if done.returncode == 0 else done.stderr.strip() or f"exit code {done.returncode}"
            return await ask(probe, self._link.handle, self._link.handle.spec.lan_address)
        except NodeUnreachable:
            return None
        except LabError as error:
            return str(error)
