"""Section `latency`: from a write to the API server to the director's kernel; memory of the two processes.

The observer runs on the Active director and makes the writes itself, so that both stamps come from one clock. It
reads IPVS by netlink about once a millisecond. Real servers carry the VIP before the clock starts (another
VirtualService holds it), so what is measured is: API write, controller, API write, watch, agent, kernel.
"""

import base64
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import yaml

from lvs_lab import Lab
from tests.bench.figures import Figure, figure
from tests.e2e.cluster import Cluster, as_list, wait_until

ROOT = Path(__file__).parents[2]
VIP = "192.168.35.101"
SERVICES = 100
SERVERS = 10
SECTION = "latency"
AIM_MILLISECONDS = "p99 < 200"


def measure(quick: bool, progress: Callable[[str], None]) -> list[Figure]:  # noqa: FBT001
    """Start a lab with the operator and measure everything in one run."""
    count = 10 if quick else 300
    services = 10 if quick else SERVICES
    with Lab.start(progress=progress) as lab:
        cluster = Cluster(lab, ROOT)
        progress("installing the operator")
        cluster.install()
        figures = latencies(cluster, count, progress)
        progress(f"memory with {services} services of {SERVERS} real servers")
        return figures + memory(cluster, services)


def latencies(cluster: Cluster, count: int, progress: Callable[[str], None]) -> list[Figure]:
    """Measure creation and change of weight, `count` times each."""
    cluster.apply(server("latency-1", "storage-1", pool="latency"), service("base", VIP, 80, pool="latency"))
    cluster.wait_for("virtualservice", "base")
    progress(f"{count} VirtualServices, one after the other")
    created = observe(cluster, {"kind": "create", "count": count, "port": 1000, "weight": 100})
    for number in range(count):
        cluster.lab.api("DELETE", f"/apis/lvs-operator.io/v1alpha1/namespaces/default/virtualservices/latency-{number}")
    director = cluster.active("base").name
    wait_until(lambda: sum(VIP in line and "-A" in line for line in cluster.ipvs(director)) == 1, within=60)
    progress(f"{count} changes of weight")
    weighed = observe(cluster, {"kind": "weight", "count": count, "port": 80, "weight": 100, "realServer": "latency-1"})
    return [
        figure(SECTION, "apply_to_kernel_p50_ms", created, "ms"),
        figure(SECTION, "apply_to_kernel_p99_ms", created, "ms", aim=AIM_MILLISECONDS, part=0.99),
        figure(SECTION, "weight_to_kernel_p50_ms", weighed, "ms"),
        figure(SECTION, "weight_to_kernel_p99_ms", weighed, "ms", aim=AIM_MILLISECONDS, part=0.99),
    ]


def observe(cluster: Cluster, plan: dict[str, Any]) -> list[float]:
    """Run the observer on the Active director."""
    director = cluster.active("base")
    config = yaml.safe_load(cluster.lab.kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    director.put_file("/run/observer.pem", base64.b64decode(authority).decode())
    plan |= {
        "server": "https://172.30.0.1:6443",
        "ca": "/run/observer.pem",
        "token": config["users"][0]["user"]["token"],
        "vip": VIP,
    }
    director.put_file("/run/observer.json", json.dumps(plan))
    path = f"PYTHONPATH={ROOT / 'operator'}"
    script = str(ROOT / "tests/bench/observer.py")
    done = director.run("env", path, sys.executable, script, "/run/observer.json", timeout=60 + plan["count"] * 2)
    samples: list[float] = json.loads(done.stdout)
    return samples


def memory(cluster: Cluster, services: int) -> list[Figure]:
    """Measure resident memory of the Active director's agent and the leading controller, all services programmed."""
    servers = [
        server(f"many-{number}", None, pool="many", address=f"192.168.35.{130 + number}") for number in range(SERVERS)
    ]
    many = [service(f"many-{number}", "192.168.35.102", 2000 + number, pool="many") for number in range(services)]
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=as_list(*servers, *many), timeout=120)
    cluster.wait_for("virtualservice", f"many-{services - 1}", "Programmed", timeout=120)
    director = cluster.active("base").name
    wait_until(
        lambda: sum("192.168.35.102" in line and "-a" in line for line in cluster.ipvs(director)) == services * SERVERS,
        within=120,
    )
    agents = [resident(cluster, cluster.agent_pod(director), "agent")]
    controllers = [resident(cluster, pod, "controller") for pod in cluster.controller_pods()]
    return [
        figure(SECTION, "agent_rss_mib", agents, "MiB", aim="< 55"),
        figure(SECTION, "controller_rss_mib", [max(controllers)], "MiB", aim="< 100"),
    ]


def resident(cluster: Cluster, pod: str, container: str) -> float:
    """Return VmRSS of a container's first process, in MiB."""
    text = cluster.lab.exec_in_container(pod, container, "cat", "/proc/1/status").stdout
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def service(name: str, address: str, port: int, *, pool: str) -> dict[str, Any]:
    """A VirtualService without a check."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "address": address,
            "ports": [{"port": port}],
            "scheduler": "wrr",
            "realServers": {"selector": {"matchLabels": {"pool": pool}}},
        },
    }


def server(name: str, node: str | None, *, pool: str, address: str = "") -> dict[str, Any]:
    """A RealServer on a node, or a bare address."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "RealServer",
        "metadata": {"name": name, "namespace": "default", "labels": {"pool": pool}},
        "spec": {"nodeName": node} if node else {"addresses": [address]},
    }
