"""Events: few and bounded."""

from msgspec import Struct

from lvs_dr.controller import watched
from lvs_dr.controller.events import BURST, QUEUE, REFILL_PER_SECOND, Budget, Posting, Recorder
from lvs_dr.controller.metrics import METRICS
from lvs_dr.core.objects import Key
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import Clock, FakeApi

WEB = Key("shop", "web")


class Note(Struct, frozen=True):
    """An Event as core decides it."""

    type: str
    reason: str
    message: str


FLAP = (Note("Warning", "CheckFailed", "one refused"),)


def recorder(api: FakeApi, clock: Clock, metrics: Metrics) -> Recorder:
    """A recorder with a fixed wall clock."""
    return Recorder(api, "controller-1", metrics, clock, stamp=lambda: "2026-01-01T00:00:00.000000Z")


async def test_repeated_event_is_counted_and_not_repeated() -> None:
    """A flapping check fills no list of Events: one with a count."""
    api = FakeApi()
    chosen = recorder(api, Clock(), Metrics(METRICS))
    for _ in range(3):
        chosen.record(watched.VIRTUAL_SERVICE, WEB, "uid-web", FLAP)
    await chosen.post_queued()
    events = [body for path, body in api.objects.items() if "/events/" in path]
    assert [event["series"]["count"] for event in events] == [3]
    assert events[0]["regarding"]["name"] == "web"


def test_budget_is_per_object_and_refills() -> None:
    """A noisy service silences itself, not its neighbours, and not for ever."""
    clock = Clock()
    budget = Budget(clock)
    granted = [budget.take("noisy") for _ in range(100)]
    assert sum(granted) == BURST
    assert budget.take("quiet")
    clock.advance(1.01 / REFILL_PER_SECOND)
    assert budget.take("noisy")


async def test_dropped_events_are_counted() -> None:
    """Somebody who misses Events finds out why."""
    metrics = Metrics(METRICS)
    chosen = recorder(FakeApi(), Clock(), metrics)
    for _ in range(int(BURST) + 5):
        chosen.record(watched.VIRTUAL_SERVICE, WEB, "uid-web", FLAP)
    assert metrics.value("lvs_controller_kubernetes_events_total", result="dropped") == 5
    for number in range(2 * QUEUE):
        chosen.record(watched.VIRTUAL_SERVICE, WEB, f"uid-{number}", FLAP)
    assert len(chosen.pending()) == QUEUE


def test_name_of_an_event_fits() -> None:
    """A service with the longest name still gets its Events."""
    posting = Posting(watched.VIRTUAL_SERVICE, Key("shop", "w" * 253), "u", "Normal", "Serving", "m", "p", 1)
    assert len(posting.name) <= 253
