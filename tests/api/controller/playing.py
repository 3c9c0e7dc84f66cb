"""Agents that play along: they do at once what they are told, and report it truthfully."""

import threading
import time
from typing import Any, Self

from lvs_lab.controlplane import LocalControlPlane

NAMESPACE = "lvs-system"
OURS = "/apis/lvs-operator.io/v1alpha1"
LEASES = f"/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases"

Body = dict[str, Any]


class Agents:
    """Agents that follow their LVSNode at once and truthfully, and renew their Leases. A thread of its own."""

    def __init__(self, server: LocalControlPlane, nodes: tuple[str, ...]) -> None:
        self._server = server
        self.nodes = nodes
        self.healthy: dict[str, bool] = {}
        """Whether a real server is healthy, by name; unnamed ones are."""
        self._paused = threading.Event()
        self._round_made = threading.Lock()
        self.mute: set[str] = set()
        """Nodes whose agent neither reports nor renews."""
        self._ended = threading.Event()
        self._reported: dict[str, Body] = {}
        self._renewed = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop; Leases and reports stay as they are."""
        self._ended.set()
        self._thread.join(20)

    def reset(self) -> None:
        """Play fair again after a test."""
        self.resume()
        self.mute.clear()
        self.healthy.clear()

    def pause(self) -> None:
        """Have nobody report or renew from now on."""
        self._paused.set()
        with self._round_made:  # one that had begun is over
            return

    def resume(self) -> None:
        """End pause()."""
        self._paused.clear()

    def _run(self) -> None:
        while not self._ended.wait(0.03):
            try:
                with self._round_made:
                    if not self._paused.is_set():
                        self._round()
            except OSError:
                time.sleep(0.2)  # the API server is away

    def _round(self) -> None:
        found, nodes = self._server.api("GET", f"{OURS}/lvsnodes")
        also_found, tables = self._server.api("GET", f"{OURS}/directortables")
        if (found, also_found) != (200, 200):
            return  # a kind is missing: keep the last good
        if time.monotonic() - self._renewed > 5:
            self._renewed = time.monotonic()
            for name in self.nodes:
                if name not in self.mute:
                    self._renew(name)
        for node in nodes.get("items", ()):
            name = node["metadata"]["name"]
            if name in self.nodes and name not in self.mute:
                self._report(name, node, tables.get("items", ()))

    def _renew(self, name: str) -> None:
        lease = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": name, "namespace": NAMESPACE, "labels": {"lvs-operator.io/component": "agent"}},
            "spec": {"holderIdentity": name, "renewTime": f"2026-01-01T00:00:00.{time.monotonic_ns() % 10**6:06d}Z"},
        }
        self._apply(f"{LEASES}/{name}", lease)

    def _report(self, name: str, node: Body, tables: list[Body]) -> None:
        spec, old = node.get("spec", {}), self._reported.get(name, {})
        status: Body = {
            "agentVersion": "0",
            "bootId": "boot",
            "observedGeneration": node["metadata"]["generation"],
            "interfaces": [{"name": "eth0", "addresses": [f"{node_address(name)}/24"]}],
            "heldAddresses": old.get("heldAddresses", []),
            "loopbackAddresses": old.get("loopbackAddresses", []),
            "tables": old.get("tables", []),
        }
        if spec.get("decided"):
            director = spec.get("director") or {}
            routers = (director.get("vrrp") or {}).get("routers", [])
            status["heldAddresses"] = [each for router in routers for each in router["addresses"]]
            status["virtualRouters"] = [
                {"id": each["id"], "family": 4, "state": "Active", "priority": each["priority"]} for each in routers
            ]
            status["loopbackAddresses"] = spec.get("backendAddresses", [])
            status["tables"] = [
                self._table(each) for each in tables if director and each["spec"]["directorGroup"] == director["group"]
            ]
        if "director" in spec or name.startswith("director"):
            status["directorInterface"] = "eth0"
        if status == old and node.get("status"):
            return
        path = f"{OURS}/lvsnodes/{name}"
        body = {"apiVersion": "lvs-operator.io/v1alpha1", "kind": "LVSNode", "metadata": {"name": name}}
        code = self._apply(f"{path}/status", body | {"status": status})
        if code == 200:
            self._reported[name] = status

    def _table(self, table: Body) -> Body:
        names = [each["realServer"] for each in table["spec"].get("destinations", ())]
        ill = [name for name in names if not self.healthy.get(name, True)]
        report: Body = {
            "table": f"{table['metadata']['namespace']}/{table['metadata']['name']}",
            "generation": table["metadata"]["generation"],
            "uid": table["metadata"]["uid"],
            "healthy": len(names) - len(ill),
            "total": len(names),
        }
        if ill:
            report["exceptions"] = [{"reason": "CheckFailed", "message": "refused", "realServer": name} for name in ill]
        return report

    def _apply(self, path: str, body: Body) -> int:
        status, answer = self._server.api(
            "PATCH",
            f"{path}?fieldManager=lvs-agent&force=true",
            body,
            content_type="application/apply-patch+yaml",
        )
        assert status in (200, 201, 404, 405, 409), answer
        return status


def node_address(node: str) -> str:
    """Return the address that a node of this name has."""
    digit = node.rsplit("-", 1)[1]
    return f"192.168.35.{'1' if node.startswith('director') else '2'}{digit}"
