"""The first promise: a client's connections are balanced, and the answers go past the director."""

import time

from lvs_lab.workload import serve
from tests.e2e.cluster import VIP, VIP6, VIP_PORT, Cluster, real_server, virtual_service, wait_until


def test_forty_connections_split_evenly(cluster: Cluster) -> None:
    """The README's example: two real servers and rr share 40 connections 20/20."""
    cluster.example()
    got = cluster.connect(40)
    assert (got.answers, got.errors) == ({"storage-1": 20, "storage-2": 20}, {}), got


def test_no_answer_crosses_the_director(cluster: Cluster) -> None:
    """Direct routing is the point: the director's wire carries requests and not one answer, but to its own checks."""
    cluster.example()
    director = cluster.active()
    with director.capture("eth0", f"tcp port {VIP_PORT} and host {VIP}") as capture:
        assert cluster.connect(20).total == 20
        wait_until(lambda: capture.count() > 0, within=5)
    answers = [line for line in capture.lines if f"{VIP}.{VIP_PORT} > {cluster.nodes['client-1'].lan_address}" in line]
    requests = [line for line in capture.lines if f" > {VIP}.{VIP_PORT}" in line]
    assert answers == []
    assert len(requests) >= 20


def test_a_stopped_service_gets_no_connection(cluster: Cluster) -> None:
    """When a real server's service stops, new connections go elsewhere within fall x interval + timeout, and back."""
    cluster.example()
    port_filter = ("-p", "tcp", "--dport", str(VIP_PORT), "-j", "REJECT", "--reject-with", "tcp-reset")
    node = cluster.nodes["storage-1"]
    fall_seconds = 2 * 1 + 1
    node.run("iptables-legacy", "-I", "INPUT", *port_filter)
    try:
        began = time.monotonic()
        wait_until(lambda: "storage-1" not in cluster.connect(6).answers, within=fall_seconds + 4)
        assert time.monotonic() - began < fall_seconds + 4
        cluster.healthy(1, 2)
        got = cluster.connect(10)
        assert (got.answers, got.errors) == ({"storage-2": 10}, {}), got
    finally:
        node.run("iptables-legacy", "-D", "INPUT", *port_filter)
    cluster.healthy(2, 2)
    wait_until(lambda: cluster.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)


def test_quiesce_keeps_the_destination(cluster: Cluster) -> None:
    """With onFailure: Quiesce a failed real server stays in the table with weight 0, so its connections live."""
    cluster.example(onFailure="Quiesce")
    director = cluster.active().name
    node = cluster.nodes["storage-1"]
    reject = ("INPUT", "-p", "tcp", "--dport", str(VIP_PORT), "--syn", "-j", "REJECT", "--reject-with", "tcp-reset")
    node.run("iptables-legacy", "-I", *reject)
    try:
        wait_until(
            lambda: any(node.lan_address in line and "-w 0" in line for line in cluster.ipvs(director)), within=10
        )
        assert cluster.connect(6).answers == {"storage-2": 6}
    finally:
        node.run("iptables-legacy", "-D", *reject)
    wait_until(lambda: not any("-w 0" in line for line in cluster.ipvs(director)), within=10)


def test_ipv6(cluster: Cluster) -> None:
    """An IPv6 VIP is balanced in the same way."""
    cluster.apply(virtual_service(address=VIP6), real_server("storage-1"), real_server("storage-2"))
    cluster.wait_for("virtualservice", "webdav")
    cluster.healthy(2, 2)
    got = cluster.connect(20, address=VIP6)
    assert got.answers == {"storage-1": 10, "storage-2": 10}


def test_weights(cluster: Cluster) -> None:
    """Weights share connections in proportion, and a change needs no restart of anything."""
    cluster.apply(
        virtual_service(scheduler="wrr"), real_server("storage-1", weight=300), real_server("storage-2", weight=100)
    )
    cluster.wait_for("virtualservice", "webdav")
    cluster.healthy(2, 2)
    assert cluster.connect(40).answers == {"storage-1": 30, "storage-2": 10}


def test_director_that_is_a_real_server(cluster: Cluster) -> None:
    """Directors that also serve never send a request in circles: every connection is answered, by each in turn."""
    servers = []
    try:
        servers = [serve(cluster.nodes[name], VIP_PORT) for name in ("director-1", "director-2")]
        cluster.apply(virtual_service(), real_server("director-1"), real_server("director-2"))
        cluster.wait_for("virtualservice", "webdav")
        cluster.healthy(2, 2)
        got = cluster.connect(20)
        assert (got.answers, got.errors) == ({"director-1": 10, "director-2": 10}, {}), got
    finally:
        for server in servers:
            server.signal(9)
