"""Stands in for the kubelet of one node: pods bound to it become processes on it, their state becomes their status.

Also in place of: the container runtime (guest/container.py on the node, see podspec.py for what is honoured) and
kubelet's own access to the API server (the administrator's here: the Node authorizer is not exercised). It serves
nothing itself, so `kubectl logs` and `kubectl exec` do not work: use the lab's `container_log`, `exec_in_container`.
It posts and sees only what a kubelet on that node could: nothing while the node is dead, frozen or cut off.
"""

import asyncio
import logging
import time
from typing import Any

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, ApiError, Mirror
from lvs_lab.image import Image
from lvs_lab.kubelet_pod import PodWorker
from lvs_lab.nodelink import NodeLink
from lvs_lab.podfields import NodeFacts
from lvs_lab.podstatus import digest

LOG = logging.getLogger(__name__)
Object = dict[str, Any]
RETRY_SECONDS = 0.5


class Kubelet:
    """The pods of one node."""

    def __init__(self, link: NodeLink, facts: NodeFacts, image: Image, client: ApiClient, pods: Mirror) -> None:
        self.link = link
        self.pods: dict[str, PodWorker] = {}
        self._facts = facts
        self._image = image
        self._client = client
        self._mirror = pods
        self._changed = pods.subscribe()

    async def run(self) -> None:
        """Keep pods and statuses right until cancelled."""
        await self._mirror.listed.wait()
        link_changes = asyncio.create_task(self._forward_link_changes())
        try:
            while True:
                self._changed.clear()
                done = True
                try:
                    if self.link.connected:
                        self._sync()
                        done = await self._post_all()
                except Exception:  # the loop outlives its faults, visibly
                    LOG.exception("%s: kubelet", self.link.name)
                    done = False
                if not done:
                    await asyncio.sleep(RETRY_SECONDS)
                else:
                    await self._changed.wait()
                    await asyncio.sleep(0.02)  # changes come in groups
        finally:
            link_changes.cancel()
            await asyncio.gather(*(worker.abandon() for worker in self.pods.values()))

    async def _forward_link_changes(self) -> None:
        while True:
            await self.link.changed.wait()
            self.link.changed.clear()
            self._changed.set()

    def _sync(self) -> None:
        """Start, end and forget pods as the API server has them."""
        mine = {
            pod["metadata"]["uid"]: pod
            for pod in self._mirror.objects.values()
            if pod["spec"].get("nodeName") == self.link.name
        }
        for uid, pod in mine.items():
            worker = self.pods.get(uid)
            deleted = pod["metadata"].get("deletionTimestamp")
            if worker is None:
                over = pod.get("status", {}).get("phase") in ("Succeeded", "Failed")
                if over and not deleted:
                    continue
                worker = PodWorker(
                    pod,
                    link=self.link,
                    facts=self._facts,
                    image=self._image,
                    client=self._client,
                    changed=self._changed.set,
                )
                self.pods[uid] = worker
            if deleted:
                worker.delete(float(pod["metadata"].get("deletionGracePeriodSeconds") or 0), gone=False)
        for uid, worker in list(self.pods.items()):
            if uid not in mine:
                worker.delete(0, gone=True)
                if worker.deletion is not None and worker.deletion.done():
                    del self.pods[uid]

    async def _post_all(self) -> bool:
        """Post every status that is not what the API server has; False when something is to be tried again."""
        done = True
        for worker in list(self.pods.values()):
            pod = self._mirror.objects.get((worker.namespace, worker.name))
            if pod is None or pod["metadata"]["uid"] != worker.uid:
                continue
            conditions = pod["status"].get("conditions") or ()
            scheduled: Object = next((c for c in conditions if c["type"] == "PodScheduled"), {})
            status = worker.state.status(scheduled, time.time())
            if digest(status) == digest(pod["status"]):
                continue
            done = await self._post(worker, status) and done
        return done

    async def _post(self, worker: PodWorker, status: Object) -> bool:
        path = f"/api/v1/namespaces/{worker.namespace}/pods/{worker.name}/status"
        body = {"metadata": {"uid": worker.uid}, "status": status}
        try:
            await self._client.call("PATCH", path, body, content_type="application/merge-patch+json")
        except ApiError as error:
            if error.code in (404, 409):  # deleted, or another pod of the same name: the mirror will tell
                return True
            LOG.info("%s: %s", self.link.name, error)
            return False
        except WAY_ERRORS as error:
            LOG.info("%s: post status: %s", self.link.name, error or type(error).__name__)
            return False
        return True
