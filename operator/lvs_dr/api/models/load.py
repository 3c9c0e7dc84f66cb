"""Weights that change by themselves: slow start and load feedback."""

from typing import Annotated, Self

from pydantic import ConfigDict, Field, model_validator

from lvs_dr.api.models.check_fields import Path
from lvs_dr.api.models.rules import ApiModel, Matching, rule, validated
from lvs_dr.core.load_spec import MAXIMUM_METRIC, MAXIMUM_POINTER, LoadSource

BAD_POINTER = "must be a JSON pointer: parts that each begin with /, in printable ASCII, such as /pool/busy or /0/load"
BAD_METRIC = (
    "must be the name of a metric, with labels where they are needed, such as jobs_running or"
    ' jobs_running{queue="mail"}'
)
PORT_NEEDED = "AgentCheck, HTTP and Prometheus need the port to ask at the real server: add port"
PORT_ALONE = "port is for AgentCheck, HTTP and Prometheus: the lvs-agent tells the rest; leave it out"
PATH_ALONE = "path is for HTTP and Prometheus: leave it out"
POINTER_ALONE = "jsonPointer is for HTTP: leave it out"
METRIC_NEEDED = "Prometheus needs the name of the metric: add metric"
METRIC_ALONE = "metric is for Prometheus: leave it out"
LINK_ALONE = "linkMegabits is for NetworkBytes: leave it out"
TARGET_NEEDED = (
    "Connections, HTTP and Prometheus need a target, because nobody else knows which number is too much: add target"
)
CHECK_DECIDES = (
    "target and timeConstantSeconds are not for AgentCheck, which says the percentage of the weight itself: leave them"
    " out"
)

_ASKED = (LoadSource.AGENT_CHECK, LoadSource.HTTP, LoadSource.PROMETHEUS)
_COUNTED = (LoadSource.CONNECTIONS, LoadSource.HTTP, LoadSource.PROMETHEUS)
TARGETS = {LoadSource.CPU_PRESSURE: 20, LoadSource.RUN_QUEUE: 100, LoadSource.NETWORK_BYTES: 70}
TIME_CONSTANT_SECONDS = 10


def _is(*sources: LoadSource) -> str:
    """Return the CEL expression: the source is one of these."""
    return f"self.source in {[each.value for each in sources]}"


class SlowStart(ApiModel):
    """A real server that comes back, or is new, gets its whole weight only after a time, so that it can warm up."""

    seconds: Annotated[
        int, Field(ge=1, le=3600, description="Seconds until it has its whole weight; it grows evenly, in 20 steps.")
    ]
    floor_percent: Annotated[
        int, Field(ge=1, le=100, description="Percent of its weight that it begins with. Default: 10.")
    ] = 10


_RULES = (
    (f"has(self.port) || !({_is(*_ASKED)})", PORT_NEEDED, ".source"),
    (f"!has(self.port) || {_is(*_ASKED)}", PORT_ALONE, ".port"),
    (f"!has(self.path) || {_is(LoadSource.HTTP, LoadSource.PROMETHEUS)}", PATH_ALONE, ".path"),
    (f"!has(self.jsonPointer) || {_is(LoadSource.HTTP)}", POINTER_ALONE, ".jsonPointer"),
    (f"has(self.metric) || !({_is(LoadSource.PROMETHEUS)})", METRIC_NEEDED, ".source"),
    (f"!has(self.metric) || {_is(LoadSource.PROMETHEUS)}", METRIC_ALONE, ".metric"),
    (f"!has(self.linkMegabits) || {_is(LoadSource.NETWORK_BYTES)}", LINK_ALONE, ".linkMegabits"),
    (f"has(self.target) || !({_is(*_COUNTED)})", TARGET_NEEDED, ".source"),
    (
        f"!({_is(LoadSource.AGENT_CHECK)}) || !has(self.target) && !has(self.timeConstantSeconds)",
        CHECK_DECIDES,
        ".source",
    ),
)


