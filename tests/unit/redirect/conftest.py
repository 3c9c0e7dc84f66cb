"""A node with agent's side and redirector."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.redirect.node import Node, running


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    """A node with both."""
    async with running(tmp_path) as one:
        yield one
