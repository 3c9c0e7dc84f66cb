"""Taking a real server out: what is left of it on the directors of a table, and whether it may leave.

A director counts what it passes on, so each connection is known to the one that serves it, and by connection sync to
the others: the largest count is the number. IPVS counts a TCP connection as active until its end was seen, and knows
no end of a UDP one, which counts until it times out (`KernelState.connections`).
"""

from typing import NamedTuple

from lvs_dr.core import views
from lvs_dr.core.directors import directors
from lvs_dr.core.world import TableRecord, World


class Progress(NamedTuple):
    """What directors tell of one draining real server in one table."""

    connections: int  # the largest count
    most: str  # the director that counts them; "" = none has told
    untold: tuple[str, ...]  # directors that have not told since the drain began
    busy: bool  # one at least does not call it idle yet

    @property
    def done(self) -> bool:
        """Whether no director has anything left of it; nobody to tell is no answer."""
        return bool(self.most) and not self.untold and not self.busy


def progress(world: World, table: TableRecord, real_server: str) -> Progress:
    """Return how far the real server is drained; one that is in service still has all directors untold."""
    connections, most, busy = 0, "", False
    untold: list[str] = []
    for name in directors(world, table.spec.director_group):
        seen = views.view(world, table, name)
        reports = seen.report.draining if seen.report is not None and seen.current and not seen.silent else ()
        told = next((each for each in reports if each.real_server == real_server), None)
        if told is None:
            untold.append(name)
            continue
        if not most or told.connections > connections:
            connections, most = told.connections, name
        busy = busy or not told.idle
    return Progress(connections, most, tuple(untold), busy)
