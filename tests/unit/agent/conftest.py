"""What the agent's tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from lvs_dr.agent.apiclient import ApiClient, ApiSettings
from tests.unit.agent.bench import Bench
from tests.unit.agent.fake_api import FakeApi


@pytest.fixture
async def api() -> AsyncIterator[FakeApi]:
    """A stand-in for the API server."""
    async with FakeApi() as fake:
        yield fake


@pytest.fixture
async def client(api: FakeApi) -> AsyncIterator[ApiClient]:
    """A client of it."""
    async with ApiClient(ApiSettings(api.url), seconds=2.0) as session:
        yield session


@pytest.fixture
def bench(api: FakeApi, tmp_path: Path) -> Bench:
    """A node for an agent."""
    return Bench(api, tmp_path)
