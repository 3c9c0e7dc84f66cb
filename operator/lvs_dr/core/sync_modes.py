"""From what a DirectorGroup says of connection sync to what its directors are told: the numbers behind each mode.

They were chosen by experiment: docs/connection-sync.md has the table (`make bench SECTION=survival`).
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from lvs_dr.core.director_group import DirectorGroup, SyncMode
from lvs_dr.core.sync_spec import ConnectionSync


class Numbers(NamedTuple):
    """The kernel's numbers of a mode (Documentation/networking/ipvs-sysctl.rst)."""

    threshold: int
    period: int
    refresh_seconds: int
    retries: int
    maximum_length: int
    sloppy: bool


MODES: Final[Mapping[SyncMode, Numbers]] = {
    # With period 0 and a refresh period the packets are not counted: a connection is told of with the packet that
    # establishes it, after each change of its state, and then with the first packet after the refresh period.
    # A message leaves when the next connection does not fit into it, or after 2 s: four connections of IPv4 fit into
    # 160 bytes, so that with ten new connections a second none waits for longer than half a second.
    SyncMode.STANDARD: Numbers(2, 0, 10, 1, 160, sloppy=True),
    SyncMode.STRICT: Numbers(2, 0, 10, 3, 1, sloppy=True),
}


def group_sync(group: DirectorGroup, directors: int) -> ConnectionSync | None:
    """Return what each of so many directors is told; None where there is nobody to tell, or no wish to."""
    numbers = MODES.get(group.sync.mode)
    if numbers is None or directors <= 1:
        return None
    wish = group.sync
    return ConnectionSync(
        id=wish.sync_id or group.vrrp.first_virtual_router_id,
        interface=wish.interface,
        group=wish.group,
        port=wish.port,
        ttl=wish.hop_limit,
        maximum_length=wish.maximum_length or numbers.maximum_length,
        threshold=numbers.threshold,
        period=numbers.period,
        refresh_seconds=numbers.refresh_seconds,
        retries=numbers.retries,
        sloppy=numbers.sloppy,
    )
