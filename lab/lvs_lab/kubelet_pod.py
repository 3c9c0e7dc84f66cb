"""One pod on a node, from its binding to its deletion."""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, ApiError
from lvs_lab.errors import LabError
from lvs_lab.image import Image
from lvs_lab.kubelet_container import ContainerWorker
from lvs_lab.nodelink import NodeLink
from lvs_lab.podfields import NodeFacts, Refused
from lvs_lab.podspec import ContainerPlan, PodPlan, plan_pod
from lvs_lab.podstatus import LOST, ContainerState, PodState
from lvs_lab.tokens import NotMountable, Projector

LOG = logging.getLogger(__name__)
Object = dict[str, Any]
LOST_SECONDS = 0.5


class PodWorker:
    """Runs one pod on one node. `changed` is called after every change of `state`."""

    def __init__(
        self,
        pod: Object,
        *,
        link: NodeLink,
        facts: NodeFacts,
        image: Image,
        client: ApiClient,
        changed: Callable[[], None],
    ) -> None:
        meta, spec = pod["metadata"], pod["spec"]
        self.namespace, self.name, self.uid = str(meta["namespace"]), str(meta["name"]), str(meta["uid"])
        self.state = PodState(
            node=facts.name,
            addresses=facts.addresses,
            started_at=time.time(),
            restart_policy=spec.get("restartPolicy", "Always"),
            init_containers=[_state(c) for c in spec.get("initContainers") or ()],
            containers=[_state(c) for c in spec["containers"]],
        )
        self.workers: dict[str, ContainerWorker] = {}
        self.projector: Projector | None = None
        self.deletion: asyncio.Task[None] | None = None
        self._link = link
        self._client = client
        self._changed = changed
        self._plan: PodPlan | None = None
        try:
            self._plan = plan_pod(pod, facts, image)
        except Refused as refusal:
            LOG.warning("pod %s/%s refused: %s", self.namespace, self.name, refusal)
            self.state.refused = str(refusal)
        self._main = asyncio.create_task(self._run())

    async def _run(self) -> None:
        """Run all containers, again from the start when the node died under them."""
        self._changed()
        plan = self._plan
        if plan is None:
            return
        try:
            while await self._run_through(plan) == LOST:
                self.state.initialized = False
                for state in (*self.state.init_containers, *self.state.containers):
                    state.restarts += 1
                    state.wait("ContainerCreating", "the node has restarted")
                self._changed()
                await asyncio.sleep(LOST_SECONDS)
                await self._link.until_answering()
        except Exception:
            LOG.exception("pod %s/%s: the lab's kubelet failed", self.namespace, self.name)
            self.state.refused = "the lab's kubelet failed: see its log"
            self._changed()

    async def _run_through(self, plan: PodPlan) -> int:
        projector = self.projector = Projector(self._client, plan)
        await self._write_volumes(projector)
        fresh = asyncio.create_task(projector.keep_fresh())
        try:
            init_policy = "Never" if plan.restart_policy == "Never" else "OnFailure"
            for container, state in zip(plan.init_containers, self.state.init_containers, strict=True):
                code = await self._worker(container, state).run(init_policy)
                if code:
                    return code
            self.state.initialized = True
            self._changed()
            pairs = zip(plan.containers, self.state.containers, strict=True)
            codes = await asyncio.gather(*(self._worker(c, s).run(plan.restart_policy) for c, s in pairs))
            return LOST if LOST in codes else max(codes)
        finally:
            fresh.cancel()

    def _worker(self, container: ContainerPlan, state: ContainerState) -> ContainerWorker:
        assert self._plan is not None  # noqa: S101 - only a planned pod runs
        worker = ContainerWorker(self._link, self._plan, container, state, self._changed)
        self.workers[container.name] = worker
        return worker

    async def _write_volumes(self, projector: Projector) -> None:
        while True:
            try:
                await self._link.until_connected()
                await projector.write_all()
            except (NotMountable, ApiError, *WAY_ERRORS) as error:
                for state in (*self.state.init_containers, *self.state.containers):
                    state.wait("ContainerCreating", f"volumes: {error}")
                self._changed()
                await asyncio.sleep(0.5)
            else:
                return

    def delete(self, grace_seconds: float, *, gone: bool) -> None:
        """Begin to end the pod; `gone`: its object has left the API server already."""
        if self.deletion is None:
            self.deletion = asyncio.create_task(self._delete(grace_seconds, gone=gone))
            self.deletion.add_done_callback(self._deleted)

    def _deleted(self, deletion: "asyncio.Task[None]") -> None:
        if not deletion.cancelled() and (error := deletion.exception()):
            LOG.error("pod %s/%s: deletion failed, tried again", self.namespace, self.name, exc_info=error)
            self.deletion = None
        self._changed()

    async def _delete(self, grace_seconds: float, *, gone: bool) -> None:
        try:
            await asyncio.gather(*(worker.stop(grace_seconds) for worker in self.workers.values()))
            self._main.cancel()
            await asyncio.gather(self._main, return_exceptions=True)
            # Between two runs of a container there was nothing to stop; now there is no next run.
            await asyncio.gather(*(worker.stop(0) for worker in self.workers.values()))
        finally:
            self._changed()
        await self._clean_up()
        while not gone:
            await self._link.until_connected()
            gone = await self._delete_object()

    async def _clean_up(self) -> None:
        if self._plan is None:
            return
        for projection in self._plan.projections:
            for file in projection.directory.glob("**/*"):
                if file.is_file():
                    file.unlink()
        try:
            if self._link.handle.alive:
                await self._link.handle.run(["rm", "-rf", self._plan.scratch])
        except LabError as error:
            LOG.info(
                "pod %s/%s: its emptyDirs stay until %s reboots: %s", self.namespace, self.name, self._link.name, error
            )

    async def _delete_object(self) -> bool:
        path = f"/api/v1/namespaces/{self.namespace}/pods/{self.name}"
        body = {"gracePeriodSeconds": 0, "preconditions": {"uid": self.uid}}
        try:
            status, answer = await self._client.request("DELETE", path, body)
        except WAY_ERRORS as error:
            LOG.info("pod %s/%s: delete: %s", self.namespace, self.name, error or type(error).__name__)
            status, answer = 0, ""
        if status in (200, 202, 404, 409):  # 409: the name belongs to another pod by now
            return True
        LOG.info("pod %s/%s: delete: %s %s", self.namespace, self.name, status, answer)
        await asyncio.sleep(0.5)
        return False

    async def abandon(self) -> None:
        """Stop looking after the pod; the lab is about to end."""
        tasks = [task for task in (self._main, self.deletion) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _state(container: Object) -> ContainerState:
    return ContainerState(name=container["name"], image=container["image"])
