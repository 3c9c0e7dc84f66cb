"""Section `ipvs-api`: many VirtualServices at once, and one weight that all of them share, from API to kernel.

In the lab with the operator. The kernel is watched on the Active director; API writes are counted by the API server.
"""

import re
import sys
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from lvs_lab import Lab, Node
from tests.bench.figures import Figure, figure
from tests.bench.latency import server, service
from tests.e2e.cluster import Cluster, as_list

ROOT = Path(__file__).parents[2]
SECTION = "ipvs-api"
VIP = "192.168.35.101"
SERVICES = 1000  # as many as a group may have
REAL_SERVER = "shared"
WAIT_SECONDS = 600
_WRITES = re.compile(r'^apiserver_request_total\{(?=[^}]*group="lvs-operator\.io")([^}]*)\} (\d+)', re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')
_READING = frozenset({"GET", "LIST", "WATCH"})
KINDS = ("directortables", "lvsnodes", "lvsnodes/status", "virtualservices/status", "realservers/status")


def measure(quick: bool, progress: Callable[[str], None]) -> list[Figure]:  # noqa: FBT001
    """Start a lab with the operator and measure everything in one run."""
    count = 20 if quick else SERVICES
    with Lab.start(progress=progress) as lab, ThreadPoolExecutor(1) as threads:
        cluster = Cluster(lab, ROOT)
        progress("installing the operator")
        cluster.install()
        cluster.apply(
            server(REAL_SERVER, None, pool="shared", address="192.168.35.130"), service("base", VIP, 80, pool="shared")
        )
        cluster.wait_for("virtualservice", "base", timeout=60)
        director = cluster.active("base")

        progress(f"{count} VirtualServices at once")
        many = [service(f"many-{number}", VIP, 1000 + number, pool="shared") for number in range(count - 1)]
        before = writes(lab)
        watching = threads.submit(watch, director, count, 100)
        began = time.monotonic()
        cluster.kubectl("apply", "--server-side", "-f", "-", stdin=as_list(*many), timeout=WAIT_SECONDS)
        applied = time.monotonic()
        progress(f"kubectl took {applied - began:.1f} s; waiting for the kernel")
        figures = [
            figure(SECTION, "apply_many_kubectl_s", [applied - began], "s"),
            figure(SECTION, "apply_many_to_kernel_s", [ended(watching) - began], "s"),
        ]
        figures += written(lab, before, "apply_many", progress)

        progress(f"one weight that {count} tables share")
        before = writes(lab)
        watching = threads.submit(watch, director, count, 50)
        time.sleep(2)  # the watcher has started
        began = time.monotonic()
        cluster.kubectl("patch", "realserver", REAL_SERVER, "--type=merge", "-p", '{"spec": {"weight": 50}}')
        figures.append(figure(SECTION, "shared_weight_to_kernel_s", [ended(watching) - began], "s"))
        return figures + written(lab, before, "shared_weight", progress)


def watch(director: Node, services: int, weight: int) -> float:
    """Wait on the director until its kernel has it; return when that was."""
    path = f"PYTHONPATH={ROOT / 'operator'}"
    script = str(ROOT / "tests/bench/ipvs_watch.py")
    arguments = [VIP, str(services), str(weight), str(WAIT_SECONDS)]
    director.run("env", path, sys.executable, script, *arguments, timeout=WAIT_SECONDS + 60)
    return time.monotonic()


def ended(watching: "Future[float]") -> float:
    """Return when a watch ended."""
    return watching.result(timeout=WAIT_SECONDS + 120)


def writes(lab: Lab) -> dict[str, int]:
    """Return the API server's count of writes to our kinds, by resource."""
    found: dict[str, int] = {}
    for labels, count in _WRITES.findall(lab.kubectl("get", "--raw", "/metrics").stdout):
        label = dict(_LABEL.findall(labels))
        if label["verb"] not in _READING:
            name = "/".join(part for part in (label["resource"], label["subresource"]) if part)
            found[name] = found.get(name, 0) + int(count)
    return found


def written(lab: Lab, before: dict[str, int], name: str, progress: Callable[[str], None]) -> list[Figure]:
    """Return how many writes came since, once they have ceased."""
    after = writes(lab)
    while True:
        time.sleep(3)
        now = writes(lab)
        if now.get("directortables") == after.get("directortables") and now.get("virtualservices/status") == after.get(
            "virtualservices/status"
        ):
            break
        after = now
    progress(", ".join(f"{kind}: {now.get(kind, 0) - before.get(kind, 0)}" for kind in KINDS))
    return [
        figure(SECTION, f"{name}_writes_{kind.replace('/', '_')}", [now.get(kind, 0) - before.get(kind, 0)], "writes")
        for kind in KINDS
    ]
