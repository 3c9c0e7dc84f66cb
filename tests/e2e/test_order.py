"""The order between nodes: no packet is ever routed back to the director, whatever changes under traffic."""

import pytest

from lvs_lab.workload import Traffic
from tests.e2e.cluster import VIP, VIP_PORT, Cluster, real_server, virtual_service, wait_until


def returned(cluster: Cluster) -> str:
    """Return a capture filter for packets to the VIP that a backend sent instead of keeping them."""
    macs = " or ".join(f"ether src {cluster.nodes[name].mac}" for name in ("storage-1", "storage-2", "storage-3"))
    return f"({macs}) and ip dst {VIP} and tcp"


def test_changes_under_traffic_route_nothing_back(cluster: Cluster) -> None:
    """Real servers and services come and go under traffic; not one packet comes back, not one connection fails."""
    cluster.example()
    director = cluster.active()
    with director.capture("eth0", returned(cluster)) as capture:
        with Traffic(cluster.lab, VIP, VIP_PORT) as traffic:
            for _ in range(2):
                cluster.apply(real_server("storage-3"))
                cluster.healthy(3, 3)
                cluster.delete(real_server("storage-3"))
                cluster.healthy(2, 2)
            other = virtual_service("other", port=VIP_PORT + 1)
            del other["spec"]["healthCheck"]
            cluster.apply(other)
            cluster.wait_for("virtualservice", "other")
            cluster.delete(other)
            wait_until(lambda: not any(f":{VIP_PORT + 1}" in line for line in cluster.ipvs(director.name)), within=15)
        assert traffic.result is not None
        assert traffic.result.total > 50
        assert traffic.result.errors == {}, traffic.result
    assert capture.lines == []


def test_a_whole_service_comes_and_goes_under_traffic(cluster: Cluster) -> None:
    """Clients that try while a service is created and deleted never see a loop: packets are kept or refused."""
    cluster.apply(real_server("storage-1"), real_server("storage-2"))
    captures = [cluster.nodes[name].capture("eth0", returned(cluster)) for name in ("director-1", "director-2")]
    with captures[0] as first, captures[1] as second:
        with Traffic(cluster.lab, VIP, VIP_PORT, timeout=0.3) as traffic:
            for _ in range(2):
                cluster.apply(virtual_service())
                cluster.wait_for("virtualservice", "webdav")
                cluster.delete(virtual_service())
                wait_until(cluster.is_clean, within=30, every=0.3)
        assert traffic.result is not None
        assert traffic.result.total > 0
    assert first.lines == []
    assert second.lines == []


def test_vip_taken_off_a_backend_by_hand(cluster: Cluster) -> None:
    """A backend that loses the VIP from lo drops what comes for it; it does not route it back to the director."""
    cluster.example()
    node = cluster.nodes["storage-1"]
    with cluster.active().capture("eth0", returned(cluster)) as capture, Traffic(cluster.lab, VIP, VIP_PORT, timeout=1):
        for _ in range(3):
            node.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo", check=False)
            wait_until(lambda: cluster.connect(2).errors == {}, within=15)
    assert capture.lines == []


@pytest.mark.parametrize("change", ["label", "deleted"])
def test_the_director_changes(cluster: Cluster, change: str) -> None:
    """When the Active director's Node stops matching, or is deleted, another takes the VIP; never two at once."""
    cluster.example()
    old = cluster.active().name
    new = {"director-1": "director-2", "director-2": "director-1"}[old]
    try:
        if change == "label":
            cluster.kubectl("label", "node", old, "lvs-operator.io/director-")
        else:
            cluster.nodes[old].kill()
            cluster.kubectl("delete", "node", old)
        wait_until(lambda: cluster.active_name() == new, within=30)
        wait_until(lambda: VIP in cluster.nodes[new].run("ip", "-o", "addr", "show", "dev", "eth0").stdout, within=10)
        if change == "label":
            assert VIP not in cluster.nodes[old].run("ip", "-o", "addr", "show", "dev", "eth0").stdout
            wait_until(lambda: cluster.ipvs(old) in ([], [""]), within=15)
        wait_until(lambda: cluster.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)
        cluster.wait_for("virtualservice", "webdav")
    finally:
        if change == "deleted":
            cluster.nodes[old].boot()
            wait_until(lambda: cluster.get("node", old, ""), within=60)
        cluster.kubectl("label", "node", old, "lvs-operator.io/director=", "--overwrite")
        wait_until(lambda: cluster.get("node", old, ""), within=60)
        cluster.rolled_out()
