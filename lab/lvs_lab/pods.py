"""What the lab's users see of pods."""

from typing import Any

from lvs_lab.scheduler import Unschedulable, matches
from lvs_lab.spec import PodInfo


def info(pod: dict[str, Any], pids: dict[str, int]) -> PodInfo:
    """Summarise a Pod object; `pids` are of its containers' first processes."""
    meta, status = pod["metadata"], pod.get("status", {})
    conditions = {c["type"]: c["status"] for c in status.get("conditions") or ()}
    return PodInfo(
        name=meta["name"],
        namespace=meta["namespace"],
        node=pod["spec"].get("nodeName", ""),
        phase=status.get("phase", ""),
        ready=conditions.get("Ready") == "True",
        restarts=sum(c.get("restartCount", 0) for c in status.get("containerStatuses") or ()),
        pids=pids,
    )


def selected(selector: str, labels: dict[str, str]) -> bool:
    """Evaluate a label selector of the forms `a=b`, `a==b`, `a!=b`, `a`, `!a`, joined by commas."""
    for term in filter(None, (part.strip() for part in selector.split(","))):
        key, operator, value = _parse(term)
        try:
            if not matches({"key": key, "operator": operator, "values": [value]}, labels):
                return False
        except Unschedulable:  # pragma: no cover - _parse makes only operators that are known
            return False
    return True


def _parse(term: str) -> tuple[str, str, str]:
    for sign, operator in (("!=", "NotIn"), ("==", "In"), ("=", "In")):
        if sign in term:
            key, _, value = term.partition(sign)
            return key.strip(), operator, value.strip()
    return (term[1:].strip(), "DoesNotExist", "") if term.startswith("!") else (term, "Exists", "")
