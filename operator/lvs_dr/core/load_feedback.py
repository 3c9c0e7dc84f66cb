"""Load feedback: the share of a real server's weight that follows from its load. Pure: the time is an argument.

It is an integrating control with four brakes, because nobody knows how strongly a weight acts on a load, nor after
which time (connections may live for hours):

- the load is averaged over a time constant, and differences within the dead band do nothing;
- a load that moves the right way already is left to move;
- steps are proportional to the difference, and bounded; each time their direction changes they are halved, and the
  wait between them is doubled: what swings is quicker than what it acts on;
- a real server is compared with the others: above the target it gives way only if it is busier than they are on
  average, else all would fall to the floor when all are busy, and be equal there.
"""

import math
from collections.abc import Iterable
from typing import Final

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback

WHOLE: Final = 100
LARGEST_WEIGHT: Final = 65535
FINE: Final = 100
"""Least weight that percentages are taken of: smaller ones of a table are multiplied, all alike."""

_LARGEST_STEP: Final = 0.4  # part of the logarithm of the difference
_SMALLEST_STEP: Final = 0.025
_GROWTH: Final = 1.15  # of the step while the direction stays
_FARTHEST: Final = 1.0  # logarithm of the largest difference that counts
_MOVING: Final = 0.05  # logarithm of a change between two decisions that counts as moving
_FAR: Final = 0.5  # logarithm of a difference that is no noise: a wrong turn there is an overshoot
_LONG_RUN: Final = 8
_LONGEST_WAIT: Final = 16.0  # intervals
_QUIET: Final = 10  # decisions without a change that halve the wait again


class LoadState(Struct, frozen=True):
    """What is remembered of one real server in one service. Times are seconds of one clock."""

    percent: float = float(WHOLE)  # of its weight; `told` is the whole number in force
    told: int = WHOLE
    average: float | None = None  # of the load; None: none was heard
    measured_at: float = 0.0
    decided_at: float = 0.0  # of the last decision, or of the first report
    beyond_since: float | None = None  # since when the average is beyond the dead band, on the same side
    side: int = 0  # 1 above, -1 below, 0 within
    before: float = 0.0  # the average at the last decision
    step: float = _LARGEST_STEP
    direction: int = 0  # of the last change
    wait: float = 1.0  # intervals from one decision to the next
    quiet: int = 0  # decisions in a row that changed nothing
    run: int = 0  # changes in a row in the same direction
    peak: float = 0.0  # logarithm of the largest difference among them


def measure(state: LoadState, policy: TableLoadFeedback, load: float, at: float) -> LoadState:
    """Return the state after a report of a `load` that was true at `at`; one that is not newer is ignored."""
    if state.average is None or at - state.measured_at > policy.stale_seconds:
        return replace(state, average=load, measured_at=at, decided_at=at, before=load, side=0, beyond_since=None)
    elapsed = at - state.measured_at
    if elapsed <= 0:
        return state
    # An agent-check says the share itself: whoever wrote it has done the averaging.
    told = policy.source is LoadSource.AGENT_CHECK
    part = 1.0 if told else 1 - math.exp(-elapsed / policy.time_constant_seconds)
    return replace(state, average=state.average + (load - state.average) * part, measured_at=at)


def is_stale(state: LoadState, policy: TableLoadFeedback, now: float) -> bool:
    """Tell whether the last report is too old to say anything, or there was none."""
    return state.average is None or now - state.measured_at > policy.stale_seconds


def forgotten(state: LoadState) -> LoadState:
    """Return the state of a real server whose load nobody knows: its whole weight."""
    return state if state == _UNKNOWN else _UNKNOWN


_UNKNOWN: Final = LoadState()


def reference(policy: TableLoadFeedback, states: Iterable[LoadState]) -> float:
    """Return the load that nobody is to exceed: the target, or the average of all that take connections if larger.

    `states`: of real servers that take connections, and whose load is known. Where none of them has its whole weight
    the limit is higher: only the proportions count, and without that all would drift down together.
    """
    found = [(each.average, each.percent) for each in states if each.average is not None]
    if not found:
        return float(policy.target)
    limit = max(float(policy.target), math.fsum(average for average, _ in found) / len(found))
    return limit * max(1.0, WHOLE / max(percent for _, percent in found))


