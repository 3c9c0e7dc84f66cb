"""Others use IPVS on the same node: kube-proxy, keepalived, a person with ipvsadm. They keep working, and so do we."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from lvs_lab import Node, cache
from tests.e2e.cluster import VIP, VIP_PORT, Cluster, addresses, real_server, virtual_service, wait_until

OURS = f"{VIP}:{VIP_PORT}"
CLUSTER_VIPS = ("10.96.0.1", "10.96.0.10")

# What kube-proxy in IPVS mode makes for two Services: a dummy device that is down, with their addresses.
KUBE_PROXY = """
set -e
sysctl -q -w net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
ip link add kube-ipvs0 type dummy
ip address add 10.96.0.1/32 dev kube-ipvs0
ip address add 10.96.0.10/32 dev kube-ipvs0
ipvsadm -A -t 10.96.0.1:443 -s rr
ipvsadm -a -t 10.96.0.1:443 -r 172.30.0.1:6443 -m -w 1
ipvsadm -A -t 10.96.0.10:53 -s rr
ipvsadm -A -u 10.96.0.10:53 -s rr
ipvsadm -a -u 10.96.0.10:53 -r 10.244.1.2:53 -m -w 1
ipvsadm -a -u 10.96.0.10:53 -r 10.244.2.2:53 -m -w 1
ipvsadm -A -u 10.96.0.10:5060 -s rr -p 10800
"""
KUBE_PROXY_AWAY = """
ip link del kube-ipvs0
for service in '-t 10.96.0.1:443' '-t 10.96.0.10:53' '-u 10.96.0.10:53' '-u 10.96.0.10:5060'; do
  ipvsadm -D $service
done
sysctl -q -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0
"""

# kube-proxy's habit: what is in IPVS and in no Service of its own goes, every time it syncs.
CLEANER = """
while :; do
  ipvsadm -Sn | grep '^-A' | grep -v ' 10\\.96\\.' | while read -r add kind service rest; do
    ipvsadm -D $kind $service && date +%s.%N
  done
  sleep $0
done
"""

KEEPALIVED = f"""
global_defs {{ enable_script_security\nscript_user root }}
virtual_server {VIP} {VIP_PORT} {{
  delay_loop 1
  lvs_sched wlc
  lvs_method DR
  persistence_timeout 77
  protocol TCP
  real_server 192.168.35.21 {VIP_PORT} {{
    weight 3
    inhibit_on_failure
    MISC_CHECK {{ misc_path "/usr/bin/test ! -e /run/keepalived-fails"\nmisc_timeout 2 }}
  }}
  real_server 192.168.35.29 {VIP_PORT} {{
    weight 5
  }}
}}
"""


def report(cluster: Cluster, name: str) -> dict[str, Any]:
    """Return what a node's agent reports."""
    status: dict[str, Any] = cluster.get("lvsnode", name, "").get("status", {})
    return status


def problems(cluster: Cluster, name: str, reason: str) -> list[str]:
    """Return the messages of a node's problems with this reason."""
    return [one.get("message", "") for one in report(cluster, name).get("problems", []) if one["reason"] == reason]


def disturbed(cluster: Cluster) -> tuple[str, str]:
    """Return status and reason of the condition that names other writers; empty when nobody disturbs us."""
    condition = cluster.condition("virtualservice", "webdav", "Undisturbed")
    return condition.get("status", ""), condition.get("reason", "")


def of_kube_proxy(node: Node) -> tuple[list[str], str, str]:
    """Return all that kube-proxy put on a node."""
    rules = [line for line in node.run("ipvsadm", "-Sn").stdout.splitlines() if " 10.96." in line]
    device = node.run("ip", "address", "show", "dev", "kube-ipvs0").stdout
    sysctls = node.run("sysctl", "net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce").stdout
    return sorted(rules), device, sysctls


@pytest.fixture
def kube_proxy(cluster: Cluster) -> Iterator[dict[str, tuple[list[str], str, str]]]:
    """Entries like kube-proxy's on both directors and a real server; what they look like."""
    nodes = [cluster.nodes[name] for name in ("director-1", "director-2", "storage-1")]
    for node in nodes:
        node.run("sh", "-c", KUBE_PROXY)
    yield {node.name: of_kube_proxy(node) for node in nodes}
    for node in nodes:
        node.run("sh", "-c", KUBE_PROXY_AWAY)


def test_kube_proxys_entries_stay_untouched(
    cluster: Cluster, kube_proxy: dict[str, tuple[list[str], str, str]]
) -> None:
    """A cluster in which Services stop working because an operator tidied up would be down."""

    def untouched() -> None:
        for name, before in kube_proxy.items():
            assert of_kube_proxy(cluster.nodes[name]) == before, name

    cluster.example()
    untouched()
    assert cluster.connect(6).errors == {}
    director = cluster.active_name()
    wait_until(lambda: report(cluster, director).get("ipvs", {}).get("foreignServices") == 4, within=20)
    assert set(report(cluster, director)["ipvs"]["foreign"]) == {
        "TCP 10.96.0.1:443", "TCP 10.96.0.10:53", "UDP 10.96.0.10:53", "UDP 10.96.0.10:5060"
    }  # fmt: skip
    assert problems(cluster, director, "ForeignEntry") == [], "next to ours, but not in the way"
    cluster.apply(virtual_service(scheduler="wlc", persistence={}))
    wait_until(lambda: any("-p 300" in line for line in cluster.ipvs(director)), within=20)
    untouched()
    cluster.delete(real_server("storage-2"))
    cluster.healthy(1, 1)
    untouched()
    cluster.delete(virtual_service())
    wait_until(cluster.is_clean, within=40, every=0.5)
    untouched()


