"""A DirectorGroup, parsed: the directors that act as one, and the settings they share."""

from enum import StrEnum

from msgspec import Struct

from lvs_dr.core.objects import Metadata, Selector


class InterfaceChoice(Struct, frozen=True):
    """Which interface of a director faces the clients; both empty = the one that holds the Node's InternalIP."""

    name: str = ""
    subnet: str = ""  # CIDR


class IpvsSettings(Struct, frozen=True):
    """Settings of IPVS that hold for a whole network namespace; None = as it is on the node, not ours.

    Timeouts are seconds (ipvsadm --set); the others are sysctls below net.ipv4.vs.
    """

    tcp_seconds: int | None = None
    tcp_fin_seconds: int | None = None
    udp_seconds: int | None = None
    sysctls: tuple[tuple[str, int], ...] = ()  # name below net.ipv4.vs -> value; sorted


class SyncMode(StrEnum):
    """How much the directors of a group tell each other of their connections."""

    STANDARD = "Standard"
    STRICT = "Strict"
    OFF = "Off"


class SyncSettings(Struct, frozen=True):
    """Connection sync of a group, as its user wrote it."""

    mode: SyncMode = SyncMode.STANDARD
    interface: str = ""  # "" = the one that faces the clients
    sync_id: int = 0  # 0 = the group's first virtual router id
    group: str = "224.0.0.81"
    port: int = 8848
    hop_limit: int = 1
    maximum_length: int = 0  # bytes; 0 = as the mode has it


class VrrpSettings(Struct, frozen=True):
    """How the directors of a group agree on who holds the VIPs."""

    first_virtual_router_id: int = 51
    instances: int = 1  # virtual routers over which VIPs are spread: ids from the first one on
    advertisement_interval_milliseconds: int = 100
    preempt: bool = False
    preempt_delay_seconds: int = 0
    unicast: bool = False
    stop_hold_seconds: int = 300


class MarkRange(Struct, frozen=True):
    """Firewall marks from `first` to `last`, for checks through VIPs.

    The default keeps clear of the bits that others on a Kubernetes node use, or look at: 0x4000 and 0x8000
    (kube-proxy), 0x2000 (the portmap plug-in), 0x0f00 (Cilium), 0xffff0000 (Calico and others).
    """

    first: int = 0x1001
    last: int = 0x10FF

    def holds(self, mark: int) -> bool:
        """Tell whether the mark is one of them."""
        return self.first <= mark <= self.last


class DirectorGroup(Struct, frozen=True):
    """The directors that act as one, and who may claim which VIP from them."""

    meta: Metadata
    node_selector: Selector
    interface: InterfaceChoice
    allowed_addresses: tuple[str, ...]  # CIDRs; empty = the on-link subnets of the directors' interfaces
    allowed_namespaces: Selector | None  # None = all
    ipvs: IpvsSettings = IpvsSettings()
    vrrp: VrrpSettings = VrrpSettings()
    sync: SyncSettings = SyncSettings()
    secrets: tuple[str, ...] = ()  # in the system namespace, which its directors may read; sorted
    check_marks: MarkRange = MarkRange()
