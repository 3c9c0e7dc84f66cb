"""Part of section `failover`: what speaker and agent cost while nothing happens, and what a thousand VIPs add."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lvs_lab import Lab
from tests.bench.figures import Figure, figure

SECTION = "failover"
ROOT = Path(__file__).parents[2]
GUEST = ROOT / "tests/bench/costs_guest.py"
ENVIRONMENT = ("env", f"PYTHONPATH={ROOT / 'operator'}:{ROOT}", sys.executable, "-B", str(GUEST))
UNSHARE = ("unshare", "--user", "--map-root-user", "--net", "--mount", "--kill-child")
COUNTS = (1, 250, 1000)
OWN_KERNEL, UML = "speaker_cpu_1_vips_percent", "idle_cpu_uml"
IDLE_VIP = "192.168.35.202"

Progress = Callable[[str], None]


def costs(lab: Lab, *, quick: bool, progress: Progress) -> list[Figure]:
    """Measure; neither speaker nor agent runs on the lab's directors."""
    seconds = 10.0 if quick else 60.0
    figures = [*native(seconds, progress), *idle(lab, seconds, progress)]
    found = {each.name: each.value for each in figures}
    own, slow = found.get(OWN_KERNEL), found.get(f"{UML}_speaker_percent")
    if own and slow:
        # The same speaker on both kernels tells how much dearer everything is on the one that has IPVS.
        both = own + found[f"{UML}_agent_percent"] * own / slow
        figures.append(_figure("idle_cpu_estimated_percent", [both], "% of a core", aim="< 0.5"))
    return figures


def native(seconds: float, progress: Progress) -> list[Figure]:
    """Two speakers on this machine's own kernel, in network namespaces, without real-time priority."""
    progress(f"two speakers on this machine's own kernel, {seconds:g} s with {', '.join(map(str, COUNTS))} VIPs")
    asked = json.dumps({"counts": COUNTS, "seconds": seconds})
    limit = len(COUNTS) * (seconds + 120)
    done = subprocess.run(
        [*UNSHARE, *ENVIRONMENT, "native", asked], capture_output=True, text=True, timeout=limit, check=False
    )
    if done.returncode:
        progress(f"not measured: {done.stderr.strip().splitlines()[-1:]}")
        return []
    figures = []
    for count, seen in json.loads(done.stdout).items():
        if seen["states"] != ["Active", "Backup"]:
            progress(f"{count} VIPs: not measured, the speakers went to {seen['states']}")
            continue
        figures += [
            _figure(f"speaker_cpu_{count}_vips_percent", [seen["active"]], "% of a core"),
            _figure(f"speaker_cpu_{count}_vips_backup_percent", [seen["backup"]], "% of a core"),
            _figure(f"renewal_{count}_vips_ms", seen["renewal_ms"], "ms"),
            _figure(f"renewal_{count}_vips_period_s", [seen["period_s"]], "s"),
            _figure(f"speaker_{count}_vips_rss_mib", [seen["rss_mib"]], "MiB"),
            _figure(f"taken_over_{count}_vips_ms", [seen["taken_ms"]], "ms"),
            _figure(f"announced_{count}_vips_ms", [seen["announced_ms"]], "ms"),
            _figure(f"left_behind_{count}_vips_ms", [seen["left_behind_ms"]], "ms"),
        ]
    return figures


def idle(lab: Lab, seconds: float, progress: Progress) -> list[Figure]:
    """Agent and speaker of a director with two services, on a User-Mode Linux kernel: an upper bound."""
    progress(f"agent and speaker of an idle director, {seconds:g} s on User-Mode Linux")
    director = lab.nodes["director-1"]
    servers = [lab.nodes[name].lan_address for name in ("storage-1", "storage-2")]
    tables = {f"idle-{port}": _table(port, servers) for port in (7000, 7001)}
    role = {
        "group": "default",
        "internalAddresses": [director.lan_address],
        "tables": [f"default/{name}" for name in sorted(tables)],
        "vrrp": {
            "routers": [{"id": 61, "priority": 250, "addresses": [IDLE_VIP]}],
            "peers": [{"node": "director-2", "addresses": [lab.nodes["director-2"].lan_address]}],
        },
    }
    asked = {
        "node": {"decided": True, "requires": ["vrrp"], "director": role},
        "tables": tables, "seconds": seconds,
    }  # fmt: skip
    done = director.run(*ENVIRONMENT, "idle", json.dumps(asked), timeout=seconds + 180, check=False)
    if done.returncode:
        progress(f"not measured: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")
        return []
    seen: dict[str, Any] = json.loads(done.stdout)
    return [
        _figure(f"{UML}_agent_percent", [seen["agent"]], "% of a core"),
        _figure(f"{UML}_speaker_percent", [seen["speaker"]], "% of a core"),
        _figure("idle_agent_rss_mib", [seen["rss_mib"]], "MiB"),
    ]


def _table(port: int, servers: list[str]) -> dict[str, Any]:
    """Return a DirectorTable with a check of the default pace."""
    return {
        "directorGroup": "default", "serviceGeneration": 1, "address": IDLE_VIP,
        "ports": [{"port": port, "protocol": "TCP"}], "scheduler": "wlc", "onFailure": "Remove",
        "healthCheck": {"tcp": {}, "intervalSeconds": 2, "timeoutSeconds": 2, "rise": 2, "fall": 3},
        "destinations": [
            {"realServer": f"storage-{number}", "address": address, "weight": 100}
            for number, address in enumerate(servers)
        ],
    }  # fmt: skip


def _figure(name: str, samples: list[float], unit: str, *, aim: str = "") -> Figure:
    return figure(SECTION, name, samples, unit, aim=aim)
