"""Errors of the kernel door, and what an errno means there.

    KernelError                 the kernel could not be read (or a socket to it could not be opened)
      IPVSUnavailableError      it has no IPVS

A refused change is no exception: it is a `Failure` with a reason, so that the other changes still apply.
One function per subsystem turns an errno into that; error text is never compared.
"""

import errno
import os

from lvs_dr.core.kernel import (
    DaemonOp,
    DestinationOp,
    Failure,
    GuardOp,
    GuePortOp,
    Op,
    ServiceOp,
    TimeoutOp,
    TunnelOp,
    Verb,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.tunnels import GUE_MODULE, MODULES

_PRESENT = frozenset({errno.EEXIST})
_ABSENT = frozenset({errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL, errno.ENODEV})


class KernelError(Exception):
    """The kernel could not be read."""

    def __init__(self, code: int, message: str, reason: Reason = Reason.KERNEL_REFUSED) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason


class IPVSUnavailableError(KernelError):
    """The kernel has no IPVS, and its module cannot be loaded."""

    def __init__(self, code: int = errno.ENOENT) -> None:
        super().__init__(code, "the kernel has no IPVS: module ip_vs is missing", Reason.IPVS_UNAVAILABLE)


def describe(code: int) -> str:
    """Return an errno as name and text, for people."""
    return f"{errno.errorcode.get(code, str(code))}: {os.strerror(code)}"


def ipvs_failure(op: ServiceOp | DestinationOp, code: int) -> Failure | None:
    """Tell what an errno of an IPVS command means; None where it is success.

    net/netfilter/ipvs/ip_vs_ctl.c: a service that is missing is ESRCH, a destination ENOENT, and a scheduler
    that cannot be loaded ENOENT when a service is added or edited.
    """
    if op.verb is Verb.ADD and code in _PRESENT:
        return None
    if op.verb is Verb.DELETE and code in (errno.ESRCH, errno.ENOENT):
        return None
    if isinstance(op, ServiceOp) and code == errno.ENOENT and op.config is not None:
        message = f"the kernel has no scheduler {op.config.scheduler}: module ip_vs_{op.config.scheduler} is missing"
        return Failure(op, code, Reason.SCHEDULER_UNAVAILABLE, message)
    if isinstance(op, DestinationOp) and code == errno.ESRCH:
        return Failure(op, code, Reason.KERNEL_REFUSED, "the service of this destination is not in the kernel")
    return Failure(op, code, Reason.KERNEL_REFUSED, f"IPVS refused it: {describe(code)}")


def ipvs_missing(op: ServiceOp | DestinationOp) -> Failure | None:
    """Tell what it means that there is no IPVS: nothing for a removal, a failure for the rest."""
    if op.verb is Verb.DELETE:
        return None
    missing = IPVSUnavailableError()
    return Failure(op, missing.code, missing.reason, str(missing))


def link_failure(op: Op, code: int) -> Failure | None:
    """Tell what an errno of an address or route change means; None where it is success."""
    if op.verb is Verb.DELETE and code in _ABSENT:
        return None
    if op.verb is not Verb.DELETE and code in _PRESENT:
        return None
    return Failure(op, code, Reason.KERNEL_REFUSED, f"the kernel refused it: {describe(code)}")


def sysctl_failure(op: Op, code: int) -> Failure:
    """Tell what an errno of writing below /proc/sys/net means."""
    hint = " (is the host's /proc/sys/net mounted writable?)" if code in (errno.EROFS, errno.EACCES) else ""
    return Failure(op, code, Reason.KERNEL_REFUSED, f"the sysctl could not be written: {describe(code)}{hint}")


def timeout_failure(op: TimeoutOp, code: int) -> Failure:
    """Tell what an errno of setting a timeout of IPVS means."""
    if code == errno.ENOENT:
        missing = IPVSUnavailableError()
        return Failure(op, missing.code, missing.reason, str(missing))
    text = f"the {op.key.name} timeout of IPVS could not be set: {describe(code)}"
    return Failure(op, code, Reason.KERNEL_REFUSED, text)


def daemon_failure(op: DaemonOp, code: int) -> Failure | None:
    """Tell what an errno of a sync daemon means; None where it is success (start_sync_thread, ip_vs_sync.c)."""
    if (op.verb is Verb.DELETE and code in (errno.ESRCH, errno.ENOENT)) or (op.verb is Verb.ADD and code in _PRESENT):
        return None
    if code == errno.ENOENT:
        missing = IPVSUnavailableError()
        return Failure(op, missing.code, missing.reason, str(missing))
    interface = op.config.interface if op.config is not None else ""
    if code == errno.ENODEV:
        return Failure(
            op, code, Reason.SYNC_INTERFACE_MISSING, f"there is no interface {interface} for connection sync"
        )
    text = f"the sync daemon {op.key.state} was refused: {describe(code)}"
    if code == errno.EADDRNOTAVAIL:
        text = f"{interface} has no address of the multicast group's family, which connection sync needs"
    elif code == errno.EINVAL:
        text += " (IPVS has no connection sync while a service has real servers of the other address family)"
    return Failure(op, code, Reason.KERNEL_REFUSED, text)


def tunnel_failure(op: TunnelOp, code: int) -> Failure | None:
    """Tell what an errno of a tunnel device means; None where it is success (net/ipv4/ip_tunnel.c)."""
    if op.verb is Verb.DELETE and code in _ABSENT:
        return None
    kind, local = op.config[:2] if op.config is not None else ("", "")
    if code == errno.EOPNOTSUPP:
        text = f"the kernel has no {kind} tunnels: module {MODULES.get(kind, kind)} is missing"
    elif code == errno.EEXIST:
        text = f"another {kind} device takes in what is sent to {local}; remove it (ip -d link) or use another type"
    else:
        text = f"device {op.key.name}: {describe(code)}"
    return Failure(op, code, Reason.TUNNEL_UNAVAILABLE, text)


def gue_failure(op: GuePortOp, code: int) -> Failure | None:
    """Tell what an errno of module fou means; None where it is success (net/ipv4/fou.c).

    EAFNOSUPPORT stands for the module that is missing.
    """
    if op.verb is Verb.DELETE and code in (errno.ENOENT, errno.EINVAL, errno.EAFNOSUPPORT):
        return None
    if op.verb is Verb.ADD and code in (errno.EALREADY, errno.EEXIST):
        return None
    if code == errno.EAFNOSUPPORT:
        text = f"GUE needs module {GUE_MODULE}, which is not loaded and never loads by itself: modprobe {GUE_MODULE}"
    elif code == errno.EADDRINUSE:
        text = f"UDP port {op.key.port} of {op.key.local} is in use by another program"
    elif code == errno.EADDRNOTAVAIL:
        text = f"{op.key.local} is no address of this node"
    else:
        text = f"UDP port {op.key.port} of {op.key.local} cannot be opened for GUE: {describe(code)}"
    return Failure(op, code, Reason.TUNNEL_UNAVAILABLE, text)


def guard_failure(op: GuardOp, code: int, detail: str = "") -> Failure:
    """Tell what an errno of traffic control means (net/sched/sch_api.c, cls_api.c)."""
    where = op.key.interface
    if code == errno.EEXIST:
        text = f"{where} has somebody else's ingress qdisc, which leaves no room for clsact (tc qdisc show)"
    elif code in (errno.ENOENT, errno.EOPNOTSUPP):
        text = f"{where}: the kernel lacks sch_ingress, cls_flower, act_pedit, act_csum, act_gact or act_mirred"
    elif code == errno.EINVAL:
        text = f"{where}: {detail or 'somebody else has filters with the first priorities (tc filter show)'}"
    else:
        text = f"{where}: {detail or describe(code)}"
    return Failure(op, code, Reason.LOOP_GUARD_INCOMPLETE, f"the loop guard is not complete: {text}")
