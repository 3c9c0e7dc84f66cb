"""From what users write to what agents are told, and back to what users read."""

import signal
from typing import Any

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.controlled import (
    BACKENDS,
    DIRECTOR,
    Cluster,
    Controller,
    eventually,
    real_server,
    service,
    stays,
    token,
)
from tests.api.controller.playing import OURS, Agents

VIP = "192.168.35.100"
FINALIZER = "lvs-operator.io/drain"


def spec(cluster: Cluster, node: str) -> dict[str, Any]:
    """Return an LVSNode's spec."""
    return dict((cluster.get("LVSNode", node) or {}).get("spec", {}))


def told(cluster: Cluster) -> list[str]:
    """Return the VIPs that the director is told."""
    routers = spec(cluster, DIRECTOR)["director"]["vrrp"]["routers"]
    return [address for router in routers for address in router["addresses"]]


def test_the_example_becomes_ready(cluster: Cluster, controller: Controller) -> None:
    """A user applies the README's example and sees it serve."""
    cluster.example()
    eventually(cluster.ready, what=f"Ready; {controller.log()[-3000:]}")
    assert cluster.destinations() == list(BACKENDS)
    assert told(cluster) == [VIP]
    assert [spec(cluster, name)["backendAddresses"] for name in BACKENDS] == [[VIP], [VIP]]
    eventually(lambda: cluster.condition("RealServer", "storage-1", "Ready") == "True")
    body = cluster.get("VirtualService", "webdav")
    assert body is not None
    assert body["status"]["realServers"]["summary"] == "2/2"
    assert body["status"]["activeDirector"] == DIRECTOR
    assert "annotations" not in body["metadata"]
    assert "finalizers" not in body["metadata"]


def test_no_destination_before_its_node_carries_the_vip(
    cluster: Cluster, controller: Controller, agents: Agents
) -> None:
    """A backend that has not reported the VIP on lo would route packets back: it is left out until then."""
    agents.mute.add("storage-2")
    cluster.example()
    eventually(lambda: cluster.destinations() == ["storage-1"])
    stays(lambda: cluster.destinations() == ["storage-1"], seconds=0.5)
    assert controller.metric("lvs_controller_failing") == 0
    agents.mute.clear()
    eventually(lambda: cluster.destinations() == list(BACKENDS))


def test_weight_reaches_the_table(cluster: Cluster, controller: Controller) -> None:
    """A changed weight changes one table and nothing else."""
    cluster.example()
    eventually(cluster.ready)
    nodes_before = controller.metric('lvs_controller_writes_total{kind="LVSNode",verb="apply"}')
    cluster.patch("RealServer", "storage-1", {"spec": {"weight": 7}})
    eventually(lambda: _weights(cluster) == {"storage-1": 7, "storage-2": 100})
    assert controller.metric('lvs_controller_writes_total{kind="LVSNode",verb="apply"}') == nodes_before


def _weights(cluster: Cluster) -> dict[str, int]:
    table = cluster.get("DirectorTable", "webdav")
    return {each["realServer"]: each["weight"] for each in table["spec"]["destinations"]} if table else {}


def test_maintenance_takes_no_new_connections(cluster: Cluster, controller: Controller) -> None:
    """Maintenance is weight 0, and the count says so."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    cluster.patch("RealServer", "storage-1", {"spec": {"state": "Maintenance"}})
    eventually(lambda: _weights(cluster) == {"storage-1": 0, "storage-2": 100})
    eventually(lambda: _summary(cluster) == "1/2")


def _summary(cluster: Cluster) -> str:
    body = cluster.get("VirtualService", "webdav") or {}
    return str(body.get("status", {}).get("realServers", {}).get("summary", ""))


def test_failed_check_is_seen_by_the_user(cluster: Cluster, controller: Controller, agents: Agents) -> None:
    """Status and an Event tell about a real server that a director finds ill."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    agents.healthy["storage-2"] = False
    eventually(lambda: _summary(cluster) == "1/2")
    eventually(lambda: cluster.condition("RealServer", "storage-2", "Healthy") == "False")
    eventually(lambda: "CheckFailed" in cluster.server.kubectl("get", "events.events.k8s.io").stdout)
    agents.healthy.clear()
    eventually(lambda: _summary(cluster) == "2/2")


