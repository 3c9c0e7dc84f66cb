"""What the speaker is told in a pass: to let go of VIPs before their services go, to hold them when those are there."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.routers import Fitness, assignment
from lvs_dr.agent.seen import Done, Seen, Surroundings
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.vrrp.messages import Assignment

LONGEST_FAULT = 250


class SpeakerOrders:
    """Makes assignments. `fitness` judges whether this director sees enough healthy real servers."""

    def __init__(self, assigner: Assigner, ledger: LedgerFile) -> None:
        self._assigner = assigner
        self._ledger = ledger
        self._fault = ""
        self.fitness = Fitness()

    async def release_first(self, spec: LVSNodeSpec, interface: str, around: Surroundings) -> None:
        """Have the speaker let go of VIPs before their services go: a client must not find a VIP without service."""
        exposed = self._assigner.exposed
        announced = frozenset(spec.director.addresses if spec.director else ())
        if exposed - announced:
            state = self._assigner.state
            here = frozenset(state.held) | state.configured
            released = self._assignment(spec, interface, around, may=here, keep=frozenset())
            await self._assigner.release(released)

    def give(
        self,
        spec: LVSNodeSpec,
        seen: Seen,
        tables: Mapping[str, DirectorTableSpec],
        *,
        redirected: AbstractSet[str] = frozenset(),
        again: bool,
    ) -> None:
        """Tell the speaker which VIPs to hold: those we are to announce and have services for.

        `seen`: the pass, whose operations are done. `redirected`: VIPs that the redirector serves. `again`: have it
        look and repair although nothing changed.
        """
        goal, heard = seen.goal, seen.wanted.heard
        state = self._assigner.state
        held = frozenset(state.held)
        if not goal.writable or (not heard and spec.director is None):
            self._assigner.want(Assignment(seen.interface, paused=True))
            return
        if spec.director is None:
            self._assigner.want(Assignment(""), again=again)
            return
        present = seen.actual.services
        served = {goal.notes[key].address for key in goal.services if key in present or key in seen.done.added}
        self._fault = self._ipvs_fault(seen.done, served=bool(served), wanted=bool(goal.services))
        if goal.left_alone:
            ledger = self._ledger.current
            served |= goal.left_alone & {ledger.note(key).address for key in present}
        # A real server of the VIP gets its services when it holds the VIP (the loop guard).
        guarded = frozenset(spec.backend_addresses) & {table.address for table in tables.values()}
        own = {refusal.address for refusal in goal.refusals if refusal.reason is Reason.RESERVED_ADDRESS}
        may = held | ((served | guarded | redirected) - own)
        if self._fault:
            may |= state.configured  # with the fault, so that it is told
        keep = held | state.configured if not heard else frozenset[str]()
        wanted = self._assignment(spec, seen.interface, seen.surroundings, may=may, keep=keep)
        self._assigner.want(wanted, again=again)

    def _assignment(
        self,
        spec: LVSNodeSpec,
        interface: str,
        around: Surroundings,
        *,
        may: AbstractSet[str],
        keep: AbstractSet[str],
    ) -> Assignment:
        if spec.director is None:
            return Assignment("")
        return assignment(
            interface,
            spec.director,
            may=may,
            keep=keep,
            fitness=self.fitness,
            fault=self._fault,
            source6=around.source6(interface),
            state=self._assigner.state,
        )

    def _ipvs_fault(self, done: Done, *, served: bool, wanted: bool) -> str:
        """Return why the node cannot direct; once IPVS is missing, until it has something of ours again."""
        missing = next((one for one in done.failures if one.reason == Reason.IPVS_UNAVAILABLE), None)
        if missing is not None:
            return f"IPVS cannot be used: {missing.message}"[:LONGEST_FAULT]
        return self._fault if wanted and not served else ""
