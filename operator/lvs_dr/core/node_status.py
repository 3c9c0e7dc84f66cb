"""LVSNode.status: what one node is, as its agent alone reports it."""

from typing import Annotated

from msgspec import Meta, Struct

from lvs_dr.core.drain_report import DrainReport
from lvs_dr.core.node import (
    MAXIMUM_ADDRESSES,
    MAXIMUM_QUESTIONS,
    MAXIMUM_TABLES,
    BackendTunnel,
    TableName,
)
from lvs_dr.core.suspicions import MAXIMUM_SUSPICIONS, Suspicion
from lvs_dr.core.sync_spec import SyncReport
from lvs_dr.core.table import Address
from lvs_dr.core.weight_report import WeightReport

MAXIMUM_EXCEPTIONS = 64  # per table


class SocketReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the node's own sockets say of a VIP that it is being taken out of."""

    table: TableName
    generation: Annotated[int, Meta(ge=0, description="As in the question.")]
    connections: Annotated[
        int, Meta(ge=0, description="Open connections; large numbers move only when they changed by a twentieth.")
    ] = 0
    idle: Annotated[bool, Meta(description="For a second there was none.")] = False


class InterfaceReport(Struct, frozen=True, rename="camel"):
    """An interface with global addresses that are the node's own (VIPs of ours left out)."""

    name: Annotated[str, Meta(max_length=15, description="Interface name.")]
    addresses: Annotated[
        tuple[Annotated[str, Meta(max_length=49)], ...],
        Meta(max_length=64, description="Addresses with prefix length, for example 192.0.2.7/24."),
    ]


