"""The operator, installed once from manifests/ in the session's lab; every test starts and ends on clean nodes."""

import itertools
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest

from lvs_lab import Lab
from lvs_lab.workload import serve
from tests.e2e.cluster import VIP_PORT, Cluster
from tests.e2e.evidence import gather

ROOT = Path(__file__).parents[2]
_FRESH_PORTS = itertools.count(9000)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
    call: pytest.CallInfo[None],
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Add what the cluster looks like to the report of a failure, while it still looks so."""
    report = yield
    cluster = getattr(item, "funcargs", {}).get("cluster")
    if call.when == "call" and report.failed and cluster is not None:
        report.sections.append(("the cluster when it failed", gather(cluster)))
    return report


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
def port(cluster: Cluster) -> Iterator[int]:
    """A port that no test before had, served by both real servers of the example.

    A connection that a test before cut off stays in the kernel for a quarter of an hour, and counts again for a
    destination of the same addresses and ports: whoever waits for the last connection would wait for that one.
    """
    fresh = next(_FRESH_PORTS)
    servers = [serve(cluster.nodes[name], fresh) for name in ("storage-1", "storage-2")]
    yield fresh
    for server in servers:
        server.signal(9)


@pytest.fixture
def cluster(operator: Cluster) -> Cluster:
    """Clean nodes: no object of a user, nothing of ours in any kernel. The next test cleans up after this one."""
    operator.reset()
    return operator
