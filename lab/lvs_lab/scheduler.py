"""Stands in for kube-scheduler: binds pods to nodes. The choice is pure; the loop is level-triggered.

Honoured: nodeSelector, required node affinity (DaemonSet pods name their node by it), taints and tolerations, pod
anti-affinity by hostname (required and preferred), readiness and unschedulable nodes; among equals the node with the
fewest pods, then by name. Ignored: resources, priorities, topologySpreadConstraints that only wish (ScheduleAnyway),
preferred node affinity. A pod with anything else stays Pending with a condition that says so.
"""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import Any

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, ApiError, Mirror

LOG = logging.getLogger(__name__)
HOSTNAME = "kubernetes.io/hostname"
Object = dict[str, Any]


class Unschedulable(Exception):  # it is an answer, not a fault
    """No node fits; the text is the pod's condition."""


def choose(pod: Object, nodes: Sequence[Object], pods: Sequence[Object]) -> str:
    """Return the name of the node for a pod, given all nodes and all pods. Raises Unschedulable."""
    _refuse_unknown(pod["spec"])
    placed: dict[str, list[Object]] = {node["metadata"]["name"]: [] for node in nodes}
    for other in pods:
        if other.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            placed.get(other["spec"].get("nodeName", ""), []).append(other)
    reasons: dict[str, int] = {}
    fitting: list[tuple[int, int, str]] = []
    for node in nodes:
        name = node["metadata"]["name"]
        if reason := why_not(pod, node, placed[name]):
            reasons[reason] = reasons.get(reason, 0) + 1
        else:
            fitting.append((_unwanted(pod, placed[name]), len(placed[name]), name))
    if not fitting:
        listed = ", ".join(f"{count} {reason}" for reason, count in sorted(reasons.items()))
        raise Unschedulable(f"0/{len(nodes)} nodes are available: {listed or 'there is none'}")
    return min(fitting)[2]


def _refuse_unknown(spec: Object) -> None:
    affinity = spec.get("affinity") or {}
    if affinity.get("podAffinity"):
        raise Unschedulable("podAffinity is not stood in for by the lab")
    if any(c.get("whenUnsatisfiable") == "DoNotSchedule" for c in spec.get("topologySpreadConstraints") or ()):
        raise Unschedulable("topologySpreadConstraints with DoNotSchedule are not stood in for by the lab")
    for term in _anti_affinity(spec, "requiredDuringSchedulingIgnoredDuringExecution"):
        if term.get("topologyKey") != HOSTNAME:
            raise Unschedulable(f"pod anti-affinity by {term.get('topologyKey')} is not stood in for by the lab")


def why_not(pod: Object, node: Object, there: Iterable[Object]) -> str:
    """Return why a pod may not go to a node; empty when it may."""
    spec = pod["spec"]
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return "node(s) didn't match Pod's node affinity/selector"
    if not _affinity_matches(spec, node):
        return "node(s) didn't match Pod's node affinity/selector"
    for taint in taints(node):
        tolerated = any(tolerates(toleration, taint) for toleration in spec.get("tolerations") or ())
        if taint["effect"] in ("NoSchedule", "NoExecute") and not tolerated:
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    terms = _anti_affinity(spec, "requiredDuringSchedulingIgnoredDuringExecution")
    if any(_selects(term, pod, other) for term in terms for other in there):
        return "node(s) didn't match pod anti-affinity rules"
    return ""


def taints(node: Object) -> list[Object]:
    """Return a node's taints, with those that cordoning and not being Ready amount to."""
    spec = node.get("spec") or {}
    result: list[Object] = list(spec.get("taints") or ())
    keys = {taint["key"] for taint in result}
    if spec.get("unschedulable") and "node.kubernetes.io/unschedulable" not in keys:
        result.append({"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"})
    conditions = {c["type"]: c["status"] for c in (node.get("status") or {}).get("conditions") or ()}
    # The taint by node lifecycle controller comes a moment after the condition.
    unready = {"node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"}
    if conditions.get("Ready") != "True" and not keys & unready:
        result.append({"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"})
    return result


def tolerates(toleration: Object, taint: Object) -> bool:
    """Tell whether one toleration covers one taint (an empty key with Exists covers all)."""
    if toleration.get("effect") and toleration["effect"] != taint["effect"]:
        return False
    if toleration.get("key") and toleration["key"] != taint["key"]:
        return False
    if toleration.get("operator") == "Exists":
        return True
    return bool(toleration.get("key")) and toleration.get("value", "") == taint.get("value", "")


