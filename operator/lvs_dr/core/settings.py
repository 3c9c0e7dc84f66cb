"""Settings of IPVS that hold for a whole network namespace: which may be set, why, and who else sets them.

Timeouts (`ipvsadm --set`) and sysctls below net.ipv4.vs have one value per network namespace, and the agent's is
the node's: kube-proxy in IPVS mode shares it. So a setting is recorded as found, written only while somebody wishes
it, put back afterwards, and left alone where it has another owner. A node directs for one DirectorGroup, so two
wishes of our own never meet on one node.
Sources: Documentation/networking/ipvs-sysctl.rst, net/netfilter/ipvs/ip_vs_ctl.c.
"""

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from msgspec import Struct

from lvs_dr.core.arp_settings import SysctlRule
from lvs_dr.core.borrowed import borrow
from lvs_dr.core.kernel import (
    DaemonConfig,
    DaemonKey,
    DaemonOp,
    KernelState,
    SysctlKey,
    SysctlOp,
    TimeoutKey,
    TimeoutOp,
    Verb,
)
from lvs_dr.core.ledger import SysctlRecord, TimeoutRecord
from lvs_dr.core.node import DirectorSettings
from lvs_dr.core.reasons import Reason

TCP: Final = TimeoutKey("tcp")
TCP_FIN: Final = TimeoutKey("tcp-fin")
UDP: Final = TimeoutKey("udp")

KUBE_PROXY_INTERFACE: Final = "kube-ipvs0"
"""kube-proxy in IPVS mode puts every cluster IP on a dummy interface of this name."""
KUBE_PROXY: Final = f"kube-proxy in IPVS mode (interface {KUBE_PROXY_INTERFACE})"

_PREFIX: Final = ("ipv4", "vs")


class Setting(NamedTuple):
    """A sysctl below net.ipv4.vs that a DirectorGroup may set, its largest value (the smallest is 0), and why."""

    name: str
    largest: int
    reason: str


IPVS_SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        "conn_reuse_mode", 3,
        "a new connection from a port just used goes to the old real server (0), or is scheduled anew where its end "
        "was seen (1) or never is, under direct routing (2)",
    ),
    Setting(
        "expire_nodest_conn", 1,
        "connections to a real server that was removed end at once, so that clients need not wait for a timeout",
    ),
    Setting(
        "expire_quiescent_template", 1,
        "persistence to a quiesced real server ends, so that it can be emptied at all",
    ),
    Setting(
        "sloppy_tcp", 1,
        "a TCP connection may be picked up in its middle: a director that took over knows none of them yet",
    ),
    Setting("sloppy_sctp", 1, "the same for SCTP"),
    Setting(
        "run_estimation", 1,
        "0 saves the kernel's rate figures of thousands of services, which nobody reads; counters stay",
    ),
    Setting(
        "pmtu_disc", 1,
        "1 tells clients of tunnelled services that their packets are too large; with 0 uploads may hang",
    ),
    Setting(
        "schedule_icmp", 1,
        "ICMP that belongs to no connection is balanced too: needed with one-packet scheduling and stateless clients",
    ),
    Setting(
        "ignore_tunneled", 1,
        "IPIP and GRE packets that pass through are not looked into: a director that also routes for tunnels",
    ),
    Setting(
        "conntrack", 1,
        "connections also have an entry in nf_conntrack, for firewalls that match on it; costs memory and time",
    ),
    Setting(
        "cache_bypass", 1,
        "with no real server left, packets for a local proxy's service go straight to their destination",
    ),
    Setting(
        "drop_entry", 3,
        "under memory pressure random connection entries are dropped: a defence against floods (1: by itself)",
    ),
    Setting("drop_packet", 3, "under memory pressure packets are dropped before they are balanced (1: by itself)"),
    Setting("secure_tcp", 3, "under memory pressure connections time out sooner (1: by itself)"),
    Setting("amemthresh", 2147483647, "pages of free memory below which the three defences begin"),
    Setting("am_droprate", 2147483647, "one packet in this many is dropped by drop_packet 3"),
)  # fmt: skip


def sysctl_key(name: str) -> SysctlKey:
    """Return the key of a sysctl below net.ipv4.vs."""
    return SysctlKey((*_PREFIX, name))


SYNC_SETTINGS: Final = ("sync_threshold", "sync_refresh_period", "sync_retries")
"""Set with connection sync (`core.sync`), beside sloppy_tcp and sloppy_sctp."""

SETTING_KEYS: Final[tuple[SysctlKey, ...]] = tuple(
    sysctl_key(name) for name in (*(setting.name for setting in IPVS_SETTINGS), *SYNC_SETTINGS)
)

_BY_NAME: Final[Mapping[str, Setting]] = {setting.name: setting for setting in IPVS_SETTINGS}


