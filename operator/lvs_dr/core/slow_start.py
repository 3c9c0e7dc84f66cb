"""Slow start: a real server that comes back takes its share bit by bit, so that cold caches are not run over. Pure."""

from typing import Final

from lvs_dr.core.load_spec import TableSlowStart

WHOLE: Final = 100
_STEPS: Final = 20  # at most, from the floor to the whole weight: each is a message to the kernel


def ramp(policy: TableSlowStart, began: float, now: float) -> int:
    """Return the percent of its weight that a real server has `now`, if it came back at `began` (seconds).

    It grows evenly, in steps of a twentieth of the way; at the end, and before, it is 100.
    """
    elapsed = now - began
    if not 0 <= elapsed < policy.seconds:
        return WHOLE
    way = WHOLE - policy.floor_percent
    return policy.floor_percent + way * int(elapsed / policy.seconds * _STEPS) // _STEPS


def next_step(policy: TableSlowStart, began: float, now: float) -> float | None:
    """Return when `ramp` changes next; None when it has ended."""
    elapsed = now - began
    if not 0 <= elapsed < policy.seconds:
        return None
    step = policy.seconds / _STEPS
    due = began + (int(elapsed / step) + 1) * step
    return due if due > now else due + step


def resumed(policy: TableSlowStart, percent: int, now: float) -> float:
    """Return when a real server must have come back that has `percent` of its weight now.

    An agent that starts in the middle goes on from what it finds in the kernel.
    """
    way = WHOLE - policy.floor_percent
    if percent >= WHOLE or not way:
        return now - policy.seconds
    done = max(0.0, (percent - policy.floor_percent) / way)
    return now - done * policy.seconds
