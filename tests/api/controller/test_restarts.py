"""The controller or its token go away and come back; nothing is forgotten and nothing falls."""

import signal
import time
from pathlib import Path

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.controlled import (
    BACKENDS,
    DIRECTOR,
    Cluster,
    Controller,
    eventually,
    running,
    stays,
    token,
    write_kubeconfig,
)
from tests.api.controller.playing import NAMESPACE, Agents

NODES = (DIRECTOR, *BACKENDS)


def test_deletions_while_the_controller_was_down(
    cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents
) -> None:
    """What a user deletes while no controller runs is cleaned up by the next one."""
    del playing
    with running(empty, tmp_path) as first:
        first.wait_leading()
        cluster.example()
        eventually(cluster.ready)
        assert first.stop() == 0
    cluster.delete("RealServer", "storage-2")
    with running(empty, tmp_path, "controller-2") as second:
        second.wait_leading()
        eventually(lambda: cluster.destinations() == ["storage-1"])
        eventually(lambda: cluster.clean("storage-2"))
        assert second.stop() == 0
    empty.plane.stop_controller_manager()
    try:
        cluster.delete("VirtualService", "webdav")
        assert cluster.get("DirectorTable", "webdav") is not None
        with running(empty, tmp_path, "controller-3") as third:
            # Without garbage collection: the controller itself deletes what has no owner.
            third.wait_leading()
            eventually(lambda: cluster.get("DirectorTable", "webdav") is None)
            cluster.remove_everything()
    finally:
        empty.plane.start_controller_manager()


def test_restart_changes_nothing(cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents) -> None:
    """A rolling upgrade of the controller makes no agent do anything."""
    del playing
    with running(empty, tmp_path) as first:
        first.wait_leading()
        cluster.example()
        eventually(cluster.ready)
        time.sleep(1.5)
        first.stop(signal.SIGKILL)
    before = [cluster.get("LVSNode", name) for name in NODES], cluster.get("DirectorTable", "webdav")
    with running(empty, tmp_path, "controller-1") as second:
        second.wait_leading()
        eventually(lambda: second.metric("lvs_controller_passes_total") >= 1)
        stays(lambda: second.metric("lvs_controller_failing") == 0, seconds=1)
        assert second.metric('lvs_controller_writes_total{kind="LVSNode",verb="apply"}') == 0
        assert second.metric('lvs_controller_writes_total{kind="DirectorTable",verb="apply"}') == 0
        after = [cluster.get("LVSNode", name) for name in NODES], cluster.get("DirectorTable", "webdav")
        assert after == before
        cluster.remove_everything()


def test_token_that_dies_is_read_again(
    cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents
) -> None:
    """The kubelet renews the token's file; the old token stops working and the controller goes on without a restart."""
    del playing
    for name in ("old", "new"):
        _pod(empty, name)
    kubeconfig = write_kubeconfig(empty, tmp_path, "rotated", token(empty, pod="old"))
    controller = Controller(kubeconfig, tmp_path, "controller-1")
    try:
        controller.wait_leading()
        (tmp_path / "rotated.token").write_text(token(empty, pod="new"))
        empty.api("DELETE", f"/api/v1/namespaces/{NAMESPACE}/pods/old?gracePeriodSeconds=0")
        eventually(lambda: "the token was refused" in controller.log(), within=40)
        cluster.example()
        eventually(cluster.ready)
        empty.restart_api_server()  # breaks the watches, which were made with the old token
        cluster.delete("RealServer", "storage-2")
        eventually(lambda: cluster.destinations() == ["storage-1"], within=40)
        assert controller.process.poll() is None
        cluster.remove_everything()
        assert controller.stop() == 0
    finally:
        controller.stop()


def _pod(server: LocalControlPlane, name: str) -> None:
    body = {
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "serviceAccountName": "lvs-controller",
            "nodeName": DIRECTOR,
            "containers": [{"name": "c", "image": "none"}],
        },
    }
    status, answer = server.api("POST", f"/api/v1/namespaces/{NAMESPACE}/pods", body)
    assert status == 201, answer


def test_sigterm_ends_it_quickly_and_well(empty: LocalControlPlane, tmp_path: Path) -> None:
    """A pod that is asked to stop is gone long before it would be killed, and gives its Lease back."""
    with running(empty, tmp_path) as controller:
        controller.wait_leading()
        started = time.monotonic()
        assert controller.stop() == 0
        assert time.monotonic() - started < 8
        assert "the Lease is released" in controller.log()
        assert "Traceback" not in controller.log()
