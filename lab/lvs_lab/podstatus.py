"""What is known of a pod's containers, and the PodStatus that follows from it. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

Object = dict[str, Any]
LOST = 255
"""Exit code of a container whose node died under it, as kubelet reports it."""


def timestamp(seconds: float) -> str:
    """Format seconds since the epoch as Kubernetes does."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(kw_only=True)
class ContainerState:
    """One container, as its worker sees it. `phase`: waiting, running or terminated."""

    name: str
    image: str
    phase: str = "waiting"
    reason: str = "ContainerCreating"
    message: str = ""
    pid: int = 0
    """Number of the container's first process on its node; 0 unless running."""
    restarts: int = 0
    started: bool = False
    ready: bool = False
    exit_code: int = 0
    started_at: float = 0
    finished_at: float = 0
    last: Object = field(default_factory=dict)

    def wait(self, reason: str, message: str = "") -> None:
        """Note that the container cannot run (yet)."""
        self.phase, self.reason, self.message, self.pid = "waiting", reason, message, 0
        self.started = self.ready = False

    def run(self, pid: int, now: float) -> None:
        """Note that the container's program runs."""
        self.phase, self.reason, self.message, self.pid, self.started_at = "running", "", "", pid, now

    def end(self, exit_code: int, now: float, message: str = "") -> None:
        """Note that it has ended; exit codes over 128 are signals."""
        if self.phase != "running":
            self.started_at = now
        reason = "ContainerStatusUnknown" if exit_code == LOST else "Completed" if exit_code == 0 else "Error"
        self.phase, self.reason, self.message, self.pid = "terminated", reason, message, 0
        self.exit_code, self.finished_at, self.started, self.ready = exit_code, now, False, False
        self.last = self._terminated()

    def _terminated(self) -> Object:
        body: Object = {
            "exitCode": self.exit_code,
            "reason": self.reason,
            "startedAt": timestamp(self.started_at),
            "finishedAt": timestamp(self.finished_at),
        }
        if self.message:
            body["message"] = self.message
        return {"terminated": body}

    def status(self, node: str) -> Object:
        """Return the ContainerStatus."""
        waiting = {"reason": self.reason} | ({"message": self.message} if self.message else {})
        states: dict[str, Object] = {
            "waiting": {"waiting": waiting},
            "running": {"running": {"startedAt": timestamp(self.started_at)}},
            "terminated": self.last,
        }
        return {
            "name": self.name,
            "image": self.image,
            "imageID": "lab://host",
            "containerID": f"lab://{node}/{self.name}/{self.restarts}",
            "ready": self.ready,
            "started": self.started,
            "restartCount": self.restarts,
            "state": states[self.phase],
            "lastState": {} if self.phase == "terminated" else self.last,
        }


@dataclass(kw_only=True)
class PodState:
    """One pod, as its worker sees it."""

    node: str
    addresses: Sequence[str]
    started_at: float
    restart_policy: str
    init_containers: list[ContainerState] = field(default_factory=list)
    containers: list[ContainerState] = field(default_factory=list)
    initialized: bool = False
    refused: str = ""
    conditions_since: dict[str, tuple[str, float]] = field(default_factory=dict)

    @property
    def phase(self) -> str:
        """Return the pod's phase."""
        if self.refused:
            return "Failed"
        failed_init = any(c.phase == "terminated" and c.exit_code for c in self.init_containers)
        if failed_init and self.restart_policy == "Never":
            return "Failed"
        ended = [c for c in self.containers if c.phase == "terminated"]
        if self.initialized and len(ended) == len(self.containers) and self._final(ended):
            return "Failed" if any(c.exit_code for c in ended) else "Succeeded"
        if any(c.phase != "waiting" or c.restarts for c in self.containers):
            return "Running"
        return "Pending"

    def _final(self, ended: Sequence[ContainerState]) -> bool:
        if self.restart_policy == "Never":
            return True
        return self.restart_policy == "OnFailure" and not any(c.exit_code for c in ended)

    @property
    def ready(self) -> bool:
        """Whether every container runs and passes its readiness probe."""
        return self.initialized and all(c.ready for c in self.containers) and not self.refused

    def status(self, scheduled: Object, now: float) -> Object:
        """Return the PodStatus; `scheduled` is the condition the scheduler wrote, kept as it is."""
        verdicts = {
            "PodReadyToStartContainers": not self.refused,
            "Initialized": self.initialized,
            "ContainersReady": self.ready,
            "Ready": self.ready,
        }
        conditions = [scheduled] if scheduled else []
        for kind, verdict in verdicts.items():
            status = "True" if verdict else "False"
            if self.conditions_since.get(kind, ("",))[0] != status:
                self.conditions_since[kind] = (status, now)
            since = timestamp(self.conditions_since[kind][1])
            condition = {"type": kind, "status": status, "lastProbeTime": None, "lastTransitionTime": since}
            if not verdict:
                condition |= self._why_not(kind)
            conditions.append(condition)
        body: Object = {
            "phase": self.phase,
            "conditions": conditions,
            "hostIP": self.addresses[0],
            "hostIPs": [{"ip": address} for address in self.addresses],
            "podIP": self.addresses[0],
            "podIPs": [{"ip": address} for address in self.addresses],
            "startTime": timestamp(self.started_at),
            "containerStatuses": [c.status(self.node) for c in self.containers],
        }
        if self.init_containers:
            body["initContainerStatuses"] = [c.status(self.node) for c in self.init_containers]
        if self.refused:
            body |= {"reason": "NotInTheLab", "message": self.refused}
        return body

    def _why_not(self, kind: str) -> Object:
        if self.phase in ("Succeeded", "Failed"):
            return {"reason": "PodCompleted" if self.phase == "Succeeded" else "PodFailed"}
        if kind == "Initialized":
            return {"reason": "ContainersNotInitialized"}
        unready = [c.name for c in self.containers if not c.ready]
        return {"reason": "ContainersNotReady", "message": f"containers with unready status: [{' '.join(unready)}]"}


def digest(status: Object) -> Object:
    """Return what matters of a PodStatus, to tell whether the one in the API server is ours."""
    keys = ("name", "ready", "started", "restartCount", "state", "lastState")
    return {
        "phase": status.get("phase"),
        "podIP": status.get("podIP"),
        "message": status.get("message"),
        "conditions": {c["type"]: (c["status"], c.get("reason")) for c in status.get("conditions") or ()},
        "containers": [
            {key: container.get(key) or None for key in keys}
            for kind in ("initContainerStatuses", "containerStatuses")
            for container in status.get(kind) or ()
        ],
    }
