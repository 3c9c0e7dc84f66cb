"""Progress for people: nothing that takes more than two seconds is silent."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str], None]

_FIRST = 2.0
_EVERY = 5.0


def say(message: str) -> None:
    """Print a line to the error stream, so that output stays usable."""
    print(message, file=sys.stderr, flush=True)


def silent(message: str) -> None:
    """Drop a message."""


@contextmanager
def running(progress: Progress, what: str) -> Iterator[None]:
    """Announce work that may be long: a line after 2 s, then every 5 s with the time elapsed, and one at the end.

    Work that ends within 2 s says nothing.
    """
    began = time.monotonic()
    done = threading.Event()
    spoke = threading.Event()

    def report() -> None:
        wait = _FIRST
        while not done.wait(wait):
            progress(f"{what}: {time.monotonic() - began:.0f} s …")
            spoke.set()
            wait = _EVERY

    thread = threading.Thread(target=report, daemon=True)
    thread.start()
    try:
        yield
    except BaseException:
        if spoke.is_set():
            progress(f"{what}: not finished")
        raise
    else:
        if spoke.is_set():
            progress(f"{what}: done in {time.monotonic() - began:.0f} s")
    finally:
        done.set()
        thread.join()
