"""Stopping is not removing: processes and the API server may die at any moment, traffic flows on."""

import pytest

from lvs_lab.workload import Traffic, serve
from tests.e2e.cluster import VIP, VIP_PORT, Cluster, real_server, wait_until

COMPILED = ("directortables.lvs-operator.io", "lvsnodes.lvs-operator.io")


@pytest.mark.parametrize("signal", [15, 9])
def test_an_agent_dies(cluster: Cluster, signal: int) -> None:
    """An agent on a director or a backend that is stopped or killed loses no connection, and comes back."""
    cluster.example()
    with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
        for node in (cluster.active().name, "storage-1"):
            cluster.lab.kill_container(cluster.agent_pod(node), "agent", signal)
        cluster.rolled_out()
        cluster.apply(real_server("storage-3"))
        cluster.healthy(3, 3)
    assert traffic.result is not None
    assert traffic.result.errors == {}, traffic.result


def test_the_controller_dies(cluster: Cluster) -> None:
    """Both controllers killed: traffic flows, a failed server is still taken out, and changes are made afterwards."""
    cluster.example()
    with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
        for pod in cluster.controller_pods():
            cluster.lab.kill_container(pod, "controller", 9)
        cluster.apply(real_server("storage-3"))
        cluster.healthy(3, 3, within=60)
    assert traffic.result is not None
    assert traffic.result.errors == {}, traffic.result


def test_the_api_server_is_away(cluster: Cluster) -> None:
    """Without the API server traffic flows and checks go on; what users deleted meanwhile is cleaned up afterwards."""
    cluster.example()
    director = cluster.active()
    node = cluster.nodes["storage-1"]
    reject = ("INPUT", "-p", "tcp", "--dport", str(VIP_PORT), "-j", "REJECT", "--reject-with", "tcp-reset")
    with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
        cluster.lab.stop_api_server()
        assert cluster.connect(6).errors == {}
        director.run("ipvsadm", "-C")
        wait_until(lambda: any(VIP in line for line in cluster.ipvs(director.name)), within=12)
        cluster.lab.start_api_server()
    assert traffic.result is not None
    cluster.lab.stop_api_server()
    try:
        node.run("iptables-legacy", "-I", *reject)
        wait_until(lambda: cluster.connect(6).answers == {"storage-2": 6}, within=12)
    finally:
        node.run("iptables-legacy", "-D", *reject)
        cluster.lab.start_api_server()
    cluster.healthy(2, 2, within=60)


def test_an_agent_starts_without_the_api_server(cluster: Cluster) -> None:
    """An agent that is killed while the API server is away works on from its last good state: drift is repaired."""
    cluster.example()
    director = cluster.active()
    pod = cluster.agent_pod(director.name)
    cluster.lab.stop_api_server()
    try:
        cluster.lab.kill_container(pod, "agent", 9)
        director.run("ipvsadm", "-C")
        wait_until(lambda: any(VIP in line for line in cluster.ipvs(director.name)), within=60)
        wait_until(lambda: cluster.connect(4, timeout=1).answers == {"storage-1": 2, "storage-2": 2}, within=20)
    finally:
        cluster.lab.start_api_server()
    cluster.healthy(2, 2, within=60)


@pytest.mark.parametrize("which", ["director", "backend"])
def test_a_node_reboots(cluster: Cluster, which: str) -> None:
    """A rebooted node, its kernel empty, is set up again and serves."""
    cluster.example()
    name = cluster.active_name() if which == "director" else "storage-1"
    cluster.nodes[name].reboot()
    if which == "backend":
        serve(cluster.nodes[name], VIP_PORT)
    wait_until(lambda: cluster.connect(4, timeout=1).answers == {"storage-1": 2, "storage-2": 2}, within=60, every=1)
    cluster.rolled_out()
    cluster.healthy(2, 2, within=60)


@pytest.mark.parametrize("kinds", [COMPILED, ("virtualservices.lvs-operator.io", "realservers.lvs-operator.io")])
def test_deleted_crds_tear_nothing_down(cluster: Cluster, kinds: tuple[str, ...]) -> None:
    """CRDs deleted by mistake: serving nodes serve on, and after they are applied again all is managed again."""
    cluster.example()
    director = cluster.active().name
    before = cluster.ipvs(director)
    with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
        cluster.kubectl("delete", "crd", *kinds, "--timeout=30s")
        cluster.connect(20)
        assert cluster.ipvs(director) == before
        cluster.kubectl("apply", "--server-side", "-k", str(cluster.root / "crds"))
        wait_until(cluster.apply_example_again, within=30, every=1)
        cluster.healthy(2, 2, within=90)
    cluster.release_hold()
    assert traffic.result is not None
    assert traffic.result.errors == {}, traffic.result


def test_a_deleted_lvsnode_tears_nothing_down(cluster: Cluster) -> None:
    """LVSNodes deleted by mistake are made again; no node is disturbed meanwhile."""
    cluster.example()
    with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
        cluster.kubectl("delete", "lvsnodes", "--all")
        cluster.kubectl("delete", "directortables", "--all")
        wait_until(
            lambda: VIP in cluster.get("lvsnode", "storage-1", "").get("spec", {}).get("backendAddresses", []),
            within=30,
        )
        cluster.healthy(2, 2, within=30)
    assert traffic.result is not None
    assert traffic.result.errors == {}, traffic.result


def test_deleted_while_the_controller_was_down(cluster: Cluster) -> None:
    """What a user deletes while no controller runs is cleaned up when one runs again."""
    cluster.example()
    cluster.scale_controller(0)
    cluster.kubectl("delete", "virtualservice,realserver", "--all")
    cluster.scale_controller(2)
    wait_until(cluster.is_clean, within=60, every=0.5)
