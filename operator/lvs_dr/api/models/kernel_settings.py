"""Settings of IPVS that hold for a director as a whole: timeouts, and sysctls below net.ipv4.vs.

Sources: Documentation/networking/ipvs-sysctl.rst and net/netfilter/ipvs of the kernel.
"""

from typing import Annotated

from pydantic import Field

from lvs_dr.api.models.rules import ApiModel


def _timeout(text: str) -> object:
    return Field(ge=1, le=2678400, description=f"{text} 1 to 2678400. Default: as on the node.")


class Timeouts(ApiModel):
    """After how many idle seconds a director forgets a connection (ipvsadm --set)."""

    tcp_seconds: Annotated[
        int | None,
        _timeout(
            "Idle seconds after which an established TCP connection is forgotten. The kernel's default is 900: a mount,"
            " a database or ssh session that is silent for longer than that breaks, because the next packet finds no"
            " connection. Set it longer than the longest silence (7200 and keepalives on the clients are common)."
        ),
    ] = None
    tcp_fin_seconds: Annotated[
        int | None,
        _timeout("Seconds for which a TCP connection is known after a FIN; the kernel's default is 120."),
    ] = None
    udp_seconds: Annotated[
        int | None,
        _timeout(
            "Idle seconds after which packets from the same UDP address and port are a new connection; the kernel's"
            " default is 300."
        ),
    ] = None


_LEFT = "Default: as on the node."


class KernelSettings(ApiModel):
    """Sysctls below net.ipv4.vs, set on every director while it directs for the group; then put back as they were.

    They hold for all of IPVS on the node. What is left out is not touched.
    """

    conn_reuse_mode: Annotated[
        int | None,
        Field(
            ge=0,
            le=3,
            description="conn_reuse_mode: what a new connection from a client port that was just used does. 0: it goes"
            " to the old real server, also a quiesced one. 1 (kernel's default): it is scheduled anew, but not under"
            " direct routing, where the director never sees the end. 2 or 3: scheduled anew under direct routing too,"
            f" so that new real servers soon get their share of a busy client. {_LEFT}",
        ),
    ] = None
    expire_nodest_conn: Annotated[
        bool | None,
        Field(
            description="expire_nodest_conn. True: a client whose real server was removed is told at its next packet"
            " and connects anew at once; false (kernel's default): its packets vanish until its own timeout, which"
            " bridges a removal by mistake, and so do those of a new connection from a port that the client had used"
            f" for the removed one in the last minutes. {_LEFT}"
        ),
    ] = None
    expire_quiescent_template: Annotated[
        bool | None,
        Field(
            description="expire_quiescent_template. True: persistence ends when its real server is quiesced, so that"
            " maintenance moves clients with their next connection; false (kernel's default): they come back to it"
            f" until persistence runs out. {_LEFT}"
        ),
    ] = None
    sloppy_tcp: Annotated[
        bool | None,
        Field(
            alias="sloppyTCP",
            description="sloppy_tcp. True: any TCP packet may begin a connection, so with scheduler mh connections"
            " survive a change of directors; with schedulers that do not hash it sends half of them to the wrong real"
            f" server. {_LEFT}",
        ),
    ] = None
    sloppy_sctp: Annotated[
        bool | None,
        Field(alias="sloppySCTP", description=f"sloppy_sctp: as sloppyTCP, for SCTP. {_LEFT}"),
    ] = None
    run_estimation: Annotated[
        bool | None,
        Field(
            description="run_estimation. False: rates in ipvsadm --rate stay 0, which saves time on directors with"
            f" tens of thousands of entries. {_LEFT}"
        ),
    ] = None
    drop_entry: Annotated[
        int | None,
        Field(
            ge=0,
            le=3,
            description="drop_entry: whether connections without an answer are forgotten when memory is short, against"
            " SYN floods. 0 (kernel's default): never; 1: when needed, by itself; 2: now, and automatic after; 3:"
            " always. Direct routing sees no answers, so young connections go first. " + _LEFT,
        ),
    ] = None
    pmtu_disc: Annotated[
        bool | None,
        Field(
            description="pmtu_disc. True (kernel's default): a packet too large for a tunnel is answered to the client"
            f" by `fragmentation needed`; false: it is fragmented. {_LEFT}"
        ),
    ] = None
    conntrack: Annotated[
        bool | None,
        Field(
            description="conntrack. True: the firewall's connection tracking knows IPVS's connections, which firewall"
            f" rules on masqueraded traffic need; it costs time and memory for each. {_LEFT}"
        ),
    ] = None
