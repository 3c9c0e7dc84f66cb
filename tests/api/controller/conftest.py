"""An API server of the controller's own tests: they restart it, cut it off and delete its kinds."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from lvs_lab import controlplane
from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.errors import ToolsMissing

from tests.api.controller.controlled import BACKENDS, DIRECTOR, Agents, Cluster, Controller, create_node, prepare, running

NODES = (DIRECTOR, *BACKENDS)


@pytest.fixture(scope="session")
def own_server() -> Iterator[LocalControlPlane]:
    """A kube-apiserver with garbage collection, our manifests and three Nodes."""
    try:
        plane = controlplane.start_local(controller_manager=True)
    except ToolsMissing as missing:
        pytest.skip(str(missing))
    with plane:
        prepare(plane)
        for name in NODES:
            create_node(plane, name)
        yield plane


@pytest.fixture
def server(own_server: LocalControlPlane) -> Iterator[LocalControlPlane]:
    """The server, running before and after each test."""
    own_server.start_api_server()
    yield own_server
    own_server.start_api_server()


@pytest.fixture
def cluster(server: LocalControlPlane) -> Cluster:
    """What a user does and sees."""
    return Cluster(server)


@pytest.fixture
def agents(server: LocalControlPlane) -> Iterator[Agents]:
    """Agents of all three nodes."""
    playing = Agents(server, NODES).start()
    yield playing
    playing.stop()


@pytest.fixture
def controller(
    server: LocalControlPlane, cluster: Cluster, agents: Agents, tmp_path: Path
) -> Iterator[Controller]:
    """A leading controller in a cluster with live agents; afterwards nothing of the test is left."""
    del agents
    with running(server, tmp_path) as process:
        yield process.wait_leading()
        if process.process.poll() is None:
            cluster.remove_everything()
