"""The API server goes away under the controller; nothing is forgotten."""

import base64

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.controlled import Cluster, Controller, eventually


def erase(server: LocalControlPlane, key: str) -> None:
    """Remove an object behind the API server's back, while it is away: no watch can ever tell."""
    answer = server.plane._etcd("deleterange", {"key": base64.b64encode(f"/registry/{key}".encode()).decode()})
    assert answer.get("deleted") == "1", answer


def test_deletion_across_a_compaction_is_found(
    cluster: Cluster, server: LocalControlPlane, controller: Controller
) -> None:
    """kopf lists anew after a 410 and tells nothing about what is gone: our own LIST does, long before a minute."""
    cluster.example()
    eventually(cluster.ready)
    server.stop_api_server()
    erase(server, "lvs-operator.io/realservers/default/storage-2")
    server.compact_etcd()
    server.start_api_server()

    def found() -> bool:
        controller.kept_running()
        return cluster.destinations() == ["storage-1"]

    eventually(found, within=40)


def test_api_server_restarts_are_survived(cluster: Cluster, server: LocalControlPlane, controller: Controller) -> None:
    """The API server is killed under the controller; what users do afterwards is followed."""
    cluster.example()
    eventually(cluster.ready)
    server.restart_api_server()
    cluster.patch("RealServer", "storage-1", {"spec": {"state": "Maintenance"}})

    def weight() -> bool:
        controller.kept_running()
        table = cluster.get("DirectorTable", "webdav")
        return bool(table) and any(each["weight"] == 0 for each in table["spec"]["destinations"])

    eventually(weight, within=40)
    assert controller.log().count("elected leader") == controller.starts
