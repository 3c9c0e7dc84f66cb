"""Definitions that are missing, deleted by mistake, and put back: no node that serves is torn down."""

from pathlib import Path
from typing import Any

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.controlled import BACKENDS, DIRECTOR, ROOT, Cluster, Controller, eventually, running, stays
from tests.api.controller.playing import Agents

NODES = (DIRECTOR, *BACKENDS)
VIP = "192.168.35.100"


def delete_definitions(server: LocalControlPlane, *plurals: str) -> None:
    """Delete CustomResourceDefinitions and wait until they are gone."""
    server.kubectl("delete", "crd", *(f"{plural}.lvs-operator.io" for plural in plurals))


def restore_definitions(server: LocalControlPlane) -> None:
    """Apply crds/ again."""
    server.kubectl("apply", "--server-side", "-k", str(ROOT / "crds"))
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")


def told(cluster: Cluster) -> dict[str, tuple[Any, Any]]:
    """Return the VIPs that each node is told to hold and to carry."""
    specs = {name: (cluster.get("LVSNode", name) or {}).get("spec", {}) for name in NODES}
    return {name: (_announced(spec), spec.get("backendAddresses")) for name, spec in specs.items()}


def _announced(spec: dict[str, Any]) -> list[str] | None:
    director = spec.get("director")
    if director is None:
        return None
    return [each for router in director.get("vrrp", {}).get("routers", []) for each in router["addresses"]]


def ended(controller: Controller) -> bool:
    """Tell whether the process has ended, to be started anew."""
    return controller.process.poll() is not None


def test_kinds_are_waited_for(cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents) -> None:
    """Installed before the CRDs, the controller waits, says so, and starts by itself when they come."""
    del playing
    delete_definitions(empty, "directortables")
    with running(empty, tmp_path) as controller:
        eventually(lambda: "waiting" in controller.log())
        status, text = controller.get("/readyz")
        assert (status, "directortables" in text) == (503, True)
        restore_definitions(empty)
        controller.wait_leading()
        cluster.example()
        eventually(cluster.ready)
        cluster.remove_everything()


def test_deleted_user_kind_takes_nothing_away(
    cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents
) -> None:
    """`kubectl delete crd virtualservices…` and putting it back later: every node keeps its VIPs throughout."""
    del playing
    with running(empty, tmp_path) as controller:
        controller.wait_leading()
        cluster.example()
        eventually(cluster.ready)
        before = told(cluster)
        assert before[DIRECTOR] == ([VIP], None)
        delete_definitions(empty, "virtualservices")
        eventually(lambda: ended(controller))
        assert controller.process.returncode == 1
        assert told(cluster) == before
    with running(empty, tmp_path, "controller-1") as controller:
        eventually(lambda: "waiting" in controller.log())
        stays(lambda: told(cluster) == before, seconds=1)
        restore_definitions(empty)
        controller.wait_leading()
        assert controller.metric("lvs_controller_removals_held_seconds") > 200
        stays(lambda: told(cluster) == before, seconds=2)
        for name in BACKENDS:
            cluster.delete("RealServer", name)
        cluster.example()
        eventually(cluster.ready, within=60)
        assert told(cluster) == before


def test_deleting_all_kinds_takes_nothing_away(
    cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents
) -> None:
    """All CRDs deleted: new LVSNodes stay undecided until the objects are back, so that agents change nothing."""
    del playing
    with running(empty, tmp_path) as controller:
        controller.wait_leading()
        cluster.example()
        eventually(cluster.ready)
        before = told(cluster)
        empty.kubectl(
            "delete",
            "crd",
            *(f"{each}.lvs-operator.io" for each in ("virtualservices", "realservers", "directortables")),
            "directorgroups.lvs-operator.io",
            "lvsnodes.lvs-operator.io",
        )
        eventually(lambda: ended(controller))
    restore_definitions(empty)
    with running(empty, tmp_path, "controller-1") as controller:
        controller.wait_leading()
        eventually(lambda: all(cluster.get("LVSNode", name) for name in NODES))
        stays(lambda: not any(_gives_up(cluster, name, before) for name in NODES), seconds=2)
        cluster.example()
        eventually(cluster.ready, within=60)
        assert told(cluster) == before


def _gives_up(cluster: Cluster, name: str, before: dict[str, tuple[Any, Any]]) -> bool:
    """Tell whether a decided spec lacks what the node had."""
    body = cluster.get("LVSNode", name) or {}
    return bool(body.get("spec", {}).get("decided")) and told(cluster)[name] != before[name]
