"""Counters and gauges in the Prometheus text format; a dozen of them need no library."""

import os
from collections.abc import Callable
from typing import NamedTuple

HELP = {
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
    "process_resident_memory_bytes": ("gauge", "Resident memory."),
    "process_cpu_seconds_total": ("counter", "CPU time, user and system."),
}


class Series(NamedTuple):
    """A metric with its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


class Metrics:
    """Values of one process. Gauges are asked for when somebody looks."""

    def __init__(self) -> None:
        self._counters: dict[Series, float] = {}
        self._gauges: dict[Series, Callable[[], float]] = {
            Series("process_resident_memory_bytes", ()): _resident_bytes,
            Series("process_cpu_seconds_total", ()): _cpu_seconds,
        }

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter."""
        series = Series(name, tuple(sorted(labels.items())))
        self._counters[series] = self._counters.get(series, 0) + amount

    def gauge(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Register a gauge."""
        self._gauges[Series(name, tuple(sorted(labels.items())))] = value

    def value(self, name: str, **labels: str) -> float:
        """Return a value; 0 for a counter that never counted."""
        series = Series(name, tuple(sorted(labels.items())))
        return self._gauges[series]() if series in self._gauges else self._counters.get(series, 0)

    def render(self) -> str:
        """Return everything in the Prometheus text format."""
        values = self._counters | {series: gauge() for series, gauge in self._gauges.items()}
        lines: list[str] = []
        last = ""
        for series in sorted(values):
            if series.name != last:
                kind, text = HELP[series.name]
                lines += [f"# HELP {series.name} {text}", f"# TYPE {series.name} {kind}"]
                last = series.name
            lines.append(f"{series.name}{_labels(series)} {values[series]:g}")
        return "\n".join(lines) + "\n"


def _labels(series: Series) -> str:
    escaped = (f'{name}="{_escaped(value)}"' for name, value in series.labels)
    return "{" + ",".join(escaped) + "}" if series.labels else ""


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def _resident_bytes() -> float:
    with open("/proc/self/statm", encoding="ascii") as file:  # noqa: PTH123 - no Path needed for one line
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system
