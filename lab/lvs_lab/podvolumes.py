"""Volumes of a pod: what is mounted from where, and what has to be written there first. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lvs_lab.podfields import NodeFacts, Refused, field_value, refuse_unknown
from lvs_lab.spec import MANAGEMENT_HOST

Object = dict[str, Any]
API_SERVER_HOST = MANAGEMENT_HOST
API_SERVER_PORT = "6443"
MOUNT_KEYS = frozenset({"name", "mountPath", "readOnly", "mountPropagation", "recursiveReadOnly"})


@dataclass(frozen=True, kw_only=True)
class Mount:
    """A directory or file of the node, put at `target` in a container."""

    source: str
    target: str = ""
    read_only: bool = False
    create: str = ""
    """`directory`: made when it is missing."""
    kind: str = ""
    """`directory`: must be one."""
    mode: int = 0o755


@dataclass(frozen=True)
class TokenSource:
    """A ServiceAccount token for this pod. `seconds`: wished lifetime."""

    path: str
    audience: str
    seconds: int


@dataclass(frozen=True)
class MapSource:
    """Keys of a ConfigMap or Secret as files; empty `items` means all of them, under their own names."""

    kind: str
    name: str
    optional: bool
    items: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class TextSource:
    """A file whose content is known: the downward API."""

    path: str
    text: str


Source = TokenSource | MapSource | TextSource


@dataclass(frozen=True)
class Projection:
    """A directory on the host that files are written to before the containers start, and while they run."""

    directory: Path
    sources: tuple[Source, ...]


@dataclass(frozen=True)
class Volumes:
    """Mounts by volume name, and what must be written for some of them."""

    mounts: Mapping[str, Mount]
    projections: tuple[Projection, ...]


def plan_volumes(pod: Object, node: NodeFacts, directory: Path, scratch: str) -> Volumes:
    """Plan every volume of a pod. Raises Refused."""
    mounts: dict[str, Mount] = {}
    projections: list[Projection] = []
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        kind, source = next((key, value) for key, value in volume.items() if key != "name")
        if kind == "hostPath":
            mounts[name] = _host_path(name, source)
        elif kind == "emptyDir":
            mounts[name] = Mount(source=f"{scratch}/{name}", create="directory", mode=0o777)
        elif kind in ("projected", "configMap", "secret", "downwardAPI"):
            target = directory / "volumes" / name
            sources = source["sources"] if kind == "projected" else [{kind: source}]
            projections.append(Projection(target, tuple(s for each in sources for s in _sources(each, pod, node))))
            mounts[name] = Mount(source=str(target), read_only=True, kind="directory")
        else:
            raise Refused(f"volume {name}: {kind} is not stood in for")
    return Volumes(mounts, tuple(projections))


def mount_for(where: str, item: Object, volumes: Mapping[str, Mount]) -> Mount:
    """Return the mount for one of a container's volumeMounts. Raises Refused."""
    refuse_unknown(f"{where}.volumeMounts", item, MOUNT_KEYS)
    if item.get("mountPropagation", "None") != "None":
        raise Refused(f"{where}: mountPropagation {item['mountPropagation']} is not stood in for")
    base = volumes[item["name"]]
    return replace(base, target=item["mountPath"].rstrip("/"), read_only=base.read_only or bool(item.get("readOnly")))


def _host_path(name: str, source: Object) -> Mount:
    """Plan a hostPath. It is the node's own path: its /run is memory, its persistent directories outlive a reboot."""
    match source.get("type", ""):
        case "" | "DirectoryOrCreate" as kind:
            return Mount(source=source["path"], create="directory", kind="directory" if kind else "")
        case "Directory":
            return Mount(source=source["path"], kind="directory")
        case "File":
            return Mount(source=source["path"])
        case other:
            raise Refused(f"volume {name}: hostPath type {other} is not stood in for")


def _sources(each: Object, pod: Object, node: NodeFacts) -> list[Source]:
    kind, source = next(iter(each.items()))
    if kind == "serviceAccountToken":
        seconds = int(source.get("expirationSeconds", 3600))
        return [TokenSource(source["path"], source.get("audience", ""), seconds)]
    if kind in ("configMap", "secret"):
        items = tuple((item["key"], item["path"]) for item in source.get("items") or ())
        name = source.get("name") or source.get("secretName")
        return [MapSource(kind, name, bool(source.get("optional")), items)]
    if kind == "downwardAPI":
        refs = [(item["path"], item.get("fieldRef")) for item in source.get("items") or ()]
        if any(ref is None for _, ref in refs):
            raise Refused("downwardAPI: only fieldRef is stood in for")
        return [TextSource(path, field_value(ref["fieldPath"], pod, node)) for path, ref in refs]
    raise Refused(f"projected source {kind} is not stood in for")
