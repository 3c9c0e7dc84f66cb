"""Node objects and their Leases, as a kubelet keeps them; the node lifecycle controller does the rest."""

import asyncio
import logging
import time
from datetime import UTC, datetime
from typing import Any

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, ApiError, Mirror
from lvs_lab.nodelink import NodeLink
from lvs_lab.podstatus import timestamp

LOG = logging.getLogger(__name__)
Object = dict[str, Any]
RENEW_SECONDS = 2.0
STATUS_SECONDS = 60.0
VERSION = "v1.36.3"
MERGE = "application/merge-patch+json"
"""For the status: server-side apply refuses two addresses of one type, which a dual-stack node has."""
APPLY: dict[str, Any] = {
    "content_type": "application/apply-patch+yaml",
    "params": {"fieldManager": "lvs-lab-kubelet", "force": "true"},
}


def _ready(node: Object) -> bool:
    conditions = node.get("status", {}).get("conditions") or ()
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


def usable(node: Object | None) -> bool:
    """Tell whether a Node is Ready and free of taints."""
    return node is not None and _ready(node) and not node["spec"].get("taints")


class NodeReporter:
    """Registers one node and renews its Lease while it is connected."""

    def __init__(self, link: NodeLink, client: ApiClient, nodes: Mirror) -> None:
        self._link = link
        self._client = client
        self._nodes = nodes
        self._status_at = 0.0
        self._registered = False

    async def run(self) -> None:
        """Report until cancelled; what fails is tried again at the next beat."""
        while True:
            await self._link.until_connected()
            try:
                await self._beat()
            except (*WAY_ERRORS, ApiError) as error:
                LOG.info("%s: node status: %s", self._link.name, error or type(error).__name__)
                await asyncio.sleep(0.5)
                continue
            await asyncio.sleep(RENEW_SECONDS)

    async def _beat(self) -> None:
        name = self._link.name
        if not self._registered or ("", name) not in self._nodes.objects:
            await self._client.call("PATCH", f"/api/v1/nodes/{name}", self.node(), **APPLY)
            self._registered, self._status_at = True, 0.0
        lease = f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{name}"
        await self._client.call("PATCH", lease, self.lease(), **APPLY)
        if time.monotonic() - self._status_at > STATUS_SECONDS or not self._said_ready():
            await self._client.call("PATCH", f"/api/v1/nodes/{name}/status", self.status(), content_type=MERGE)
            self._status_at = time.monotonic()

    def _said_ready(self) -> bool:
        node = self._nodes.objects.get(("", self._link.name))
        return node is not None and _ready(node)

    def node(self) -> Object:
        """Return the Node that is registered."""
        spec = self._link.handle.spec
        labels = {
            "kubernetes.io/hostname": spec.name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": "amd64",
            "beta.kubernetes.io/os": "linux",
            **spec.labels,
        }
        return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": spec.name, "labels": labels}}

    def lease(self) -> Object:
        """Return the node's Lease, renewed now."""
        name = self._link.name
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": "kube-node-lease"},
            "spec": {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": now},
        }

    def status(self) -> Object:
        """Return the NodeStatus of a healthy node."""
        spec = self._link.handle.spec
        now = timestamp(time.time())
        verdicts = [
            ("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            ("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            ("PIDPressure", "False", "KubeletHasSufficientPID"),
            ("Ready", "True", "KubeletReady"),
        ]
        conditions = [
            {"type": t, "status": s, "reason": r, "message": "", "lastHeartbeatTime": now, "lastTransitionTime": now}
            for t, s, r in verdicts
        ]
        addresses = [
            {"type": "InternalIP", "address": spec.lan_address},
            {"type": "InternalIP", "address": spec.lan_address6},
            {"type": "Hostname", "address": spec.name},
        ]
        size = {"cpu": "1", "memory": f"{spec.memory_mib}Mi", "pods": "110"}
        info = {
            "machineID": spec.name,
            "systemUUID": spec.name,
            "bootID": f"{spec.name}-{self._link.handle.boots}",
            "kernelVersion": "user-mode-linux",
            "osImage": "lvs-lab",
            "containerRuntimeVersion": "lab://1",
            "kubeletVersion": VERSION,
            "kubeProxyVersion": "",
            "operatingSystem": "linux",
            "architecture": "amd64",
        }
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": spec.name},
            "status": {
                "conditions": conditions,
                "addresses": addresses,
                "capacity": size,
                "allocatable": size,
                "nodeInfo": info,
            },
        }
