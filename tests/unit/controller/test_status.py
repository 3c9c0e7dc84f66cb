"""Statuses: the truth soon, and not more often than anybody can read."""

from lvs_dr.controller import watched
from lvs_dr.controller.errors import Unreachable
from lvs_dr.controller.events import Recorder
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.status import DETAIL_SECONDS, RETRY_SECONDS, URGENT_SECONDS, StatusKeeper
from lvs_dr.controller.writer import Writer
from lvs_dr.core.decisions import Dirty
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import virtual_service
from tests.unit.controller.test_reconcile import WEB, Bench

STATUS = f"{watched.VIRTUAL_SERVICE.path(WEB)}/status"
MARK = Dirty(services=frozenset({WEB}))


class StatusBench(Bench):
    """With a keeper of statuses."""

    def keeper(self) -> StatusKeeper:
        """Return one that shares everything."""
        metrics = Metrics(METRICS)
        writer = Writer(self.api, self.store, lambda: True, self.intake.changed, metrics)
        return StatusKeeper(
            store=self.store,
            writer=writer,
            decisions=self.reconciler.decisions,
            recorder=Recorder(self.api, "one", metrics, self.clock),
            metrics=metrics,
            clock=self.clock,
            now=lambda: f"2026-01-01T00:00:{int(self.clock.now) % 60:02d}Z",
        )

    def written(self) -> int:
        """Return how often the status was written."""
        return self.api.requests.count(("PATCH", STATUS))


async def test_status_is_written_once() -> None:
    """The truth is told, and telling it again writes nothing."""
    bench = StatusBench()
    await bench.start()
    keeper = bench.keeper()
    for _ in range(3):
        keeper.mark(MARK)
        bench.clock.advance(5)
        await keeper.write_due()
    assert bench.written() == 1
    status = bench.api.objects[watched.VIRTUAL_SERVICE.path(WEB)]["status"]
    assert status["activeDirector"] == "director"
    assert {each["type"] for each in status["conditions"]} == {"Accepted", "Programmed", "Ready"}


async def test_changed_condition_waits_only_a_moment() -> None:
    """A refusal is told at once, or a moment after the last write."""
    bench = StatusBench()
    await bench.start()
    keeper = bench.keeper()
    keeper.mark(MARK)
    bench.clock.advance(5)
    await keeper.write_due()
    await bench.user(watched.VIRTUAL_SERVICE, virtual_service(address="198.51.100.7", version=900, generation=2))
    await bench.reconciler.run_pass(MARK)
    keeper.mark(MARK)
    bench.clock.advance(0.1)
    await keeper.write_due()
    assert bench.written() == 1
    bench.clock.advance(URGENT_SECONDS)
    await keeper.write_due()
    assert bench.written() == 2
    assert URGENT_SECONDS < DETAIL_SECONDS


async def test_failed_write_is_repeated() -> None:
    """A status that could not be written is not forgotten."""
    bench = StatusBench()
    await bench.start()
    keeper = bench.keeper()
    bench.api.failures["PATCH", STATUS] = Unreachable("no answer")
    keeper.mark(MARK)
    bench.clock.advance(5)
    await keeper.write_due()
    bench.api.failures.clear()
    bench.clock.advance(RETRY_SECONDS + 1)
    await keeper.write_due()
    assert "status" in bench.api.objects[watched.VIRTUAL_SERVICE.path(WEB)]