def _affinity_matches(spec: Object, node: Object) -> bool:
    required = ((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(
        "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if not required:
        return True
    labels = node["metadata"].get("labels") or {}
    fields = {"metadata.name": node["metadata"]["name"]}
    return any(
        (term.get("matchExpressions") or term.get("matchFields"))
        and all(matches(e, labels) for e in term.get("matchExpressions") or ())
        and all(matches(e, fields) for e in term.get("matchFields") or ())
        for term in required["nodeSelectorTerms"]
    )


def matches(expression: Object, labels: dict[str, str]) -> bool:
    """Evaluate one requirement of a label or node selector."""
    value = labels.get(expression["key"])
    values = expression.get("values") or []
    match expression["operator"]:
        case "In":
            return value in values
        case "NotIn":
            return value not in values
        case "Exists":
            return value is not None
        case "DoesNotExist":
            return value is None
        case "Gt":
            return value is not None and int(value) > int(values[0])
        case "Lt":
            return value is not None and int(value) < int(values[0])
        case other:
            raise Unschedulable(f"selector operator {other} is not stood in for by the lab")


def _anti_affinity(spec: Object, when: str) -> list[Object]:
    return list(((spec.get("affinity") or {}).get("podAntiAffinity") or {}).get(when) or ())


def _selects(term: Object, pod: Object, other: Object) -> bool:
    if other["metadata"]["namespace"] not in (term.get("namespaces") or [pod["metadata"]["namespace"]]):
        return False
    selector = term.get("labelSelector") or {}
    labels = other["metadata"].get("labels") or {}
    exact = all(labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items())
    return exact and all(matches(e, labels) for e in selector.get("matchExpressions") or ())


def _unwanted(pod: Object, there: Iterable[Object]) -> int:
    """Sum the weights of preferred anti-affinity that a node would break."""
    terms = _anti_affinity(pod["spec"], "preferredDuringSchedulingIgnoredDuringExecution")
    terms = [term for term in terms if term["podAffinityTerm"].get("topologyKey") == HOSTNAME]
    there = list(there)
    return sum(t["weight"] for t in terms for other in there if _selects(t["podAffinityTerm"], pod, other))


class Scheduler:
    """Binds every pod that has no node, whenever pods or nodes change."""

    def __init__(self, client: ApiClient, pods: Mirror, nodes: Mirror) -> None:
        self._client = client
        self._pods = pods
        self._nodes = nodes

    async def run(self) -> None:
        """Schedule until cancelled. Pods are looked at when something changed, and once a second while some wait."""
        changes = self._pods.subscribe(), self._nodes.subscribe()
        await self._nodes.listed.wait()
        await self._pods.listed.wait()
        while True:
            for change in changes:
                change.clear()
            try:
                await self.schedule_all()
            except (*WAY_ERRORS, ApiError) as error:
                LOG.info("scheduler: %s", error or type(error).__name__)
                await asyncio.sleep(0.5)
                continue
            waiting = [asyncio.create_task(change.wait()) for change in changes]
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            for task in waiting:
                task.cancel()

    async def schedule_all(self) -> None:
        """Bind what can be bound and tell the rest why not."""
        everyone = dict(self._pods.objects)
        for key in sorted(everyone, key=lambda k: everyone[k]["metadata"]["creationTimestamp"]):
            pod = everyone[key]
            spec, meta = pod["spec"], pod["metadata"]
            if spec.get("nodeName") or meta.get("deletionTimestamp") or spec.get("schedulingGates"):
                continue
            if spec.get("schedulerName", "default-scheduler") != "default-scheduler":
                continue
            try:
                name = choose(pod, list(self._nodes.objects.values()), list(everyone.values()))
            except Unschedulable as reason:
                await self._explain(pod, str(reason))
                continue
            if await self._bind(meta, name):
                everyone[key] = {**pod, "spec": {**spec, "nodeName": name}}

    async def _bind(self, meta: Object, name: str) -> bool:
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/binding"
        target = {"apiVersion": "v1", "kind": "Node", "name": name}
        body = {
            "apiVersion": "v1",
            "kind": "Binding",
            "metadata": {"name": meta["name"], "uid": meta["uid"]},
            "target": target,
        }
        status, answer = await self._client.request("POST", path, body)
        if status in (404, 409):  # deleted, or bound already and our mirror is late
            return status == 409
        if status >= 400:
            raise ApiError(status, f"bind {meta['name']}: {answer}")
        return True

    async def _explain(self, pod: Object, message: str) -> None:
        old: Object = next((c for c in pod["status"].get("conditions") or () if c["type"] == "PodScheduled"), {})
        if old.get("message") == message:
            return
        meta = pod["metadata"]
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        path = f"/api/v1/namespaces/{meta['namespace']}/pods/{meta['name']}/status"
        body = {"status": {"conditions": [condition]}}
        await self._client.request("PATCH", path, body, content_type="application/strategic-merge-patch+json")
