"""What a pod's spec becomes on a lab node: the lab must do what a kubelet would, or say that it does not."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lvs_lab.image import Image
from lvs_lab.podfields import NodeFacts, Refused, expand
from lvs_lab.podspec import CAPABILITIES, DEFAULT_CAPABILITIES, PodPlan, plan_capabilities, plan_pod
from lvs_lab.podstatus import LOST, ContainerState, PodState, digest
from lvs_lab.podvolumes import MapSource, TokenSource
from lvs_lab.probes import Counter, Probe
from lvs_lab.scheduler import Unschedulable, choose, tolerates

Object = dict[str, Any]
NODE = NodeFacts(name="storage-1", addresses=("192.168.35.21", "fd35::21"), state_dir=Path("/lab/nodes/storage-1"))
IMAGE = Image(("/usr", "/venv"), {"PATH": "/venv/bin:/usr/bin"})


def pod(container: Object | None = None, **spec: object) -> Object:
    """Return a pod as the API server stores it, with one container."""
    base = {"name": "agent", "image": "example/lvs-operator:1", "command": ["lvs-agent"], **(container or {})}
    meta = {"name": "agent-x", "namespace": "lvs-system", "uid": "u1", "labels": {"app": "agent"}}
    return {"metadata": meta, "spec": {"containers": [base], "serviceAccountName": "lvs-agent", **spec}}


def plan(container: Object | None = None, **spec: object) -> PodPlan:
    """Plan such a pod for storage-1."""
    return plan_pod(pod(container, **spec), NODE, IMAGE)


def runtime(container: Object | None = None, **spec: object) -> Object:
    """Return what the container runtime gets."""
    return dict(plan(container, **spec).containers[0].runtime)


def names(numbers: list[int]) -> set[str]:
    """Return capabilities by name."""
    return {CAPABILITIES[number] for number in numbers}


def test_agent_template_gets_exactly_its_two_capabilities() -> None:
    """With more than the manifest asks for, tests would pass on rights that production does not have."""
    security = {
        "runAsUser": 0,
        "capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN", "NET_RAW"]},
        "readOnlyRootFilesystem": True,
        "allowPrivilegeEscalation": False,
    }
    result = runtime({"securityContext": security})
    assert names(result["capabilities"]) == {"NET_ADMIN", "NET_RAW"}
    assert (result["uid"], result["no_new_privileges"], result["read_only_root"]) == (0, True, True)


def test_capability_numbers_are_the_kernels() -> None:
    """A name that is off by one would give a container another right than it asked for."""
    assert {name: CAPABILITIES.index(name) for name in ("CHOWN", "NET_ADMIN", "NET_RAW", "SYS_ADMIN", "BPF")} == {
        "CHOWN": 0,
        "NET_ADMIN": 12,
        "NET_RAW": 13,
        "SYS_ADMIN": 21,
        "BPF": 39,
    }


@given(add=st.sets(st.sampled_from(CAPABILITIES)), drop=st.sets(st.sampled_from(CAPABILITIES)))
def test_capabilities_outside_default_and_add_are_never_given(add: set[str], drop: set[str]) -> None:
    """No combination of add and drop may end with a right that nobody asked for, or lose one that was added."""
    result = plan_capabilities("c", {"add": sorted(add), "drop": sorted(drop)})
    assert add <= result <= DEFAULT_CAPABILITIES | add
    assert plan_capabilities("c", {"add": sorted(add), "drop": ["ALL"]}) == add


def test_nothing_asked_means_runtime_defaults() -> None:
    """A manifest that forgets to drop is seen as such: NET_ADMIN is not among the defaults."""
    result = runtime()
    assert names(result["capabilities"]) == DEFAULT_CAPABILITIES
    assert "NET_ADMIN" not in DEFAULT_CAPABILITIES
    assert not result["no_new_privileges"]


def test_users_of_pod_and_container_merge() -> None:
    """The container's own user wins over the pod's, and groups add up."""
    result = runtime(
        {"securityContext": {"runAsUser": 65532}},
        securityContext={
            "runAsUser": 1,
            "runAsGroup": 7,
            "fsGroup": 8,
            "supplementalGroups": [9],
            "runAsNonRoot": True,
        },
    )
    assert (result["uid"], result["gid"], result["groups"]) == (65532, 7, [7, 8, 9])


@pytest.mark.parametrize(
    ("container", "spec", "text"),
    [
        ({"securityContext": {"privileged": True}}, {}, "privileged"),
        ({"securityContext": {"runAsNonRoot": True}}, {}, "runAsNonRoot"),
        ({"securityContext": {"capabilities": {"add": ["NET_ADMN"]}}}, {}, "NET_ADMN"),
        ({"image": "docker.io/library/busybox:1"}, {}, "busybox"),
        ({"command": None, "args": ["x"]}, {}, "no entry point"),
        ({"envFrom": [{"configMapRef": {"name": "x"}}]}, {}, "envFrom"),
        ({"env": [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}]}, {}, "secretKeyRef"),
        ({"livenessProbe": {"grpc": {"port": 1}}}, {}, "grpc"),
        ({"livenessProbe": {"httpGet": {"port": "nope"}}}, {}, "nope"),
        ({"volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "s"}]}, {}, "subPath"),
        ({}, {"hostPID": True}, "hostPID"),
        ({}, {"securityContext": {"sysctls": [{"name": "a", "value": "1"}]}}, "sysctls"),
        ({}, {"volumes": [{"name": "v", "nfs": {}}]}, "nfs"),
        ({}, {"volumes": [{"name": "v", "hostPath": {"path": "/x", "type": "Socket"}}]}, "Socket"),
        ({}, {"runtimeClassName": "x"}, "runtimeClassName"),
    ],
)
def test_what_is_not_stood_in_for_is_refused_by_name(container: Object, spec: Object, text: str) -> None:
    """A field that the lab silently ignored would make a test of the manifests worthless."""
    with pytest.raises(Refused, match=text):
        plan(container, **spec)


def pod_templates() -> list[Object]:
    """Return the pod template of every workload in manifests/."""
    root = Path(__file__).parents[2] / "manifests"
    documents = [d for file in sorted(root.glob("**/*.yaml")) for d in yaml.safe_load_all(file.read_text())]
    return [d["spec"]["template"] for d in documents if d and d.get("kind") in ("DaemonSet", "Deployment", "Job")]


def test_manifests_use_nothing_the_lab_refuses() -> None:
    """The repository's own manifests are what the lab is for: each of their fields must be honoured."""
    templates = pod_templates()
    assert len(templates) >= 2
    for template in templates:
        meta = {"name": "x", "namespace": "lvs-system", "uid": "u1", "labels": template["metadata"]["labels"]}
        assert plan_pod({"metadata": meta, "spec": template["spec"]}, NODE, IMAGE).containers


