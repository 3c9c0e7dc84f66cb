"""Slow start and load feedback as users write them to the compiled ones."""

from lvs_dr.api.models.load import TARGETS, TIME_CONSTANT_SECONDS, LoadFeedback, SlowStart
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback, TableSlowStart

PATHS = {LoadSource.HTTP: "/", LoadSource.PROMETHEUS: "/metrics"}


def slow_start(given: SlowStart | None) -> TableSlowStart | None:
    """Return the compiled slow start; None without one."""
    return None if given is None else TableSlowStart(given.seconds, given.floor_percent)


def load_feedback(given: LoadFeedback | None) -> TableLoadFeedback | None:
    """Return the compiled load feedback; None without one."""
    if given is None:
        return None
    return TableLoadFeedback(
        source=given.source,
        target=given.target or TARGETS.get(given.source, 0),
        port=given.port or 0,
        path=given.path or PATHS.get(given.source, ""),
        json_pointer=given.json_pointer or "",
        metric=given.metric or "",
        link_megabits=given.link_megabits or 0,
        time_constant_seconds=given.time_constant_seconds or TIME_CONSTANT_SECONDS,
        dead_band_percent=given.dead_band_percent,
        minimum_percent=given.minimum_percent,
        maximum_percent=given.maximum_percent,
        interval_seconds=given.interval_seconds,
    )
