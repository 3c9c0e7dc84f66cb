"""Two replicas: one acts, the other takes over."""

import signal
from pathlib import Path

from lvs_lab.controlplane import LocalControlPlane
from tests.api.controller.controlled import Cluster, eventually, running, stays
from tests.api.controller.playing import LEASES, Agents


def test_hand_over(cluster: Cluster, empty: LocalControlPlane, tmp_path: Path, playing: Agents) -> None:
    """A stopped leader is followed within seconds; a standby is ready and writes nothing."""
    del playing
    with running(empty, tmp_path, "one") as one, running(empty, tmp_path, "two") as two:
        one.wait_leading() if one.metric("lvs_controller_leading") else None
        eventually(lambda: one.leads() or two.leads())
        leader, standby = (one, two) if one.leads() else (two, one)
        eventually(lambda: standby.get("/readyz")[0] == 200)
        cluster.example()
        eventually(cluster.ready)
        assert standby.metric("lvs_controller_leading") == 0
        assert "wrote" not in standby.log()
        assert leader.stop() == 0
        eventually(standby.leads, within=15)
        cluster.delete("RealServer", "storage-2")
        eventually(lambda: cluster.destinations() == ["storage-1"])
        cluster.remove_everything()


def test_killed_leader_is_followed(empty: LocalControlPlane, tmp_path: Path) -> None:
    """A leader that dies without a word is replaced after 15 s."""
    with running(empty, tmp_path, "one") as one:
        one.wait_leading()
        with running(empty, tmp_path, "two") as two:
            eventually(lambda: two.get("/readyz")[0] == 200)
            one.stop(signal.SIGKILL)
            stays(lambda: not two.leads(), seconds=5)
            eventually(two.leads, within=40)


def test_lost_lease_ends_the_process(empty: LocalControlPlane, tmp_path: Path) -> None:
    """Whoever finds another holder stops at once, to be started anew as a candidate."""
    with running(empty, tmp_path) as controller:
        controller.wait_leading()
        status, _ = empty.api(
            "PATCH",
            f"{LEASES}/lvs-controller-leader",
            {"spec": {"holderIdentity": "somebody-else"}},
            content_type="application/merge-patch+json",
        )
        assert status == 200
        eventually(lambda: controller.process.poll() is not None)
        assert controller.process.returncode == 1
    empty.api("DELETE", f"{LEASES}/lvs-controller-leader")
