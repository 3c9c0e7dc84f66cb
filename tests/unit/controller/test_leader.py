"""Election: at most one replica writes, whatever happens to the Lease or the API server."""

import asyncio

import pytest
from msgspec.structs import replace

from lvs_dr.controller.errors import Conflict, Unreachable
from lvs_dr.controller.leader import LEASE_SECONDS, RENEW_DEADLINE_SECONDS, Elector, LeaseRecord
from tests.unit.controller.bodies import Clock


class FakeLease:
    """A Lease with optimistic locking, as the API server keeps it."""

    def __init__(self) -> None:
        self.record: LeaseRecord | None = None
        self.away = False
        self.reads = 0

    async def read(self) -> LeaseRecord | None:
        """See LeaseDoor."""
        if self.away:
            raise Unreachable("no answer")
        self.reads += 1
        return self.record

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """See LeaseDoor."""
        if self.away:
            raise Unreachable("no answer")
        current = self.record.version if self.record else ""
        if record.version != current:
            raise Conflict(409, "Conflict", "the object has been modified")
        self.record = replace(record, version=str(int(current or 0) + 1))
        return self.record


def elector(lease: FakeLease, name: str, clock: Clock) -> Elector:
    """A candidate."""
    return Elector(lease, name, clock, stamp=lambda: f"{clock.now}")


async def test_first_candidate_leads_and_second_waits() -> None:
    """Two replicas, one leader."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    await one.attempt()
    await two.attempt()
    assert (one.holds(), two.holds()) == (True, False)


async def test_holder_that_renews_is_never_displaced() -> None:
    """A healthy leader stays for ever."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    for _ in range(30):
        await one.attempt()
        await two.attempt()
        clock.advance(2)
    assert not two.elected.is_set()


async def test_a_renewal_is_one_request_until_somebody_else_writes() -> None:
    """An API server with much to do must not cost the leader its Lease; what others note on it is kept."""
    lease, clock = FakeLease(), Clock()
    one = elector(lease, "one", clock)
    await one.attempt()
    for _ in range(3):
        await one.attempt()
    assert lease.reads == 1
    assert lease.record is not None
    lease.record = replace(lease.record, version="77", annotations={"note": "theirs"})
    await one.attempt()
    assert one.holds()
    assert lease.record.annotations == {"note": "theirs"}
    assert lease.reads == 2


async def test_old_looking_lease_is_only_taken_after_watching_it() -> None:
    """A candidate that starts with a Lease of unknown age waits the full time: clocks are not compared."""
    lease, clock = FakeLease(), Clock()
    await elector(lease, "one", clock).attempt()
    clock.advance(3600)
    two = elector(lease, "two", clock)
    await two.attempt()
    clock.advance(LEASE_SECONDS - 1)
    await two.attempt()
    assert not two.elected.is_set()
    clock.advance(1)
    await two.attempt()
    assert two.holds()


async def test_never_two_leaders_when_the_holder_is_cut_off() -> None:
    """The old leader stops writing before the new one may start."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    await one.attempt()
    await two.attempt()
    for _ in range(20):
        clock.advance(1)
        await two.attempt()
        assert not (one.holds() and two.holds())
    assert two.holds()
    await one.attempt()
    assert one.lost.is_set()


async def test_leader_without_the_api_server_stops_in_time() -> None:
    """A leader that cannot renew gives up after 10 s, before the Lease can be taken."""
    lease, clock = FakeLease(), Clock()
    one = elector(lease, "one", clock)
    await one.attempt()
    lease.away = True
    clock.advance(RENEW_DEADLINE_SECONDS)
    with pytest.raises(Unreachable):
        await one.attempt()
    assert not one.holds()


async def test_run_ends_when_leadership_is_lost() -> None:
    """The process notices by itself and can exit."""
    lease, clock = FakeLease(), Clock()
    one = elector(lease, "one", clock)
    running = asyncio.ensure_future(one.run())
    await one.elected.wait()
    lease.away = True
    clock.advance(RENEW_DEADLINE_SECONDS + 1)
    async with asyncio.timeout(5):
        await running
    assert one.lost.is_set()


async def test_released_lease_is_taken_at_once() -> None:
    """A graceful stop costs the next replica no waiting."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    await one.attempt()
    await two.attempt()
    await one.release()
    assert not one.holds()
    await two.attempt()
    assert two.holds()


async def test_note_on_the_lease_outlives_the_leader() -> None:
    """What a leader notes on the Lease is what the next one reads."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    await one.attempt()
    one.note("kinds", "a")
    await one.release()
    await two.attempt()
    assert two.annotations == {"kinds": "a"}


async def test_lost_race_is_no_election() -> None:
    """Two candidates that take a free Lease at once: one of them gets Conflict and leads not."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    lease.record = LeaseRecord(holder="", version="1")
    stale = lease.record
    await one.attempt()

    async def read_stale() -> LeaseRecord | None:
        return stale

    two._door.read = read_stale  # type: ignore[method-assign]
    with pytest.raises(Conflict):
        await two.attempt()
    assert not two.holds()


async def test_deleted_lease_is_not_taken_from_under_its_holder() -> None:
    """`kubectl delete lease` makes no second leader: a candidate waits as if it were held."""
    lease, clock = FakeLease(), Clock()
    one, two = elector(lease, "one", clock), elector(lease, "two", clock)
    await one.attempt()
    clock.advance(1)
    await two.attempt()
    lease.record = None
    clock.advance(1)
    await two.attempt()
    assert not two.holds()
    await one.attempt()
    assert one.holds()
