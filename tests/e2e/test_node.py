"""The promises to the node: drift heals, what is not ours survives, and what was there before comes back."""

from collections.abc import Iterator

import pytest

from tests.e2e.cluster import VIP, VIP_PORT, Cluster, addresses, real_server, virtual_service, wait_until

FOREIGN_SERVICE = "192.168.35.222:7000"
FOREIGN_ADDRESS = "192.168.35.223"


def sysctls(cluster: Cluster, node: str) -> dict[str, str]:
    """Return every sysctl below net that can be read, except counters that move by themselves."""
    # One process for all of them: a fork is slow in the nodes' kernels.
    text = cluster.nodes[node].run("grep", "-rs", "", "/proc/sys/net", check=False).stdout
    found = dict(line.split(":", 1) for line in text.splitlines())
    return {
        name: value for name, value in found.items() if "nf_conntrack_count" not in name and "/route/flush" not in name
    }


def before_and_after(cluster: Cluster, node: str) -> dict[str, object]:
    """Return all of a node that we might have changed."""
    return {
        "addresses": {link: addresses(cluster.nodes[node], link) for link in ("lo", "eth0", "eth1")},
        "routes": cluster.nodes[node].run("sh", "-c", "ip route show table all; ip -6 route show table all").stdout,
        "ipvs": cluster.ipvs(node),
        "sysctls": sysctls(cluster, node),
    }


@pytest.fixture
def foreign(cluster: Cluster) -> Iterator[None]:
    """An IPVS service and a lo address that somebody else put on every director and real server."""
    nodes = [cluster.nodes[name] for name in ("director-1", "director-2", "storage-1")]
    for node in nodes:
        node.run("ipvsadm", "-A", "-t", FOREIGN_SERVICE, "-s", "wlc", "-p", "300")
        node.run("ipvsadm", "-a", "-t", FOREIGN_SERVICE, "-r", "192.168.35.224:7000", "-g", "-w", "7")
        node.run("ip", "addr", "add", f"{FOREIGN_ADDRESS}/32", "dev", "lo")
    yield
    for node in nodes:
        node.run("ipvsadm", "-D", "-t", FOREIGN_SERVICE)
        node.run("ip", "addr", "del", f"{FOREIGN_ADDRESS}/32", "dev", "lo")


@pytest.mark.usefixtures("foreign")
def test_everything_comes_back_as_it_was(cluster: Cluster) -> None:
    """Deleting the VirtualService leaves every node as it was: addresses, routes, IPVS, every sysctl."""
    # ip_vs brings sysctls of its own with its first use: the foreign service above has loaded it.
    was = {name: before_and_after(cluster, name) for name in cluster.kubernetes_nodes()}
    cluster.example()
    backend = cluster.nodes["storage-1"]
    assert VIP in addresses(backend, "lo")
    assert backend.read_file("/proc/sys/net/ipv4/conf/all/arp_ignore").strip() == "1"
    assert FOREIGN_ADDRESS in addresses(backend, "lo")
    cluster.delete(virtual_service())

    def same() -> None:
        for name, before in was.items():
            now = before_and_after(cluster, name)
            for part, value in before.items():
                assert now[part] == value, f"{part} of {name}"

    wait_until(same, within=40, every=1)


@pytest.mark.usefixtures("foreign")
def test_a_foreign_service_survives_repairs(cluster: Cluster) -> None:
    """What somebody else put into IPVS and on lo is there, untouched, while ours is repaired next to it."""
    cluster.example()
    director = cluster.active()
    theirs = [line for line in cluster.ipvs(director.name) if "192.168.35.22" in line and VIP not in line]
    director.run("ipvsadm", "-D", "-t", f"{VIP}:{VIP_PORT}")
    wait_until(lambda: any(VIP in line for line in cluster.ipvs(director.name)), within=12)
    assert [line for line in cluster.ipvs(director.name) if "192.168.35.22" in line and VIP not in line] == theirs
    assert FOREIGN_ADDRESS in addresses(director, "lo")


