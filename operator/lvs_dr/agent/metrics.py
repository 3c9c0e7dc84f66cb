"""The agent's metrics."""

from collections.abc import Mapping
from typing import Final

from lvs_dr.process.metrics import Kind

METRICS: Final[Mapping[str, Kind]] = {
    "lvs_agent_checks_total": ("counter", "Health checks made."),
    "lvs_agent_checks_failed_total": ("counter", "Health checks that failed."),
    "lvs_agent_report_writes_total": ("counter", "Writes of LVSNode.status."),
    "lvs_agent_passes": ("gauge", "Passes made."),
    "lvs_agent_pass_seconds": ("gauge", "Seconds spent in passes."),
    "lvs_agent_operations_total": ("counter", "Changes made to the kernel."),
    "lvs_agent_operations_failed_total": ("counter", "Changes that the kernel refused."),
    "lvs_agent_pass_failures_total": ("counter", "Passes that failed."),
    "lvs_agent_repairs": ("gauge", "Drift repaired since the start."),
    "lvs_agent_held_addresses": ("gauge", "VIPs held as Active."),
    "lvs_agent_watch_restarts": ("gauge", "Watches opened again."),
}
