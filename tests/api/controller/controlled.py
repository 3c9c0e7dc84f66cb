"""The controller as a process on a real API server, with the rights of manifests/."""

import base64
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.playing import LEASES, NAMESPACE, OURS, Body, node_address

ROOT = Path(__file__).parents[3]
DIRECTOR, BACKENDS = "director-1", ("storage-1", "storage-2")
PATIENCE = 30.0

T = TypeVar("T")


def eventually(look: Callable[[], T], *, within: float = PATIENCE, what: str = "") -> T:
    """Return the first true answer of `look`; fail with the last one."""
    deadline = time.monotonic() + within
    while not (answer := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {what or look} (last: {answer!r})"
        time.sleep(0.02)
    return answer


def stays(look: Callable[[], bool], *, seconds: float) -> None:
    """Assert that something stays true for a while."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert look()
        time.sleep(0.05)


def prepare(server: LocalControlPlane) -> None:
    """Install what a user installs: namespace, CRDs, RBAC, policy."""
    server.kubectl("apply", "--server-side", "-k", str(ROOT / "manifests/base"))
    server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    # Without a scheduler and kubelets the pods would only wait; the controller is started by hand here.
    server.kubectl("delete", "-n", NAMESPACE, "deployment/lvs-controller", "daemonset/lvs-agent", "--wait=false")


def token(server: LocalControlPlane, *, pod: str = "") -> str:
    """Return a token of the controller's ServiceAccount; bound to a pod it dies with the pod."""
    spec: Body = {"expirationSeconds": 3600}
    if pod:
        _, body = server.api("GET", f"/api/v1/namespaces/{NAMESPACE}/pods/{pod}")
        spec["boundObjectRef"] = {"apiVersion": "v1", "kind": "Pod", "name": pod, "uid": body["metadata"]["uid"]}
    status, answer = server.api(
        "POST",
        f"/api/v1/namespaces/{NAMESPACE}/serviceaccounts/lvs-controller/token",
        {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec},
    )
    assert status == 201, answer
    return str(answer["status"]["token"])


def write_kubeconfig(server: LocalControlPlane, directory: Path, name: str, text: str) -> Path:
    """Write a kubeconfig that reads its token from a file, as a pod does; return the path of the kubeconfig."""
    (directory / f"{name}.token").write_text(text)
    cluster = {
        "server": server.access.server,
        "certificate-authority-data": base64.b64encode(server.access.ca_pem.encode()).decode(),
        "tls-server-name": server.access.tls_server_name,
    }
    user = {"tokenFile": str(directory / f"{name}.token")}
    context = {"cluster": "test", "user": "controller"}
    path = directory / f"{name}.kubeconfig"
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "clusters": [{"name": "test", "cluster": cluster}],
                "users": [{"name": "controller", "user": user}],
                "contexts": [{"name": "test", "context": context}],
                "current-context": "test",
            }
        )
    )
    return path


class Controller:
    """One `lvs-controller` process."""

    def __init__(self, kubeconfig: Path, directory: Path, name: str, level: str = "debug") -> None:
        self.name = name
        self.log_path = directory / f"{name}.log"
        self._port = _free_port()
        self._argv = [
            *(sys.executable, "-m", "lvs_dr.controller.main"),
            *(f"--kubeconfig={kubeconfig}", f"--listen=127.0.0.1:{self._port}", f"--log-level={level}"),
        ]
        self._environment = os.environ | {
            "POD_NAME": name,
            "PYTHONPATH": f"{ROOT / 'operator'}:{os.environ.get('PYTHONPATH', '')}",
        }
        self.starts = 0
        self.process = self._start()

    def _start(self) -> "subprocess.Popen[bytes]":
        self.starts += 1
        with self.log_path.open("ab") as log:
            return subprocess.Popen(self._argv, env=self._environment, stdout=log, stderr=log)

    def kept_running(self) -> None:
        """Start it anew, as a kubelet does, where the API server was away for longer than the Lease lives."""
        if self.process.poll() is not None:
            assert "leadership is lost" in self.log().rpartition("elected leader")[2], "it ended for another reason"
            self.process = self._start()

    def get(self, path: str) -> tuple[int, str]:
        """Ask the health server; status 0 when it does not answer."""
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self._port}{path}", timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError:
            return 0, ""

    def metric(self, name: str) -> float:
        """Return the value of a metric, written as it is rendered (with labels)."""
        for line in self.get("/metrics")[1].splitlines():
            if line.startswith(f"{name} "):
                return float(line.split()[-1])
        return 0.0

    def leads(self) -> bool:
        """Tell whether it leads and has started its watches."""
        return self.metric("lvs_controller_leading") == 1 and self.get("/readyz")[0] == 200

    def wait_leading(self) -> "Controller":
        """Wait until it leads."""
        eventually(self.leads, within=2 * PATIENCE, what=f"{self.name} leads")
        return self

    def log(self) -> str:
        """Return its log."""
        return self.log_path.read_text(errors="replace")

    def stop(self, number: int = signal.SIGTERM) -> int:
        """End it and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise


def create_node(server: LocalControlPlane, name: str) -> None:
    """Create a Node as a kubelet would."""
    labels = {"kubernetes.io/os": "linux"} | ({"lvs-operator.io/director": ""} if name.startswith("director") else {})
    server.api("POST", "/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})
    status, answer = server.api(
        "PATCH",
        f"/api/v1/nodes/{name}/status",
        {"status": {"addresses": [{"type": "InternalIP", "address": node_address(name)}]}},
        content_type="application/merge-patch+json",
    )
    assert status == 200, answer


def service(name: str = "webdav", address: str = "192.168.35.100", **spec: Any) -> Body:
    """Return the README's VirtualService."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "VirtualService",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "address": address,
            "ports": [{"port": 8443}],
            "scheduler": "rr",
            "realServers": {"selector": {"matchLabels": {"pool": "webdav"}}},
            "healthCheck": {"tcp": {}},
            **spec,
        },
    }


