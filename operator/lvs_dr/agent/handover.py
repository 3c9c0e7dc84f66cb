"""A VirtualService that changes its VIP: the new one is brought up completely before the old one goes."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import msgspec

from lvs_dr.core.table import DirectorTableSpec

HANDOVER_SECONDS = 60.0


class _Old(msgspec.Struct, frozen=True):
    table: str
    until: float


class Handover:
    """Remembers VIPs that were given up for another one."""

    def __init__(self) -> None:
        self._old: dict[str, _Old] = {}

    def kept(
        self,
        before: Mapping[str, DirectorTableSpec],
        tables: Mapping[str, DirectorTableSpec],
        *,
        held: AbstractSet[str],
        announced: AbstractSet[str],
        now: float,
    ) -> frozenset[str]:
        """Return the VIPs to hold although they are no longer to be announced. `now`: monotonic seconds.

        A VIP is kept only on the director that takes the new one, until that is held and has a real server to
        send to, and for a minute at most.
        """
        if tables is not before:
            for name, table in tables.items():
                was = before.get(name)
                if was is not None and was.address != table.address and was.address in held:
                    self._old.setdefault(was.address, _Old(name, now + HANDOVER_SECONDS))
        if not self._old:
            return frozenset()
        for address, old in list(self._old.items()):
            heir = tables.get(old.table)
            if (
                heir is None
                or address not in held
                or address in announced
                or heir.address not in announced
                or now >= old.until
                or (heir.address in held and (heir.destinations or not heir.pending))
            ):
                del self._old[address]
        return frozenset(self._old)
