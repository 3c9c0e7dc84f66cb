"""Which directors that report to be Active may have been replaced since, without being able to say so.

A director that loses power leaves its last report behind, in which it is Active; its successor reports the same of
itself within a second, and only after 40 s its Lease is known to be old. Two claims are a split brain only when the
older one's agent has lived after the newer one was made.
"""

from collections.abc import Callable
from collections.abc import Set as AbstractSet
from typing import NamedTuple

from lvs_dr.controller.silence import Silence
from lvs_dr.core.active import ACTIVE
from lvs_dr.core.world import NodeRecord, World


class Claim(NamedTuple):
    """Something that one director of a group can be Active for."""

    group: str
    id: int
    family: int


class Takeovers:
    """Remembers since when an older claim is in doubt. `clock` is monotonic, in seconds, and that of `silence`."""

    def __init__(self, silence: Silence, clock: Callable[[], float]) -> None:
        self._silence = silence
        self._clock = clock
        self._doubted: dict[str, float] = {}

    def changed(self, world: World, before: NodeRecord | None, after: NodeRecord | None) -> None:
        """Note an LVSNode that was `before` and is `after`, as `world` has it already."""
        if after is None:
            if before is not None:
                self._doubted.pop(before.name, None)
            return
        first = before is None or before.status is None
        old, now = {} if before is None else _claims(before), _claims(after)
        made = now.keys() - old.keys()
        if made or not now:
            self._doubted.pop(after.name, None)
        for name, other in world.lvs_nodes.items():
            theirs = _claims(other) if name != after.name and made else {}
            for claim in made & theirs.keys():
                # What is read for the first time may be long past: the directors' clocks have to tell.
                replaced = after.name if first and now[claim] < theirs[claim] else name
                self._doubted[replaced] = self._clock()

    def unconfirmed(self) -> AbstractSet[str]:
        """Return the nodes whose claim is older than another one's and may be out of date."""
        confirmed = {name for name, at in self._doubted.items() if self._silence.lived_at(name) >= at}
        for name in confirmed:
            del self._doubted[name]
        return frozenset(self._doubted)


def _claims(record: NodeRecord) -> dict[Claim, str]:
    """Return what a director reports to be Active for, each with since when."""
    role = record.spec.director
    if role is None or record.status is None:
        return {}
    routers = record.status.virtual_routers
    return {Claim(role.group, each.id, each.family): each.since for each in routers if each.state == ACTIVE}
