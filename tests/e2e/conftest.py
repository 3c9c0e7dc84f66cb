"""The operator, installed once from manifests/ in the session's lab; every test starts and ends on clean nodes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lvs_lab import Lab
from lvs_lab.workload import serve
from tests.e2e.cluster import VIP_PORT, Cluster

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def operator(lab: Lab) -> Iterator[Cluster]:
    """Install manifests/base and start a service on every real server."""
    cluster = Cluster(lab, ROOT)
    cluster.install()
    servers = [serve(lab.nodes[name], VIP_PORT) for name in ("storage-1", "storage-2", "storage-3")]
    yield cluster
    for server in servers:
        server.signal(9)


@pytest.fixture
def cluster(operator: Cluster) -> Cluster:
    """Clean nodes: no object of a user, nothing of ours in any kernel. The next test cleans up after this one."""
    operator.reset()
    return operator
