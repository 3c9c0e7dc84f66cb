"""The parts of section `health` with real servers that fail, come back and are drained, in a lab with the operator.

Who sends how long to a dead real server, and how soon to one that is back: a director and, on the same one,
keepalived's checker, each with a VIP of its own over the same three real servers. Everything that happens, happens to
both at once, by order of the client, whose clock takes all times.
"""

import base64
import json
import os
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, NamedTuple

import yaml

from lvs_lab import Lab, LabError, Node, cache
from lvs_lab.client import NodeProcess
from lvs_lab.workload import CLIENT, serve
from tests.bench.figures import Figure, figure
from tests.e2e.cluster import CALM_GROUP, VIP, Cluster, real_server, virtual_service, wait_until

ROOT: Final = Path(__file__).parents[2]
GUEST: Final = str(ROOT / "tests/bench/outages_guest.py")
DRAIN_GUEST: Final = str(ROOT / "tests/bench/drain_guest.py")
API: Final = "/apis/lvs-operator.io/v1alpha1/namespaces/default/realservers"
SECTION: Final = "health"
SERVERS: Final = ("storage-1", "storage-2", "storage-3")
OURS, THEIRS = "ours", "keepalived"
PLACES: Final = {OURS: (VIP, 7000), THEIRS: ("192.168.35.201", 7001)}
"""A port for each, so that the real server knows whose check it was."""
EVENTS: Final = {"killed": ("kill", "start"), "cut": ("cut", "join")}
INTERVAL: Final = 1.0
PERIOD_SECONDS: Final = 0.005
FIRST_DRAIN_PORT: Final = 7100
TRANSFERS: Final = 200
CONFIGURATION: Final = "/run/outages/keepalived.conf"

Progress = Callable[[str], None]


class Size(NamedTuple):
    """How much is measured."""

    rounds: int  # of one outage of each kind
    drains: int


FULL, QUICK = Size(8, 3), Size(1, 1)


class Outage(NamedTuple):
    """What the client saw of one, by who sent it to the real servers."""

    number: int  # of the round
    event: str
    targets: dict[str, dict[str, float]]
    errors: list[float]  # of the times of its beginning and its end, in seconds


def measure(quick: bool, progress: Progress) -> list[Figure]:  # noqa: FBT001
    """Measure both parts in one lab. Raises RuntimeError when all outages were spoiled."""
    size = QUICK if quick else FULL
    with Lab.start(progress=progress) as lab:
        cluster = Cluster(lab, ROOT)
        kernel = lab.nodes[CLIENT].run("uname", "-r").stdout.strip()
        progress(f"{datetime.now(UTC):%Y-%m-%d}, kernel {kernel} (User-Mode Linux), {_load()}")
        progress("installing the operator")
        cluster.install()
        cluster.apply(CALM_GROUP, *(real_server(name) for name in SERVERS))
        drained = [_drain(cluster, number, progress) for number in range(size.drains)]
        outages = _outages(cluster, size.rounds, progress)
    progress(_load())
    return _drain_figures(drained) + figures_of(outages)


def _load() -> str:
    return f"{os.cpu_count()} cores, load average {os.getloadavg()[0]:.1f}"


# Outages


def _service(number: int) -> dict[str, Any]:
    """Return the VirtualService of a round.

    Twice the same settings, in other words: who edits a check makes the agent forget how often a real server failed
    before, which would damp its return from the fourth time on.
    """
    check = {"tcp": {}, "intervalSeconds": int(INTERVAL), "timeoutSeconds": 1, "rise": 1, "fall": 1}
    return virtual_service(
        "outages", port=PLACES[OURS][1],
        healthCheck={**check, "fastIntervalSeconds": int(INTERVAL)} if number % 2 else check,
    )  # fmt: skip


def _apply(cluster: Cluster, number: int) -> None:
    """Apply the VirtualService of a round, and wait until the Active director serves it."""
    cluster.apply(_service(number))

    def is_served() -> bool:
        found = cluster.get("virtualservice", "outages")
        return bool(found["metadata"]["generation"] == found.get("status", {}).get("servingGeneration"))

    wait_until(is_served, within=60)


