"""One agent per node: a lock on a file under /run, held as long as the process lives."""

import fcntl
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

LOCK_NAME = "lock"
WAIT_SECONDS = 30.0  # the usual grace period of a pod that is being replaced


class HostLockedError(Exception):
    """Another process of ours holds the node."""


class HostLock:
    """The host lock. The kernel releases it when the process ends, however it ends."""

    def __init__(self, run_directory: Path, *, purpose: str) -> None:
        self._path = run_directory / LOCK_NAME
        self._purpose = purpose
        self._descriptor = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.release()

    def acquire(
        self,
        *,
        wait: float = WAIT_SECONDS,
        sleep: Callable[[float], None] = time.sleep,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        """Take the lock, waiting up to `wait` seconds for another holder to leave.

        Raises HostLockedError with the holder's name, OSError if the directory cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        left, told = wait, False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = _holder(descriptor)
                if left <= 0:
                    os.close(descriptor)
                    raise HostLockedError(f"{self._path} is held by {holder}: one agent per node") from None
                if tell is not None and not told:
                    tell(f"{self._path} is held by {holder}; waiting up to {wait:.0f} s for it to leave")
                    told = True
                sleep(min(0.1, left))
                left -= 0.1
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{self._purpose} (pid {os.getpid()})\n".encode(), 0)
        self._descriptor = descriptor

    def release(self) -> None:
        """Let the lock go; the file stays, since removing it would let two holders in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
