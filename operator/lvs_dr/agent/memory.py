"""How the agent uses memory and the interpreter's lock: no thread is to keep the others waiting."""

import gc
import sys
from typing import Final

_YOUNG: Final = 3_000  # looked at in less than a millisecond, in which every thread waits
_MIDDLE: Final = 300
_OLD: Final = 100
_SWITCH_SECONDS: Final = 0.001


def use_memory_calmly() -> None:
    """Look for cycles seldom: a pass over thousands of entries makes many objects, and hardly any cycle.

    With Python's own thresholds (700, 10, 10) the collector takes a quarter of such a pass, and a full collection
    holds every thread for tens of milliseconds. What was made on the way here stays to the end: it is not looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)


def share_the_interpreter() -> None:
    """Have a thread that computes give way sooner than after Python's own 5 ms: the event loop waits as long."""
    sys.setswitchinterval(_SWITCH_SECONDS)