def _outages(cluster: Cluster, rounds: int, progress: Progress) -> list[Outage]:
    """Let real servers fail in turn."""
    _apply(cluster, 0)
    director = cluster.active("outages")
    ports = [str(port) for _, port in PLACES.values()]
    for name in SERVERS:
        node = cluster.nodes[name]
        process = node.spawn(sys.executable, GUEST, "serve", node.management_address, director.lan_address, *ports)
        process.wait_for_output("serving", timeout=30)
    found: list[Outage] = []
    port = 1024
    with _keepalived(cluster, director, progress) as targets:
        for number in range(rounds):
            _apply(cluster, number)
            cluster.healthy(len(SERVERS), len(SERVERS), name="outages", within=60)
            for event in EVENTS:
                asked = _order(cluster.nodes[SERVERS[number % len(SERVERS)]], event, targets, port)
                seen = _ask(cluster.nodes[CLIENT], asked)
                port = seen["port"]
                if cluster.active_name("outages") != director.name:
                    progress("the VIP moved to the other director: this machine is too busy, what is left is left out")
                    return found
                found.append(Outage(number, event, seen["targets"], seen["errors"]))
                progress(f"round {number + 1} of {rounds}, {asked['realServer']} {event}: {_words(found[-1])}")
    return found


def _ask(client: Node, asked: dict[str, Any]) -> dict[str, Any]:
    process = client.spawn(sys.executable, GUEST, "client", json.dumps(asked))
    if process.wait(180) != 0:
        raise LabError(f"the client failed: {process.output()[-2000:]}")
    seen: dict[str, Any] = json.loads(process.output().splitlines()[-1])
    return seen


def _order(server: Node, event: str, targets: Sequence[str], port: int) -> dict[str, Any]:
    end, begin = EVENTS[event]
    return {
        "targets": {who: PLACES[who] for who in targets}, "period": PERIOD_SECONDS, "port": port,
        "realServer": server.name, "realServers": SERVERS, "order": server.management_address,
        "end": end, "begin": begin,
        # Where between two checks it happens is left to chance.
        "before": 1.0 + random.uniform(0.0, INTERVAL), "pause": random.uniform(0.0, INTERVAL),
    }  # fmt: skip


def _words(outage: Outage) -> str:
    parts = [
        f"{who} {1000 * seen['last']:.0f} ms ({1000 * seen['since check']:.0f} ms after a check), back after"
        f" {1000 * seen['recovery']:.0f} ms, {seen['failed']:.0f} of {seen['opened']:.0f} failed"
        for who, seen in outage.targets.items()
    ]
    return "; ".join(parts) + f"; +- {1000 * max(outage.errors):.1f} ms"


@contextmanager
def _keepalived(cluster: Cluster, director: Node, progress: Progress) -> Iterator[Sequence[str]]:
    """Run keepalived's checker on the director, with an address of its own; who there is to be measured."""
    if cache.find_command("keepalived") is None:
        progress("keepalived is not there (lab/ctl tools --with keepalived): no comparison")
        yield (OURS,)
        return
    address, port = PLACES[THEIRS]
    for name in SERVERS:
        cluster.nodes[name].run("ip", "address", "add", f"{address}/32", "dev", "lo", "scope", "host")
    director.run("ip", "address", "add", f"{address}/32", "dev", "eth0")
    servers = "\n".join(
        f" real_server {cluster.nodes[name].lan_address} {port} {{\n  weight 100\n"
        f"  TCP_CHECK {{\n   connect_timeout 1\n   retry 0\n   delay_before_retry 1\n  }}\n }}"
        for name in SERVERS
    )
    text = (
        f"global_defs {{\n router_id {director.name}\n}}\nvirtual_server {address} {port} {{\n"
        f" delay_loop {INTERVAL:g}\n lvs_sched rr\n lvs_method DR\n protocol TCP\n{servers}\n}}\n"
    )
    director.put_file(CONFIGURATION, text)
    process = _start(director)
    try:
        yield (OURS, THEIRS)
    finally:
        process.signal()
        process.wait(30)


def _start(director: Node) -> NodeProcess:
    argv = ["keepalived", "--check", "--dont-fork", "--log-console", "--log-detail", f"--use-file={CONFIGURATION}"]
    process = director.spawn(*argv, "--pid=/run/outages/pid", "--checkers_pid=/run/outages/checkers")
    process.wait_for_output("Activating healthchecker", timeout=30)
    return process


