"""What the translation of pods shares: refusals, the downward API, expansion of variables. Pure."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Object = dict[str, Any]


class Refused(Exception):  # it is an answer, not a fault
    """The pod asks for something that the lab does not stand in for; the text says what."""


def words(text: str) -> frozenset[str]:
    """Return the words of a text, to keep long sets of names readable."""
    return frozenset(text.split())


def refuse_unknown(where: str, given: Mapping[str, Any], known: frozenset[str]) -> None:
    """Raise Refused when `given` has a field that is neither honoured nor documented as ignored."""
    if unknown := sorted(key for key, value in given.items() if key not in known and value not in (None, [], {})):
        raise Refused(f"{where}: {', '.join(unknown)}: not stood in for by the lab")


@dataclass(frozen=True, kw_only=True)
class NodeFacts:
    """What a pod gets to know of its node."""

    name: str
    addresses: tuple[str, ...]
    state_dir: Path


def field_value(path: str, pod: Object, node: NodeFacts) -> str:
    """Return what the downward API says for a field path. Raises Refused for one it does not know."""
    meta = pod["metadata"]
    keyed = re.fullmatch(r"metadata\.(labels|annotations)\['([^']+)'\]", path)
    if keyed:
        return str((meta.get(keyed[1]) or {}).get(keyed[2], ""))
    values: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: meta["name"],
        "metadata.namespace": lambda: meta["namespace"],
        "metadata.uid": lambda: meta["uid"],
        "spec.nodeName": lambda: node.name,
        "spec.serviceAccountName": lambda: pod["spec"].get("serviceAccountName", ""),
        "status.podIP": lambda: node.addresses[0],
        "status.hostIP": lambda: node.addresses[0],
        "status.podIPs": lambda: ",".join(node.addresses),
        "status.hostIPs": lambda: ",".join(node.addresses),
    }
    if path not in values:
        raise Refused(f"fieldRef {path} is not stood in for")
    return values[path]()


def expand(text: str, environment: Mapping[str, str]) -> str:
    """Expand `$(NAME)` as the kubelet does: `$$` is a dollar, unknown names stay as they are."""

    def replacement(match: re.Match[str]) -> str:
        if match[0] == "$$":
            return "$"
        return environment.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)\s]+)\)", replacement, text)
