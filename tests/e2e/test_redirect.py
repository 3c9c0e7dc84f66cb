"""Uploads that bypass the director: from the manifests to the bytes on a real server."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lvs_lab import NodeProcess
from lvs_lab.errors import LabError
from lvs_lab.workload import CLIENT, Answers
from tests.e2e.cluster import VIP, Cluster, real_server, virtual_service, wait_until
from tests.e2e.site import with_redirect

SCRIPT = str(Path(__file__).with_name("uploading.py"))
PORT, STORAGE_PORT = 80, 8080
STOP = "/run/stop-uploading"
SERVERS = ("storage-1", "storage-2")


@pytest.fixture
def uploads(cluster: Cluster, tmp_path: Path) -> Iterator[Cluster]:
    """The component redirect installed, as a site does it; afterwards manifests/base again."""
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(with_redirect(tmp_path, cluster.root)))
    cluster.rolled_out()
    yield cluster
    cluster.kubectl("delete", "virtualservices", "--all")
    cluster.install()


def storage(cluster: Cluster, name: str) -> NodeProcess:
    """Start a storage server on a node."""
    process = cluster.nodes[name].spawn(sys.executable, SCRIPT, "serve", str(STORAGE_PORT))
    process.wait_for_output("ready", timeout=30)
    return process


def put(cluster: Cluster, count: int) -> Answers:
    """Upload from the client, one after the other."""
    argv = [sys.executable, SCRIPT, "put", VIP, str(PORT), f"--count={count}"]
    return Answers.parse(cluster.nodes[CLIENT].run(*argv, timeout=30 + 20 * count).stdout)


def redirector_runs(cluster: Cluster, pod: str) -> bool:
    """Tell whether a pod is ready, its redirector included."""
    return next(each.ready for each in cluster.lab.pods("app.kubernetes.io/name=lvs-agent") if each.name == pod)


def killed(cluster: Cluster, pod: str) -> bool:
    """Kill a redirector; tell whether it ran."""
    try:
        cluster.lab.kill_container(pod, "redirector", 9)
    except LabError:
        return False
    return True


def test_uploads_go_to_healthy_real_servers_whatever_dies(uploads: Cluster) -> None:
    """A real server, a redirector, the Active director: no upload fails but those under way to what died."""
    cluster = uploads
    servers = {name: storage(cluster, name) for name in SERVERS}
    service = virtual_service(port=PORT, forwardingMethod="Redirect", redirect={"port": STORAGE_PORT})
    del service["spec"]["scheduler"]
    cluster.apply(service, *(real_server(name) for name in SERVERS))
    cluster.healthy(2, 2)
    cluster.wait_for("virtualservice", "webdav")
    found = put(cluster, 10)
    assert (set(found.answers), found.errors) == (set(SERVERS), {})
    assert [cluster.ipvs(name) for name in ("director-1", "director-2")] == [[], []]

    servers["storage-2"].signal(9)
    cluster.healthy(1, 2)
    assert put(cluster, 6).answers == {"storage-1": 6}
    servers["storage-2"] = storage(cluster, "storage-2")
    cluster.healthy(2, 2)

    active = cluster.active()
    client, pod = cluster.nodes[CLIENT], cluster.agent_pod(active.name)
    going_on = client.spawn(sys.executable, SCRIPT, "put", VIP, str(PORT), f"--until={STOP}")
    assert killed(cluster, pod)
    wait_until(lambda: not redirector_runs(cluster, pod), within=30)
    wait_until(lambda: redirector_runs(cluster, pod), within=60)
    client.put_file(STOP, "")
    going_on.wait(timeout=60)
    found = Answers.parse(going_on.output())
    assert (found.total > 0, found.errors) == (True, {}), found

    other = next(name for name in ("director-1", "director-2") if name != active.name)
    active.kill()
    try:
        wait_until(lambda: put(cluster, 1).total == 1, within=60)
        found = put(cluster, 6)
        assert (found.total, found.errors) == (6, {})
        wait_until(lambda: cluster.active_name() == other, within=60)
    finally:
        active.boot()
        for server in servers.values():
            server.signal(9)
