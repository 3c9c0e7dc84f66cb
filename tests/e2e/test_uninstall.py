"""The README's way out: every node clean, then the operator gone. Runs last: it installs again afterwards."""

from tests.e2e.cluster import NAMESPACE, VIP, Cluster, addresses, wait_until


def test_cleanup_and_uninstall(cluster: Cluster) -> None:
    """The clean-up DaemonSet removes everything of ours from every node, though the services still exist."""
    cluster.example()
    assert VIP in addresses(cluster.nodes["storage-1"], "lo")
    cluster.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(cluster.root / "manifests/cleanup"))
    try:
        cluster.kubectl("-n", NAMESPACE, "rollout", "status", "daemonset/lvs-agent", "--timeout=120s", timeout=130)
        assert cluster.is_clean()
        assert cluster.nodes["storage-1"].read_file("/proc/sys/net/ipv4/conf/all/arp_ignore").strip() == "0"
        cluster.kubectl("delete", "-k", str(cluster.root / "manifests/base"), "--timeout=120s", timeout=130)
        assert "lvs-operator.io" not in cluster.kubectl("get", "crd", "-o", "name")
        assert cluster.is_clean()
    finally:
        wait_until(lambda: not cluster.get("namespace", NAMESPACE, ""), within=60)
        cluster.install()
