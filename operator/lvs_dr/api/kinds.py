"""The five kinds of the API: their names, as the CRDs, the controller, the RBAC rules and the tests use them."""

from enum import StrEnum
from typing import NamedTuple

GROUP = "lvs-operator.io"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"
CATEGORY = "lvs"

PRIORITY_ANNOTATION = f"{GROUP}/vrrp-priority"
STANDBY_ANNOTATION = f"{GROUP}/standby"
PAUSED_ANNOTATION = f"{GROUP}/paused"
RELEASE_MASS_REMOVAL_ANNOTATION = f"{GROUP}/release-mass-removal"
DRAIN_FINALIZER = f"{GROUP}/drain"
DIRECTOR_LABEL = f"{GROUP}/director"
DEFAULT_GROUP = "default"


class Scope(StrEnum):
    """Whether objects of a kind live in a namespace."""

    NAMESPACED = "Namespaced"
    CLUSTER = "Cluster"


class Kind(NamedTuple):
    """Names of one kind. Short names avoid `vs` and `rs`, which Istio and ReplicaSet have."""

    kind: str
    plural: str
    singular: str
    short_names: tuple[str, ...]
    scope: Scope

    @property
    def crd_name(self) -> str:
        """Name of its CustomResourceDefinition."""
        return f"{self.plural}.{GROUP}"

    @property
    def namespaced(self) -> bool:
        """True when its objects live in a namespace."""
        return self.scope is Scope.NAMESPACED


VIRTUAL_SERVICE = Kind("VirtualService", "virtualservices", "virtualservice", ("vip",), Scope.NAMESPACED)
REAL_SERVER = Kind("RealServer", "realservers", "realserver", ("rip",), Scope.NAMESPACED)
DIRECTOR_GROUP = Kind("DirectorGroup", "directorgroups", "directorgroup", ("dg",), Scope.CLUSTER)
DIRECTOR_TABLE = Kind("DirectorTable", "directortables", "directortable", ("dtab",), Scope.NAMESPACED)
LVS_NODE = Kind("LVSNode", "lvsnodes", "lvsnode", (), Scope.CLUSTER)

USER_KINDS = (VIRTUAL_SERVICE, REAL_SERVER, DIRECTOR_GROUP)
COMPILED_KINDS = (DIRECTOR_TABLE, LVS_NODE)
KINDS = USER_KINDS + COMPILED_KINDS