class TableException(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Something about a table that is not as it should be."""

    reason: Annotated[str, Meta(max_length=63, description="Reason, see docs/reasons.md.")]
    message: Annotated[str, Meta(max_length=512, description="What is wrong and what to do.")] = ""
    real_server: Annotated[str, Meta(max_length=253, description="RealServer it is about; empty: the whole table.")] = (
        ""
    )
    serves: Annotated[bool, Meta(description="The real server gets connections all the same.")] = False
    since: Annotated[str, Meta(max_length=40, description="Since when it is so (RFC 3339), where that is known.")] = ""
    check_milliseconds: Annotated[
        int,
        Meta(ge=0, description="Milliseconds that the check took which told it; 0: none did, or less than one."),
    ] = 0


class TableReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """One DirectorTable as this director has it in its kernel."""

    table: TableName
    generation: Annotated[
        int, Meta(ge=0, description="metadata.generation of the DirectorTable that is in the kernel.")
    ]
    healthy: Annotated[int, Meta(ge=0, description="Destinations that are healthy on all ports.")] = 0
    total: Annotated[int, Meta(ge=0, description="Destinations of the table.")] = 0
    exceptions: Annotated[
        tuple[TableException, ...],
        Meta(max_length=MAXIMUM_EXCEPTIONS, description="Failed entries, and real servers that are not well."),
    ] = ()
    cut: Annotated[int, Meta(ge=0, description="Exceptions that did not fit.")] = 0
    uid: Annotated[
        str,
        Meta(max_length=63, description="metadata.uid of that DirectorTable: a namesake starts at generation 1 again."),
    ] = ""
    draining: Annotated[
        tuple[DrainReport, ...],
        Meta(max_length=MAXIMUM_EXCEPTIONS, description="Real servers that are being taken out, sorted by name."),
    ] = ()
    weights: Annotated[
        tuple[WeightReport, ...],
        Meta(max_length=MAXIMUM_EXCEPTIONS, description="Weights that changed by themselves, sorted by name."),
    ] = ()


class Problem(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Something about the node, or about one address on it, that is not as it should be."""

    reason: Annotated[str, Meta(max_length=63, description="Reason, see docs/reasons.md.")]
    message: Annotated[str, Meta(max_length=512, description="What is wrong and what to do.")] = ""
    address: Annotated[str, Meta(max_length=45, description="VIP it is about; empty: the node.")] = ""


class VirtualRouterReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A VRRP virtual router of one address family as it is on this node."""

    id: Annotated[int, Meta(ge=1, le=255, description="Virtual router id (VRID).")]
    family: Annotated[int, Meta(ge=4, le=6, description="4 or 6.")]
    state: Annotated[str, Meta(max_length=15, description="Initialize, Backup, Active or Releasing.")]
    priority: Annotated[int, Meta(ge=0, le=255, description="Priority now; lower than told while something is wrong.")]
    since: Annotated[str, Meta(max_length=40, description="Since when it is in this state (RFC 3339).")] = ""
    reason: Annotated[str, Meta(max_length=256, description="Why it came into this state.")] = ""
    active_source: Annotated[
        str, Meta(max_length=45, description="Address that the Active's adverts come from; empty: none is heard.")
    ] = ""
    faults: Annotated[
        tuple[Annotated[str, Meta(max_length=256)], ...],
        Meta(max_length=8, description="Why the node cannot be Active."),
    ] = ()
    conflicts: Annotated[
        tuple[Annotated[str, Meta(max_length=256)], ...],
        Meta(max_length=8, description="Others on the wire that use the same id."),
    ] = ()


class IpvsReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The kernel's IPVS as a whole, and what in it is not ours."""

    connection_table_size: Annotated[int, Meta(ge=0, description="Slots of the connection table (conn_tab_bits).")] = 0
    connections: Annotated[int, Meta(ge=0, description="Connections of our services when last looked at.")] = 0
    foreign_services: Annotated[int, Meta(ge=0, description="IPVS services that are not ours.")] = 0
    foreign: Annotated[
        tuple[Annotated[str, Meta(max_length=80)], ...],
        Meta(max_length=8, description="Some of them, for example TCP 192.0.2.1:443."),
    ] = ()


class LVSNodeStatus(Struct, frozen=True, rename="camel", omit_defaults=True):
    """What the node is, as its agent sees it."""

    agent_version: Annotated[str, Meta(max_length=63, description="Version of the agent.")] = ""
    boot_id: Annotated[str, Meta(max_length=63, description="Boot id of the node's kernel.")] = ""
    observed_generation: Annotated[
        int, Meta(ge=0, description="Generation of this LVSNode whose spec the kernel follows.")
    ] = 0
    director_interface: Annotated[
        str, Meta(max_length=15, description="Interface that VIPs are announced on; empty: none found or no director.")
    ] = ""
    held_addresses: Annotated[
        tuple[Address, ...], Meta(max_length=MAXIMUM_ADDRESSES, description="VIPs on the director's interface now.")
    ] = ()
    loopback_addresses: Annotated[
        tuple[Address, ...],
        Meta(max_length=MAXIMUM_ADDRESSES, description="VIPs on lo now, with ARP settings and guard route in place."),
    ] = ()
    virtual_routers: Annotated[
        tuple[VirtualRouterReport, ...],
        Meta(max_length=64, description="VRRP on this node, by id and family."),
    ] = ()
    tunnels: Annotated[
        tuple[BackendTunnel, ...], Meta(max_length=256, description="Tunnels that are ready to receive, sorted.")
    ] = ()
    interfaces: Annotated[
        tuple[InterfaceReport, ...], Meta(max_length=64, description="The node's own global addresses.")
    ] = ()
    next_hops: Annotated[
        tuple[Address, ...], Meta(max_length=64, description="Next hops of the node's routes: never a VIP.")
    ] = ()
    tables: Annotated[
        tuple[TableReport, ...], Meta(max_length=MAXIMUM_TABLES, description="DirectorTables in this kernel, sorted.")
    ] = ()
    sockets: Annotated[
        tuple[SocketReport, ...],
        Meta(
            max_length=MAXIMUM_QUESTIONS,
            description="Connections to VIPs that the node is being taken out of, where its own sockets serve them.",
        ),
    ] = ()
    problems: Annotated[tuple[Problem, ...], Meta(max_length=64, description="What is wrong on this node.")] = ()
    ipvs: Annotated[IpvsReport | None, Meta(description="IPVS on this node; absent when it does not direct.")] = None
    sync: Annotated[SyncReport | None, Meta(description="Connection sync; absent where it is not wanted.")] = None
    suspicions: Annotated[
        tuple[Suspicion, ...],
        Meta(
            max_length=MAXIMUM_SUSPICIONS,
            description="What may keep clients of VIPs from an answer of this node as a real server.",
        ),
    ] = ()
    repairs: Annotated[int, Meta(ge=0, description="Drift repaired since the agent started.")] = 0
