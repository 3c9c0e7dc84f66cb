"""A director with a thousand tables: bursts are coalesced, and what has not changed is not thought about again."""

import asyncio
from pathlib import Path

from msgspec import structs

from lvs_dr.agent.decider import Decider, Situation
from lvs_dr.core.kernel import DestinationOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.scope import IPVS
from tests.contract.fake_kernel import FakeKernel
from tests.unit.agent.big_node import BigNode, table
from tests.unit.core.plan_cases import director

TABLES = 1000
A_HANDFUL = 20


async def test_a_burst_of_objects_makes_a_handful_of_passes(tmp_path: Path) -> None:
    """A thousand applied objects would be a thousand dumps of the kernel's tables."""
    node = BigNode(tmp_path)
    node.be_director(TABLES)
    node.source.tables.replaced({})
    async with node.running():
        await node.settled()
        before = len(node.changed_ops)
        for number in range(TABLES):
            node.source.tables.changed(table(number, 1, check=False))
            await asyncio.sleep(0)  # as they come in from a watch: one after the other, and others get their turn
        await node.settled()
        assert len(node.kernel.services) == TABLES
        assert len(node.changed_ops) - before <= A_HANDFUL


async def test_one_change_among_many_is_one_operation(tmp_path: Path) -> None:
    """Every change of a weight would write the tables of everybody else again."""
    node = BigNode(tmp_path)
    node.be_director(50)
    items = [table(number, 5, check=False) for number in range(50)]
    node.source.tables.replaced({item.meta.key: item for item in items})
    async with node.running():
        await node.settled()
        node.kernel.journal.clear()
        one = items[17]
        entry = structs.replace(one.spec.destinations[0], weight=7)
        spec = structs.replace(one.spec, destinations=(entry, *one.spec.destinations[1:]))
        node.source.tables.changed(structs.replace(one, meta=structs.replace(one.meta, generation=2), spec=spec))
        await node.settled()
        (op,) = node.kernel.journal
    assert isinstance(op, DestinationOp)
    assert (op.verb, op.key.address, op.config and op.config.weight) == (Verb.SET, entry.address, 7)
    report = next(one for one in node.status.tables if one.table == "web/t0017")
    assert report.generation == 2


def test_what_has_not_changed_is_not_decided_again() -> None:
    """A quiet node with thousands of entries would compute all the time."""
    kernel, decider = FakeKernel(), Decider()
    tables = {"web/one": table(1, 3, check=False).spec}
    health: dict[object, object] = {}
    reserved: dict[str, str] = {}

    def situation(ledger: Ledger, spec: LVSNodeSpec) -> Situation:
        return Situation(
            spec=spec,
            tables=tables,
            health=health,  # type: ignore[arg-type]
            ledger=ledger,
            reserved=reserved,
            held=frozenset(),
            unreadable=frozenset(),
        )

    first, made = decider.decide(situation(Ledger("b"), director()), kernel.read(frozenset(), IPVS), 0.0)
    assert kernel.apply(made.ops) == ()
    quiet = situation(made.ledger, director())
    goal, made = decider.decide(quiet, kernel.read(frozenset(), IPVS), 1.0)
    assert made.ops == ()
    again, same = decider.decide(quiet, kernel.read(frozenset(), IPVS), 2.0)
    assert again is goal
    assert same is made
    kernel.flush_ipvs()
    _, repairing = decider.decide(quiet, kernel.read(frozenset(), IPVS), 3.0)
    assert len(repairing.ops) == len(first.services) + len(first.destinations)
    kernel.apply(repairing.ops)
    assert decider.decide(situation(made.ledger, LVSNodeSpec()), KERNEL_EMPTY, 4.0)[0].writable is False


KERNEL_EMPTY = FakeKernel().read(frozenset(), IPVS)
