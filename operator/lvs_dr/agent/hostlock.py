"""One agent per node: a lock on a file under /run, held as long as the process lives."""

import asyncio
import contextlib
import fcntl
import math
import os
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from lvs_dr.process.metrics import Metrics
from lvs_dr.process.web import StatusServer

LOCK_NAME = "lock"
WAIT_SECONDS = 30.0  # the usual grace period of a pod that is being replaced
_POLL_SECONDS = 0.1
_LISTEN_SECONDS = 1.0  # between two attempts to listen where the holder may listen as well


class HostLockedError(Exception):
    """Another process of ours holds the node."""


class HostLock:
    """The host lock. The kernel releases it when the process ends, however it ends."""

    def __init__(self, run_directory: Path, *, purpose: str) -> None:
        self._path = run_directory / LOCK_NAME
        self._purpose = purpose
        self._descriptor = -1
        self.holder = ""  # who had the lock when it was last tried

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
        left, told = wait, False
        while holder := self.attempt():
            if left <= 0:
                raise self.locked_by(holder)
            if tell is not None and not told:
                tell(f"{self._path} is held by {holder}; waiting up to {wait:.0f} s for it to leave")
                told = True
            sleep(min(_POLL_SECONDS, left))
            left -= _POLL_SECONDS

    def attempt(self) -> str:
        """Take the lock if it is free; else return who has it. Raises OSError if the directory cannot be written."""
        self._path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{self._purpose} (pid {os.getpid()})\n".encode(), 0)
        except BlockingIOError:
            self.holder = _holder(descriptor)
            os.close(descriptor)
            return self.holder
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor, self.holder = descriptor, ""
        return ""

    def locked_by(self, holder: str) -> HostLockedError:
        """Return the error that says who has the lock."""
        return HostLockedError(f"{self._path} is held by {holder}: one agent per node")

    def release(self) -> None:
        """Let the lock go; the file stays, since removing it would let two holders in."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1


async def turn(lock: HostLock, *, listen: str, wait: float, tell: Callable[[str], None]) -> None:
    """Wait for our turn on this node; meanwhile /readyz says whose it is. `wait` is in seconds and may be infinite.

    The agent that has the node may listen on the same port: then it answers, and we try again to listen.
    Raises HostLockedError, OSError if the directory cannot be written.
    """
    if not lock.attempt():
        return
    limit = "" if math.isinf(wait) else f" up to {wait:.0f} s"
    tell(f"waiting{limit} for another agent on this node to leave: {lock.holder}")
    clock = asyncio.get_running_loop().time
    end, listen_at = clock() + wait, 0.0
    async with contextlib.AsyncExitStack() as stack:
        while lock.holder:
            if clock() >= end:
                raise lock.locked_by(lock.holder)
            if clock() >= listen_at:
                listen_at = clock() + _LISTEN_SECONDS
                if await _listening(stack, listen, lambda: f"another agent has this node: {lock.holder}", tell):
                    listen_at = math.inf
            await asyncio.sleep(_POLL_SECONDS)
            lock.attempt()
    tell("it is our turn now")


async def _listening(
    stack: contextlib.AsyncExitStack, listen: str, ready: Callable[[], str], tell: Callable[[str], None]
) -> bool:
    server = StatusServer(listen, healthy=lambda: "", ready=ready, metrics=Metrics({}))
    try:
        await stack.enter_async_context(server)
    except OSError as error:
        tell(f"cannot listen on {listen} while waiting: {error}")
        return False
    return True


def _holder(descriptor: int) -> str:
    return os.pread(descriptor, 200, 0).decode("utf-8", "replace").strip() or "another process"
