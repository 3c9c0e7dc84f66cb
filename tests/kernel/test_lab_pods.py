"""Pods on the lab's nodes: made by the real controllers, run as a container runtime would run them."""

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import pytest

from lvs_lab import Lab
from lvs_lab.spec import PodInfo

T = TypeVar("T")
NAMESPACE = "lab-pods"
IMAGE = "example/lvs-operator:test"
AGENT_CAPABILITIES = (1 << 12) | (1 << 13)  # NET_ADMIN, NET_RAW
TOKEN = "/var/run/secrets/kubernetes.io/serviceaccount/token"  # noqa: S105 - a path
WHO_AM_I = """
import json, os, ssl, urllib.request
base = "/var/run/secrets/kubernetes.io/serviceaccount/"
url = f"https://{os.environ['KUBERNETES_SERVICE_HOST']}:{os.environ['KUBERNETES_SERVICE_PORT']}"
body = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
request = urllib.request.Request(url + "/apis/authentication.k8s.io/v1/selfsubjectreviews", json.dumps(body).encode(),
    {"Authorization": "Bearer " + open(base + "token").read(), "Content-Type": "application/json"})
context = ssl.create_default_context(cafile=base + "ca.crt")
print(urllib.request.urlopen(request, context=context, timeout=10).read().decode())
"""
SERVER = """
import http.server, os, signal
def stop(*_):
    open("/run/lvs-operator/goodbye", "w").write(os.environ["POD_NAME"])
    os._exit(0)
signal.signal(signal.SIGTERM, stop)
print("started on", os.environ["NODE_NAME"], flush=True)
http.server.ThreadingHTTPServer(("", 8191), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def until(what: str, look: Callable[[], T], timeout: float = 30) -> T:
    """Wait until `look` returns something true. Raises AssertionError naming `what`."""
    deadline = time.monotonic() + timeout
    while True:
        if found := look():
            return found
        assert time.monotonic() < deadline, f"{what}: not within {timeout:g} s"
        time.sleep(0.1)


def container(**changes: Any) -> dict[str, Any]:
    """Return a container with the agent's rights."""
    rights = {
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
    }
    fields = {"NODE_NAME": "spec.nodeName", "POD_NAME": "metadata.name"}
    env = [{"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()]
    return {"name": "main", "image": IMAGE, "securityContext": rights, "env": env, **changes}


def workload(kind: str, name: str, pod: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Return a DaemonSet or Deployment."""
    labels = {"app": name}
    template = {"metadata": {"labels": labels}, "spec": {"hostNetwork": True, **pod}}
    body = {"selector": {"matchLabels": labels}, "template": template, **spec}
    meta = {"name": name, "namespace": NAMESPACE}
    return {"apiVersion": "apps/v1", "kind": kind, "metadata": meta, "spec": body}


AGENT = workload(
    "DaemonSet",
    "agent",
    {
        "terminationGracePeriodSeconds": 1,
        "tolerations": [{"operator": "Exists"}],
        "containers": [
            container(
                command=["python", "-c", SERVER],
                readinessProbe={
                    "httpGet": {"port": 8191, "path": "/etc/hostname"},
                    "periodSeconds": 1,
                    "failureThreshold": 1,
                },
                volumeMounts=[
                    {"name": "net", "mountPath": "/host/proc/sys/net"},
                    {"name": "state", "mountPath": "/var/lib/lvs-operator"},
                    {"name": "run", "mountPath": "/run/lvs-operator"},
                    {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
                ],
            )
        ],
        "volumes": [
            {"name": "net", "hostPath": {"path": "/proc/sys/net", "type": "Directory"}},
            {"name": "state", "hostPath": {"path": "/var/lib/lvs-operator", "type": "DirectoryOrCreate"}},
            {"name": "run", "hostPath": {"path": "/run/lvs-operator", "type": "DirectoryOrCreate"}},
            {"name": "tmp", "emptyDir": {}},
        ],
    },
)
CONTROLLER = workload(
    "Deployment",
    "controller",
    {
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsUser": 65532, "runAsNonRoot": True},
        "affinity": {
            "podAntiAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": [
                    {"topologyKey": "kubernetes.io/hostname", "labelSelector": {"matchLabels": {"app": "controller"}}}
                ]
            }
        },
        "containers": [
            container(
                command=["sh", "-c", "touch /tmp/alive; exec sleep 86400"],
                livenessProbe={
                    "exec": {"command": ["test", "-e", "/tmp/alive"]},  # noqa: S108
                    "periodSeconds": 1,
                    "timeoutSeconds": 10,
                    "failureThreshold": 1,
                },
                volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}],  # noqa: S108
            )
        ],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
    },
    replicas=2,
)


def pods(lab: Lab, app: str) -> list[PodInfo]:
    """Return the pods of one app."""
    return [pod for pod in lab.pods(f"app={app}") if pod.namespace == NAMESPACE]


def pod_on(lab: Lab, node: str) -> PodInfo:
    """Return the DaemonSet's pod on a node."""
    return next(pod for pod in pods(lab, "agent") if pod.node == node)


def ready_again(lab: Lab, before: PodInfo) -> Callable[[], bool]:
    """Tell whether a pod is Ready after more restarts than before."""

    def look() -> bool:
        now = [pod for pod in lab.pods() if pod.name == before.name]
        return bool(now) and now[0].ready and now[0].restarts > before.restarts

    return look


def execute(lab: Lab, pod: PodInfo, *argv: str, check: bool = True) -> str:
    """Run a command in a pod's container and return what it printed."""
    done = lab.exec_in_container(pod.name, "main", *argv, check=check)
    return done.stdout + done.stderr


def effective(status: str) -> int:
    """Read CapEff of a /proc/PID/status."""
    return int(next(line for line in status.splitlines() if line.startswith("CapEff")).split()[1], 16)


@pytest.fixture(scope="module")
def running(lab: Lab) -> Iterator[Lab]:
    """A DaemonSet and a Deployment that are Ready."""
    namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}
    everything = {"apiVersion": "v1", "kind": "List", "items": [namespace, AGENT, CONTROLLER]}
    lab.kubectl("apply", "-f", "-", stdin=json.dumps(everything))
    try:
        for name in ("daemonset/agent", "deployment/controller"):
            lab.kubectl("rollout", "status", name, "-n", NAMESPACE, "--timeout=60s", timeout=70)
        yield lab
    finally:
        argv = ("daemonsets,deployments,pods", "--all", "-n", NAMESPACE, "--timeout=60s")
        lab.kubectl("delete", *argv, "--cascade=foreground", timeout=70)
        lab.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def test_daemonset_is_everywhere_and_replicas_apart(running: Lab) -> None:
    """Pods come from the real controllers: one agent per node, and no two controllers on one node."""
    kubernetes = sorted(name for name, node in running.nodes.items() if node.spec.kubernetes)
    assert sorted(pod.node for pod in pods(running, "agent")) == kubernetes
    assert len({pod.node for pod in pods(running, "controller")}) == 2
    agent = pod_on(running, "storage-1")
    assert "started on storage-1" in running.container_log(agent.name, "main")


def test_rights_are_what_a_runtime_gives(running: Lab) -> None:
    """Root with two capabilities has them; another user with the same list has none in effect."""
    agent, controller = pod_on(running, "director-1"), pods(running, "controller")[0]
    # Of the process itself, seen from outside, and of a command that is run beside it.
    outside = running.nodes["director-1"].read_file(f"/proc/{agent.pids['main']}/status")
    inside = execute(running, agent, "cat", "/proc/self/status")
    assert effective(outside) == effective(inside) == AGENT_CAPABILITIES
    assert "NoNewPrivs:\t1" in outside
    status = running.nodes[controller.node].read_file(f"/proc/{controller.pids['main']}/status")
    assert "Uid:\t65532\t65532" in status
    assert effective(status) == 0


def test_root_is_read_only_but_mounts_are_not(running: Lab) -> None:
    """An agent that writes where the manifest does not let it must fail here as on a real node."""
    agent = pod_on(running, "director-1")
    script = "for f in /x /etc/x /proc/sys/net/ipv4/ip_forward; do echo 1 > $f; done; ls /home; true"
    said = execute(running, agent, "sh", "-c", script)
    assert said.count("Read-only file system") == 3
    assert "No such file" in said, "a container sees the image and not the whole host"
    execute(running, agent, "sh", "-c", "echo 1 > /host/proc/sys/net/ipv4/ip_forward && echo x > /tmp/x")


def test_killed_container_is_restarted(running: Lab) -> None:
    """Tests that kill an agent rely on the kubelet's part: same pod, new process, one more restart."""
    before = pod_on(running, "storage-2")
    running.kill_container(before.name, "main")
    until("restart", ready_again(running, before))
    after = pod_on(running, "storage-2")
    assert (after.name, after.restarts) == (before.name, before.restarts + 1)
    assert after.pids["main"] != before.pids["main"]
    assert running.container_log(after.name, "main").count("started on") == after.restarts + 1


def test_paused_container_fails_readiness_and_comes_back(running: Lab) -> None:
    """A hung process is seen by its probe, and nobody restarts it for that."""
    before = pod_on(running, "storage-2")
    running.pause_container(before.name, "main")
    until("not ready", lambda: not pod_on(running, "storage-2").ready)
    running.resume_container(before.name, "main")
    until("ready", lambda: pod_on(running, "storage-2").ready)
    assert pod_on(running, "storage-2").pids == before.pids


def test_liveness_restarts(running: Lab) -> None:
    """A controller that no longer lives is replaced."""
    before = pods(running, "controller")[0]
    execute(running, before, "rm", "/tmp/alive")  # noqa: S108
    until("restart", ready_again(running, before), timeout=60)


def test_token_is_bound_to_pod_and_node_and_rotates(running: Lab) -> None:
    """The admission policy holds an agent to its node by the token's claim; a renewed token replaces the file."""
    agent = pod_on(running, "storage-1")
    user = json.loads(execute(running, agent, "python", "-c", WHO_AM_I))["status"]["userInfo"]
    assert user["username"] == f"system:serviceaccount:{NAMESPACE}:default"
    assert user["extra"]["authentication.kubernetes.io/node-name"] == ["storage-1"]
    assert user["extra"]["authentication.kubernetes.io/pod-name"] == [agent.name]
    # What the process itself sees, by its own root directory: the file under the mount is replaced.
    path = f"/proc/{agent.pids['main']}/root{TOKEN}"
    old = running.nodes["storage-1"].read_file(path)
    running._cluster("rotate_tokens", pod=agent.name)
    until("another token", lambda: running.nodes["storage-1"].read_file(path) != old)
    again = json.loads(execute(running, agent, "python", "-c", WHO_AM_I))["status"]["userInfo"]
    assert (again["username"], again["uid"]) == (user["username"], user["uid"])


def test_containers_do_without_the_api_server(running: Lab) -> None:
    """While the API server is away a kubelet goes on with what it knows, and tells afterwards."""
    before = pod_on(running, "director-2")
    running.stop_api_server()
    try:
        running.kill_container(before.name, "main")
        address = running.nodes["director-2"].lan_address
        probe = f"import socket; socket.create_connection(({address!r}, 8191), 1)"

        def serves() -> bool:
            return running.nodes["director-2"].run("python3", "-c", probe, check=False).returncode == 0

        until("service", serves)
    finally:
        running.start_api_server()
    until("status", ready_again(running, before))


def test_deleted_pod_is_asked_first_and_leaves_no_process(running: Lab) -> None:
    """A pod ends by SIGTERM, is gone from the node once it is gone from the API, and has a successor."""
    old = pod_on(running, "storage-1")
    running.kubectl("delete", "pod", old.name, "-n", NAMESPACE, "--wait", "--timeout=30s", timeout=40)
    assert running.nodes["storage-1"].read_file("/run/lvs-operator/goodbye") == old.name
    assert running.nodes["storage-1"].run("ps", "-p", str(old.pids["main"]), check=False).returncode == 1
    until(
        "successor",
        lambda: any(p.node == "storage-1" and p.ready and p.name != old.name for p in pods(running, "agent")),
    )


def test_refused_pod_says_why(running: Lab) -> None:
    """What the lab does not stand in for fails with its name, and is never half done."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "stranger", "namespace": NAMESPACE},
        "spec": {"containers": [container(image="docker.io/library/busybox:1", command=["true"])]},
    }
    running.kubectl("apply", "-f", "-", stdin=json.dumps(pod))

    def failed() -> str:
        argv = ("get", "pod", "stranger", "-n", NAMESPACE, "-o", "jsonpath={.status.phase} {.status.message}")
        text = running.kubectl(*argv).stdout
        return text if text.startswith("Failed") else ""

    assert "busybox" in until("refusal", failed)


def test_idle_pods_cost_the_api_server_nothing(running: Lab) -> None:
    """A status that is posted over and over would drown what benchmarks measure."""

    def versions() -> str:
        argv = (
            "get",
            "pods",
            "-n",
            NAMESPACE,
            "-l",
            "app=controller",
            "-o",
            "jsonpath={.items[*].metadata.resourceVersion}",
        )
        return running.kubectl(*argv).stdout

    before = versions()
    time.sleep(2)
    assert versions() == before


def node_ready(lab: Lab, name: str) -> str:
    """Return the status of a Node's condition Ready."""
    path = "jsonpath={.status.conditions[?(@.type=='Ready')].status}"
    return lab.kubectl("get", "node", name, "-o", path).stdout


def test_dead_and_cut_off_nodes_become_not_ready_and_recover(running: Lab) -> None:
    """Node and pod status must stop with the node, or no test of node failure would mean anything."""
    dead, cut = running.nodes["storage-3"], running.nodes["storage-2"]
    on_dead, on_cut = pod_on(running, "storage-3"), pod_on(running, "storage-2")
    execute(running, on_dead, "sh", "-c", "echo kept > /var/lib/lvs-operator/x; echo lost > /run/lvs-operator/x")
    try:
        dead.kill()
        cut.cut_off("management")
        for name in ("storage-3", "storage-2"):
            until(f"{name} not ready", lambda name=name: node_ready(running, name) == "Unknown", timeout=60)  # type: ignore[misc]
    finally:
        dead.boot()
        cut.reconnect("management")
    for name in ("storage-3", "storage-2"):
        until(f"{name} ready", lambda name=name: node_ready(running, name) == "True")  # type: ignore[misc]
    until("pod on the dead node", ready_again(running, on_dead), timeout=60)
    until("pod on the cut-off node", lambda: pod_on(running, "storage-2").ready)
    assert pod_on(running, "storage-2").pids == on_cut.pids, "a cut-off node's containers go on"
    agent = pod_on(running, "storage-3")
    assert agent.name == on_dead.name
    assert execute(running, agent, "cat", "/var/lib/lvs-operator/x") == "kept\n"
    assert "No such file" in execute(running, agent, "cat", "/run/lvs-operator/x", check=False)
    execute(running, agent, "rm", "/var/lib/lvs-operator/x")
