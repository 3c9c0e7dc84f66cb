"""What must be true before anything is taken away from a node.

When a CustomResourceDefinition is deleted, its instances vanish first, one DELETED event after the other, exactly as
if a user had deleted them. So before a removal is written, the definitions of all our kinds are read: while one of
them is missing, being deleted, or another one than before, nothing is removed and the process starts anew; it then
waits for all kinds. Definitions of users' objects that were replaced (their uid, noted on our Lease, differs) come
back empty: removals are then held for a while, so that whoever puts the objects back finds everything still serving.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import NamedTuple

from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api
from lvs_dr.controller.errors import KindsMissing, NotFound
from lvs_dr.controller.watched import Watched
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.world import NodeRecord, TableRecord

log = logging.getLogger(__name__)

HOLD_SECONDS = 300.0
ANNOTATION = "lvs-operator.io/kinds"
DEFINITIONS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


class Guard:
    """Knows which definitions the users' objects belong to. `clock` is monotonic."""

    def __init__(self, api: Api, clock: Callable[[], float]) -> None:
        self._api = api
        self._clock = clock
        self._uids: dict[str, str] = {}
        self._held_until = float("-inf")

    async def learn(self) -> None:
        """Note the definitions of all our kinds. Raises KindsMissing, ApiError or Unreachable."""
        self._uids = {kind.plural: await self._uid(kind) for kind in watched.OUR_KINDS}

    @property
    def note(self) -> str:
        """The users' definitions in the form that is kept on the Lease."""
        return ",".join(f"{kind.plural}={self._uids[kind.plural]}" for kind in watched.USER_KINDS)

    def compare(self, noted: str) -> bool:
        """Hold removals when the definitions are not those of the note; return whether they are."""
        if noted in ("", self.note):
            return True
        log.warning(
            "the definitions of VirtualService, RealServer or DirectorGroup were replaced: "
            "nothing is taken away from any node for %.0f s, so that the objects can be put back",
            HOLD_SECONDS,
        )
        self._held_until = self._clock() + HOLD_SECONDS
        return False

    def held_for(self) -> float:
        """Seconds for which removals are still held."""
        return max(0.0, self._held_until - self._clock())

    async def removal(self) -> None:
        """Make sure that all our kinds are there. Raises KindsMissing, ApiError or Unreachable."""
        uids = await asyncio.gather(*(self._uid(kind) for kind in watched.OUR_KINDS))
        for kind, uid in zip(watched.OUR_KINDS, uids, strict=True):
            if uid != self._uids[kind.plural]:
                raise KindsMissing(f"the CustomResourceDefinition {kind.crd} was replaced")

    async def _uid(self, kind: Watched) -> str:
        try:
            metadata = (await self._api.get(f"{DEFINITIONS}/{kind.crd}"))["metadata"]
        except NotFound as error:
            raise KindsMissing(f"the CustomResourceDefinition {kind.crd} does not exist") from error
        if metadata.get("deletionTimestamp"):
            raise KindsMissing(f"the CustomResourceDefinition {kind.crd} is being deleted")
        return str(metadata["uid"])


def table_loses(record: TableRecord | None, spec: DirectorTableSpec | None) -> bool:
    """Tell whether writing `spec` (None: deleting) takes a service or a destination away from the directors."""
    if record is None:
        return False
    if spec is None:
        return True
    before = record.spec
    return (
        (before.director_group, before.address) != (spec.director_group, spec.address)
        or not set(before.ports) <= set(spec.ports)
        or not {each.address for each in before.destinations} <= {each.address for each in spec.destinations}
    )


class Loss(NamedTuple):
    """What a write takes away from a node."""

    tables: frozenset[str]
    addresses: frozenset[str]

    def __bool__(self) -> bool:
        return bool(self.tables or self.addresses)


def node_loss(record: NodeRecord | None, spec: LVSNodeSpec) -> Loss:
    """Return which VIPs and tables `spec` takes away from the node, as it is told or as it reports to be."""
    if record is None or not spec.decided:
        return Loss(frozenset(), frozenset())
    before, after = record.spec.director or _NOBODY, spec.director or _NOBODY
    held, carried, tables = set(before.addresses), set(record.spec.backend_addresses), set(before.tables)
    if not record.spec.decided and record.status is not None:
        held |= set(record.status.held_addresses)
        carried |= set(record.status.loopback_addresses)
        tables |= {report.table for report in record.status.tables}
    addresses = (held - set(after.addresses)) | (carried - set(spec.backend_addresses))
    return Loss(frozenset(tables - set(after.tables)), frozenset(addresses))


_NOBODY = DirectorRole(group="none")
