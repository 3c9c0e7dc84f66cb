"""From what was heard to the load that a service goes by, and in words. Pure."""

from typing import Final, NamedTuple

from lvs_dr.agent.load.answers import Saying
from lvs_dr.agent.load.reader import Heard
from lvs_dr.core.ipvs_table import served
from lvs_dr.core.load_feedback import LoadState
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback
from lvs_dr.core.loads import Part, ServerLoad, cpu_pressure, link_use
from lvs_dr.core.table import DirectorTableSpec, TableDestination

_PARTS: Final = {
    LoadSource.CPU_PRESSURE: Part.CPU_PRESSURE,
    LoadSource.RUN_QUEUE: Part.RUN_QUEUE,
    LoadSource.NETWORK_BYTES: Part.NETWORK,
    LoadSource.CONNECTIONS: Part.SOCKETS,
}
_NO_SPEED: Final = "no link of it tells its speed: set linkMegabits"


class Reading(NamedTuple):
    """A load, if there is one."""

    value: float | None = None
    at: float = 0.0  # when it was true, seconds of the event loop's clock
    out: str = ""  # the word by which it asks for no new connections
    trouble: str = ""  # why there is no value


def read(
    table: DirectorTableSpec, policy: TableLoadFeedback, entry: TableDestination, heard: Heard | None, trouble: str
) -> Reading:
    """Return the load of one real server in one table; `trouble`: why the last question had no answer."""
    if heard is None:
        return Reading(trouble=trouble or "no answer yet")
    if isinstance(heard.answer, Saying):
        return Reading(heard.answer.number, heard.at, heard.answer.out, trouble)
    missing = heard.answer.trouble(_PARTS[policy.source])
    if missing:
        return Reading(at=heard.at, trouble=f"node {heard.answer.node}: {missing}")
    value = _of_node(table, policy, entry, heard.answer, heard.before)
    if value is None and policy.source is LoadSource.NETWORK_BYTES and not _has_speed(heard.answer, policy):
        return Reading(at=heard.at, trouble=f"node {heard.answer.node}: {_NO_SPEED}")
    return Reading(value, heard.at, "", trouble)


def _of_node(
    table: DirectorTableSpec,
    policy: TableLoadFeedback,
    entry: TableDestination,
    load: ServerLoad,
    before: ServerLoad | None,
) -> float | None:
    match policy.source:
        case LoadSource.CPU_PRESSURE:
            return cpu_pressure(before, load) if before is not None else None
        case LoadSource.NETWORK_BYTES:
            return link_use(before, load, policy.link_megabits) if before is not None else None
        case LoadSource.RUN_QUEUE:
            return load.running_for_each_processor * 100
        case _:
            ports = {one.target_port for one in served(table)} - {0}
            return load.established((table.address, entry.address), ports) * 100 / max(1, entry.weight)


def _has_speed(load: ServerLoad, policy: TableLoadFeedback) -> bool:
    return bool(policy.link_megabits) or any(each.megabits for each in load.interfaces)


def in_words(policy: TableLoadFeedback, state: LoadState, now: float) -> str:
    """Return the load of a state for people, such as `CPU pressure 38% for 20 s`."""
    load = state.average or 0.0
    number = f"{load:.0f}" if load >= 10 else f"{load:.2g}"  # noqa: PLR2004 - two digits
    match policy.source:
        case LoadSource.CPU_PRESSURE:
            text = f"CPU pressure {number}%"
        case LoadSource.RUN_QUEUE:
            text = f"run queue {number}% of the CPUs"
        case LoadSource.NETWORK_BYTES:
            text = f"link used {number}%"
        case LoadSource.CONNECTIONS:
            text = f"{number} connections for each 100 of weight"
        case LoadSource.AGENT_CHECK:
            return f"agent check says {number}%"
        case LoadSource.HTTP:
            text = f"{policy.path}{policy.json_pointer and '#'}{policy.json_pointer} says {number}"
        case LoadSource.PROMETHEUS:
            text = f"{policy.metric} is {number}"
    since = state.beyond_since
    return f"{text} for {max(0, round(now - since))} s" if since is not None else text
