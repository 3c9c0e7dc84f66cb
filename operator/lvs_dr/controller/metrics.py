"""The controller's metrics."""

from collections.abc import Mapping
from typing import Final

from lvs_dr.process.metrics import Kind

METRICS: Final[Mapping[str, Kind]] = {
    "lvs_controller_writes_total": ("counter", "Writes to the API server."),
    "lvs_controller_events_total": ("counter", "Watch events handled."),
    "lvs_controller_passes_total": ("counter", "Passes of the compiler."),
    "lvs_controller_failures_total": ("counter", "Objects that could not be compiled or written, by error."),
    "lvs_controller_failing": ("gauge", "Objects that wait to be tried again."),
    "lvs_controller_unreadable": ("gauge", "Objects of the API server that cannot be read."),
    "lvs_controller_pass_seconds_total": ("counter", "Time spent in passes of the compiler."),
    "lvs_controller_lists_total": ("counter", "Full LISTs, and objects that a watch had missed."),
    "lvs_controller_missed_total": ("counter", "Changes that no watch event had told."),
    "lvs_controller_leading": ("gauge", "1 while this replica leads."),
    "lvs_controller_objects": ("gauge", "Objects known."),
    "lvs_controller_silent_agents": ("gauge", "Nodes whose agent is silent."),
    "lvs_controller_removals_held_seconds": ("gauge", "Seconds for which removals are still held."),
    "lvs_controller_kubernetes_events_total": ("counter", "Kubernetes Events, posted or dropped."),
}