class Link(NamedTuple):
    """The interface that sync daemons are bound to: one of the same name is another one, and so is its address."""

    name: str
    number: int
    source: str = ""  # address that the master sends from


class Settings(Struct, frozen=True):
    """What the namespace's IPVS must be set to; `owner` sets it instead of us, "" if nobody does."""

    timeouts: Mapping[TimeoutKey, int] = {}
    sysctls: Mapping[SysctlKey, SysctlRule] = {}
    problems: tuple[tuple[Reason, str], ...] = ()
    owner: str = ""
    daemons: Mapping[DaemonKey, DaemonConfig] = {}  # of connection sync (`core.sync`)
    link: Link | None = None
    awaiting_link: bool = False  # their interface is missing: they are left as they are


def is_shared(key: object) -> bool:
    """Tell whether a key is of a setting that the whole network namespace shares."""
    return isinstance(key, TimeoutKey | DaemonKey) or (isinstance(key, SysctlKey) and key.path[:2] == _PREFIX)


def other_owner(interfaces: Collection[str]) -> str:
    """Return who else owns the settings on a node with these interfaces, in words; "" if nobody does."""
    return KUBE_PROXY if KUBE_PROXY_INTERFACE in interfaces else ""


def settings(wish: DirectorSettings | None, owner: str = "") -> Settings:
    """Return what to set; nothing where the settings have another owner. An unknown name is never written."""
    if wish is None or owner:
        return Settings(owner=owner)
    sysctls: dict[SysctlKey, SysctlRule] = {}
    problems: list[tuple[Reason, str]] = []
    for entry in wish.sysctls:
        known = _BY_NAME.get(entry.name)
        if known is None:
            problems.append((Reason.UNSUPPORTED, f"this agent does not know the setting net.ipv4.vs.{entry.name}"))
        elif entry.value > known.largest:
            text = f"net.ipv4.vs.{entry.name} can be at most {known.largest}, not {entry.value}"
            problems.append((Reason.UNSUPPORTED, text))
        else:
            key = sysctl_key(entry.name)
            sysctls[key] = SysctlRule(key, str(entry.value), frozenset(), known.reason)
    return Settings(_timeouts(wish), sysctls, tuple(problems))


def unmet(wish: DirectorSettings | None, actual: KernelState) -> tuple[str, ...]:
    """Return the wishes that the kernel does not fulfil, in words; nothing while IPVS is not there."""
    if wish is None or not actual.timeouts:
        return ()
    wrong = [
        f"timeout {key.name} is {actual.timeouts[key]} s, not {seconds}"
        for key, seconds in _timeouts(wish).items()
        if actual.timeouts.get(key, seconds) != seconds
    ]
    for entry in wish.sysctls:
        found = actual.sysctls.get(sysctl_key(entry.name))
        if found is None and entry.name in _BY_NAME:
            wrong.append(f"this kernel has no net.ipv4.vs.{entry.name}")
        elif found is not None and found != str(entry.value):
            wrong.append(f"net.ipv4.vs.{entry.name} is {found}, not {entry.value}")
    return tuple(wrong)


def plan_timeouts(
    wanted: Mapping[TimeoutKey, int],
    actual: Mapping[TimeoutKey, int],
    recorded: Collection[TimeoutRecord],
    *,
    owner: str = "",
) -> tuple[list[TimeoutOp], list[TimeoutOp], tuple[TimeoutRecord, ...]]:
    """Return what to set, what to put back, and what the ledger must say of it before that.

    Where the settings have an owner nothing is put back either: he may have set the same value as we.
    """
    kept_records = () if owner else tuple(sorted(recorded, key=lambda record: record.key))
    if not actual:  # IPVS was not read, or is not there
        return [], [], kept_records
    found = borrow(wanted, actual, kept_records)
    to_set = [TimeoutOp(Verb.SET, key, seconds) for key, seconds in found.to_set]
    restore = [TimeoutOp(Verb.SET, key, seconds) for key, seconds in found.to_restore]
    return to_set, restore, found.records


def kept(records: Collection[SysctlRecord], owner: str) -> tuple[SysctlRecord, ...]:
    """Return the records of sysctls without those that another owner has taken over."""
    return tuple(record for record in records if not (owner and is_shared(record.key)))


def in_words(op: SysctlOp | TimeoutOp | DaemonOp) -> str:
    """Return what an operation sets, for people."""
    if isinstance(op, DaemonOp):
        return f"IPVS sync daemon {op.key.state}"
    if isinstance(op, TimeoutOp):
        return f"IPVS timeout {op.key.name}"
    return "sysctl net." + ".".join(op.key.path)


def _timeouts(wish: DirectorSettings) -> dict[TimeoutKey, int]:
    wished = {TCP: wish.tcp_seconds, TCP_FIN: wish.tcp_fin_seconds, UDP: wish.udp_seconds}
    return {key: seconds for key, seconds in wished.items() if seconds}
