"""What a person reads: kubectl tells the truth, mistakes have a reason, and nothing said twice changes anything."""

import json

from lvs_lab.workload import serve
from tests.e2e.cluster import VIP, VIP_PORT, Cluster, as_list, real_server, virtual_service, wait_until


def test_kubectl_get(cluster: Cluster) -> None:
    """`kubectl get virtualservices,realservers` shows VIP, ports, scheduler, healthy/total, director and Ready."""
    cluster.example()
    director = cluster.active().name
    text = cluster.kubectl("get", "virtualservices,realservers")
    service = next(line for line in text.splitlines() if "webdav" in line)
    for word in (VIP, f"{VIP_PORT}/TCP", "rr", "2/2", director, "True"):
        assert word in service
    server = next(line for line in text.splitlines() if "storage-1" in line)
    for word in ("192.168.35.21", "100", "InService", "True"):
        assert word in server
    assert "192.168.35.21" in cluster.kubectl("get", "rip", "-o", "wide")


def test_said_twice_changes_nothing(cluster: Cluster) -> None:
    """A second apply reports nothing changed, client-side and server-side, and kubectl diff is empty."""
    cluster.example()
    manifest = as_list(virtual_service(), real_server("storage-1"), real_server("storage-2"))
    again = cluster.kubectl("apply", "-f", "-", stdin=manifest)
    assert again.count("unchanged") == 3, again
    assert cluster.lab.kubectl("diff", "-f", "-", stdin=manifest, check=False).returncode == 0
    version = cluster.get("virtualservice", "webdav")["metadata"]["resourceVersion"]
    for _ in range(2):
        cluster.kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=manifest)
        then, version = version, cluster.get("virtualservice", "webdav")["metadata"]["resourceVersion"]
    assert then == version


def test_generations_and_events(cluster: Cluster) -> None:
    """observedGeneration follows the spec, and a change of health leaves an Event that names the real server."""
    cluster.example()
    cluster.apply(virtual_service(scheduler="wlc"), real_server("storage-1"), real_server("storage-2"))
    wait_until(
        lambda: (
            (got := cluster.get("virtualservice", "webdav"))["status"]["observedGeneration"]
            == got["metadata"]["generation"]
        ),
        within=10,
    )
    node = cluster.nodes["storage-2"]
    reject = ("INPUT", "-p", "tcp", "--dport", str(VIP_PORT), "-j", "REJECT", "--reject-with", "tcp-reset")
    node.run("iptables-legacy", "-I", *reject)
    try:
        cluster.healthy(1, 2)
    finally:
        node.run("iptables-legacy", "-D", *reject)

    def noted() -> None:
        events = json.loads(cluster.kubectl("get", "events.events.k8s.io", "-o", "json"))["items"]
        notes = [item.get("note", "") for item in events if item["regarding"]["kind"] == "VirtualService"]
        assert any("storage-2" in note for note in notes), notes

    wait_until(noted, within=10)


def test_a_server_off_the_segment(cluster: Cluster) -> None:
    """The commonest mistake: a real server behind a router. Refused by name, and the others serve on."""
    cluster.example()
    cluster.apply(outside("storage-9", "192.0.2.9"))
    wait_until(lambda: cluster.condition("realserver", "storage-9", "Accepted").get("reason") == "NotOnLink", within=15)
    assert cluster.connect(6).answers == {"storage-1": 3, "storage-2": 3}


def outside(name: str, address: str) -> dict[str, object]:
    """Return a real server that is not a node of the cluster."""
    return real_server(name) | {"spec": {"addresses": [address]}}


def test_a_refused_change_keeps_the_last_good_state(cluster: Cluster) -> None:
    """A VirtualService moved to an address it may not have says so and serves on at the old one."""
    cluster.example()
    generation = cluster.get("virtualservice", "webdav")["metadata"]["generation"]
    cluster.apply(virtual_service(address="192.168.35.11"))
    wait_until(lambda: cluster.condition("virtualservice", "webdav", "Accepted").get("status") == "False", within=15)
    ready = cluster.condition("virtualservice", "webdav", "Ready")
    assert ready["status"] == "False"
    assert f"serving generation {generation}" in ready["message"]
    assert cluster.connect(6).errors == {}


def test_an_address_somebody_else_uses(cluster: Cluster) -> None:
    """A VIP that another machine answers for is not taken: AddressInUse with its MAC."""
    client = cluster.nodes["client-1"]
    client.run("ip", "addr", "add", f"{VIP}/32", "dev", "eth0")
    try:
        cluster.apply(virtual_service(), real_server("storage-1"))
        wait_until(
            lambda: (
                "AddressInUse"
                in {
                    item["reason"]
                    for item in cluster.get("virtualservice", "webdav").get("status", {}).get("conditions", [])
                }
            ),
            within=20,
        )
        assert client.mac in json.dumps(cluster.get("virtualservice", "webdav")["status"])
        assert cluster.holders() == []
    finally:
        client.run("ip", "addr", "del", f"{VIP}/32", "dev", "eth0")
    cluster.wait_for("virtualservice", "webdav", timeout=60)


def test_a_scheduler_the_kernel_lacks(cluster: Cluster) -> None:
    """`twos` is not in every kernel: the condition names the scheduler and the node; others serve on."""
    cluster.example()
    cluster.apply(virtual_service("other", port=VIP_PORT + 1, scheduler="twos"))
    wait_until(
        lambda: cluster.condition("virtualservice", "other", "Programmed").get("reason") == "SchedulerUnavailable",
        within=20,
    )
    assert "twos" in cluster.condition("virtualservice", "other", "Programmed")["message"]
    assert cluster.connect(4).errors == {}


def test_a_silent_agent(cluster: Cluster) -> None:
    """A node that dies is told of within a minute, as AgentSilent, and withdraws nothing by itself."""
    cluster.example("storage-1", "storage-2", "storage-3")
    cluster.nodes["storage-3"].kill()
    try:
        cluster.healthy(2, 3, within=20)
        wait_until(
            lambda: cluster.condition("realserver", "storage-3", "Configured").get("reason") == "AgentSilent", within=75
        )
        assert cluster.connect(6).errors == {}
    finally:
        cluster.nodes["storage-3"].boot()
    serve(cluster.nodes["storage-3"], VIP_PORT)
    cluster.healthy(3, 3, within=90)


def test_example_files(cluster: Cluster) -> None:
    """The README's file works as it stands."""
    cluster.kubectl("apply", "-f", str(cluster.root / "manifests/examples/webdav.yaml"))
    cluster.kubectl("wait", "--for=condition=Ready", "virtualservice/webdav", "--timeout=60s", timeout=70)
    cluster.healthy(2, 2)
