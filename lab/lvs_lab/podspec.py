"""Translates a Pod, as the API server stores it, into what a node has to do. Pure.

Whatever is not honoured is refused (`Refused`, the pod fails with its text), except the following, which has no
counterpart here and is accepted and ignored:
resources, imagePullPolicy, imagePullSecrets, container ports, terminationMessagePath/-Policy, seccomp, AppArmor and
SELinux profiles, dnsPolicy, enableServiceLinks, priority and preemption, emptyDir medium and size limits, file modes of
projected volumes (always 0644), fsGroup's change of ownership (the group is given to the processes).
`hostNetwork: false` is given the node's network too: no CNI is stood in for.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lvs_lab import podvolumes
from lvs_lab.image import Image
from lvs_lab.podfields import NodeFacts, Refused, expand, field_value, refuse_unknown, words
from lvs_lab.podvolumes import Mount, Projection
from lvs_lab.probes import Probe

Object = dict[str, Any]

CAPABILITIES = tuple(
    """
    CHOWN DAC_OVERRIDE DAC_READ_SEARCH FOWNER FSETID KILL SETGID SETUID SETPCAP LINUX_IMMUTABLE NET_BIND_SERVICE
    NET_BROADCAST NET_ADMIN NET_RAW IPC_LOCK IPC_OWNER SYS_MODULE SYS_RAWIO SYS_CHROOT SYS_PTRACE SYS_PACCT SYS_ADMIN
    SYS_BOOT SYS_NICE SYS_RESOURCE SYS_TIME SYS_TTY_CONFIG MKNOD LEASE AUDIT_WRITE AUDIT_CONTROL SETFCAP MAC_OVERRIDE
    MAC_ADMIN SYSLOG WAKE_ALARM BLOCK_SUSPEND AUDIT_READ PERFMON BPF CHECKPOINT_RESTORE
    """.split()  # noqa: SIM905 - a table is read, a list of 41 strings is not
)
"""In the order of their numbers (include/uapi/linux/capability.h)."""
DEFAULT_CAPABILITIES = words(
    "CHOWN DAC_OVERRIDE FSETID FOWNER MKNOD NET_RAW SETGID SETUID SETFCAP SETPCAP NET_BIND_SERVICE SYS_CHROOT KILL "
    "AUDIT_WRITE"
)
"""What containerd and CRI-O give a container that asks for nothing."""

POD_KEYS = words(
    "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsPolicy enableServiceLinks hostIPC "
    "hostNetwork hostPID imagePullSecrets initContainers nodeName nodeSelector os overhead preemptionPolicy priority "
    "priorityClassName restartPolicy schedulerName securityContext serviceAccount serviceAccountName "
    "terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes hostUsers "
    "shareProcessNamespace"
)
CONTAINER_KEYS = words(
    "name image command args workingDir env volumeMounts livenessProbe readinessProbe startupProbe lifecycle "
    "securityContext resources resizePolicy ports imagePullPolicy terminationMessagePath "
    "terminationMessagePolicy"
)
POD_SECURITY_KEYS = words(
    "runAsUser runAsGroup runAsNonRoot supplementalGroups fsGroup fsGroupChangePolicy seccompProfile appArmorProfile "
    "seLinuxOptions supplementalGroupsPolicy"
)
SECURITY_KEYS = words(
    "runAsUser runAsGroup runAsNonRoot capabilities readOnlyRootFilesystem allowPrivilegeEscalation seccompProfile "
    "appArmorProfile seLinuxOptions privileged procMount"
)


@dataclass(frozen=True, kw_only=True)
class ContainerPlan:
    """One container: `runtime` is the plan that guest/container.py carries out, the rest is the kubelet's."""

    name: str
    image: str
    runtime: Mapping[str, Any]
    probes: Mapping[str, Probe]
    pre_stop: tuple[str, ...] = ()
    pre_stop_sleep: float = 0


@dataclass(frozen=True, kw_only=True)
class PodPlan:
    """One pod on one node."""

    uid: str
    namespace: str
    name: str
    service_account: str
    restart_policy: str
    grace_seconds: int
    directory: Path
    """Files of this pod, at the same path on the host and on the node."""
    init_containers: tuple[ContainerPlan, ...]
    containers: tuple[ContainerPlan, ...]
    projections: tuple[Projection, ...]
    scratch: str
    """Directory on the node (in its memory) that holds the pod's emptyDirs."""


def plan_pod(pod: Object, node: NodeFacts, image: Image) -> PodPlan:
    """Translate a pod. Raises Refused for what the lab cannot honour."""
    meta, spec = pod["metadata"], pod["spec"]
    refuse_unknown("pod", spec, POD_KEYS)
    for key in ("hostPID", "hostIPC", "shareProcessNamespace"):
        if spec.get(key):
            raise Refused(f"pod: {key} is not stood in for")
    if spec.get("hostUsers") is False or spec.get("activeDeadlineSeconds"):
        raise Refused("pod: hostUsers: false and activeDeadlineSeconds are not stood in for")
    directory = node.state_dir / "pods" / meta["uid"]
    scratch = f"/run/lvs-lab/pods/{meta['uid']}"
    volumes = podvolumes.plan_volumes(pod, node, directory, scratch)

    def containers(key: str) -> tuple[ContainerPlan, ...]:
        return tuple(_plan_container(c, pod, node, image, volumes.mounts) for c in spec.get(key) or ())

    return PodPlan(
        uid=meta["uid"],
        namespace=meta["namespace"],
        name=meta["name"],
        service_account=spec.get("serviceAccountName") or "default",
        restart_policy=spec.get("restartPolicy", "Always"),
        grace_seconds=int(spec.get("terminationGracePeriodSeconds", 30)),
        directory=directory,
        init_containers=containers("initContainers"),
        containers=containers("containers"),
        projections=volumes.projections,
        scratch=scratch,
    )


