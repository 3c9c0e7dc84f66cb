"""When the Leases are looked at."""

import asyncio

import pytest

from lvs_dr.controller import polls
from lvs_dr.controller.apiclient import Body
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.pending import Pending
from lvs_dr.controller.polls import Polls
from lvs_dr.controller.silence import Silence
from lvs_dr.controller.store import Store
from lvs_dr.controller.takeovers import Takeovers
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import Clock, FakeApi


class Leases(FakeApi):
    """Answers a LIST of Leases, and tells when it did."""

    def __init__(self) -> None:
        super().__init__()
        self.looked = asyncio.Event()

    async def list(self, path: str, *, label_selector: str = "") -> tuple[list[Body], str]:
        """Return no Lease."""
        del path, label_selector
        self.looked.set()
        return [], "1"


async def test_a_claim_in_doubt_is_looked_into_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """A split brain would be told many seconds after half of the clients have noticed it."""
    monkeypatch.setattr(polls, "DOUBT_SECONDS", 0.01)
    monkeypatch.setattr(polls.signs, "POLL_SECONDS", 3600.0)
    store, silence, api = Store(), Silence(Clock()), Leases()
    intake = Intake(
        store=store,
        pending=Pending(Clock()),
        silence=silence,
        takeovers=Takeovers(silence, Clock()),
        metrics=Metrics(METRICS),
    )
    looking = asyncio.create_task(Polls(api, intake, silence, namespace="lvs", report=lambda *_: None).run_leases())
    try:
        store.unconfirmed.add("dead")
        store.silent.add("dead")
        await asyncio.sleep(0.1)
        assert not api.looked.is_set(), "whoever is known to be silent is not waited for"
        store.unconfirmed.add("one")
        async with asyncio.timeout(10):
            await api.looked.wait()
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
