"""Slow start and load feedback as they are compiled into a DirectorTable, and whom a director asks for a load.

Defaults here are those of the API, and are left out of the compiled object; to change one is to change what objects
that are already stored mean.
"""

from enum import StrEnum
from typing import Annotated, Final, NamedTuple

from msgspec import Meta, Struct

MAXIMUM_PATH: Final = 1024
MAXIMUM_POINTER: Final = 256
MAXIMUM_METRIC: Final = 512
MISSED_INTERVALS: Final = 3  # without a report: then it is stale
GRACE_SECONDS: Final = 5.0  # besides

FIXED_WEIGHTS: Final = frozenset({"rr", "lc", "dh", "sh", "mh", "fo", "ovf"})
"""Schedulers whose weights are ignored (rr, lc, dh), must be equal on all directors (sh, mh, dh: their tables are
worked out from them), or are a rank or a limit (fo, ovf): load changes none of them."""


class LoadSource(StrEnum):
    """Where the load of a real server comes from."""

    CPU_PRESSURE = "CPUPressure"
    RUN_QUEUE = "RunQueue"
    NETWORK_BYTES = "NetworkBytes"
    CONNECTIONS = "Connections"
    AGENT_CHECK = "AgentCheck"
    HTTP = "HTTP"
    PROMETHEUS = "Prometheus"


BY_AGENT: Final = frozenset(
    {LoadSource.CPU_PRESSURE, LoadSource.RUN_QUEUE, LoadSource.NETWORK_BYTES, LoadSource.CONNECTIONS}
)
"""Sources that the lvs-agent on the real server's node tells."""


class LoadQuestion(NamedTuple):
    """What a director asks, and whom. `source` None: the lvs-agent there, for all that it tells."""

    address: str
    source: LoadSource | None = None
    port: int = 0
    path: str = ""
    json_pointer: str = ""
    metric: str = ""


class TableSlowStart(Struct, frozen=True, rename="camel", omit_defaults=True, cache_hash=True):
    """A real server that comes back gets its share bit by bit."""

    seconds: Annotated[int, Meta(ge=1, le=3600, description="Seconds until it has its whole weight.")]
    floor_percent: Annotated[int, Meta(ge=1, le=100, description="Percent of its weight that it begins with.")] = 10


class TableLoadFeedback(Struct, frozen=True, rename="camel", omit_defaults=True, cache_hash=True):
    """The weight of a real server follows its load."""

    source: Annotated[LoadSource, Meta(description="Where the load comes from.")]
    target: Annotated[
        int, Meta(ge=0, le=10**9, description="Load up to which a real server keeps its weight; 0 for AgentCheck.")
    ] = 0
    port: Annotated[int, Meta(ge=0, le=65535, description="TCP port on the real server; 0: the agent is asked.")] = 0
    path: Annotated[str, Meta(max_length=MAXIMUM_PATH, description="Path of HTTP and Prometheus.")] = ""
    json_pointer: Annotated[
        str, Meta(max_length=MAXIMUM_POINTER, description="Place of the number in the answer; empty: all of it.")
    ] = ""
    metric: Annotated[str, Meta(max_length=MAXIMUM_METRIC, description="Metric of Prometheus, with labels.")] = ""
    link_megabits: Annotated[
        int, Meta(ge=0, le=10**7, description="Speed of links that do not tell theirs; 0: none is assumed.")
    ] = 0
    time_constant_seconds: Annotated[
        int, Meta(ge=1, le=600, description="Seconds over which the load is averaged.")
    ] = 10
    dead_band_percent: Annotated[
        int, Meta(ge=0, le=90, description="Difference from the target that changes nothing.")
    ] = 10
    minimum_percent: Annotated[int, Meta(ge=1, le=100, description="Least percent of the configured weight.")] = 10
    maximum_percent: Annotated[int, Meta(ge=100, le=1000, description="Most percent of the configured weight.")] = 100
    interval_seconds: Annotated[
        int, Meta(ge=1, le=300, description="Seconds between two questions, and two changes, at least.")
    ] = 5

    @property
    def stale_seconds(self) -> float:
        """Age from which on a report says nothing any more."""
        return MISSED_INTERVALS * self.interval_seconds + GRACE_SECONDS

    def question(self, address: str) -> LoadQuestion:
        """Return what to ask about a real server at an address."""
        if self.source in BY_AGENT:
            return LoadQuestion(address)
        return LoadQuestion(address, self.source, self.port, self.path, self.json_pointer, self.metric)
