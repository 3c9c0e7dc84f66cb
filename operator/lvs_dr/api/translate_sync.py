"""A DirectorGroup's connectionSync to the value that `core` decides on."""

from lvs_dr.api.models.connection_sync import ConnectionSync
from lvs_dr.core.objects import SyncSettings


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
