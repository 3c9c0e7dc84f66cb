"""The kinds the controller watches: where they are served and how one object is parsed."""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from lvs_dr.api import compiled, kinds, translate
from lvs_dr.core.objects import Key

Ref = Key
"""Key of any object; the namespace is "" for cluster-scoped kinds."""


class Watched(NamedTuple):
    """One kind."""

    kind: str
    group: str  # "" = core
    version: str
    plural: str
    namespaced: bool
    parse: Callable[[Mapping[str, Any]], Any]
    crd: str = ""  # name of its CustomResourceDefinition

    @property
    def root(self) -> str:
        """Path of the kind's API version."""
        return f"/apis/{self.group}/{self.version}" if self.group else f"/api/{self.version}"

    @property
    def collection(self) -> str:
        """Path that lists all objects of the kind in all namespaces."""
        return f"{self.root}/{self.plural}"

    @property
    def api_version(self) -> str:
        """`apiVersion` of its objects."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, key: Key) -> str:
        """Path of one object."""
        return (
            f"{self.root}/namespaces/{key.namespace}/{self.plural}/{key.name}"
            if self.namespaced
            else (f"{self.root}/{self.plural}/{key.name}")
        )


def _ours(kind: kinds.Kind, parse: Callable[[Mapping[str, Any]], Any]) -> Watched:
    return Watched(kind.kind, kinds.GROUP, kinds.VERSION, kind.plural, kind.namespaced, parse, kind.crd_name)


VIRTUAL_SERVICE = _ours(kinds.VIRTUAL_SERVICE, translate.virtual_service)
REAL_SERVER = _ours(kinds.REAL_SERVER, translate.real_server)
DIRECTOR_GROUP = _ours(kinds.DIRECTOR_GROUP, translate.director_group)
DIRECTOR_TABLE = _ours(kinds.DIRECTOR_TABLE, compiled.table_record)
LVS_NODE = _ours(kinds.LVS_NODE, compiled.node_record)
NODE = Watched("Node", "", "v1", "nodes", namespaced=False, parse=translate.node)
NAMESPACE = Watched("Namespace", "", "v1", "namespaces", namespaced=False, parse=translate.namespace)

USER_KINDS = (VIRTUAL_SERVICE, REAL_SERVER, DIRECTOR_GROUP)
COMPILED_KINDS = (DIRECTOR_TABLE, LVS_NODE)
OUR_KINDS = USER_KINDS + COMPILED_KINDS
WATCHED = (*OUR_KINDS, NODE)
"""Kinds with a watch. Namespaces are polled, and only while a group asks for their labels."""


def key_of(body: Mapping[str, Any]) -> Key:
    """Return the key of an object as the API server sends it."""
    metadata = body["metadata"]
    return Key(metadata.get("namespace", ""), metadata["name"])
