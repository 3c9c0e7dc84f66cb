"""Health of destinations: a pure state machine, results in, state out.

One machine runs per `CheckKey`; equal checks of several services share it. A first result decides at once,
later ones need `rise` successes or `fall` failures in a row, and more successes where one flaps. What the
kernel already serves starts as up, so that the restart of an agent withdraws nothing. A check that could not
be made is no result: the state stays.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

from msgspec import Struct

from lvs_dr.core.checks import TableHealthCheck
from lvs_dr.core.ipvs_table import check_ports
from lvs_dr.core.table import DirectorTableSpec, TableDestination


class Health(StrEnum):
    """What is known of one destination's port."""

    UNKNOWN = "Unknown"  # no result yet: changes nothing in the kernel
    UP = "Up"
    DOWN = "Down"


class CheckKey(NamedTuple):
    """What is checked, and how: a port of a real server's address, or of a VIP at that real server."""

    address: str  # of the real server
    port: int  # 0: the check knows no ports
    check: TableHealthCheck
    vip: str = ""  # "" = the real server's own address is asked
    mark: int = 0  # firewall mark by which packets to the VIP reach this real server


class CheckState(Struct, frozen=True):
    """The machine's state: the verdict, and how many results in a row speak against it."""

    health: Health = Health.UNKNOWN
    against: int = 0
    falls: int = 0  # since it was last calm
    passes: int = 0  # in a row since it is up, counted after a fall


HealthView = Mapping[CheckKey, Health]

_WORSE: Final = (Health.UP, Health.UNKNOWN, Health.DOWN)

FREE_FALLS: Final = 3
"""Failures without consequence; each one after these doubles what it takes to come back."""

MAXIMUM_DAMPING: Final = 8
CALM_PASSES: Final = 100
"""Successes in a row after which all failures are forgotten."""


def initial(*, in_service: bool) -> CheckState:
    """Return the state a check starts with; `in_service`: the kernel has the destination with a weight above 0."""
    return CheckState(Health.UP if in_service else Health.UNKNOWN)


def step(state: CheckState, check: TableHealthCheck, *, success: bool) -> CheckState:
    """Return the state after one more result."""
    verdict = Health.UP if success else Health.DOWN
    if state.health is Health.UNKNOWN:
        return CheckState(verdict)
    if state.health is verdict:
        passes = state.passes + 1 if success and state.falls else 0
        return CheckState(verdict, 0, state.falls, passes) if passes < CALM_PASSES else CheckState(verdict)
    against = state.against + 1
    if against < (needed_to_rise(state, check) if success else check.fall):
        return CheckState(state.health, against, state.falls)
    return CheckState(verdict, 0, state.falls if success else state.falls + 1)


def needed_to_rise(state: CheckState, check: TableHealthCheck) -> int:
    """Return the successes in a row that bring a failed one back: more, to eight times `rise`, while it flaps."""
    return check.rise * min(MAXIMUM_DAMPING, 1 << max(0, state.falls - FREE_FALLS))


def flaps(state: CheckState) -> bool:
    """Tell whether it has failed so often, with so few successes between, that it must pass more checks than usual."""
    return state.falls > FREE_FALLS


def pause(state: CheckState, check: TableHealthCheck) -> int:
    """Return the seconds from the start of a check to the next: fewer, if so set, while the verdict is in doubt."""
    return (check.fast_interval_seconds if state.against else 0) or check.interval_seconds


def check_key(table: DirectorTableSpec, entry: TableDestination, port: int, check: TableHealthCheck) -> CheckKey:
    """Return the check of one port of one destination; `check`: the table's."""
    if entry.check_mark and check.can_ask_the_vip:
        return CheckKey(entry.address, port, check, table.address, entry.check_mark)
    return CheckKey(entry.checked_at, port, check)


def check_keys(table: DirectorTableSpec) -> tuple[CheckKey, ...]:
    """Return the checks a table asks for: each port of each destination; none without a health check."""
    check = table.health_check
    if check is None:
        return ()
    ports = check_ports(table)
    return tuple(
        check_key(table, entry, port, check) for entry in (*table.destinations, *table.pending) for port in ports
    )


def carry_over(
    states: Mapping[CheckKey, CheckState], wanted: Iterable[CheckKey], in_service: Iterable[CheckKey] = ()
) -> dict[CheckKey, CheckState]:
    """Return the states of the wanted checks: kept, also when only settings changed; new ones start afresh.

    Of several old checks of the same address and port the worst verdict is carried to new settings. One through the
    VIP goes on with what was known of the same VIP, or else of the real server's own address.
    """
    by_target: dict[tuple[str, int, str | None], CheckState] = {}
    for key, state in states.items():
        for target in ((key.address, key.port, key.vip), (key.address, key.port, None)):
            known = by_target.get(target)
            if known is None or _WORSE.index(state.health) > _WORSE.index(known.health):
                by_target[target] = CheckState(state.health)
    serving = frozenset(in_service)
    result: dict[CheckKey, CheckState] = {}
    for key in wanted:
        kept = states.get(key) or by_target.get((key.address, key.port, key.vip))
        kept = kept or by_target.get((key.address, key.port, "" if key.vip else None))
        result[key] = kept if kept is not None else initial(in_service=key in serving)
    return result
