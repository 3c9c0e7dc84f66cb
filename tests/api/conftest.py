"""A real API server on loopback for the `api` tier: one per session, restartable, no nodes."""

from collections.abc import Iterator

import pytest

from lvs_lab import controlplane
from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.errors import ToolsMissing


@pytest.fixture(scope="session")
def api_server() -> Iterator[LocalControlPlane]:
    """A real kube-apiserver with garbage collection; shared by the session, so use names of your own.

    `stop_api_server()`, `start_api_server()`, `restart_api_server()` and `compact_etcd()` break it on purpose; a test
    that does leaves it running (`running_api_server` sees to that).
    """
    try:
        plane = controlplane.start_local(controller_manager=True)
    except ToolsMissing as missing:
        pytest.skip(str(missing))
    with plane:
        yield plane


@pytest.fixture
def running_api_server(api_server: LocalControlPlane) -> Iterator[LocalControlPlane]:
    """The session's API server for a test that kills or restarts it: ready before the test and after it."""
    api_server.start_api_server()
    yield api_server
    api_server.start_api_server()
