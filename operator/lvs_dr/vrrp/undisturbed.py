"""What keeps this process from being held up: memory that is not paged out, priority over others, no collector."""

import ctypes
import gc
import os
import resource
from contextlib import suppress
from typing import Final, NamedTuple

_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAP_IPC_LOCK: Final = 14
_RARELY: Final = (10_000, 20, 100)
"""The collector still runs, over what was made since the start: little."""
_PRIORITY: Final = 10
"""Above everything ordinary, below the kernel's own threads."""


class Undisturbed(NamedTuple):
    """What was granted."""

    memory_locked: bool
    real_time: bool


def settle() -> Undisturbed:
    """Take what is granted; call it when everything is loaded. Never raises: what is missing is reported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_RARELY)
    return Undisturbed(_lock_memory(), _real_time())


def _lock_memory() -> bool:
    """Lock pages as they come into use. A limit would fail later allocations, so it is all or nothing."""
    unlimited = resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY
    if not unlimited and not _has_capability(_CAP_IPC_LOCK):
        return False
    library = ctypes.CDLL(None, use_errno=True)
    return bool(library.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0)


def _real_time() -> bool:
    """Raise every thread: the one that renews addresses matters as much as the one that speaks."""
    granted = False
    for thread in os.listdir("/proc/self/task"):  # noqa: PTH208 - pathlib costs memory
        with suppress(OSError):
            os.sched_setscheduler(int(thread), os.SCHED_FIFO | os.SCHED_RESET_ON_FORK, os.sched_param(_PRIORITY))
            granted = True
    return granted


def _has_capability(number: int) -> bool:
    with suppress(OSError), open("/proc/self/status", encoding="ascii") as file:  # noqa: PTH123 - pathlib costs memory
        for line in file:
            if line.startswith("CapEff:"):
                return bool(int(line.split()[1], 16) >> number & 1)
    return False
