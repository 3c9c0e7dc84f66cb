"""Directors that are real servers of the same VIPs: whatever dies on one of them, no packet goes to and fro."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from lvs_lab import Node
from lvs_lab.errors import LabError
from lvs_lab.workload import serve
from tests.e2e.asking import Asker
from tests.e2e.cluster import CALM_GROUP, VIP, VIP_PORT, Cluster, real_server, virtual_service, wait_until
from tests.e2e.test_failover import DIRECTORS, NEXT_VIP, TAKEOVER, holds, other

ASK = Path(__file__).parents[1] / "kernel" / "guard_guest.py"
VIPS = (VIP, NEXT_VIP)
CONTAINERS = ("speaker", "agent")
TTL = 22
"""Where it stands in a frame with IPv4."""
FORWARDED_ONCE = 63
PATIENCE = "4"
"""Seconds for each connection: TCP repeats a lost packet after one, and this machine is busy."""


@pytest.fixture
def shared(cluster: Cluster) -> Iterator[Cluster]:
    """Two VIPs, each Active on another director, both served by both directors and nobody else."""
    servers = [serve(cluster.nodes[name], VIP_PORT) for name in DIRECTORS]
    try:
        vrrp = {**CALM_GROUP["spec"]["vrrp"], "instances": 2, "preemptDelaySeconds": 0}
        cluster.apply({**CALM_GROUP, "spec": {**CALM_GROUP["spec"], "vrrp": vrrp}})
        cluster.apply(
            virtual_service(), virtual_service("second", address=NEXT_VIP), *(real_server(name) for name in DIRECTORS)
        )
        each_has_one(cluster)
        yield cluster
    finally:
        for server in servers:
            server.signal(9)


def each_has_one(cluster: Cluster) -> None:
    """Wait until each director holds one of the VIPs, and all of it is served."""

    def check() -> bool:
        found = [[name for name in DIRECTORS if holds(cluster, name, vip)] for vip in VIPS]
        return sorted(found) == [[name] for name in DIRECTORS]

    wait_until(check, within=60)
    for name in ("webdav", "second"):
        cluster.healthy(2, 2, name=name)
    for vip in VIPS:
        wait_until(lambda vip=vip: ask(cluster, vip, 4) == Counter(dict.fromkeys(DIRECTORS, 2)), within=TAKEOVER)  # type: ignore[misc]


def ask(cluster: Cluster, vip: str, times: int, source_port: int = 0) -> Counter[str]:
    """Open connections, from one port each time or from any, each left without a word; who answered, or what failed."""
    argv = [sys.executable, str(ASK), "ask", "tcp", vip, str(VIP_PORT), str(source_port), str(times), PATIENCE]
    answers: list[str] = json.loads(cluster.nodes["client-1"].run(*argv, timeout=90).stdout)
    return Counter(each.partition("\n")[0] for each in answers)  # its name, then what it echoes


@contextmanager
def hops(cluster: Cluster) -> Iterator[Counter[int]]:
    """Record what directors get from each other for the VIPs: how many packets with how many hops to live.

    Those of their own checks do not count: they have few hops from the start.
    """
    one, two = (cluster.nodes[name] for name in DIRECTORS)
    client = cluster.nodes["client-1"].lan_address
    to_vip = f"tcp and src host {client} and ({' or '.join(f'dst host {vip}' for vip in VIPS)})"
    seen: Counter[int] = Counter()
    with (
        one.capture("eth0", f"{to_vip} and ether src {two.mac}") as first,
        two.capture("eth0", f"{to_vip} and ether src {one.mac}") as second,
    ):
        yield seen
        for capture in (first, second):
            capture.stop()
            seen.update(frame[TTL] for frame in capture.frames())


def stale(cluster: Cluster, name: str, vip: str) -> bool:
    """Tell whether a director that does not hold a VIP still balances it."""
    return not holds(cluster, name, vip) and any(vip in line for line in cluster.ipvs(name))


def all_dead(cluster: Cluster, node: Node, pod: str) -> None:
    """Kill all of ours on a node, again and again as it is restarted, until its VIP has left."""

    def killed() -> bool:
        for container in CONTAINERS:
            with suppress(LabError):  # it does not run now
                cluster.lab.kill_container(pod, container, 9)
        return not any(holds(cluster, node.name, vip) for vip in VIPS)

    wait_until(killed, within=TAKEOVER)


def test_no_packet_loops_when_all_of_ours_is_dead_or_frozen(shared: Cluster) -> None:
    """A former Active would send back what the new one gives it, until the TTL ends, and clients would fail."""
    cluster = shared
    victim = next(cluster.nodes[name] for name in DIRECTORS if holds(cluster, name))
    heir, pod = other(victim), cluster.agent_pod(victim.name)
    port = 40001
    asker = Asker(cluster.nodes["client-1"], VIP, VIP_PORT)
    try:
        with hops(cluster) as seen:
            for container in CONTAINERS:
                cluster.lab.pause_container(pod, container)
            try:
                wait_until(lambda: all(holds(cluster, heir, vip) for vip in VIPS), within=TAKEOVER)
                wait_until(lambda: stale(cluster, victim.name, VIP), within=TAKEOVER)
                for vip in VIPS:
                    for source_port in (0, port):
                        answers = ask(cluster, vip, 6, source_port)
                        assert set(answers) <= set(DIRECTORS), f"{vip}: {answers}"
                assert set(ask(cluster, VIP, 6)) == set(DIRECTORS), "the former Active serves what it is sent"
            finally:
                for container in reversed(CONTAINERS):
                    cluster.lab.resume_container(pod, container)
            each_has_one(cluster)
            all_dead(cluster, victim, pod)
            wait_until(lambda: holds(cluster, heir), within=TAKEOVER)
            for vip in VIPS:
                answers = ask(cluster, vip, 6, port)
                assert set(answers) <= set(DIRECTORS), f"{vip}: {answers}"
            cluster.rolled_out()
            each_has_one(cluster)
    finally:
        asker.end()
    assert seen[FORWARDED_ONCE] > 0, "they do send to each other"
    assert min(seen) >= FORWARDED_ONCE, f"sent once, and never on: {seen}"
