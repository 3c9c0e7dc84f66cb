"""Tunnels and the settings of IPVS as the commands people know, and in words."""

from collections.abc import Iterable

from lvs_dr.core.kernel import (
    DaemonConfig,
    DaemonKey,
    DaemonOp,
    GuardKey,
    GuardOp,
    GuardPart,
    GuePortKey,
    GuePortOp,
    KernelState,
    TimeoutKey,
    TimeoutOp,
    TunnelConfig,
    TunnelKey,
    TunnelOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.settings import TCP, TCP_FIN, UDP, in_words

SettingOp = TimeoutOp | TunnelOp | GuePortOp | DaemonOp | GuardOp

_VERBS = {Verb.ADD: "add", Verb.SET: "change", Verb.DELETE: "del"}


def setting_command(op: SettingOp) -> str:
    """Return an operation as the command a person would type."""
    if isinstance(op, TunnelOp):
        return f"ip link {_VERBS[op.verb]} {tunnel_words(op.key, op.config)}"
    if isinstance(op, GuePortOp):
        return f"ip fou {_VERBS[op.verb]} {gue_words(op.key)}"
    if isinstance(op, DaemonOp):
        return daemon_command(op.key, op.config if op.verb is not Verb.DELETE else None)
    if isinstance(op, GuardOp):
        return f"tc {'qdisc' if op.key.part is GuardPart.QDISC else 'filter'} {_VERBS[op.verb]} {guard_words(op.key)}"
    return f"ipvsadm --set {timeout_words(op.key, op.seconds)}"


def describe_setting(op: SettingOp) -> str:
    """Return an operation's entry in words."""
    if isinstance(op, TunnelOp):
        return f"tunnel device {op.key.name}"
    if isinstance(op, GuePortOp):
        return f"GUE port {op.key.port} of {op.key.local}"
    if isinstance(op, GuardOp):
        return f"loop guard: {guard_words(op.key)}"
    return in_words(op)


def daemon_command(key: DaemonKey, config: DaemonConfig | None = None) -> str:
    """Return how a sync daemon is started, or without a configuration stopped."""
    if config is None:
        return f"ipvsadm --stop-daemon {key.state}"
    return (
        f"ipvsadm --start-daemon {key.state} --mcast-interface {config.interface} --syncid {config.sync_id}"
        f" --sync-maxlen {config.maximum_length} --mcast-group {config.group} --mcast-port {config.port}"
        f" --mcast-ttl {config.ttl}"
    )


def owned_settings(ledger: Ledger, state: KernelState) -> Iterable[str]:
    """Return what is ours of timeouts, sync daemons and tunnels, line by line."""
    for timeout in ledger.timeouts:
        if timeout.key in state.timeouts:
            yield f"ipvsadm --set {timeout_words(timeout.key, state.timeouts[timeout.key])}  # was {timeout.found} s"
    for daemon in ledger.daemons:
        if daemon.key in state.daemons:
            yield daemon_command(daemon.key, state.daemons[daemon.key])
    for device in ledger.tunnels:
        if device in state.tunnels:
            yield f"ip link add {tunnel_words(device, state.tunnels[device])}"
    for port in sorted({*ledger.gue_ports, *ledger.adopted_gue_ports} & state.gue_ports):
        yield f"ip fou add {gue_words(port)}"
    for guard in sorted({*ledger.guards, *ledger.adopted_guards} & state.guards.keys()):
        yield setting_command(GuardOp(Verb.ADD, guard))


def tunnel_words(key: TunnelKey, config: TunnelConfig | None = None) -> str:
    """Return a tunnel device's part of a command."""
    if config is None:
        return f"name {key.name}"
    mode = " mode any" if config.kind == "ip6tnl" else ""
    return f"name {key.name} type {config.kind} local {config.local}{mode}" + (" icsum" if config.checksum else "")


def gue_words(key: GuePortKey) -> str:
    """Return a GUE port's part of a command."""
    family = "-6 " if ":" in key.local else ""
    return f"{family}port {key.port} gue local {key.local}"


def guard_words(key: GuardKey) -> str:
    """Return a part of the loop guard's part of a command."""
    if key.part is GuardPart.QDISC:
        return f"dev {key.interface} clsact"
    six = ":" in key.address
    match = f"protocol {'ipv6' if six else 'ip'} flower dst_ip {key.address}"
    if key.part is GuardPart.TURN_BACK:
        return f"dev {key.interface} egress {match} ip_ttl 1 action mirred ingress redirect dev {key.interface}"
    if key.part is GuardPart.SPENT:
        return f"dev {key.interface} ingress {match} ip_ttl 1 action pass"
    sender = f" src_mac {key.mac}" if key.mac else ""
    edit = "ip6 hoplimit set 2 continue" if six else "ip ttl set 2 pipe action csum ip4h continue"
    return f"dev {key.interface} ingress {match}{sender} action pedit ex munge {edit}"


def timeout_words(key: TimeoutKey, seconds: int) -> str:
    """Return a timeout as `ipvsadm --set` takes it: tcp, tcp-fin, udp; 0 leaves one as it is."""
    return " ".join(str(seconds if key == one else 0) for one in (TCP, TCP_FIN, UDP))
