"""Long connections through every edit of a service: those that can survive do, and the docs say which cannot."""

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import pytest

from lvs_lab.workload import serve
from tests.e2e.asking import Asker
from tests.e2e.cluster import CALM_GROUP, VIP, VIP_PORT, Cluster, addresses, real_server, virtual_service, wait_until
from tests.e2e.holding import Holder

OTHER_VIP = "192.168.35.101"
OTHER_PORT = VIP_PORT + 1
ALL = {"storage-1": 4, "storage-2": 4}
LONGEST_GAP_SECONDS = 1.0
"""Attempts begin every 0.05 s; the lab's one or two processors are shared by all its kernels."""
CHOICE = virtual_service()["spec"]["realServers"]


@pytest.fixture
def holder(cluster: Cluster) -> Iterator[Holder]:
    """A client that holds connections; no director remembers those of a test before."""
    # What ended just before the sync daemons did lives on at the other director for a quarter of an hour.
    alone = {**CALM_GROUP["spec"], "connectionSync": {"mode": "Off"}}
    cluster.apply({**CALM_GROUP, "spec": alone})
    started = Holder(cluster.nodes["client-1"])
    yield started
    started.end()


@pytest.fixture
def other_port(cluster: Cluster) -> Iterator[None]:
    """The service on a second port of both real servers."""
    servers = [serve(cluster.nodes[name], OTHER_PORT) for name in ALL]
    yield
    for server in servers:
        server.signal(9)


def table(cluster: Cluster) -> list[str]:
    """Return the rules of our VIPs on the Active director, without scheduling details of destinations."""
    ours = (VIP, OTHER_VIP)
    return [line for line in cluster.ipvs(cluster.active_name()) if any(vip in line for vip in ours)]


def has(cluster: Cluster, *words: str) -> Callable[[], bool]:
    """Tell whether one rule on the director has all these words."""
    return lambda: any(all(f" {word} " in f" {line} " for word in words) for line in table(cluster))


def hold(holder: Holder, port: int = VIP_PORT) -> None:
    """Hold four connections to each real server.

    IPVS sends a client's port that comes back within minutes where it went before, out of turn: then once more.
    """

    def even() -> bool:
        for name in ALL:
            holder.close(name)
        return holder.open(VIP, port, 8) == ALL

    wait_until(even, within=30)


def edit(cluster: Cluster, shown: Callable[[], object], **spec: Any) -> None:
    """Apply the service with these fields and wait until the kernel has it."""
    cluster.apply(virtual_service(**spec))
    wait_until(shown, within=20)


def test_edits_in_place_cut_nothing(cluster: Cluster, holder: Holder) -> None:
    """Scheduler, flags, persistence, weights and onFailure are changed while clients work: nobody notices."""
    cluster.example()
    hold(holder)
    service = f"{VIP}:{VIP_PORT}"
    steps: list[tuple[str, dict[str, Any], Callable[[], bool]]] = [
        ("another scheduler", {"scheduler": "wlc"}, has(cluster, "-A", service, "-s wlc")),
        (
            "scheduler flags",
            {"scheduler": "sh", "schedulerFlags": ["sh-port"]},
            has(cluster, "-A", service, "-s sh", "-b sh-port"),
        ),
        ("no scheduler flags", {"scheduler": "sh"}, lambda: not has(cluster, "-b sh-port")()),
        (
            "persistence",
            {"scheduler": "rr", "persistence": {"timeoutSeconds": 120}},
            has(cluster, "-A", service, "-p 120"),
        ),
        ("no persistence", {"scheduler": "rr"}, lambda: not has(cluster, "-p 120")()),
        (
            "a weight of this service",
            {
                "realServers": {
                    **virtual_service()["spec"]["realServers"],
                    "overrides": [{"name": "storage-1", "weight": 7}],
                }
            },
            has(cluster, "-a", service, "-w 7"),
        ),
    ]
    for what, spec, shown in steps:
        edit(cluster, shown, **spec)
        assert holder.check() == ALL, what
    cluster.apply(real_server("storage-2", weight=0))
    wait_until(has(cluster, "-a", service, "-w 0"), within=20)
    assert holder.check() == ALL, "weight 0"
    cluster.apply(virtual_service(onFailure="Quiesce"), real_server("storage-2"))
    wait_until(lambda: not has(cluster, "-w 0")(), within=20)
    assert holder.check() == ALL, "onFailure"


def test_a_failed_real_server_keeps_its_connections_when_quiesced(cluster: Cluster, holder: Holder) -> None:
    """onFailure: Quiesce is the promise that a check that fails cuts nobody off; Remove cuts."""
    cluster.example(onFailure="Quiesce")
    hold(holder)
    node = cluster.nodes["storage-2"]
    reject = ("INPUT", "-p", "tcp", "--dport", str(VIP_PORT), "--syn", "-j", "REJECT", "--reject-with", "tcp-reset")
    node.run("iptables-legacy", "-I", *reject)
    try:
        wait_until(has(cluster, "-a", f"{node.lan_address}:{VIP_PORT}", "-w 0"), within=15)
        assert holder.check() == ALL
        cluster.apply(virtual_service(onFailure="Remove"))
        wait_until(lambda: not any(node.lan_address in line for line in table(cluster)), within=15)
        assert holder.check() == {"storage-1": 4}
    finally:
        node.run("iptables-legacy", "-D", *reject)