def adjust(state: LoadState, policy: TableLoadFeedback, limit: float, now: float) -> LoadState:
    """Return the state with the share decided anew, if it is time; `limit`: see `reference`."""
    average = state.average
    if average is None:
        return state
    if policy.source is LoadSource.AGENT_CHECK:
        return _as_told(state, policy, average, now)
    side = _side(average, policy, limit)
    state = replace(
        state, side=side, beyond_since=(state.beyond_since if side == state.side else now) if side else None
    )
    if now - state.decided_at < policy.interval_seconds * state.wait:
        return state
    moving = _logarithm(average, state.before)
    state = replace(state, decided_at=now, before=average)
    if not side:
        return _rested(state)
    if moving * side < 0 and abs(moving) > _MOVING:
        return state
    return _stepped(state, policy, _logarithm(average, limit))


def _rested(state: LoadState) -> LoadState:
    if state.quiet + 1 < _QUIET:
        return replace(state, quiet=state.quiet + 1)
    return replace(state, quiet=0, wait=max(1.0, state.wait / 2))


def _side(load: float, policy: TableLoadFeedback, limit: float) -> int:
    band = policy.dead_band_percent / WHOLE
    if load > limit * (1 + band):
        return 1
    return -1 if load < limit * (1 - band) else 0


def _stepped(state: LoadState, policy: TableLoadFeedback, difference: float) -> LoadState:
    """Return the state after a step against a difference, the logarithm of average over limit."""
    direction = -1 if difference > 0 else 1
    wanted, wait = state.step, state.wait
    far = abs(difference)
    run, peak = state.run + 1, max(state.peak, far)
    if state.direction == -direction:
        wanted = max(_SMALLEST_STEP, state.step / 2)
        wait = min(_LONGEST_WAIT, state.wait * 2) if state.peak > _FAR else wait
        run, peak = 1, far
    elif state.direction == direction:
        wanted = min(_LARGEST_STEP, state.step * _GROWTH)
        if run % _LONG_RUN == 0 and far > _FAR:
            wait = max(1.0, state.wait / 2)
    percent = _bounded(state.percent * math.exp(direction * wanted * far), policy)
    if percent == state.percent:  # at its bound: what happens there tells nothing about the right step
        return _rested(replace(state, step=_LARGEST_STEP, direction=0, run=0, peak=0.0))
    return replace(
        state,
        percent=percent,
        told=round(percent),
        step=wanted,
        direction=direction,
        wait=wait,
        quiet=0,
        run=run,
        peak=peak,
    )


def _as_told(state: LoadState, policy: TableLoadFeedback, average: float, now: float) -> LoadState:
    """Follow an agent-check, which tells the share itself."""
    if now - state.decided_at < policy.interval_seconds:
        return state
    state = replace(state, decided_at=now)
    goal = _bounded(average, policy)
    bound = goal in (policy.minimum_percent, policy.maximum_percent)
    if not bound and abs(goal - state.told) <= state.told * policy.dead_band_percent / WHOLE:
        return state
    return replace(state, percent=goal, told=round(goal))


def _bounded(percent: float, policy: TableLoadFeedback) -> float:
    return min(float(policy.maximum_percent), max(float(policy.minimum_percent), percent))


def _logarithm(one: float, other: float) -> float:
    """Return ln(one / other), within what matters."""
    if one <= 0 or other <= 0:
        return 0.0 if one == other else math.copysign(_FARTHEST, one - other)
    return min(_FARTHEST, max(-_FARTHEST, math.log(one / other)))


def started(policy: TableLoadFeedback, percent: int) -> LoadState:
    """Return the state of a real server that has `percent` of its weight in the kernel when an agent starts."""
    bounded = _bounded(float(percent), policy)
    return LoadState(percent=bounded, told=round(bounded))


def scale(weights: Iterable[int]) -> int:
    """Return the factor for all weights of a table, so that percentages of the smallest ones make a difference."""
    positive = [each for each in weights if each > 0]
    if not positive:
        return 1
    wanted = -(-FINE // min(positive))
    return max(1, min(wanted, LARGEST_WEIGHT // max(positive)))


def effective(weight: int, factor: int, *percents: int) -> int:
    """Return the weight in the kernel: 0 for 0, else 1 at least, whatever the percentages."""
    if weight == 0:
        return 0
    exact = float(weight * factor)
    for each in percents:
        exact = exact * each / WHOLE
    return max(1, min(LARGEST_WEIGHT, round(exact)))
