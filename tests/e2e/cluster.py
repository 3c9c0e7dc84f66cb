"""What the end-to-end tests do to the cluster and read from it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from lvs_lab import Lab, Node
from lvs_lab.workload import Answers, connect

VIP = "192.168.35.100"
VIP6 = "fd35::100"
VIP_PORT = 8443
NAMESPACE = "lvs-system"
USER_KINDS = "virtualservices,realservers,directorgroups"
CALM_GROUP: dict[str, Any] = {
    "apiVersion": "lvs-operator.io/v1alpha1",
    "kind": "DirectorGroup",
    "metadata": {"name": "default"},
    "spec": {
        "nodeSelector": {"matchExpressions": [{"key": "lvs-operator.io/director", "operator": "Exists"}]},
        # Seven kernels share the machine's processors: a node of the lab may not run for longer than three of the
        # usual intervals, and its VIPs would move.
        "vrrp": {"advertisementIntervalMilliseconds": 1000},
    },
}
"""The default group, with directors that wait for each other longer than usual."""


def wait_until(check: Callable[[], object], *, within: float, every: float = 0.1) -> None:
    """Call `check` until it returns something true, or None without an AssertionError; at most `within` seconds."""
    end = time.monotonic() + within
    while True:
        failure: AssertionError | None = None
        try:
            result = check()
            if result is None or result:
                return
        except AssertionError as error:
            failure = error
        if time.monotonic() > end:
            raise failure or AssertionError(f"did not hold within {within} s: {check}")
        time.sleep(every)


def virtual_service(name: str = "webdav", address: str = VIP, port: int = VIP_PORT, **spec: object) -> dict[str, Any]:
    """A VirtualService over the pool `webdav`, checked every second."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "address": address,
            "ports": [{"port": port}],
            "scheduler": "rr",
            "realServers": {"selector": {"matchLabels": {"pool": "webdav"}}},
            "healthCheck": {"tcp": {}, "intervalSeconds": 1, "timeoutSeconds": 1, "rise": 2, "fall": 2},
            **spec,
        },
    }


