"""How the agent uses memory."""

import gc
from typing import Final

_YOUNG: Final = 15_000  # looked at in about 4 ms, in which every thread waits
_MIDDLE: Final = 60
_OLD: Final = 100


def use_memory_calmly() -> None:
    """Look for cycles seldom: a pass over thousands of entries makes many objects, and hardly any cycle.

    With Python's own thresholds (700, 10, 10) the collector takes a quarter of such a pass, and a full collection
    holds every thread for tens of milliseconds. What was made on the way here stays to the end: it is not looked at.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(_YOUNG, _MIDDLE, _OLD)
