"""What the cluster looks like when a test has failed: a failure that nobody can read is met again."""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from lvs_lab.errors import LabError
from tests.e2e.cluster import NAMESPACE, Cluster

LINES = 40
DIRECTORS = ("director-1", "director-2")


def gather(cluster: Cluster) -> str:
    """Describe objects, kernels, Events and logs; a part that cannot be read says so."""
    parts: list[tuple[str, Callable[[], str]]] = [
        ("objects", partial(_objects, cluster)),
        ("events", partial(_events, cluster)),
        *((f"{name}, kernel", partial(_kernel, cluster, name)) for name in DIRECTORS),
        *(
            (f"{name}, {container}", partial(_agent_log, cluster, name, container))
            for name in DIRECTORS
            for container in ("agent", "speaker", "redirector")
        ),
        ("controllers", partial(_controller_logs, cluster)),
    ]
    return "\n".join(f"--- {title}\n{_attempt(read)}" for title, read in parts)


def _attempt(read: Callable[[], str]) -> str:
    try:
        return read()
    except (LabError, OSError, StopIteration, ValueError) as error:
        return f"cannot be read: {error}"


def _objects(cluster: Cluster) -> str:
    text = cluster.kubectl("get", "virtualservices,realservers,lvsnodes,directortables,pods", "-A", check=False)
    loaded: dict[str, Any] = json.loads(cluster.lab.kubectl("get", "virtualservices", "-A", "-o", "json").stdout)
    services = [
        f"{item['metadata']['name']}: {condition['type']}={condition['status']} {condition['message']}"
        for item in loaded["items"]
        for condition in item.get("status", {}).get("conditions", [])
    ]
    return "\n".join([text.rstrip(), *services])


def _events(cluster: Cluster) -> str:
    text = cluster.kubectl("get", "events", "-A", "--sort-by=.lastTimestamp", check=False)
    return "\n".join(text.splitlines()[-LINES:])


def _kernel(cluster: Cluster, name: str) -> str:
    command = (
        "cut -d' ' -f1 /proc/uptime; ip -br addr show; test ! -e /proc/net/ip_vs || { ipvsadm -Ln;"
        " ipvsadm -Lcn | awk 'NR > 2 {print $3, $5, $6}' | sort | uniq -c; ipvsadm -Lcn | grep -v FIN_W | head -40; }"
    )
    return cluster.nodes[name].run("sh", "-c", command).stdout


def _agent_log(cluster: Cluster, node: str, container: str) -> str:
    return _log(cluster, cluster.agent_pod(node), container)


def _controller_logs(cluster: Cluster) -> str:
    return "\n".join(_log(cluster, pod, "controller") for pod in cluster.controller_pods())


def _log(cluster: Cluster, pod: str, container: str) -> str:
    return f"{NAMESPACE}/{pod}\n" + "\n".join(cluster.lab.container_log(pod, container).splitlines()[-LINES:])