def real_server(name: str, **spec: object) -> dict[str, Any]:
    """A RealServer of the pool `webdav` on the node of the same name."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "RealServer",
        "metadata": {"name": name, "namespace": "default", "labels": {"pool": "webdav"}},
        "spec": {"nodeName": name, **spec},
    }


def as_list(*objects: Mapping[str, Any]) -> str:
    """Return a manifest of several objects."""
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)})


class Cluster:
    """The lab with the operator in it."""

    def __init__(self, lab: Lab, root: Path) -> None:
        self.lab = lab
        self.root = root
        self.nodes = lab.nodes

    # What a user does

    def install(self) -> None:
        """Apply manifests/base and wait for both roll-outs."""
        self.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(self.root / "manifests/base"))
        self.rolled_out()

    def rolled_out(self) -> None:
        """Wait until every agent and controller pod is ready."""
        for workload in ("deployment/lvs-controller", "daemonset/lvs-agent"):
            self.kubectl("-n", NAMESPACE, "rollout", "status", workload, "--timeout=120s", timeout=130)

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> str:
        """Run kubectl as the administrator and return what it printed (both streams)."""
        done = self.lab.kubectl(*argv, stdin=stdin, check=check, timeout=timeout)
        return done.stdout + done.stderr

    def apply(self, *objects: Mapping[str, Any], check: bool = True) -> str:
        """`kubectl apply -f -`."""
        return self.kubectl("apply", "-f", "-", stdin=as_list(*objects), check=check)

    def delete(self, *objects: Mapping[str, Any]) -> None:
        """`kubectl delete`, by kind and name."""
        for item in objects:
            self.kubectl("delete", item["kind"].lower(), item["metadata"]["name"], "--ignore-not-found")

    def get(self, kind: str, name: str, namespace: str = "default") -> dict[str, Any]:
        """Return one object, or an empty one when it is not there."""
        done = self.lab.kubectl("get", kind, name, "-n", namespace, "-o", "json", check=False)
        if done.returncode:
            return {}
        loaded: dict[str, Any] = json.loads(done.stdout)
        return loaded

    def condition(self, kind: str, name: str, condition: str) -> dict[str, Any]:
        """Return a condition of an object, or an empty one."""
        for item in self.get(kind, name).get("status", {}).get("conditions", []):
            if item["type"] == condition:
                found: dict[str, Any] = item
                return found
        return {}

    def wait_for(self, kind: str, name: str, condition: str = "Ready", timeout: int = 30) -> None:
        """`kubectl wait --for=condition=...`."""
        self.kubectl(
            "wait", f"--for=condition={condition}", f"{kind}/{name}", f"--timeout={timeout}s", timeout=timeout + 10
        )

    def example(self, *servers: str, **spec: object) -> None:
        """Apply the example and wait until it serves with every named real server healthy."""
        names = servers or ("storage-1", "storage-2")
        self.apply(virtual_service(**spec), *(real_server(name) for name in names))
        self.healthy(len(names), len(names))
        self.wait_for("virtualservice", "webdav")

    def apply_example_again(self) -> bool:
        """Apply the example with two servers; tell whether the API server took it."""
        done = self.lab.kubectl(
            "apply",
            "-f",
            "-",
            stdin=as_list(virtual_service(), real_server("storage-1"), real_server("storage-2")),
            check=False,
        )
        return done.returncode == 0

    def healthy(self, healthy: int, total: int, *, name: str = "webdav", within: float = 30) -> None:
        """Wait until `kubectl get` says healthy/total."""

        def check() -> None:
            status = self.get("virtualservice", name).get("status", {})
            assert status.get("realServers", {}).get("summary") == f"{healthy}/{total}", status

        wait_until(check, within=within)

    # What a user has

    def connect(
        self, count: int = 40, *, address: str = VIP, port: int = VIP_PORT, timeout: float = 3.0, source: int = 0
    ) -> Answers:
        """Open connections from the client; from a port of its own each, or all from the port `source`."""
        return connect(self.lab, address, port, count, timeout=timeout, source=source)

    def active_name(self, name: str = "webdav") -> str:
        """Return the name of the Active director as status tells it; "" while there is none."""
        found: str = self.get("virtualservice", name).get("status", {}).get("activeDirector", "")
        return found

    def active(self, name: str = "webdav") -> Node:
        """Return the node of the Active director as status tells it, once there is one."""
        wait_until(lambda: self.active_name(name), within=30)
        return self.nodes[self.active_name(name)]

    def holders(self, address: str = VIP, interface: str = "eth0") -> list[str]:
        """Return the nodes that have an address on an interface, by what their kernels say."""
        return [name for name in self.kubernetes_nodes() if address in addresses(self.nodes[name], interface)]

    def ipvs(self, node: str) -> list[str]:
        """Return `ipvsadm -Sn` of a node, sorted."""
        return ipvs(self.nodes[node])

    def kubernetes_nodes(self) -> list[str]:
        """Return the names of the nodes that run agents."""
        return [name for name in self.nodes if not name.startswith("client")]

    def release_hold(self) -> None:
        """End the controller's hold of removals after definitions were replaced, as docs/operations.md says."""
        self.scale_controller(0)
        self.kubectl("-n", NAMESPACE, "annotate", "lease", "lvs-controller-leader", "lvs-operator.io/kinds-")
        self.scale_controller(2)

    def scale_controller(self, replicas: int) -> None:
        """Set the number of controllers and wait until it is so."""
        self.kubectl("-n", NAMESPACE, "scale", "deployment/lvs-controller", f"--replicas={replicas}")
        if replicas:
            self.rolled_out()
        else:
            wait_until(lambda: not self.controller_pods(), within=60)

    # Between tests

    def reset(self) -> None:
        """Delete what users made and wait until no kernel holds anything of ours."""
        self.kubectl("delete", USER_KINDS, "--all", "--wait=false", "--ignore-not-found")
        wait_until(self.is_clean, within=60, every=0.3)
        self.apply(CALM_GROUP)

    def is_clean(self) -> bool:
        """Tell whether no node has a VIP, an IPVS service or a guard route of ours."""
        with ThreadPoolExecutor(8) as pool:
            return all(pool.map(self.node_is_clean, self.kubernetes_nodes()))

    def node_is_clean(self, name: str) -> bool:
        """Tell whether this node has no VIP, IPVS service or guard route of ours."""
        done = self.nodes[name].run(
            "sh",
            "-c",
            "ip -o addr show; ip route show type blackhole; ip -6 route show type blackhole;"
            " test ! -e /proc/net/ip_vs || cat /proc/net/ip_vs",
        )
        ours = (VIP, VIP6, "C0A82364", "FWM")  # the last: services by firewall mark
        return not any(each in done.stdout for each in ours)

    def agent_pod(self, node: str) -> str:
        """Return the name of the agent's pod on a node."""
        return next(pod.name for pod in self.lab.pods("app.kubernetes.io/name=lvs-agent") if pod.node == node)

    def controller_pods(self) -> Sequence[str]:
        """Return the names of the controller's pods."""
        return [pod.name for pod in self.lab.pods("app.kubernetes.io/name=lvs-controller")]


def addresses(node: Node, interface: str) -> list[str]:
    """Return the addresses of an interface, without prefix length."""
    links = json.loads(node.run("ip", "-json", "addr", "show", "dev", interface).stdout)
    return [entry["local"] for link in links for entry in link.get("addr_info", [])]


def ipvs(node: Node) -> list[str]:
    """Return `ipvsadm -Sn` of a node, sorted; empty when the module is not loaded."""
    done = node.run("sh", "-c", "test ! -e /proc/net/ip_vs || ipvsadm -Sn")
    return sorted(done.stdout.split("\n"))[1:] if done.stdout.strip() else []
