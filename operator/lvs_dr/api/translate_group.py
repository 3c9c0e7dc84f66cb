"""The settings of a DirectorGroup (vrrp, connectionSync, timeouts, kernelSettings) to values that `core` decides on."""

from lvs_dr.api.models.connection_sync import ConnectionSync
from lvs_dr.api.models.kernel_settings import KernelSettings, Timeouts
from lvs_dr.api.models.vrrp import DirectorVrrp
from lvs_dr.core.director_group import IpvsSettings, SyncSettings, VrrpSettings

SYNC_SECONDS = 120
"""Default of `vrrp.preemptDelaySeconds` with several instances: time to learn of the connections that exist."""


def vrrp_settings(vrrp: DirectorVrrp | None) -> VrrpSettings:
    """Return the settings; what is absent has its default, which may depend on the number of instances."""
    given = vrrp or DirectorVrrp()
    delay = given.preempt_delay_seconds
    if delay is None:
        delay = SYNC_SECONDS if given.instances > 1 and given.effective_preempt else 0
    return VrrpSettings(
        first_virtual_router_id=given.first_virtual_router_id,
        instances=given.instances,
        advertisement_interval_milliseconds=given.advertisement_interval_milliseconds,
        preempt=given.effective_preempt,
        preempt_delay_seconds=delay,
        unicast=bool(given.unicast),
        stop_hold_seconds=given.stop_hold_seconds,
    )


def ipvs_settings(timeouts: Timeouts | None, sysctls: KernelSettings | None) -> IpvsSettings:
    """Return what is to be set in IPVS; what is absent is left as it is on the node."""
    given = sysctls.model_dump(exclude_none=True) if sysctls is not None else {}
    return IpvsSettings(
        tcp_seconds=timeouts.tcp_seconds if timeouts else None,
        tcp_fin_seconds=timeouts.tcp_fin_seconds if timeouts else None,
        udp_seconds=timeouts.udp_seconds if timeouts else None,
        sysctls=tuple(sorted((name, int(value)) for name, value in given.items())),
    )


def sync_settings(given: ConnectionSync | None) -> SyncSettings:
    """Return the settings; what is absent has its default."""
    if given is None:
        return SyncSettings()
    usual = SyncSettings()
    return SyncSettings(
        mode=given.mode,
        interface=given.interface or "",
        sync_id=given.sync_id or 0,
        group=given.multicast_group or usual.group,
        port=given.port or usual.port,
        hop_limit=given.hop_limit or usual.hop_limit,
        maximum_length=given.maximum_length or 0,
    )
