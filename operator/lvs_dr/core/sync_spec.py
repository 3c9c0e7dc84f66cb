"""Connection sync in LVSNode: what a director is told of it, and what its agent reports."""

from typing import Annotated

from msgspec import Meta, Struct

from lvs_dr.core.table import Address


class ConnectionSync(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Connections are told to the other directors by the kernel's sync daemons; both run on each director."""

    id: Annotated[int, Meta(ge=1, le=255, description="Sync id: only daemons with the same one listen to each other.")]
    interface: Annotated[str, Meta(max_length=15, description="Interface; empty: the one that faces the clients.")] = ""
    group: Annotated[Address, Meta(description="Multicast group.")] = "224.0.0.81"
    port: Annotated[int, Meta(ge=1, le=65535, description="UDP port.")] = 8848
    ttl: Annotated[int, Meta(ge=1, le=255, description="TTL or hop limit of the messages.")] = 1
    maximum_length: Annotated[
        int, Meta(ge=0, le=8952, description="Longest message in bytes, without headers; 0: a packet of 1500 bytes.")
    ] = 0
    threshold: Annotated[int, Meta(ge=0, le=2147483647, description="First number of sync_threshold.")] = 3
    period: Annotated[int, Meta(ge=0, le=2147483647, description="Second number of sync_threshold.")] = 50
    refresh_seconds: Annotated[int, Meta(ge=0, le=86400, description="sync_refresh_period.")] = 0
    retries: Annotated[int, Meta(ge=0, le=3, description="sync_retries.")] = 0
    sloppy: Annotated[bool, Meta(description="sloppy_tcp and sloppy_sctp.")] = False


class SyncReport(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Connection sync on this director."""

    daemons: Annotated[
        tuple[Annotated[str, Meta(max_length=15)], ...],
        Meta(max_length=2, description="Sync daemons that run as the spec wants: master, backup."),
    ] = ()
    interface: Annotated[str, Meta(max_length=15, description="Their interface; empty: it is not there.")] = ""
    conflict: Annotated[str, Meta(max_length=512, description="Whose daemon or setting is in the way.")] = ""
