"""The exec check: a script that the administrator put into a directory of its own ends with exit code 0.

No shell, no inherited environment, no standard input; what it prints is bounded; at the end of its time it is killed
with all that it started.
"""

import asyncio
import contextlib
import os
import signal
from pathlib import Path
from typing import Final

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError
from lvs_dr.core.checks import ExecCheck

AT_ONCE: Final = 16  # a script costs a process
MOST_OUTPUT: Final = 256  # bytes that are kept for the report
_CHUNK: Final = 4096
_KILL_SECONDS: Final = 1.0
_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Scripts:
    """Runs scripts of one directory."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._slots = asyncio.Semaphore(AT_ONCE)

    async def check(self, attempt: Attempt, probe: ExecCheck) -> str:
        """Return "" on success, else what went wrong. Raises CannotCheckError."""
        path = self._path(probe.name)
        attempt.reached = "no turn among the other scripts"
        async with self._slots:
            attempt.reached = f"{probe.name} does not end"
            try:
                process = await asyncio.create_subprocess_exec(
                    path,
                    *probe.arguments,
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=asyncio.subprocess.STDOUT,
                    cwd="/",
                    env={"PATH": _PATH, "LVS_ADDRESS": attempt.address, "LVS_PORT": str(attempt.port or "")},
                    start_new_session=True,
                )
            except OSError as error:
                raise CannotCheckError(f"{path} cannot be run: {error.strerror}") from error
            try:
                output = await _output(process)
                code = await process.wait()
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)  # and what it left behind
                with contextlib.suppress(TimeoutError):  # a process that hangs in the kernel outlives its kill
                    async with asyncio.timeout(_KILL_SECONDS):
                        await process.wait()
        if code == 0:
            return ""
        ending = f"exit code {code}" if code > 0 else f"signal {-code}"
        return f"{probe.name} ended with {ending}{': ' + output if output else ''}"

    def _path(self, name: str) -> Path:
        path = self._directory / name
        if "/" in name or name.startswith(".") or not name:
            raise CannotCheckError(f"{name!r} is no name of a script")
        if not path.is_file():
            raise CannotCheckError(f"there is no script {path} on the director: mount it into the agent")
        return path


async def _output(process: asyncio.subprocess.Process) -> str:
    """Return the start of what it prints, and read the rest so that it never waits for us."""
    kept = b""
    if process.stdout is not None:
        while heard := await process.stdout.read(_CHUNK):
            kept += heard[: MOST_OUTPUT - len(kept)]
    return " ".join("".join(char if char.isprintable() else " " for char in kept.decode("utf-8", "replace")).split())
