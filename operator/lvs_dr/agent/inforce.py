"""What the agent follows: the newest decided objects, plus what a hold keeps of the ones before."""

from collections.abc import Mapping

import msgspec

from lvs_dr.agent.desired import Wanted
from lvs_dr.agent.lastgood import LastGood, StoredTable, TableVersion
from lvs_dr.core.hold import HOLD_SECONDS, Hold, decide, held_spec, held_tables, node_addresses
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

RELEASE_ANNOTATION = "lvs-operator.io/release-mass-removal"


class Force(msgspec.Struct, frozen=True):
    """Spec and tables in force."""

    spec: LVSNodeSpec
    generation: int  # of the LVSNode that is followed as a whole; 0 = of none that exists now
    uid: str = ""
    tables: Mapping[str, DirectorTableSpec] = {}
    versions: Mapping[str, TableVersion] = {}


class InForce:
    """Follows the wanted state, but does not believe at once that most of it is gone."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.force: Force | None = None
        self.hold: Hold | None = None

    def follow(self, wanted: Wanted, now: float) -> Force | None:
        """Return what is in force from now on; None: nothing was ever heard."""
        if wanted.spec is None:
            return self.force
        if not wanted.decided:
            # A new object that decides nothing yet: what was in force stays in memory, and is not written.
            before = self.force or Force(wanted.spec, 0, wanted.uid, wanted.tables, wanted.versions)
            self.force = msgspec.structs.replace(before, generation=0, uid=wanted.uid)
            return self.force
        before = self.force or Force(wanted.spec, 0, wanted.uid, wanted.tables, wanted.versions)
        self.hold = decide(
            node_addresses(before.spec, before.tables),
            node_addresses(wanted.spec, wanted.tables),
            self.hold,
            relisted=wanted.relisted,
            released=wanted.annotations.get(RELEASE_ANNOTATION, "false") != "false",
            now=now,
        )
        if self.hold is None:
            force = Force(wanted.spec, wanted.generation, wanted.uid, wanted.tables, wanted.versions)
            if force.tables is before.tables and force == before:
                force = before  # the same object while nothing changes: who compares need not look inside
        else:
            tables = held_tables(self.hold, before.spec, before.tables, wanted.tables)
            force = Force(
                spec=held_spec(self.hold, before.spec, wanted.spec),
                generation=before.generation if before.uid == wanted.uid else 0,
                uid=wanted.uid,
                tables=tables,
                versions={
                    name: version for name, version in {**before.versions, **wanted.versions}.items() if name in tables
                },
            )
        self.force = force
        return force

    def hold_text(self) -> str:
        """Return what is held, for people; "" if nothing is."""
        if self.hold is None:
            return ""
        names = sorted(self.hold.addresses)
        some = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")  # noqa: PLR2004
        return (
            f"{len(names)} VIPs vanished at once ({some}) and are kept for {HOLD_SECONDS:.0f} s; "
            f"annotate LVSNode {self._node} with {RELEASE_ANNOTATION}=true if that is meant"
        )

    def last_good(self) -> LastGood | None:
        """Return what to keep on disk: what is in force, once something was decided."""
        force = self.force
        if force is None or not force.spec.decided:
            return None
        tables = {name: StoredTable(force.versions[name], table) for name, table in sorted(force.tables.items())}
        return LastGood(self._node, force.generation, force.spec, tables, force.uid)
