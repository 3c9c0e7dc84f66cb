"""Who else is heard with an instance's VRID, and whether that can be right. Pure."""

from typing import Final

from lvs_dr.vrrp.instance import Conflict, Count, InstanceConfig, listed
from lvs_dr.vrrp.packet import RELEASING, Advertisement

MOST: Final = 16
"""How many neighbours are remembered: the number of senders on a segment is not ours to bound."""


class Neighbours:
    """Remembers when each was heard, and counts what is unusual into `counts`."""

    def __init__(self, counts: dict[Count, int]) -> None:
        self.last: dict[str, float] = {}
        """When each source was last heard with a valid advert of this VRID."""
        self._counts = counts

    def heard(
        self, now: float, source: str, advert: Advertisement, config: InstanceConfig, own: frozenset[str]
    ) -> Conflict | None:
        """Note an advert; tell of a conflict when it comes from a stranger or is for other addresses.

        `own`: all addresses of the instance. Those beyond what an advert lists are not compared.
        """
        if source not in self.last and len(self.last) >= MOST:
            del self.last[min(self.last, key=self.last.__getitem__)]
        self.last[source] = now
        counts = self._counts
        counts[Count.RECEIVED] += 1
        if advert.priority == RELEASING:
            counts[Count.PRIORITY_ZERO] += 1
        if advert.interval != config.interval:
            counts[Count.INTERVAL_DIFFERS] += 1
        if not config.addresses:
            return None
        conflict = None
        ours = listed(config.addresses)
        if advert.addresses != ours:
            if own.isdisjoint(advert.addresses):
                counts[Count.DISJOINT] += 1
                conflict = Conflict(source, f"{source} uses VRID {advert.vrid} for other addresses")
            elif set(advert.addresses) != set(ours):
                counts[Count.ADDRESSES_DIFFER] += 1
        if config.peers and source not in config.peers:
            counts[Count.STRANGER] += 1
            text = f"{source}, no director of this group, uses VRID {advert.vrid}"
            return conflict or Conflict(source, text)
        return conflict
