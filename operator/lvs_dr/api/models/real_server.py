"""RealServer: one machine that serves."""

import ipaddress
from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.fields import HostAddress, Hostname, ObjectName
from lvs_dr.api.models.forwarding import ConnectionLimits
from lvs_dr.api.models.rules import ApiModel, rule, validated
from lvs_dr.core.objects import DrainPersistence, RealServerState

KIND_DESCRIPTION = (
    "A RealServer is one machine that serves VirtualServices: a node of this cluster (nodeName) or any machine on the"
    " directors' network segment (addresses). VirtualServices of the same namespace select it by its labels; it may"
    " serve several. On a node the agent puts the VIPs on the loopback interface and sets ARP up; elsewhere the owner"
    " of the machine does that. The service must listen on the VIP, or on all addresses."
)

DRAIN_SECONDS = 3600

NO_MACHINE = (
    "a RealServer needs nodeName (a node of this cluster), or addresses (a machine outside, which its owner sets up),"
    " or both"
)
TWO_OF_A_FAMILY = "at most one IPv4 and one IPv6 address: make one RealServer per machine"


class Drain(ApiModel):
    """How long a real server that is being taken out keeps its connections."""

    timeout_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=2592000,
            description="Seconds for which its connections are waited for at most, from the moment it was first seen"
            " draining; then it is taken out, and those that are left break after quiesceSeconds of their"
            " VirtualService. 0: without limit. Default: 3600.",
        ),
    ] = DRAIN_SECONDS
    persistence: Annotated[
        DrainPersistence,
        Field(
            description="What happens to clients that a service with persistence remembers. Honour: they come back to"
            " it while it drains, and it is drained when all of them are forgotten, too. Ignore: their next connection"
            " goes elsewhere. The kernel knows that only for all services of a director together"
            " (expire_quiescent_template), so while it drains clients leave other servers that take no new connections,"
            " as well; not where kernelSettings of the DirectorGroup or kube-proxy set that otherwise. Default: Honour."
        ),
    ] = DrainPersistence.HONOUR
    before_deletion: Annotated[
        bool | None,
        Field(
            description="True: when the RealServer is deleted it is drained first, as by state Drain, and goes when"
            " that is over (the controller keeps it by the finalizer lvs-operator.io/drain, so kubectl delete waits)."
            " False: it goes at once, and directors let its connections live for quiesceSeconds of their"
            " VirtualService. Default: false."
        ),
    ] = None


class RealServerSpec(ApiModel):
    """Which machine serves, and how much."""

    model_config = ConfigDict(
        json_schema_extra=validated(
            rule("has(self.nodeName) || (has(self.addresses) && size(self.addresses) > 0)", NO_MACHINE)
        )
    )

    node_name: Annotated[
        ObjectName | None,
        Field(
            description="Name of the Node that serves. The agent there puts the VIPs on lo and sets ARP up, and takes"
            " both back when the last VIP leaves. Default: none (a machine outside the cluster, which needs addresses)."
        ),
    ] = None
    addresses: Annotated[
        tuple[HostAddress, ...],
        Field(
            max_length=2,
            description="The machine's own addresses (RIP), to which directors send: at most one IPv4 and one IPv6, on"
            " the directors' network segment unless Tunnel or Masquerade reaches it elsewhere. Default: the node's"
            " address in the subnet of the directors' interface,"
            " else its InternalIP. Required without nodeName.",
            json_schema_extra=validated(
                rule(
                    "size(self) < 2 || !self.all(a, isIP(a)) || ip(self[0]).family() != ip(self[1]).family()",
                    TWO_OF_A_FAMILY,
                )
            ),
        ),
    ] = ()
    weight: Annotated[
        int,
        Field(
            ge=0,
            le=65535,
            description="Share of the connections relative to the other real servers, 0 to 65535, for schedulers that"
            " use weights. 0: no new connections. Default: 100.",
        ),
    ] = 100
    state: Annotated[
        RealServerState,
        Field(
            description="InService: takes connections. Drain: no new connections; it is taken out of IPVS, and the VIPs"
            " off its node's lo, once the last one has ended (condition Drained) or drain.timeoutSeconds are over."
            " Maintenance: no new connections, those it has live on, and it stays where it is. Default: InService."
        ),
    ] = RealServerState.IN_SERVICE
    drain: Annotated[
        Drain | None,
        Field(description="How state Drain goes. Default: {timeoutSeconds: 3600, persistence: Honour}."),
    ] = None
    connection_limits: Annotated[
        ConnectionLimits | None,
        Field(description="When it counts as full and gets no new connections. Default: never."),
    ] = None
    check_address: Annotated[
        HostAddress | None,
        Field(
            description="Address that health checks ask in its place, for example where the service has a status page"
            " on a management network. Default: the address that directors send to."
        ),
    ] = None
    hostname: Annotated[
        Hostname | None,
        Field(
            description="Name under which clients reach this very machine, for VirtualServices with forwardingMethod"
            " Redirect: with https its certificate must be for it. Default: none, clients are told its address."
        ),
    ] = None

    @model_validator(mode="after")
    def _names_one_machine(self) -> Self:
        if not self.node_name and not self.addresses:
            raise ValueError(NO_MACHINE)
        families = [ipaddress.ip_address(address).version for address in self.addresses]
        if len(set(families)) < len(families):
            raise ValueError(TWO_OF_A_FAMILY)
        return self
