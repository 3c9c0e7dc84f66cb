"""The operator in the lab: installed from manifests/, as a user would, and ready when this returns."""

from collections.abc import Callable
from pathlib import Path

from lvs_lab.lab import Lab

ROOT = Path(__file__).parents[2]
BASE = ROOT / "manifests/base"
EXAMPLE = ROOT / "manifests/examples/webdav.yaml"
NAMESPACE = "lvs-system"


def install(lab: Lab, progress: Callable[[str], None]) -> None:
    """Apply manifests/base and wait for both roll-outs."""
    progress("installing the operator: kubectl apply --server-side -k manifests/base")
    lab.kubectl("apply", "--server-side", "--force-conflicts", "-k", str(BASE))
    for workload in ("deployment/lvs-controller", "daemonset/lvs-agent"):
        progress(f"waiting for {workload}")
        lab.kubectl("-n", NAMESPACE, "rollout", "status", workload, "--timeout=120s", timeout=130)
