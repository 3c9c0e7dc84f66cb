"""The part of section `uploads` with real directors: what crosses them, and how fast uploads are, by each way.

Straight to the real servers, by direct routing, by redirect and through HAProxy as a TCP proxy on a director, in turn,
in the same lab.
"""

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from lvs_lab import Lab
from lvs_lab.workload import CLIENT
from tests.bench.figures import Figure, figure
from tests.e2e.cluster import CALM_GROUP, VIP, Cluster, real_server, virtual_service
from tests.e2e.site import with_redirect

ROOT: Final = Path(__file__).parents[2]
GUEST: Final = str(ROOT / "tests/bench/uploads_guest.py")
SECTION: Final = "uploads"
SERVERS: Final = ("storage-1", "storage-2", "storage-3")
DIRECTORS: Final = ("director-1", "director-2")
PORT, UPLOAD_PORT, PROXY_PORT = 8080, 8081, 8082
WORKERS: Final = 6
SIZE: Final = 8 << 20
_HAPROXY: Final = """
global
  maxconn 1024
defaults
  mode tcp
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend vip
  bind :{port}
  default_backend storage
backend storage
  balance leastconn
"""


def measure(quick: bool, progress: Callable[[str], None]) -> list[Figure]:  # noqa: FBT001
    """Upload in each round by each way. Raises RuntimeError when an upload failed."""
    rounds, uploads = (1, 6) if quick else (3, 128)
    with Lab.start(progress=progress) as lab, tempfile.TemporaryDirectory() as name:
        cluster = _set_up(lab, Path(name), progress)
        ways = {
            "direct": [f"{lab.nodes[each].lan_address}:{PORT}" for each in SERVERS],
            "dr": [f"{VIP}:{PORT}"],
            "redirect": [f"{VIP}:{UPLOAD_PORT}"],
            "haproxy_tcp": [f"{lab.nodes[DIRECTORS[0]].lan_address}:{PROXY_PORT}"],
        }
        found: dict[str, list[dict[str, float]]] = {way: [] for way in ways}
        for number in range(rounds):
            for way, places in ways.items():
                found[way].append(_upload(cluster, uploads, places))
                rate = uploads * SIZE / found[way][-1]["seconds"] / 1e6
                progress(f"round {number + 1} of {rounds}, {way}: {rate:.0f} MB/s")
    return _figures(found)


def _set_up(lab: Lab, directory: Path, progress: Callable[[str], None]) -> Cluster:
    cluster = Cluster(lab, ROOT)
    progress("installing the operator with the component redirect")
    cluster.kubectl("apply", "--server-side", "-k", str(with_redirect(directory, ROOT)))
    cluster.rolled_out()
    for name in SERVERS:
        server = lab.nodes[name].spawn(sys.executable, GUEST, "serve", str(PORT))
        server.wait_for_output("ready", timeout=30)
    redirect: dict[str, Any] = {"port": PORT, "algorithm": "leastInboundBytes"}
    upload = virtual_service("upload", port=UPLOAD_PORT, forwardingMethod="Redirect", redirect=redirect)
    del upload["spec"]["scheduler"]
    cluster.apply(CALM_GROUP, virtual_service(port=PORT), upload, *(real_server(name) for name in SERVERS))
    proxy = lab.nodes[DIRECTORS[0]]
    lines = [f"  server {name} {lab.nodes[name].lan_address}:{PORT}" for name in SERVERS]
    proxy.put_file("/run/haproxy.cfg", _HAPROXY.format(port=PROXY_PORT) + "\n".join(lines) + "\n")
    proxy.spawn("haproxy", "-q", "-db", "-f", "/run/haproxy.cfg")
    for name in ("webdav", "upload"):
        cluster.healthy(len(SERVERS), len(SERVERS), name=name)
        cluster.wait_for("virtualservice", name)
    return cluster


def _look(cluster: Cluster) -> dict[str, int]:
    """Return what both directors have received and worked so far."""
    found = [json.loads(cluster.nodes[name].run(sys.executable, GUEST, "look", "eth0").stdout) for name in DIRECTORS]
    return {key: sum(each[key] for each in found) for key in found[0]}


def _upload(cluster: Cluster, uploads: int, places: list[str]) -> dict[str, float]:
    before = _look(cluster)
    argv = [sys.executable, GUEST, "send", str(uploads), str(SIZE), str(WORKERS), *places]
    done: dict[str, float] = json.loads(cluster.nodes[CLIENT].run(*argv, timeout=1200).stdout)
    after = _look(cluster)
    if done["wrong"]:
        raise RuntimeError(f"{done['wrong']} of {uploads} uploads to {places} failed")
    sent = uploads * SIZE
    return {
        "seconds": done["seconds"],
        "percent": 100 * (after["bytes"] - before["bytes"]) / sent,
        "ticks": (after["ticks"] - before["ticks"]) / (sent / (1 << 30)),
    }


def _figures(found: dict[str, list[dict[str, float]]]) -> list[Figure]:
    def ratio(way: str) -> list[float]:
        pairs = zip(found["direct"], found[way], strict=True)
        return [direct["seconds"] / other["seconds"] for direct, other in pairs]

    def values(way: str, key: str) -> list[float]:
        return [each[key] for each in found[way]]

    return [
        figure(SECTION, "director_bytes_percent", values("redirect", "percent"), "%", aim="< 1"),
        figure(SECTION, "director_bytes_percent_dr", values("dr", "percent"), "%"),
        figure(SECTION, "director_bytes_percent_haproxy_tcp", values("haproxy_tcp", "percent"), "%"),
        figure(SECTION, "throughput_vs_direct_ratio", ratio("redirect"), "", aim=">= 0.95"),
        figure(SECTION, "throughput_dr_vs_direct_ratio", ratio("dr"), ""),
        figure(SECTION, "throughput_haproxy_tcp_vs_direct_ratio", ratio("haproxy_tcp"), ""),
        figure(SECTION, "director_cpu_ticks_per_gib", values("redirect", "ticks"), "10 ms/GiB"),
        figure(SECTION, "director_cpu_ticks_per_gib_dr", values("dr", "ticks"), "10 ms/GiB"),
        figure(SECTION, "director_cpu_ticks_per_gib_haproxy_tcp", values("haproxy_tcp", "ticks"), "10 ms/GiB"),
    ]
