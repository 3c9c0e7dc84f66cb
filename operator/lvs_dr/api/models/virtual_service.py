"""VirtualService: a VIP with ports, balanced over real servers."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models import combinations
from lvs_dr.api.models.fields import HostAddress, ObjectName
from lvs_dr.api.models.forwarding import MAXIMUM_OVERRIDES, RealServerOverride, Tunnel
from lvs_dr.api.models.health_check import HealthCheck
from lvs_dr.api.models.load import LoadFeedback, SlowStart
from lvs_dr.api.models.ports import DUPLICATE_NAME, DUPLICATE_PORT, ServicePorts
from lvs_dr.api.models.quorum import Quorum
from lvs_dr.api.models.redirect import Redirect
from lvs_dr.api.models.rules import ApiModel, validated
from lvs_dr.api.models.scheduling import DEFAULT_SCHEDULER, Persistence, SchedulerField, SchedulerFlags
from lvs_dr.api.models.selector import NonEmptyLabelSelector
from lvs_dr.api.models.sorry_server import SorryServer
from lvs_dr.core.objects import ForwardingMethod, OnFailure, Protocol

KIND_DESCRIPTION = (
    "A VirtualService is an address (VIP) with ports that clients connect to. Directors balance the connections over"
    " the RealServers it selects, by LVS direct routing: requests cross the director, answers go straight from the"
    " real server to the client. Each real server must listen on the VIP (or on all addresses) at the same port; the"
    " VIP on its loopback and its ARP settings are set up for it when it is a node of this cluster. Tunnels and"
    " masquerading are there for real servers that direct routing does not reach."
    " Wait for it with: kubectl wait --for=condition=Ready virtualservice/NAME."
)

DUPLICATE_OVERRIDE = "overrides must name each RealServer once"


class RealServerChoice(ApiModel):
    """Which real servers serve."""

    selector: Annotated[
        NonEmptyLabelSelector,
        Field(
            description="Selects RealServers of the same namespace by their labels, for example"
            " {matchLabels: {pool: web}}. Must name at least one label."
        ),
    ]
    overrides: Annotated[
        tuple[RealServerOverride, ...],
        Field(
            max_length=MAXIMUM_OVERRIDES,
            description="What is different about single real servers in this service, at most 256, by name. Default:"
            " none.",
            json_schema_extra={"x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]},
        ),
    ] = ()

    @model_validator(mode="after")
    def _names_differ(self) -> Self:
        if len({each.name for each in self.overrides}) < len(self.overrides):
            raise ValueError(DUPLICATE_OVERRIDE)
        return self


class VirtualServiceSpec(ApiModel):
    """What is served: the VIP, its ports, and how connections are spread over which real servers."""

    model_config = ConfigDict(json_schema_extra=validated(*combinations.RULES))

    director_group: Annotated[
        ObjectName,
        Field(
            description="Name of the DirectorGroup that serves the VIP. Default: default, which needs no DirectorGroup"
            " object: without one, its directors are the nodes that have the label lvs-operator.io/director."
        ),
    ] = "default"
    address: Annotated[
        HostAddress,
        Field(
            description="The virtual IP address (VIP), IPv4 or IPv6, that clients connect to: a free address in the"
            " subnet of the directors' interface, which no machine and no DHCP range has. For dual stack make two"
            " VirtualServices. After a change the old address is given up before the new one is announced, and its"
            " connections break: better make a second VirtualService, move the clients, and delete the first."
        ),
    ]
    ports: ServicePorts = ()
    any_port: Annotated[
        bool | None,
        Field(
            description="True: every port of the VIP that no other VirtualService has, for protocols such as passive"
            " FTP; the real servers listen on what they like. Needs persistence. Default: false."
        ),
    ] = None
    any_port_protocols: Annotated[
        tuple[Protocol, ...],
        Field(
            min_length=1,
            max_length=3,
            description="Transport protocols of anyPort: TCP, UDP, SCTP. Default: [TCP].",
            json_schema_extra={"x-kubernetes-list-type": "set"},
        ),
    ] = ()
    firewall_mark: Annotated[
        int | None,
        Field(
            ge=1,
            le=4294967295,
            description="Serve the packets that carry this firewall mark, whatever their port and protocol, instead of"
            " ports: for several ports that must go to one real server together. You mark them, on every director,"
            " before IPVS sees them: iptables -t mangle -A PREROUTING -d VIP -j MARK --set-mark 7. The condition"
            " Marked is False while no packet carried the mark. One mark is one VirtualService's per DirectorGroup and"
            " family. Keep clear of the bits that others use (kube-proxy 0xc000, Cilium 0x0f00, Calico 0xffff0000)."
            " Default: none.",
        ),
    ] = None
    scheduler: SchedulerField = DEFAULT_SCHEDULER
    scheduler_flags: SchedulerFlags = ()
    persistence: Annotated[
        Persistence | None,
        Field(
            description="Keeps a client with its real server for a time; {} takes all defaults. Default: none, each"
            " connection is scheduled on its own."
        ),
    ] = None
    one_packet: Annotated[
        bool | None,
        Field(
            description="True: each UDP packet is balanced on its own, also those from the same client and port, for"
            " example of DNS or RADIUS. Default: false."
        ),
    ] = None
    forwarding_method: Annotated[
        ForwardingMethod,
        Field(
            description="How a director passes packets on. DirectRouting: by hardware address, to real servers on its"
            " own network segment. Tunnel: encapsulated, across routers and from an IPv4 VIP to an IPv6 real server;"
            " answers go straight to the client. Masquerade: with the real server's address as destination; answers"
            " must come back through the director, so the real servers' route to the clients leads there. Redirect: not"
            " packets but HTTP requests, which are answered with the address of a real server, for uploads that bypass"
            " the director (needs the component redirect). A change"
            " takes effect for each real server once its node is ready for it; it goes on as before until then."
            " Default: DirectRouting."
        ),
    ] = ForwardingMethod.DIRECT_ROUTING
    tunnel: Annotated[
        Tunnel | None,
        Field(
            description="Encapsulation for forwardingMethod Tunnel. It makes packets longer: the clients' MSS or the"
            " MTU on the way must leave room. Default: {type: IPIP}."
        ),
    ] = None
    redirect: Annotated[
        Redirect | None,
        Field(
            description="How requests are redirected, with forwardingMethod Redirect alone; {} takes all defaults."
            " Default: {}."
        ),
    ] = None
    real_servers: Annotated[RealServerChoice, Field(description="The real servers that serve this VIP.")]
    health_check: Annotated[
        HealthCheck | None,
        Field(
            description="How each real server is checked, for example {tcp: {}}. Without it real servers are not"
            " checked and count as healthy. Default: none."
        ),
    ] = None
    on_failure: Annotated[
        OnFailure,
        Field(
            description="What happens to a real server that fails its check. Remove: it is taken out of IPVS and its"
            " connections break. Quiesce: it gets weight 0, so no new connections, and those it has"
            " live on. Default: Remove."
        ),
    ] = OnFailure.REMOVE
    quorum: Annotated[
        Quorum | None,
        Field(description="How many real servers must be healthy for Ready to be True. Default: {minimumHealthy: 1}."),
    ] = None
    sorry_server: Annotated[
        SorryServer | None,
        Field(
            description="Takes all new connections of a port while fewer real servers are healthy there than quorum"
            " asks for, or none, with a page that says so, for example. Connections that healthy real servers have live"
            " on; for those of failed ones see onFailure. Ready is False then, reason SorryServer. Nobody checks it."
            " Default: none."
        ),
    ] = None
    panic_threshold_percent: Annotated[
        int | None,
        Field(
            ge=1,
            le=100,
            description="With a smaller share of healthy real servers on a port than this, directors send to all of"
            " them, with their weights, healthy or not: when nearly all fail at once the checks are more often at fault"
            " than the servers. Ready says so (Panic). Needs healthCheck. Default: none, failed ones get nothing.",
        ),
    ] = None
    slow_start: Annotated[
        SlowStart | None,
        Field(
            description="A real server that comes back after a failed check, is put in service, or is new, gets its"
            " weight bit by bit. Not with schedulers rr, lc, dh, sh, mh, fo, ovf. Default: none, it has its whole"
            " weight at once."
        ),
    ] = None
    load_feedback: Annotated[
        LoadFeedback | None,
        Field(
            description="The weights of the real servers follow their load, within bounds. Not with schedulers rr, lc,"
            " dh, sh, mh, fo, ovf. Default: none, the weights are those that are configured."
        ),
    ] = None
    quiesce_seconds: Annotated[
        int,
        Field(
            ge=0,
            le=86400,
            description="Seconds for which a real server that leaves the service is quiesced (weight 0: no new"
            " connections) at most, while it still has connections; then it is removed and they break. 0: it is removed"
            " at once. Default: 60.",
        ),
    ] = 60

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if len({(port.port, port.effective_protocol) for port in self.ports}) < len(self.ports):
            raise ValueError(DUPLICATE_PORT)
        names = [port.name for port in self.ports if port.name is not None]
        if len(set(names)) < len(names):
            raise ValueError(DUPLICATE_NAME)
        combinations.check(self)
        return self