def real_server(name: str) -> Body:
    """Return one of the README's RealServers."""
    return {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "RealServer",
        "metadata": {"name": name, "namespace": "default", "labels": {"pool": "webdav"}},
        "spec": {"nodeName": name},
    }


class Cluster:
    """What tests ask for and change, as administrator."""

    def __init__(self, server: LocalControlPlane) -> None:
        self.server = server

    def create(self, body: Body) -> Body:
        """Create one of our objects."""
        status, answer = self.server.api("POST", collection(body["kind"]), body)
        assert status == 201, answer
        return dict(answer)

    def get(self, kind: str, name: str) -> Body | None:
        """Return one of our objects; None when there is none."""
        status, answer = self.server.api("GET", f"{collection(kind)}/{name}")
        return dict(answer) if status == 200 else None

    def delete(self, kind: str, name: str) -> None:
        """Delete one of our objects."""
        self.server.api("DELETE", f"{collection(kind)}/{name}")

    def patch(self, kind: str, name: str, change: Body) -> None:
        """Merge a change into one of our objects."""
        content = "application/merge-patch+json"
        status, answer = self.server.api("PATCH", f"{collection(kind)}/{name}", change, content_type=content)
        assert status == 200, answer

    def destinations(self, name: str = "webdav") -> list[str]:
        """Return the real servers of a DirectorTable."""
        table = self.get("DirectorTable", name)
        return [each["realServer"] for each in table["spec"].get("destinations", ())] if table else []

    def condition(self, kind: str, name: str, condition: str) -> str:
        """Return the status of a condition, "" when it is not there or was judged from an older generation."""
        body = self.get(kind, name) or {}
        for each in (body.get("status") or {}).get("conditions", ()):
            if each["type"] == condition and each["observedGeneration"] == body["metadata"]["generation"]:
                return str(each["status"])
        return ""

    def ready(self, name: str = "webdav") -> bool:
        """Tell whether a VirtualService is Ready."""
        return self.condition("VirtualService", name, "Ready") == "True"

    def example(self) -> None:
        """Create the README's example."""
        for name in BACKENDS:
            self.create(real_server(name))
        self.create(service())

    def remove_everything(self) -> None:
        """Delete all users' objects and wait until nothing compiled is left of them."""
        for kind in ("VirtualService", "RealServer", "DirectorGroup"):
            path = collection(kind).replace("/namespaces/default", "")
            for item in self.server.api("GET", path)[1].get("items", ()):
                self.delete(kind, item["metadata"]["name"])
        eventually(lambda: not self.server.api("GET", f"{OURS}/directortables")[1].get("items"), what="no tables")
        eventually(lambda: all(self.clean(name) for name in (DIRECTOR, *BACKENDS)), what="clean nodes")

    def wipe(self) -> None:
        """Forget all earlier tests without a controller: users' and compiled objects, and the leader's Lease."""
        for plural in ("virtualservices", "realservers", "directorgroups", "directortables", "lvsnodes"):
            argv = ("delete", f"{plural}.lvs-operator.io", "--all", "--all-namespaces", "--ignore-not-found")
            self.server.kubectl(*argv)
        self.server.api("DELETE", f"{LEASES}/lvs-controller-leader")

    def clean(self, name: str) -> bool:
        """Tell whether a node carries nothing."""
        spec = (self.get("LVSNode", name) or {}).get("spec", {})
        return not spec.get("backendAddresses") and not ((spec.get("director") or {}).get("vrrp") or {}).get("routers")


def collection(kind: str) -> str:
    """Return where objects of a kind are, those of the namespace `default` for namespaced kinds."""
    plural = f"{kind.lower()}s"
    cluster = kind in ("DirectorGroup", "LVSNode")
    return f"{OURS}/{plural}" if cluster else f"{OURS}/namespaces/default/{plural}"


@contextmanager
def running(
    server: LocalControlPlane, directory: Path, name: str = "controller-1", level: str = "debug"
) -> Iterator[Controller]:
    """Run a controller; whatever happens it is gone afterwards, and its log is shown when the test failed."""
    kubeconfig = write_kubeconfig(server, directory, name, token(server))
    controller = Controller(kubeconfig, directory, name, level)
    try:
        yield controller
    except BaseException:
        sys.stdout.write(controller.log()[-6000:])
        raise
    finally:
        if controller.process.poll() is None:
            controller.stop()


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