def _plan_container(
    container: Object, pod: Object, node: NodeFacts, image: Image, volumes: Mapping[str, Mount]
) -> ContainerPlan:
    where = f"container {container['name']}"
    refuse_unknown(where, container, CONTAINER_KEYS)
    if not image.stands_for(container["image"]):
        raise Refused(f"{where}: image {container['image']}: the lab has only the image of this project")
    environment = plan_environment(where, container, pod, node, image)
    security = plan_security(where, container.get("securityContext") or {}, pod["spec"].get("securityContext") or {})
    # Runtimes look the user up in the image's /etc/passwd; ours has root and nobody else that pods name.
    environment.setdefault("HOME", "/" if security["uid"] else "/root")
    command = [*(container.get("command") or ()), *(container.get("args") or ())]
    if not container.get("command"):
        raise Refused(f"{where}: no command, and the lab's image has no entry point")
    runtime = {
        "argv": [expand(word, environment) for word in command],
        "env": environment,
        "cwd": container.get("workingDir") or "/",
        "image": list(image.paths),
        "mounts": [asdict(mount) for mount in _container_mounts(where, container, volumes)],
        **security,
    }
    keys = {"startup": "startupProbe", "readiness": "readinessProbe", "liveness": "livenessProbe"}
    probes = {kind: Probe.parse(where, container, container[key]) for kind, key in keys.items() if container.get(key)}
    pre_stop, sleep = _plan_lifecycle(where, container.get("lifecycle") or {})
    return ContainerPlan(
        name=container["name"],
        image=container["image"],
        runtime=runtime,
        probes=probes,
        pre_stop=pre_stop,
        pre_stop_sleep=sleep,
    )


def _container_mounts(where: str, container: Object, volumes: Mapping[str, Mount]) -> list[Mount]:
    return [podvolumes.mount_for(where, item, volumes) for item in container.get("volumeMounts") or ()]


def _plan_lifecycle(where: str, lifecycle: Object) -> tuple[tuple[str, ...], float]:
    refuse_unknown(f"{where}.lifecycle", lifecycle, frozenset({"preStop"}))
    hook = lifecycle.get("preStop") or {}
    refuse_unknown(f"{where}.lifecycle.preStop", hook, frozenset({"exec", "sleep"}))
    return tuple((hook.get("exec") or {}).get("command") or ()), float((hook.get("sleep") or {}).get("seconds", 0))


def plan_environment(where: str, container: Object, pod: Object, node: NodeFacts, image: Image) -> dict[str, str]:
    """Return the container's environment: the image's, then its own in order, with `$(NAME)` expanded."""
    environment = {**image.environment, "HOSTNAME": node.name}
    environment.update(
        {"KUBERNETES_SERVICE_HOST": podvolumes.API_SERVER_HOST, "KUBERNETES_SERVICE_PORT": podvolumes.API_SERVER_PORT}
    )
    for item in container.get("env") or ():
        source = item.get("valueFrom")
        if source is None:
            environment[item["name"]] = expand(item.get("value") or "", environment)
            continue
        refuse_unknown(f"{where}: env {item['name']}.valueFrom", source, frozenset({"fieldRef"}))
        environment[item["name"]] = field_value(source["fieldRef"]["fieldPath"], pod, node)
    return environment


def plan_security(where: str, own: Object, pod: Object) -> Object:
    """Return user, groups, capability numbers and flags. Raises Refused for privileged and root against the rules."""
    refuse_unknown(f"{where}.securityContext", own, SECURITY_KEYS)
    refuse_unknown("pod.securityContext", pod, POD_SECURITY_KEYS)
    if own.get("privileged"):
        raise Refused(f"{where}: privileged containers are refused: nothing of this project may need one")
    if own.get("procMount", "Default") != "Default":
        raise Refused(f"{where}: procMount {own['procMount']} is not stood in for")
    merged = {**pod, **own}
    uid, gid = int(merged.get("runAsUser", 0)), int(merged.get("runAsGroup", 0))
    if merged.get("runAsNonRoot") and uid == 0:
        raise Refused(f"{where}: runAsNonRoot is set and the user would be root")
    groups = {gid, *(pod.get("supplementalGroups") or ()), *([pod["fsGroup"]] if "fsGroup" in pod else ())}
    return {
        "uid": uid,
        "gid": gid,
        "groups": sorted(groups),
        "capabilities": sorted(CAPABILITIES.index(c) for c in plan_capabilities(where, own.get("capabilities") or {})),
        "no_new_privileges": own.get("allowPrivilegeEscalation") is False,
        "read_only_root": bool(own.get("readOnlyRootFilesystem")),
    }


def plan_capabilities(where: str, capabilities: Object) -> frozenset[str]:
    """Return the set as container runtimes compute it: ALL first, then single names; adding wins over dropping ALL."""
    add = {name.removeprefix("CAP_") for name in capabilities.get("add") or ()}
    drop = {name.removeprefix("CAP_") for name in capabilities.get("drop") or ()}
    if unknown := (add | drop) - {"ALL", *CAPABILITIES}:
        raise Refused(f"{where}: unknown capability {', '.join(sorted(unknown))}")
    result = set(CAPABILITIES) if "ALL" in add else set() if "ALL" in drop else set(DEFAULT_CAPABILITIES)
    return frozenset((result - drop) | (add - {"ALL"}))