def test_a_real_server_that_leaves_keeps_its_connections(cluster: Cluster, holder: Holder, port: int) -> None:
    """A machine is taken out in working hours: its clients finish, nobody new comes, then it is free."""
    cluster.example(quiesceSeconds=600, port=port)
    node = cluster.nodes["storage-2"]
    hold(holder, port)
    cluster.delete(real_server("storage-2"))
    wait_until(has(cluster, "-a", f"{node.lan_address}:{port}", "-w 0"), within=20)
    assert cluster.connect(4, port=port).answers == {"storage-1": 4}
    assert holder.check() == ALL
    assert VIP in addresses(node, "lo")
    assert holder.close("storage-2") == {"storage-1": 4}
    wait_until(lambda: not any(node.lan_address in line for line in table(cluster)), within=30)
    wait_until(lambda: VIP not in addresses(node, "lo"), within=20)
    assert holder.check() == {"storage-1": 4}


def test_quiescing_has_an_end(cluster: Cluster, holder: Holder, port: int) -> None:
    """quiesceSeconds is a limit: a client that never ends must not keep a machine in service for ever."""
    cluster.example(quiesceSeconds=2, port=port)
    node = cluster.nodes["storage-2"]
    hold(holder, port)
    cluster.delete(real_server("storage-2"))
    wait_until(lambda: not any(node.lan_address in line for line in table(cluster)), within=30)
    assert holder.check() == {"storage-1": 4}


def test_another_forwarding_method_for_one_real_server(cluster: Cluster, holder: Holder) -> None:
    """A real server moves behind a router: the others serve on, and connections that exist keep their method."""
    cluster.example()
    hold(holder)
    overrides = [{"name": "storage-2", "forwardingMethod": "Tunnel", "tunnel": {"type": "IPIP"}}]
    choice = {**CHOICE, "overrides": overrides}
    node = cluster.nodes["storage-2"]
    edit(cluster, has(cluster, "-a", f"{node.lan_address}:{VIP_PORT}", "-i"), realServers=choice)
    cluster.healthy(2, 2)
    assert holder.check() == ALL
    got = cluster.connect(8)
    assert (got.answers, got.errors) == (ALL, {})
    edit(cluster, has(cluster, "-a", f"{node.lan_address}:{VIP_PORT}", "-g"))
    assert holder.check() == ALL


@pytest.mark.usefixtures("other_port")
def test_ports_are_added_and_changed(cluster: Cluster, holder: Holder, port: int) -> None:
    """A port is added: nobody notices. A port is changed: the new one serves before the old one is quiesced."""
    cluster.example(quiesceSeconds=600, port=port)
    hold(holder, port)
    both = [{"port": port}, {"port": OTHER_PORT}]
    edit(cluster, has(cluster, "-a", f"{VIP}:{OTHER_PORT}", "-r"), ports=both, quiesceSeconds=600)
    wait_until(lambda: cluster.connect(4, port=OTHER_PORT, timeout=1).errors == {}, within=15)
    assert holder.check() == ALL
    edit(cluster, has(cluster, "-a", f"{VIP}:{port}", "-w 0"), ports=both[1:], quiesceSeconds=600)
    assert cluster.connect(4, port=OTHER_PORT).errors == {}
    assert holder.check() == ALL
    holder.close("storage-1")
    holder.close("storage-2")
    wait_until(lambda: not any(f"{VIP}:{port} " in line for line in table(cluster)), within=30)


@pytest.fixture
def askers(cluster: Cluster) -> Iterator[tuple[Asker, Asker]]:
    """Clients that ask the VIP and the other VIP all the time."""
    started = [Asker(cluster.nodes["client-1"], address, VIP_PORT) for address in (VIP, OTHER_VIP)]
    yield started[0], started[1]
    for each in started:
        each.end()


def test_another_vip(cluster: Cluster, holder: Holder, askers: tuple[Asker, Asker]) -> None:
    """A changed VIP answers before the old one stops; connections to the old one end with it, which the docs say."""
    old, new = askers
    cluster.example()
    assert sum(holder.open(VIP, VIP_PORT, 8).values()) == 8  # the askers take their turns too
    old.until_answered()
    cluster.apply(virtual_service(address=OTHER_VIP))
    new.until_answered(within=60)
    wait_until(lambda: cluster.holders() == [], within=30)
    wait_until(lambda: cluster.holders(interface="lo") == [], within=30)
    assert holder.check() == {}
    last, first = old.answered()[-1], new.answered()[0]
    assert first < last, "the new VIP answers before the old one stops"
    wait_until(lambda: new.answered()[-1] > last + 2 * LONGEST_GAP_SECONDS, within=20)
    both = [each for each in sorted((*old.answered(), *new.answered())) if each >= old.answered()[0]]
    gap = max(later - earlier for earlier, later in pairwise(both))
    assert gap < LONGEST_GAP_SECONDS, "there is no moment at which neither answers"
    found = cluster.get("virtualservices", "webdav")
    assert found["status"]["servingGeneration"] == found["metadata"]["generation"]
    cluster.delete(virtual_service())
    wait_until(lambda: cluster.holders(OTHER_VIP) == [] and cluster.holders(OTHER_VIP, "lo") == [], within=40)


def test_a_second_service_instead_of_another_vip(cluster: Cluster, holder: Holder) -> None:
    """What the docs recommend for a new VIP: both serve, and the old one goes when its clients have gone."""
    cluster.example()
    hold(holder)
    cluster.apply(virtual_service("second", address=OTHER_VIP))
    wait_until(lambda: cluster.connect(2, address=OTHER_VIP, timeout=1).errors == {}, within=40)
    assert holder.check() == ALL
    cluster.delete(virtual_service("second"))
    wait_until(lambda: cluster.holders(OTHER_VIP) == [] and cluster.holders(OTHER_VIP, "lo") == [], within=40)
    assert holder.check() == ALL