def figures_of(outages: Sequence[Outage]) -> list[Figure]:
    """Return what outages tell; ratios where both were measured."""
    if not outages:
        raise RuntimeError("no outage was measured")
    figures = []
    for who in outages[0].targets:
        for key, name in (("last", "last_connection"), ("recovery", "recovery")):
            figures.append(_figure(f"{name}_{who}_ms", [1000 * each.targets[who][key] for each in outages], "ms"))
            for event in EVENTS:
                values = [1000 * each.targets[who][key] for each in outages if each.event == event]
                if not values:
                    continue
                figures.append(_figure(f"{name}_{who}_{event}_ms", values, "ms"))
        failed = [each.targets[who]["failed"] for each in outages]
        figures.append(_figure(f"failed_connections_{who}", failed, "for each outage"))
    if THEIRS in outages[0].targets:
        last = [_midway(each, OURS) / _midway(each, THEIRS) for each in outages]
        figures.append(_figure("last_connection_vs_keepalived_ratio", last, "times", aim="<= 1"))
        figures.append(_figure("recovery_vs_keepalived_ratio", _recovery_ratios(outages), "times", aim="<= 1"))
    errors = [1000 * error for each in outages for error in each.errors]
    return [*figures, _figure("outage_time_error_ms", errors, "ms")]


def _midway(outage: Outage, who: str) -> float:
    """Return when the last connection would have been sent to it, had it died midway between two checks."""
    seen = outage.targets[who]
    return seen["last"] + seen["since check"] - INTERVAL / 2


def _recovery_ratios(outages: Sequence[Outage]) -> list[float]:
    """Return a ratio for each round, of what all its outages took: when between two checks one is back is chance."""
    rounds = [[each for each in outages if each.number == number] for number in sorted({one.number for one in outages})]
    return [
        sum(each.targets[OURS]["recovery"] for each in one) / sum(each.targets[THEIRS]["recovery"] for each in one)
        for one in rounds
    ]


def _figure(name: str, samples: Sequence[float], unit: str, *, aim: str = "") -> Figure:
    return figure(SECTION, name, samples, unit, aim=aim)


# Drains


def _drain(cluster: Cluster, number: int, progress: Progress) -> dict[str, float]:
    """Drain one real server under long transfers, and put it back.

    Each drain has a service and a port of its own, because the kernel remembers ended connections for minutes.
    """
    name, port, service = SERVERS[number % len(SERVERS)], FIRST_DRAIN_PORT + number, f"drain-{number}"
    servers = [serve(cluster.nodes[each], port) for each in SERVERS]
    cluster.apply(virtual_service(service, port=port))
    cluster.healthy(len(SERVERS), len(SERVERS), name=service, within=60)
    cluster.wait_for("virtualservice", service)
    client = cluster.nodes[CLIENT]
    config = yaml.safe_load(cluster.lab.kubeconfig.read_text())
    authority = config["clusters"][0]["cluster"]["certificate-authority-data"]
    client.put_file("/run/drain.pem", base64.b64decode(authority).decode())
    plan = {
        "address": VIP, "port": port, "realServer": name, "transfers": TRANSFERS, "path": API,
        "server": "https://172.30.0.1:6443", "ca": "/run/drain.pem", "token": config["users"][0]["user"]["token"],
    }  # fmt: skip
    client.put_file("/run/drain.json", json.dumps(plan))
    process = client.spawn(sys.executable, DRAIN_GUEST, "/run/drain.json")
    process.wait_for_output("flowing", timeout=90)
    cluster.apply(real_server(name, state="Drain"))
    if process.wait(120) != 0:
        raise LabError(f"the client failed: {process.output()[-2000:]}")
    told: dict[str, float] = json.loads(process.output().splitlines()[-1])
    progress(f"drain of {name} under {TRANSFERS} transfers: {told}")
    cluster.apply(real_server(name))
    cluster.kubectl("delete", "virtualservice", service)
    for server in servers:
        server.signal(9)
    return told


def _drain_figures(drained: Sequence[dict[str, float]]) -> list[Figure]:
    counted, after = ([1000 * each[key] for each in drained] for key in ("counted", "drained"))
    broken = [each["broken"] + each["unended"] for each in drained]
    return [
        _figure("drain_broken_transfers", broken, f"of {TRANSFERS}", aim="0"),
        _figure("drain_failed_short_connections", [each["short failed"] for each in drained], "connections", aim="0"),
        _figure("drain_counted_after_last_connection_ms", counted, "ms"),
        _figure("drained_after_last_connection_ms", after, "ms", aim="< 2000"),
    ]