@pytest.mark.usefixtures("kube_proxy")
def test_a_cleaner_is_healed_and_then_named(cluster: Cluster) -> None:
    """kube-proxy without an exclusion deletes our services: each loss is healed and counted, and the cause is named."""
    cluster.example()
    director = cluster.active()
    repairs = report(cluster, director.name).get("repairs", 0)
    entries = [line for line in cluster.ipvs(director.name) if OURS in line]
    director.run("ipvsadm", "-D", "-t", OURS)
    wait_until(lambda: [line for line in cluster.ipvs(director.name) if OURS in line] == entries, within=12)
    wait_until(lambda: report(cluster, director.name).get("repairs", 0) == repairs + len(entries), within=12)
    assert problems(cluster, director.name, "Contested") == [], "once is no fight"
    # The service, and those by firewall mark that checks go through.
    services = sum(line.startswith("-A") and " 10.96." not in line for line in cluster.ipvs(director.name))

    def named() -> None:
        told = problems(cluster, director.name, "Contested")
        assert any(f"IPVS service TCP {OURS}" in each for each in told), told

    cleaner = director.spawn("sh", "-c", CLEANER, "0.5")
    try:
        wait_until(named, within=60, every=0.5)
        lost = len(cleaner.output().splitlines())
        assert report(cluster, director.name)["repairs"] >= lost
        assert lost <= 12 * services, "it steps back instead of fighting"
        wait_until(lambda: disturbed(cluster) == ("False", "Contested"), within=10)
    finally:
        cleaner.signal(9)
    wait_until(lambda: [line for line in cluster.ipvs(director.name) if OURS in line] == entries, within=75, every=0.5)


def test_a_service_in_our_way_is_named(cluster: Cluster) -> None:
    """A service of somebody else that takes packets of our VIP explains what nobody would find."""
    cluster.example()
    director = cluster.active()
    director.run("ipvsadm", "-A", "-t", f"{VIP}:0", "-s", "rr", "-p", "50")
    try:
        wait_until(lambda: problems(cluster, director.name, "ForeignEntry"), within=20)
        assert f"{VIP}:0" in problems(cluster, director.name, "ForeignEntry")[0]
        wait_until(lambda: disturbed(cluster) == ("False", "ForeignEntry"), within=10)
        assert report(cluster, director.name)["ipvs"]["foreign"] == [f"TCP {VIP}:0"]
        assert cluster.connect(4).errors == {}
    finally:
        director.run("ipvsadm", "-D", "-t", f"{VIP}:0")
    wait_until(lambda: disturbed(cluster) == ("", ""), within=20)
    assert problems(cluster, director.name, "ForeignEntry") == []


@pytest.fixture
def keepalived(cluster: Cluster) -> Iterator[Node]:
    """A live keepalived on the first director that owns a service we shall want."""
    binary = cache.find_command("keepalived")
    if binary is None:
        pytest.skip("needs keepalived: lab/ctl tools --with keepalived")
    node = cluster.nodes["director-1"]
    cluster.kubectl("annotate", "node", "director-2", "lvs-operator.io/standby=")  # the Active is to be where it runs
    node.put_file("/etc/keepalived.conf", KEEPALIVED)
    pids = ["-p", "/run/keepalived.pid", "-c", "/run/checkers.pid"]
    process = node.spawn(str(binary), "-n", "-l", "-C", "-f", "/etc/keepalived.conf", *pids)
    wait_until(lambda: any("192.168.35.29" in line for line in cluster.ipvs(node.name)), within=30)
    yield node
    process.signal(15)
    process.wait(timeout=30)
    cluster.kubectl("annotate", "node", "director-2", "lvs-operator.io/standby-")
    node.run("rm", "-f", "/run/keepalived-fails")
    assert not any(VIP in line for line in cluster.ipvs(node.name)), "keepalived takes its own away when it ends"


def test_a_live_keepalived_keeps_what_it_owns(cluster: Cluster, keepalived: Node) -> None:
    """Two programs that own one service: it is named as contested, ours steps back, theirs comes back as it was."""
    theirs = sorted(line for line in cluster.ipvs(keepalived.name) if VIP in line)
    assert len(theirs) == 3, theirs
    cluster.example()
    wait_until(lambda: cluster.active_name() == keepalived.name, within=20)
    wait_until(lambda: problems(cluster, keepalived.name, "ForeignEntry"), within=20)
    assert "192.168.35.29" in json.dumps(problems(cluster, keepalived.name, "ForeignEntry"))
    assert any("192.168.35.29" in line and "-w 5" in line for line in cluster.ipvs(keepalived.name))

    def fights() -> list[str]:
        failing = keepalived.run("test", "-e", "/run/keepalived-fails", check=False).returncode == 0
        weight = next((line for line in cluster.ipvs(keepalived.name) if "192.168.35.21:" in line and VIP in line), "")
        if "-w 100" in weight:  # we have undone what it did: it does it again, the other way round
            keepalived.run(*(("rm",) if failing else ("touch",)), "/run/keepalived-fails")
        return problems(cluster, keepalived.name, "Contested")

    wait_until(fights, within=120, every=0.5)
    assert "192.168.35.21" in problems(cluster, keepalived.name, "Contested")[0]
    wait_until(lambda: disturbed(cluster) == ("False", "Contested"), within=10)
    keepalived.run("rm", "-f", "/run/keepalived-fails")
    cluster.delete(virtual_service())
    wait_until(lambda: cluster.holders() == [], within=30)
    wait_until(
        lambda: sorted(line for line in cluster.ipvs(keepalived.name) if VIP in line) == theirs, within=90, every=0.5
    )
    assert VIP not in addresses(keepalived, "eth0")
