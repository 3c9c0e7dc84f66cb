"""Health checks on the cluster: what a check says decides who gets connections, and status says why."""

import sys
from collections.abc import Iterator

import pytest

from lvs_lab import NodeProcess
from lvs_lab.workload import CLIENT
from tests.e2e.cluster import CALM_GROUP, Cluster, virtual_service, wait_until

STATUS_PORT = 8080
STATUS_FILE = "/tmp/health-status"  # noqa: S108 - on a lab node of our own
CHECK = {
    "http": {"port": STATUS_PORT, "path": "/healthz", "bodyContains": "ready"},
    "intervalSeconds": 1,
    "timeoutSeconds": 1,
    "rise": 2,
    "fall": 2,
}
# Answers with the status in a file: what a person or a deployment switches.
PAGE = f"""
import http.server
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(int(open({STATUS_FILE!r}).read()))
        self.end_headers()
        self.wfile.write(b"ready: yes\\n")
    def log_message(self, *_):
        pass
http.server.ThreadingHTTPServer(("", {STATUS_PORT}), Page).serve_forever()
"""


@pytest.fixture
def pages(cluster: Cluster) -> Iterator[Cluster]:
    """A status page beside the service of each real server, well at first."""
    running: list[NodeProcess] = []
    for name in ("storage-1", "storage-2"):
        answer(cluster, name, 200)
        running.append(cluster.nodes[name].spawn(sys.executable, "-c", PAGE))
    yield cluster
    for process in running:
        process.signal(9)


def answer(cluster: Cluster, node: str, status: int) -> None:
    """Have the status page of a real server answer with this status from now on."""
    cluster.nodes[node].run("sh", "-c", f"echo {status} > {STATUS_FILE}")


def test_a_real_server_that_says_503_gets_no_connection(pages: Cluster) -> None:
    """Its port is open all the time: only what it answers tells that it is not ready. And back."""
    pages.example(healthCheck=CHECK)
    wait_until(lambda: pages.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)
    answer(pages, "storage-1", 503)
    pages.healthy(1, 2)
    got = pages.connect(10)
    assert (got.answers, got.errors) == ({"storage-2": 10}, {}), got
    told = pages.condition("realserver", "storage-1", "Healthy")
    assert (told["status"], told["reason"]) == ("False", "CheckFailed")
    assert "answered 503, expected 200-299" in told["message"]
    answer(pages, "storage-1", 200)
    pages.healthy(2, 2)
    wait_until(lambda: pages.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)


def test_a_port_that_a_client_used_before_leads_to_a_removed_real_server(pages: Cluster) -> None:
    """The kernel remembers where it went: its packets vanish, unless expireNodestConn says not so (docs/health.md)."""
    pages.nodes[CLIENT].run("sysctl", "-qw", "net.ipv4.tcp_tw_reuse=1")
    pages.example(healthCheck=CHECK)
    unused = range(900, 904)  # by connections of other tests
    port = next(each for each in unused if pages.connect(1, source=each).answers == {"storage-1": 1})
    answer(pages, "storage-1", 503)
    pages.healthy(1, 2)
    assert pages.connect(1, source=port).errors == {"TimeoutError": 1}
    pages.apply({**CALM_GROUP, "spec": {**CALM_GROUP["spec"], "kernelSettings": {"expireNodestConn": True}}})
    director = pages.active()
    setting = "/proc/sys/net/ipv4/vs/expire_nodest_conn"
    wait_until(lambda: director.run("cat", setting).stdout.strip() == "1", within=20)
    got = pages.connect(1, source=port, timeout=8.0)
    assert (got.answers, got.errors) == ({"storage-2": 1}, {}), got


def test_a_check_that_cannot_be_made_takes_nobody_out(cluster: Cluster) -> None:
    """A script that is not mounted says nothing about the real servers: both go on, and status says so."""
    cluster.example()
    cluster.apply(virtual_service(healthCheck={"exec": {"name": "not-mounted"}, "intervalSeconds": 1}))

    def told() -> None:
        for name in ("storage-1", "storage-2"):
            found = cluster.condition("realserver", name, "Healthy")
            assert (found.get("status"), found.get("reason")) == ("Unknown", "CheckBroken"), found

    wait_until(told, within=30)
    wait_until(lambda: cluster.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)
    cluster.healthy(2, 2)


def test_pings_reach_real_servers(cluster: Cluster) -> None:
    """Raw sockets work with the rights that the agent's pod has."""
    cluster.example(healthCheck={"ping": {}, "intervalSeconds": 1})
    wait_until(lambda: cluster.connect(10).answers == {"storage-1": 5, "storage-2": 5}, within=10)