def test_removed_real_server_leaves_in_order(cluster: Cluster, controller: Controller, agents: Agents) -> None:
    """The VIP leaves a backend only after the director has reported the table without it."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    agents.mute.add(DIRECTOR)
    cluster.delete("RealServer", "storage-2")
    eventually(lambda: cluster.destinations() == ["storage-1"])
    stays(lambda: spec(cluster, "storage-2").get("backendAddresses") == [VIP], seconds=0.5)
    agents.mute.clear()
    eventually(lambda: not spec(cluster, "storage-2").get("backendAddresses"))


def test_deleted_service_is_cleaned_up(cluster: Cluster, controller: Controller) -> None:
    """Nothing is left of a VirtualService."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    cluster.delete("VirtualService", "webdav")
    eventually(lambda: cluster.get("DirectorTable", "webdav") is None)
    eventually(lambda: all(cluster.clean(name) for name in (DIRECTOR, *BACKENDS)))
    assert not spec(cluster, DIRECTOR)["director"].get("tables")


def test_refused_change_keeps_the_last_good_table(cluster: Cluster, controller: Controller) -> None:
    """A VIP that may not be claimed is refused with a reason, and what served goes on serving."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    cluster.patch("VirtualService", "webdav", {"spec": {"address": "192.0.2.99"}})
    eventually(lambda: cluster.condition("VirtualService", "webdav", "Accepted") == "False")
    table = cluster.get("DirectorTable", "webdav")
    assert table is not None
    assert table["spec"]["address"] == VIP
    assert told(cluster) == [VIP]


def test_unreachable_agent_costs_nothing_else(cluster: Cluster, controller: Controller, agents: Agents) -> None:
    """A service whose only real server has no agent waits with a reason; others are served."""
    del controller
    agents.mute.add("storage-2")
    cluster.create(real_server("storage-1"))
    cluster.create(service())
    other = real_server("storage-2")
    other["metadata"]["labels"] = {"pool": "other"}
    cluster.create(other)
    cluster.create(service("other", "192.168.35.101", realServers={"selector": {"matchLabels": {"pool": "other"}}}))
    eventually(cluster.ready)
    eventually(lambda: cluster.condition("VirtualService", "other", "Ready") == "False")
    agents.mute.clear()


def test_table_deleted_by_mistake_comes_back_and_nothing_falls(cluster: Cluster, controller: Controller) -> None:
    """`kubectl delete directortables --all` takes no VIP from any node."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    before = {name: spec(cluster, name) for name in (DIRECTOR, *BACKENDS)}
    cluster.delete("DirectorTable", "webdav")
    eventually(lambda: cluster.destinations() == list(BACKENDS))
    stays(lambda: {name: spec(cluster, name) for name in before} == before, seconds=0.5)


def test_a_changed_vip_is_served_before_the_old_one_goes(
    cluster: Cluster, controller: Controller, agents: Agents
) -> None:
    """Both tables exist until everybody has the new VIP, and Kubernetes takes neither for an orphan."""
    cluster.example()
    eventually(cluster.ready, what=f"Ready; {controller.log()[-3000:]}")
    agents.mute.add("storage-2")
    cluster.patch("VirtualService", "webdav", {"spec": {"address": "192.168.35.101"}})
    eventually(lambda: told(cluster) == [VIP, "192.168.35.101"])
    eventually(lambda: ready_reason(cluster) == ("True", "ChangingAddress", 1), what="Ready for what is served")
    stays(lambda: told(cluster) == [VIP, "192.168.35.101"], seconds=1)
    agents.mute.clear()
    eventually(lambda: told(cluster) == ["192.168.35.101"])
    eventually(lambda: ready_reason(cluster) == ("True", "Serving", 2))
    eventually(lambda: all(spec(cluster, name)["backendAddresses"] == ["192.168.35.101"] for name in BACKENDS))
    assert cluster.get("DirectorTable", "webdav") is None
    assert cluster.get("DirectorTable", "webdav.2") is not None
    cluster.delete("VirtualService", "webdav")
    eventually(lambda: cluster.get("DirectorTable", "webdav.2") is None)


