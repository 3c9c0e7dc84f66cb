"""DirectorGroup: which nodes direct, on which interface, and who may claim which VIP."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.check_marks import CheckMarks
from lvs_dr.api.models.connection_sync import ConnectionSync
from lvs_dr.api.models.fields import Network, ObjectName
from lvs_dr.api.models.kernel_settings import KernelSettings, Timeouts
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.api.models.selector import LabelSelector, NonEmptyLabelSelector
from lvs_dr.api.models.vrrp import DirectorVrrp
from lvs_dr.core.node import MAXIMUM_SECRETS

KIND_DESCRIPTION = (
    "A DirectorGroup is a set of nodes that direct the traffic of VirtualServices. All of them have the services in"
    " their kernel; by VRRP they agree on which of them, the Active director, holds a VIP and announces it. A group"
    " named default need not exist: without it, every node with the label lvs-operator.io/director is one of its"
    " directors."
)

ONE_INTERFACE = "must set exactly one of name and subnet; leave interface out to use the one with the Node's InternalIP"
BAD_INTERFACE_NAME = "must be the name of a network interface of at most 15 characters, such as eth0, and not lo"

InterfaceName = Annotated[
    str,
    Field(
        min_length=1,
        max_length=15,
        json_schema_extra=validated(
            rule("self.matches('^[^/:[:space:]]+$') && !(self in ['lo', '.', '..'])", BAD_INTERFACE_NAME)
        ),
    ),
]


class DirectorInterface(ApiModel):
    """The interface of each director that faces clients and real servers: by name, or by a subnet it is in."""

    model_config = ConfigDict(json_schema_extra=validated(rule("has(self.name) != has(self.subnet)", ONE_INTERFACE)))

    name: Annotated[
        InterfaceName | None,
        Field(description="Name of the interface, the same on every director, for example eth0. Default: none."),
    ] = None
    subnet: Annotated[
        Network | None,
        Field(
            description="The interface that has an address in this network (CIDR), for example 192.0.2.0/24; for"
            " directors whose interfaces have different names. Default: none."
        ),
    ] = None

    @model_validator(mode="after")
    def _one_of_the_two(self) -> Self:
        if (self.name is None) == (self.subnet is None):
            raise ValueError(ONE_INTERFACE)
        return self


class DirectorGroupSpec(ApiModel):
    """Which nodes direct, on which interface, and which VIPs they accept from whom."""

    node_selector: Annotated[
        NonEmptyLabelSelector,
        Field(
            description="Selects the Nodes that direct by their labels, for example"
            " {matchLabels: {site: edge}}. A node directs for one group: if several select it, for"
            " the first by name. Must name at least one label."
        ),
    ]
    interface: Annotated[
        DirectorInterface | None,
        Field(
            description="The directors' interface that faces clients and real servers; VIPs are announced on it."
            " Default: the one that holds the Node's InternalIP of the VIP's family."
        ),
    ] = None
    allowed_addresses: Annotated[
        tuple[Network, ...],
        Field(
            max_length=64,
            description="Networks (CIDR) that VIPs of this group may be in, for example [192.0.2.64/26]. Default: the"
            " subnets of the directors' interface.",
        ),
    ] = ()
    allowed_namespaces: Annotated[
        LabelSelector | None,
        Field(
            description="Selects the namespaces, by their labels, whose VirtualServices and RealServers this group"
            " serves; {} selects all. Default: all."
        ),
    ] = None
    vrrp: Annotated[
        DirectorVrrp | None,
        Field(
            description="How the directors agree on who holds which VIP, and how fast another one takes over. Default:"
            " {}, one of them holds all VIPs and gives way within 0.4 seconds when it fails."
        ),
    ] = None
    connection_sync: Annotated[
        ConnectionSync | None,
        Field(
            description="How connections live on when another director takes over: with two directors or more they"
            " tell each other of them. Default: mode Standard."
        ),
    ] = None
    timeouts: Annotated[
        Timeouts | None,
        Field(
            description="After how many idle seconds the directors forget connections. They hold for the whole node:"
            " two owners of one setting are reported (SettingsApplied is False), not fought over. Default: as on the"
            " node (the kernel's: TCP 900, after FIN 120, UDP 300)."
        ),
    ] = None
    secrets: Annotated[
        tuple[ObjectName, ...],
        Field(
            max_length=MAXIMUM_SECRETS,
            description="Names of Secrets in the operator's namespace that VirtualServices of this group may use, for"
            " example for the certificates of health checks (healthCheck.https.tls.secretName), at most 32. Only the"
            " directors read them; they need the right for each name (manifests/components/secrets). Default: none.",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    kernel_settings: Annotated[
        KernelSettings | None,
        Field(
            description="Sysctls of IPVS on the directors; what is left out stays as it is on the node, or as"
            " connectionSync sets it. Default: none."
        ),
    ] = None
    check_marks: Annotated[
        CheckMarks | None,
        Field(
            description="Firewall marks for checks through VIPs (healthCheck.path), one for each real server; they must"
            " be free on the directors. Default: 4097 to 4351, enough for 255 real servers."
        ),
    ] = None
