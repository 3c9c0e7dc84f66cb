"""The sandbox: own user, network, mount and process namespaces, which end with all that is in them.

The chain is setpriv (dies with the thread that started it) -> unshare (its child dies with it) -> supervisor, process
number 1 of its namespace: when that ends, the kernel kills everything inside.
"""

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvs_lab import cache
from lvs_lab.errors import StartFailed
from lvs_lab.progress import Progress

_START_TIMEOUT = 120.0
_STOP_TIMEOUT = 20.0


def enter_command(inner: Sequence[str], *, tied: bool, mount_proc: bool) -> list[str]:
    """Return the command that runs `inner` in a sandbox; `tied` ends it with the thread that starts it."""
    unshare = ["unshare", "--user", "--map-root-user", "--net", "--mount", "--pid", "--fork", "--kill-child"]
    if mount_proc:
        unshare.append("--mount-proc")
    return [*(["setpriv", "--pdeathsig", "KILL"] if tied else []), *unshare, *inner]


def can_mount_proc() -> bool:
    """Whether a fresh /proc may be mounted; where the host's is masked it may not, and the host's will do."""
    probe = enter_command(["true"], tied=False, mount_proc=True)
    return subprocess.run(probe, capture_output=True, timeout=20, check=False).returncode == 0


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A running sandbox. Closing `owner` ends a tied one, whatever thread is left."""

    process: "subprocess.Popen[bytes]"
    owner: int | None

    def wait(self, timeout: float = _STOP_TIMEOUT) -> bool:
        """Wait for its end; False when it still runs after `timeout` seconds."""
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            return False
        return True

    def destroy(self) -> None:
        """Kill it with everything inside (unshare --fork ignores SIGTERM)."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()
        if self.owner is not None:
            os.close(self.owner)


def start(run_dir: Path, relay_fd: int, environment: Mapping[str, str], progress: Progress, *, tied: bool) -> Sandbox:
    """Start a supervisor in a sandbox and wait until its lab is up. Raises StartFailed with what it said."""
    report_read, report_write = os.pipe()
    owner_read, owner_write = os.pipe() if tied else (None, None)
    inner = [sys.executable, "-m", "lvs_lab.supervisor", "--run", str(run_dir)]
    inner += ["--relay-fd", str(relay_fd), "--report-fd", str(report_write)]
    inherited = [relay_fd, report_write]
    if owner_read is not None:
        inner += ["--owner-fd", str(owner_read)]
        inherited.append(owner_read)
    argv = enter_command(inner, tied=tied, mount_proc=can_mount_proc())
    try:
        process = _spawn(argv, inherited, run_dir / "supervisor.log", environment, keep_thread=tied)
    finally:
        os.close(report_write)
        if owner_read is not None:
            os.close(owner_read)
    sandbox = Sandbox(process, owner_write)
    try:
        _await_ready(report_read, run_dir, progress)
    except BaseException:
        sandbox.destroy()
        raise
    return sandbox


def _spawn(
    argv: Sequence[str], inherited: Sequence[int], log: Path, environment: Mapping[str, str], *, keep_thread: bool
) -> "subprocess.Popen[bytes]":
    """Start the process from a thread that lives as long as the process does.

    PR_SET_PDEATHSIG fires when the *thread* that forked ends, and callers may start labs from short-lived ones.
    """
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def body() -> None:
        try:
            with log.open("ab") as output:
                process = subprocess.Popen(
                    argv,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    pass_fds=inherited,
                    env={**environment, "PYTHONPATH": str(cache.PROJECT / "lab"), "PYTHONUNBUFFERED": "1"},
                    start_new_session=True,  # Ctrl-C is the client's, which then ends the sandbox in order
                )
            started.append(process)
        except OSError as error:
            started.append(error)
            return
        finally:
            ready.set()
        if keep_thread:
            process.wait()

    threading.Thread(target=body, name="lab-sandbox", daemon=True).start()
    ready.wait()
    if isinstance(started[0], OSError):
        raise StartFailed(f"the sandbox could not be started: {started[0]}") from started[0]
    return started[0]


def _await_ready(report: int, run_dir: Path, progress: Progress) -> None:
    """Read the supervisor's report lines until it is ready."""
    deadline = time.monotonic() + _START_TIMEOUT
    rest = b""
    try:
        while (left := deadline - time.monotonic()) > 0:
            if not select.select([report], [], [], left)[0]:
                continue
            chunk = os.read(report, 65536)
            if not chunk:
                log = (run_dir / "supervisor.log").read_text(errors="replace")
                raise StartFailed(f"the lab's supervisor ended before it was ready:\n{log[-4000:]}")
            *lines, rest = (rest + chunk).split(b"\n")
            for message in map(json.loads, lines):
                if "progress" in message:
                    progress(message["progress"])
                elif "error" in message:
                    raise StartFailed(message["error"])
                elif message.get("ready"):
                    return
    finally:
        os.close(report)
    raise StartFailed(f"the lab was not ready after {_START_TIMEOUT:.0f} s")