def ready_reason(cluster: Cluster) -> tuple[str, str, int]:
    """Return status, reason and observed generation of the example's Ready."""
    body = cluster.get("VirtualService", "webdav") or {}
    for each in body.get("status", {}).get("conditions", ()):
        if each["type"] == "Ready":
            return each["status"], each["reason"], each["observedGeneration"]
    return "", "", 0


def test_service_that_is_replaced_keeps_its_vip_on_the_nodes(cluster: Cluster, controller: Controller) -> None:
    """`kubectl replace --force`: deleted and created anew at once; no node is told to drop the VIP in between."""
    cluster.example()
    eventually(cluster.ready)
    before = {name: spec(cluster, name) for name in (DIRECTOR, *BACKENDS)}
    written = controller.metric('lvs_controller_writes_total{kind="LVSNode",verb="apply"}')
    cluster.server.plane.stop_controller_manager()
    try:
        controller.process.send_signal(signal.SIGSTOP)
        cluster.delete("VirtualService", "webdav")
        cluster.create(service())
        controller.process.send_signal(signal.SIGCONT)
        eventually(cluster.ready)
    finally:
        controller.process.send_signal(signal.SIGCONT)
        cluster.server.plane.start_controller_manager()
    assert {name: spec(cluster, name) for name in before} == before
    assert controller.metric('lvs_controller_writes_total{kind="LVSNode",verb="apply"}') == written


def test_lvsnode_deleted_by_mistake_comes_back_undecided(
    cluster: Cluster, controller: Controller, agents: Agents
) -> None:
    """The new LVSNode tells the agent to change nothing until it has reported; then it says what it said before."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    before = spec(cluster, DIRECTOR)
    agents.pause()
    cluster.delete("LVSNode", DIRECTOR)
    eventually(lambda: cluster.get("LVSNode", DIRECTOR) is not None)
    stays(lambda: not spec(cluster, DIRECTOR).get("decided"), seconds=0.3)
    agents.resume()
    eventually(lambda: spec(cluster, DIRECTOR) == before)
    assert cluster.destinations() == list(BACKENDS)


def test_labels_of_nodes_are_followed(cluster: Cluster, controller: Controller) -> None:
    """A node that is no director any more gives its VIP back."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    _label(cluster.server, DIRECTOR, None)
    try:
        eventually(lambda: "director" not in spec(cluster, DIRECTOR))
        eventually(lambda: cluster.condition("VirtualService", "webdav", "Ready") == "False")
    finally:
        _label(cluster.server, DIRECTOR, "")
    eventually(cluster.ready)


def _label(server: LocalControlPlane, node: str, value: str | None) -> None:
    change = {"metadata": {"labels": {"lvs-operator.io/director": value}}}
    server.api("PATCH", f"/api/v1/nodes/{node}", change, content_type="application/merge-patch+json")


def test_second_apply_changes_nothing(cluster: Cluster, controller: Controller) -> None:
    """A GitOps tool sees no difference after the controller wrote status."""
    import json  # noqa: PLC0415

    documents = json.dumps({"apiVersion": "v1", "kind": "List", "items": [service(), *map(real_server, BACKENDS)]})
    kubectl = cluster.server.kubectl
    kubectl("apply", "-f", "-", stdin=documents)
    eventually(cluster.ready)
    second = kubectl("apply", "-f", "-", stdin=documents).stdout
    assert second.count("unchanged") == 3, second
    assert kubectl("diff", "-f", "-", stdin=documents, check=False).returncode == 0
    kubectl("apply", "--server-side", "--force-conflicts", "-f", "-", stdin=documents)
    versions = _versions(cluster)
    kubectl("apply", "--server-side", "-f", "-", stdin=documents)
    assert _versions(cluster) == versions
    assert kubectl("diff", "--server-side", "-f", "-", stdin=documents, check=False).returncode == 0
    assert controller.metric("lvs_controller_failing") == 0


