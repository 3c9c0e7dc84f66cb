"""Taking a real server out: no transfer breaks, and whoever waits is told when the last one has ended."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import VIP, Cluster, addresses, real_server, wait_until
from tests.e2e.holding import Holder

LONG = 40
"""Connections that are open all the time; half of them on each real server."""


@pytest.fixture
def holder(cluster: Cluster) -> Iterator[Holder]:
    """Long connections of the client."""
    held = Holder(cluster.nodes["client-1"])
    yield held
    held.end()


def test_a_drain_breaks_nothing_and_ends_after_the_last_connection(cluster: Cluster, holder: Holder, port: int) -> None:
    """Long connections live on, new ones go elsewhere, and the VIP leaves lo only when nobody needs it there."""
    cluster.example(port=port)
    half = LONG // 2
    assert holder.open(VIP, port, LONG) == {"storage-1": half, "storage-2": half}
    node = cluster.nodes["storage-2"]

    cluster.apply(real_server("storage-2", state="Drain"))
    wait_until(lambda: cluster.connect(6, port=port).answers == {"storage-1": 6}, within=10)
    wait_until(
        lambda: cluster.condition("realserver", "storage-2", "Drained")["message"].startswith(f"{half} connections"),
        within=30,
    )
    assert cluster.condition("realserver", "storage-2", "Drained")["reason"] == "Draining"
    assert holder.check() == {"storage-1": half, "storage-2": half}
    assert VIP in addresses(node, "lo")

    assert holder.close("storage-2") == {"storage-1": half}
    cluster.wait_for("realserver", "storage-2", "Drained", timeout=30)
    wait_until(lambda: VIP not in addresses(node, "lo"), within=20)
    for director in ("director-1", "director-2"):  # the service of its checks may go a moment later
        wait_until(lambda name=director: not any(node.lan_address in line for line in cluster.ipvs(name)), within=10)  # type: ignore[misc]
    assert cluster.condition("virtualservice", "webdav", "Ready")["status"] == "True"
    assert holder.check() == {"storage-1": half}

    cluster.apply(real_server("storage-2"))
    cluster.healthy(2, 2)
    wait_until(lambda: cluster.connect(6, port=port).answers == {"storage-1": 3, "storage-2": 3}, within=10)
    assert holder.check() == {"storage-1": half}


def test_the_time_limit_ends_a_drain(cluster: Cluster, holder: Holder, port: int) -> None:
    """One connection that never ends does not keep the server in for ever."""
    cluster.example(quiesceSeconds=2, port=port)
    assert holder.open(VIP, port, 2) == {"storage-1": 1, "storage-2": 1}
    cluster.apply(real_server("storage-2", state="Drain", drain={"timeoutSeconds": 5}))
    cluster.wait_for("realserver", "storage-2", "Drained", timeout=30)
    message = cluster.condition("realserver", "storage-2", "Drained")["message"]
    assert message.startswith("its time is over (drain.timeoutSeconds: 5)")
    wait_until(lambda: VIP not in addresses(cluster.nodes["storage-2"], "lo"), within=20)