class LoadFeedback(ApiModel):
    """The weight of each real server follows its load: down above the target, back up below it, never to 0."""

    model_config = ConfigDict(
        json_schema_extra=validated(*(rule(cel, message, field_path=path) for cel, message, path in _RULES))
    )

    source: Annotated[
        LoadSource,
        Field(
            description="Where the load comes from. CPUPressure: percent of the time in which something waited for a"
            " CPU (PSI). RunQueue: tasks that run or wait, in percent of the CPUs. NetworkBytes: percent of the speed"
            " of the busiest link. Connections: established TCP connections of this service for each 100 of weight."
            " These four are told by the lvs-agent on the real server's node. AgentCheck: HAProxy's text protocol."
            " HTTP: a number on a page. Prometheus: a metric on a page. These three are asked at the real server's own"
            " address."
        ),
    ]
    target: Annotated[
        int | None,
        Field(
            ge=1,
            le=1_000_000_000,
            description="Load up to which a real server keeps its weight, in the unit of the source. Above it the"
            " weight falls while the load is also above the average of the service's real servers. Default:"
            " CPUPressure 20, RunQueue 100, NetworkBytes 70; required for Connections, HTTP and Prometheus.",
        ),
    ] = None
    port: Annotated[
        int | None,
        Field(ge=1, le=65535, description="TCP port of AgentCheck, HTTP and Prometheus, which need it. Default: none."),
    ] = None
    path: Annotated[
        Path | None, Field(description="Path of HTTP and Prometheus. Default: / for HTTP, /metrics for Prometheus.")
    ] = None
    json_pointer: Annotated[
        str | None,
        Matching("/[!-~]*", BAD_POINTER),
        Field(
            min_length=1,
            max_length=MAXIMUM_POINTER,
            description="Place of the number in the JSON that HTTP answers (RFC 6901), such as /pool/busy. Default:"
            " the answer is the number.",
        ),
    ] = None
    metric: Annotated[
        str | None,
        Matching("[a-zA-Z_:][a-zA-Z0-9_:]*([{][ -~]*[}])?", BAD_METRIC),
        Field(
            min_length=1,
            max_length=MAXIMUM_METRIC,
            description='Metric of Prometheus, a gauge; with labels, such as jobs{queue="mail"}, only the series that'
            " have them. Several series are added up. Prometheus needs it. Default: none.",
        ),
    ] = None
    link_megabits: Annotated[
        int | None,
        Field(
            ge=1,
            le=10_000_000,
            description="Megabits each second of links that do not tell their speed, as virtual ones, for"
            " NetworkBytes. Default: such links do not count.",
        ),
    ] = None
    time_constant_seconds: Annotated[
        int | None,
        Field(
            ge=1,
            le=600,
            description="Seconds over which the load is averaged: after so long a change has come through by two"
            " thirds. Default: 10.",
        ),
    ] = None
    dead_band_percent: Annotated[
        int,
        Field(ge=0, le=90, description="Percent of the target by which a load may differ without effect. Default: 10."),
    ] = 10
    minimum_percent: Annotated[
        int, Field(ge=1, le=100, description="Percent of its configured weight that is always left. Default: 10.")
    ] = 10
    maximum_percent: Annotated[
        int,
        Field(
            ge=100,
            le=1000,
            description="Percent of its configured weight that one with little load can reach. Default: 100.",
        ),
    ] = 100
    interval_seconds: Annotated[
        int,
        Field(
            ge=1,
            le=300,
            description="Seconds from one question to the next; a weight changes at most once in it. Where"
            " connections live for minutes take a fifth of that, or more. Without an answer for three of them and 5"
            " more seconds the configured weight is back. Default: 5.",
        ),
    ] = 5

    @model_validator(mode="after")
    def _fits_its_source(self) -> Self:
        asked, counted = self.source in _ASKED, self.source in _COUNTED
        checks = (
            (asked and self.port is None, PORT_NEEDED),
            (self.port is not None and not asked, PORT_ALONE),
            (self.path is not None and self.source not in (LoadSource.HTTP, LoadSource.PROMETHEUS), PATH_ALONE),
            (self.json_pointer is not None and self.source is not LoadSource.HTTP, POINTER_ALONE),
            (self.metric is None and self.source is LoadSource.PROMETHEUS, METRIC_NEEDED),
            (self.metric is not None and self.source is not LoadSource.PROMETHEUS, METRIC_ALONE),
            (self.link_megabits is not None and self.source is not LoadSource.NETWORK_BYTES, LINK_ALONE),
            (counted and self.target is None, TARGET_NEEDED),
            (
                self.source is LoadSource.AGENT_CHECK
                and not (self.target is None and self.time_constant_seconds is None),
                CHECK_DECIDES,
            ),
        )
        for broken, message in checks:
            if broken:
                raise ValueError(message)
        return self
