"""The Lease: the agent's sign of life."""

import asyncio
from datetime import UTC, datetime

import pytest

from lvs_dr.agent import lease
from lvs_dr.agent.apiclient import ApiClient
from lvs_dr.agent.lease import LeaseKeeper
from tests.unit.agent.bench import NODE
from tests.unit.agent.fake_api import FakeApi


def keeper(client: ApiClient, *, alive: bool = True, identity: str = "me") -> LeaseKeeper:
    """Return a keeper with a clock of its own."""
    return LeaseKeeper(
        client,
        namespace="lvs-system",
        node=NODE,
        identity=identity,
        alive=lambda: alive,
        now=lambda: datetime(2030, 1, 2, 3, 4, 5, 600, UTC),
    )


async def test_a_lease_is_created_and_renewed(api: FakeApi, client: ApiClient) -> None:
    """The controller finds it by its label, under the node's name."""
    mine = keeper(client)
    await mine.renew()
    lease = api.leases[NODE]
    assert lease["metadata"]["labels"] == {"lvs-operator.io/component": "agent"}
    assert lease["spec"]["holderIdentity"] == "me"
    assert lease["spec"]["leaseDurationSeconds"] == 40
    assert lease["spec"]["renewTime"] == "2030-01-02T03:04:05.000600Z"
    before = lease["metadata"]["resourceVersion"]
    await mine.renew()
    assert api.leases[NODE]["metadata"]["resourceVersion"] != before


async def test_a_lease_of_the_agent_before_is_taken_over(api: FakeApi, client: ApiClient) -> None:
    """A restart changes the holder, and is counted."""
    await keeper(client, identity="before").renew()
    await keeper(client).renew()
    assert api.leases[NODE]["spec"]["holderIdentity"] == "me"
    assert api.leases[NODE]["spec"]["leaseTransitions"] == 1


async def test_a_deleted_lease_is_made_again(api: FakeApi, client: ApiClient) -> None:
    """Deleting it by mistake does not make the agent silent."""
    mine = keeper(client)
    await mine.renew()
    api.leases.clear()
    await mine.renew()
    assert NODE in api.leases


async def test_a_lease_changed_by_somebody_is_read_again(api: FakeApi, client: ApiClient) -> None:
    """A conflict is settled by a second read."""
    mine = keeper(client)
    await mine.renew()
    api.leases[NODE]["metadata"]["resourceVersion"] = "7"
    await mine.renew()
    assert api.leases[NODE]["metadata"]["resourceVersion"] != "7"


async def test_who_holds_vips_renews_more_often(
    api: FakeApi, client: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two directors that hold a VIP at once would be told from one that is dead only after many seconds."""
    monkeypatch.setattr(lease, "HOLDING_SECONDS", 0.01)
    holds = True
    mine = LeaseKeeper(
        client, namespace="lvs-system", node=NODE, identity="me", alive=lambda: True, holding=lambda: holds
    )
    task = asyncio.create_task(mine.run())
    async with asyncio.timeout(5):
        while api.lease_writes < 3:  # noqa: ASYNC110 - the stand-in tells nobody
            await asyncio.sleep(0.01)
    holds = False
    await asyncio.sleep(0.1)
    before = api.lease_writes
    await asyncio.sleep(0.2)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert api.lease_writes == before, "ten seconds are enough for all others"


async def test_a_wedged_loop_does_not_renew(api: FakeApi, client: ApiClient) -> None:
    """An agent that does nothing any more must not look alive."""
    task = asyncio.create_task(keeper(client, alive=False).run())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert api.leases == {}