def test_ignored_fields_are_the_documented_ones() -> None:
    """What the manifests must carry for a real cluster, and has no counterpart here, does not stop a pod."""
    result = plan(
        {
            "resources": {"limits": {"memory": "64Mi"}},
            "ports": [{"name": "http", "containerPort": 8080}],
            "imagePullPolicy": "IfNotPresent",
            "securityContext": {"seccompProfile": {"type": "RuntimeDefault"}},
        },
        priorityClassName="system-node-critical",
        tolerations=[{"operator": "Exists"}],
        dnsPolicy="ClusterFirstWithHostNet",
    )
    assert result.containers[0].runtime["argv"] == ["lvs-agent"]


def test_environment_is_the_images_then_the_pods_with_references() -> None:
    """An agent learns its node's name from the downward API; flags may refer to it."""
    env = [
        {"name": "NODE_NAME", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
        {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
        {"name": "APP", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
        {"name": "WHO", "value": "$(APP)@$(NODE_NAME) $(UNKNOWN)"},
    ]
    result = runtime({"env": env, "args": ["--node=$(NODE_NAME)", "$$(NODE_NAME)"]})
    assert result["argv"] == ["lvs-agent", "--node=storage-1", "$(NODE_NAME)"]
    assert result["env"]["WHO"] == "agent@storage-1 $(UNKNOWN)"
    assert result["env"]["IPS"] == "192.168.35.21,fd35::21"
    assert result["env"]["PATH"].startswith("/venv/bin:")
    assert (result["env"]["HOME"], runtime(securityContext={"runAsUser": 65532})["env"]["HOME"]) == ("/root", "/")
    assert result["env"]["KUBERNETES_SERVICE_HOST"] == "172.30.0.1"


@given(st.text(max_size=40))
def test_expansion_without_references_changes_nothing(text: str) -> None:
    """Only `$` is special: flags arrive as they were written."""
    assert expand(text.replace("$", ""), {"A": "b"}) == text.replace("$", "")


def test_volumes_become_mounts_and_projections() -> None:
    """hostPaths are the node's own; tokens and maps are files that are written before the start."""
    volumes = [
        {"name": "sys", "hostPath": {"path": "/proc/sys/net", "type": "Directory"}},
        {"name": "state", "hostPath": {"path": "/var/lib/lvs-operator", "type": "DirectoryOrCreate"}},
        {"name": "tmp", "emptyDir": {}},
        {
            "name": "token",
            "projected": {
                "sources": [
                    {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
                    {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                ]
            },
        },
    ]
    mounts = [
        {"name": "sys", "mountPath": "/host/proc/sys/net"},
        {"name": "state", "mountPath": "/var/lib/lvs-operator/", "readOnly": True},
        {"name": "tmp", "mountPath": "/tmp"},  # noqa: S108
        {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"},
    ]
    result = plan({"volumeMounts": mounts}, volumes=volumes)
    by_target = {mount["target"]: mount for mount in result.containers[0].runtime["mounts"]}
    assert by_target["/host/proc/sys/net"]["source"] == "/proc/sys/net"
    assert not by_target["/host/proc/sys/net"]["create"]
    assert by_target["/var/lib/lvs-operator"]["create"] == "directory"
    assert by_target["/var/lib/lvs-operator"]["read_only"]
    assert by_target["/tmp"]["source"].startswith("/run/")  # noqa: S108
    assert by_target["/var/run/secrets/kubernetes.io/serviceaccount"]["read_only"]
    (projection,) = result.projections
    assert projection.directory.is_relative_to(NODE.state_dir)
    assert projection.sources == (
        TokenSource("token", "", 3607),
        MapSource("configMap", "kube-root-ca.crt", False, (("ca.crt", "ca.crt"),)),
    )


def test_probe_ports_may_be_named() -> None:
    """The manifests name their ports; the probe must reach the right one."""
    container = {
        "ports": [{"name": "health", "containerPort": 9440}],
        "livenessProbe": {"httpGet": {"path": "/healthz", "port": "health"}, "periodSeconds": 3, "failureThreshold": 2},
    }
    probe = plan(container).containers[0].probes["liveness"]
    assert (probe.kind, probe.port, probe.path, probe.period, probe.failures) == ("httpGet", 9440, "/healthz", 3, 2)


def test_thresholds_count_runs_not_totals() -> None:
    """One failure among successes must not restart an agent."""
    counter = Counter(Probe(kind="httpGet", failures=2, successes=2))
    assert [counter.add(answer) for answer in (False, True, False, True, True)] == [None, None, None, None, True]
    assert [counter.add(answer) for answer in (False, True, False, False)] == [True, True, True, False]


@pytest.mark.parametrize(
    ("reference", "ours"),
    [
        ("lvs-operator", True),
        ("ghcr.io/example/lvs-operator:1.2@sha256:00", True),
        ("localhost:5000/my-lvs-operator:dev", True),
        ("localhost:5000/other", False),
        ("lvs-operator/other:lvs-operator", False),
    ],
)
def test_image_is_recognised_by_its_repository(reference: str, ours: bool) -> None:  # noqa: FBT001 - pytest passes by name
    """A tag or registry must not decide, nor another project's image pass for ours."""
    assert Image.stands_for(reference) is ours


def node(name: str, *, labels: Object | None = None, ready: str = "True", **spec: object) -> Object:
    """Return a Node object."""
    conditions = [{"type": "Ready", "status": ready}]
    all_labels = {"kubernetes.io/hostname": name, **(labels or {})}
    return {"metadata": {"name": name, "labels": all_labels}, "spec": spec, "status": {"conditions": conditions}}


def bound(name: str, where: str) -> Object:
    """Return a pod of the same app that runs on a node."""
    return {
        "metadata": {"name": name, "namespace": "lvs-system", "labels": {"app": "agent"}},
        "spec": {"nodeName": where},
        "status": {"phase": "Running"},
    }


ANTI = {"labelSelector": {"matchLabels": {"app": "agent"}}, "topologyKey": "kubernetes.io/hostname"}


def test_daemonset_pod_goes_to_the_node_it_names() -> None:
    """The DaemonSet controller names the node by matchFields, and the pod goes there even when it is not Ready."""
    term = {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["b"]}]}
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    tolerations = [{"key": "node.kubernetes.io/not-ready", "operator": "Exists"}]
    candidate = pod(affinity={"nodeAffinity": required}, tolerations=tolerations)
    assert choose(candidate, [node("a"), node("b", ready="False")], []) == "b"
    with pytest.raises(Unschedulable, match="0/1 nodes"):
        choose(candidate, [node("a")], [])


def test_replicas_spread_by_anti_affinity() -> None:
    """Two controllers on one node would die together."""
    preferred = {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "podAffinityTerm": ANTI}]}
    others = [bound("other", "a"), *(bound_elsewhere("x", "b") for _ in range(3))]
    assert choose(pod(affinity={"podAntiAffinity": preferred}), [node("a"), node("b")], others) == "b"
    required = {"requiredDuringSchedulingIgnoredDuringExecution": [ANTI]}
    with pytest.raises(Unschedulable, match="anti-affinity"):
        choose(pod(affinity={"podAntiAffinity": required}), [node("a")], others)


def bound_elsewhere(name: str, where: str) -> Object:
    """Return a pod of another app."""
    other = bound(name, where)
    return {**other, "metadata": {**other["metadata"], "labels": {"app": "x"}}}


def test_selector_taints_and_readiness_are_honoured() -> None:
    """A pod must not land where a real scheduler would not put it."""
    tainted = node("a", taints=[{"key": "k", "value": "v", "effect": "NoSchedule"}])
    nodes = [tainted, node("b", ready="Unknown"), node("c", unschedulable=True)]
    with pytest.raises(Unschedulable, match="0/3"):
        choose(pod(), nodes, [])
    assert choose(pod(tolerations=[{"key": "k", "value": "v"}]), nodes, []) == "a"
    nodes.append(node("d", labels={"disk": "ssd"}))
    assert choose(pod(nodeSelector={"disk": "ssd"}), nodes, []) == "d"


def test_empty_toleration_covers_all() -> None:
    """`operator: Exists` without a key is how agents reach every node."""
    taint = {"key": "k", "value": "v", "effect": "NoExecute"}
    assert tolerates({"operator": "Exists"}, taint)
    assert not tolerates({"operator": "Exists", "effect": "NoSchedule"}, taint)
    assert not tolerates({}, taint)


def states(policy: str = "Always") -> tuple[PodState, ContainerState]:
    """Return a pod's state with one container."""
    container = ContainerState(name="c", image="lvs-operator")
    state = PodState(
        node="n", addresses=("192.168.35.21",), started_at=0, restart_policy=policy, containers=[container]
    )
    return state, container


def test_phases_follow_the_containers() -> None:
    """kubectl and the controllers act on the phase."""
    state, container = states("OnFailure")
    assert state.phase == "Pending"
    state.initialized = True
    container.run(10, 1)
    assert (state.phase, state.ready) == ("Running", False)
    container.ready = True
    assert state.ready
    container.end(1, 2)
    assert (state.phase, state.ready) == ("Running", False)
    container.end(0, 3)
    assert state.phase == "Succeeded"


def test_lost_container_is_told_apart() -> None:
    """A node's death is not the program's fault, and status must not say so."""
    state, container = states()
    container.run(10, 1)
    container.end(LOST, 2, "the node died")
    terminated = state.status({}, 3)["containerStatuses"][0]["state"]["terminated"]
    assert (terminated["exitCode"], terminated["reason"]) == (255, "ContainerStatusUnknown")


def test_status_that_only_ages_is_not_posted_again() -> None:
    """An idle pod must cost the API server nothing."""
    state, container = states()
    container.run(10, 1)
    assert digest(state.status({}, 2)) == digest(state.status({}, 200))
    container.ready = True
    assert digest(state.status({}, 2)) != digest({})
