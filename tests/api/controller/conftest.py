"""An API server of the controller's own tests: they restart it, cut it off and delete its kinds."""

from collections.abc import Iterator
from typing import NamedTuple

import pytest

from lvs_lab import controlplane
from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.errors import ToolsMissing
from tests.api.controller.controlled import BACKENDS, DIRECTOR, Cluster, Controller, create_node, prepare, running
from tests.api.controller.playing import Agents

NODES = (DIRECTOR, *BACKENDS)


class Standing(NamedTuple):
    """What a module's tests share."""

    controller: Controller
    agents: Agents


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
def empty(server: LocalControlPlane, cluster: Cluster) -> LocalControlPlane:
    """The server without anything that earlier tests left."""
    cluster.wipe()
    return server


@pytest.fixture
def playing(empty: LocalControlPlane) -> Iterator[Agents]:
    """Agents for a test that starts its own controllers."""
    with Agents(empty, NODES) as agents:
        yield agents


@pytest.fixture(scope="module")
def standing(own_server: LocalControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Standing]:
    """A leading controller and live agents for all tests of a module that do not kill them."""
    own_server.start_api_server()
    Cluster(own_server).wipe()
    directory = tmp_path_factory.mktemp("controller")
    with Agents(own_server, NODES) as agents, running(own_server, directory) as process:
        yield Standing(process.wait_leading(), agents)


@pytest.fixture
def controller(standing: Standing, cluster: Cluster) -> Iterator[Controller]:
    """The module's controller; afterwards nothing of the test is left."""
    yield standing.controller
    standing.agents.reset()
    cluster.remove_everything()


@pytest.fixture
def agents(standing: Standing) -> Agents:
    """The module's agents."""
    return standing.agents


@pytest.fixture
def cluster(server: LocalControlPlane) -> Cluster:
    """What a user does and sees."""
    return Cluster(server)