def _versions(cluster: Cluster) -> list[str]:
    return [
        item["metadata"]["resourceVersion"]
        for plural in ("virtualservices", "realservers", "directortables", "lvsnodes")
        for item in cluster.server.api("GET", f"{OURS}/{plural}")[1]["items"]
    ]


def test_our_own_apply_of_the_same_bumps_nothing(cluster: Cluster, controller: Controller) -> None:
    """Writing what is there already wakes nobody: agents see no event."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    table = cluster.get("DirectorTable", "webdav")
    assert table is not None
    owner = table["metadata"]["ownerReferences"]
    body = {
        "apiVersion": table["apiVersion"],
        "kind": table["kind"],
        "metadata": {"name": "webdav", "namespace": "default", "ownerReferences": owner},
        "spec": table["spec"],
    }
    status, answer = cluster.server.api(
        "PATCH",
        f"{OURS}/namespaces/default/directortables/webdav?fieldManager=lvs-controller&force=true",
        body,
        content_type="application/apply-patch+yaml",
    )
    assert status == 200
    assert answer["metadata"]["resourceVersion"] == table["metadata"]["resourceVersion"]


def test_a_quiet_cluster_is_left_alone(cluster: Cluster, controller: Controller) -> None:
    """Without changes nothing is written, the Lease apart."""
    cluster.example()
    eventually(cluster.ready)
    eventually(lambda: cluster.condition("RealServer", "storage-2", "Ready") == "True")
    versions = eventually(lambda: _settled(cluster))
    stays(lambda: _versions(cluster) == versions, seconds=2.5)
    assert controller.metric("lvs_controller_failing") == 0


def _settled(cluster: Cluster) -> list[str]:
    import time  # noqa: PLC0415

    versions = _versions(cluster)
    time.sleep(1.5)  # longer than details of a status are put off
    return versions if _versions(cluster) == versions else []


def test_a_deleted_real_server_is_drained_first_where_that_is_wished(cluster: Cluster, controller: Controller) -> None:
    """Transfers from it would break a minute after `kubectl delete`; and it must not stay for ever either."""
    del controller
    cluster.example()
    eventually(cluster.ready)
    cluster.patch("RealServer", "storage-2", {"spec": {"drain": {"beforeDeletion": True, "timeoutSeconds": 3}}})
    eventually(lambda: FINALIZER in (cluster.get("RealServer", "storage-2") or {})["metadata"].get("finalizers", ()))
    cluster.delete("RealServer", "storage-2")
    eventually(lambda: cluster.condition("RealServer", "storage-2", "Drained") == "False")
    eventually(lambda: _weights(cluster) == {"storage-1": 100, "storage-2": 0})
    eventually(lambda: cluster.get("RealServer", "storage-2") is None)
    assert cluster.destinations() == ["storage-1"]


def test_the_controller_may_change_nothing_of_a_real_server_but_its_finalizer(cluster: Cluster) -> None:
    """Whoever has its token could move traffic, or take servers out."""
    cluster.example()
    path = f"{OURS}/namespaces/default/realservers/storage-1"
    mine = token(cluster.server)

    def patch(change: dict[str, Any]) -> int:
        content = "application/merge-patch+json"
        return cluster.server.api("PATCH", path, change, content_type=content, token=mine)[0]

    eventually(lambda: patch({"spec": {"weight": 7}}) == 403)
    assert patch({"metadata": {"labels": {"pool": "other"}}}) == 403
    assert patch({"metadata": {"finalizers": [FINALIZER]}}) == 200
    assert patch({"metadata": {"finalizers": None}}) == 200
