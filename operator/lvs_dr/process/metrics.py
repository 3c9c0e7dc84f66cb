"""Counters and gauges in the Prometheus text format; a dozen of them need no library in every node's memory."""

import os
from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

Kind = tuple[str, str]
"""`counter` or `gauge`, and what it says, for people."""

COMMON: Final[Mapping[str, Kind]] = {
    "process_resident_memory_bytes": ("gauge", "Resident memory."),
    "process_cpu_seconds_total": ("counter", "CPU time, user and system."),
}


class Series(NamedTuple):
    """A metric with its labels."""

    name: str
    labels: tuple[tuple[str, str], ...]


class Metrics:
    """Values of one process; `declared` names them all. Gauges are asked for when somebody looks."""

    def __init__(self, declared: Mapping[str, Kind]) -> None:
        self._declared = {**declared, **COMMON}
        self._counters: dict[Series, float] = {}
        self._gauges: dict[Series, Callable[[], float]] = {
            Series("process_resident_memory_bytes", ()): _resident_bytes,
            Series("process_cpu_seconds_total", ()): _cpu_seconds,
        }

    def count(self, name: str, amount: float = 1, **labels: str) -> None:
        """Add to a counter. Raises KeyError if it is not declared."""
        series = self._series(name, labels)
        self._counters[series] = self._counters.get(series, 0) + amount

    def gauge(self, name: str, value: Callable[[], float], **labels: str) -> None:
        """Register a gauge. Raises KeyError if it is not declared."""
        self._gauges[self._series(name, labels)] = value

    def value(self, name: str, **labels: str) -> float:
        """Return a value; 0 for a counter that never counted. Raises KeyError if it is not declared."""
        series = self._series(name, labels)
        return self._gauges[series]() if series in self._gauges else self._counters.get(series, 0)

    def text(self) -> str:
        """Return everything in the exposition format; a counter without labels that never counted is 0."""
        values = self._counters | {series: gauge() for series, gauge in self._gauges.items()}
        told = {series.name for series in values}
        values |= {
            Series(name, ()): 0 for name, (kind, _) in self._declared.items() if kind == "counter" and name not in told
        }
        lines: list[str] = []
        last = ""
        for series in sorted(values):
            if series.name != last:
                kind, text = self._declared[series.name]
                lines += [f"# HELP {series.name} {text}", f"# TYPE {series.name} {kind}"]
                last = series.name
            lines.append(f"{series.name}{_labels(series)} {values[series]:.10g}")
        return "\n".join(lines) + "\n"

    def _series(self, name: str, labels: Mapping[str, str]) -> Series:
        if name not in self._declared:
            raise KeyError(f"metric {name} is not declared")
        return Series(name, tuple(sorted(labels.items())))


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