def test_a_flushed_table_is_repaired(cluster: Cluster) -> None:
    """`ipvsadm -C` by mistake: all is back within a resync period, and clients are served again."""
    cluster.example()
    director = cluster.active()
    before = cluster.ipvs(director.name)
    director.run("ipvsadm", "-C")
    wait_until(lambda: cluster.ipvs(director.name) == before, within=12)
    assert cluster.connect(4).errors == {}


@pytest.mark.parametrize("where", ["backend", "director"])
def test_a_removed_vip_is_put_back(cluster: Cluster, where: str) -> None:
    """The VIP taken off a backend's lo or the director's interface by hand is put back at once."""
    cluster.example()
    node, link = (cluster.nodes["storage-1"], "lo") if where == "backend" else (cluster.active(), "eth0")
    node.run("ip", "addr", "del", f"{VIP}/32", "dev", link)
    wait_until(lambda: VIP in addresses(node, link), within=12)
    assert cluster.connect(4).total == 4


@pytest.mark.parametrize("row", ["all/arp_ignore", "all/arp_announce", "lo/arp_ignore", "lo/arp_announce"])
def test_arp_settings_are_repaired(cluster: Cluster, row: str) -> None:
    """A sysctl that somebody turned back would make real servers answer ARP for the VIP: repaired within seconds."""
    cluster.example()
    node = cluster.nodes["storage-1"]
    wanted = node.read_file(f"/proc/sys/net/ipv4/conf/{row}").strip()
    assert wanted == {"arp_ignore": "1", "arp_announce": "2"}[row.split("/")[1]]
    node.run("sysctl", "-w", f"net.ipv4.conf.{row.replace('/', '.')}=0")
    wait_until(lambda: node.read_file(f"/proc/sys/net/ipv4/conf/{row}").strip() == wanted, within=5)


def test_a_paused_node_is_left_alone(cluster: Cluster) -> None:
    """With the pause annotation on its Node a person can work on the kernel by hand; without it drift heals again."""
    cluster.example()
    node = cluster.nodes["storage-1"]
    cluster.kubectl("annotate", "node", "storage-1", "lvs-operator.io/paused=")
    try:
        wait_until(lambda: cluster.get("lvsnode", "storage-1", "")["spec"].get("paused") is True, within=10)
        generation = cluster.get("lvsnode", "storage-1", "")["metadata"]["generation"]
        wait_until(
            lambda: cluster.get("lvsnode", "storage-1", "")["status"]["observedGeneration"] == generation, within=10
        )
        node.run("ip", "addr", "del", f"{VIP}/32", "dev", "lo")
        cluster.connect(2, timeout=0.5)
        assert VIP not in addresses(node, "lo")
    finally:
        cluster.kubectl("annotate", "node", "storage-1", "lvs-operator.io/paused-")
    wait_until(lambda: VIP in addresses(node, "lo"), within=12)


def test_show_and_plan(cluster: Cluster) -> None:
    """`lvs-agent show` prints ours as ipvsadm would; `lvs-agent plan` is empty when all is well."""
    cluster.example()
    director = cluster.active().name
    pod = cluster.agent_pod(director)
    shown = cluster.lab.exec_in_container(pod, "agent", "lvs-agent", "show").stdout
    for line in cluster.ipvs(director):
        if line.strip():
            assert line.strip() in shown
    planned = cluster.lab.exec_in_container(
        pod, "agent", "lvs-agent", "plan", "--proc-sys-net=/host/proc/sys/net"
    ).stdout
    assert "-A" not in planned
    assert "-D" not in planned


def test_real_server_in_maintenance(cluster: Cluster) -> None:
    """A person takes a server out: no new connection reaches it, and status says 1/2 without losing Ready."""
    cluster.example()
    cluster.apply(real_server("storage-2", state="Maintenance"))
    cluster.healthy(1, 2)
    wait_until(lambda: cluster.connect(6).answers == {"storage-1": 6}, within=10)
    assert cluster.condition("virtualservice", "webdav", "Ready")["status"] == "True"
    cluster.apply(real_server("storage-2"))
    cluster.healthy(2, 2)
    wait_until(lambda: cluster.connect(6).answers == {"storage-1": 3, "storage-2": 3}, within=10)
