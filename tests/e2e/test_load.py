"""Load on the cluster: the busy real server gets less, and status says why, or why not."""

from collections.abc import Iterator
from typing import Any

import pytest

from lvs_lab import NodeProcess
from tests.e2e.cluster import Cluster, virtual_service, wait_until

BUSY = "storage-1"
TASKS = 8
FEEDBACK = {"source": "RunQueue", "target": 250, "timeConstantSeconds": 1, "intervalSeconds": 2}


@pytest.fixture
def busy(cluster: Cluster) -> Iterator[Cluster]:
    """A real server with much to do, none of which keeps its service or its agent from running."""
    argv = ("nice", "-n", "19", "sh", "-c", "while :; do :; done")
    running: list[NodeProcess] = [cluster.nodes[BUSY].spawn(*argv) for _ in range(TASKS)]
    yield cluster
    for process in running:
        process.signal(9)


def test_a_busy_server_receives_less_and_a_source_that_is_missing_says_so(busy: Cluster) -> None:
    """The directors hear it from the nodes' agents, and the weights in IPVS follow; without PSI nothing pretends to."""
    busy.example(scheduler="wrr", loadFeedback=FEEDBACK)

    def weights(name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = busy.get("realserver", name).get("status", {}).get("weights", [])
        return found

    def told() -> None:
        found, other = weights(BUSY), weights("storage-2")
        assert found, busy.get("realserver", BUSY).get("status")
        assert found[0]["virtualService"] == "webdav"
        assert found[0]["weight"] <= 40, found
        assert "run queue" in found[0]["message"], found
        assert not other or other[0]["weight"] >= 80, other

    wait_until(told, within=60)
    assert busy.condition("virtualservice", "webdav", "LoadKnown")["status"] == "True"
    # The kernel's wrr goes round in as many connections as the weights' sum: most for the better one come in a row.
    got = busy.connect(150)
    assert got.errors == {}
    assert got.answers[BUSY] * 3 < got.answers["storage-2"] * 2, (got.answers, busy.ipvs(busy.active_name()))

    busy.apply(virtual_service(scheduler="wrr", loadFeedback={"source": "CPUPressure", "intervalSeconds": 1}))

    def unknown() -> None:
        found = busy.condition("virtualservice", "webdav", "LoadKnown")
        assert (found.get("status"), found.get("reason")) == ("False", "LoadUnknown"), found
        assert "built without PSI" in found["message"]

    wait_until(unknown, within=40)
    busy.healthy(2, 2)
    wait_until(lambda: busy.connect(10).answers == {BUSY: 5, "storage-2": 5}, within=20)
