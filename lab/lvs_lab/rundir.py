"""Run directories: where one lab keeps its sockets, logs and the nodes' disks, and which lab is the current one."""

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

from lvs_lab import cache
from lvs_lab.errors import StartFailed

_PREFIX = "lvs-lab-"
_START_MAY_TAKE = 600.0
_ROOM = 2 * 1024**3
"""Bytes that etcd, logs and captures of a long test run may need."""


def _bases() -> list[Path]:
    bases = [Path(os.environ[name]) for name in ("XDG_RUNTIME_DIR",) if os.environ.get(name)]
    return [*bases, Path(tempfile.gettempdir())]


def _base() -> Path:
    for base in _bases()[:-1]:
        if os.access(base, os.W_OK | os.X_OK) and shutil.disk_usage(base).free > _ROOM:
            return base
    return _bases()[-1]


def make() -> Path:
    """Make a fresh run directory, only its owner's; removes what killed labs of the same user left behind."""
    for base in _bases():
        sweep(base)
    run_dir = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_base()))
    (run_dir / "nodes").mkdir()
    return run_dir


def is_alive(run_dir: Path) -> bool:
    """Whether a lab runs there: its first process holds the lock until the kernel ends it."""
    try:
        with (run_dir / "lock").open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def sweep(base: Path) -> None:
    """Remove run directories of labs that have ended."""
    for path in base.glob(f"{_PREFIX}*"):
        if not path.is_dir() or path.stat().st_uid != os.getuid() or is_alive(path):
            continue
        # Without a lock file it is just being started by somebody, or its start failed long ago.
        if (path / "lock").exists() or path.stat().st_mtime < time.time() - _START_MAY_TAKE:
            remove(path)


def remove(run_dir: Path) -> None:
    """Remove a run directory, whatever modes pods gave their files."""
    shutil.rmtree(run_dir, ignore_errors=True)


def _pointer() -> Path:
    return cache.root() / "current-lab"


def remember(run_dir: Path) -> None:
    """Make this the lab that attach() finds."""
    _pointer().write_text(str(run_dir))


def forget(run_dir: Path) -> None:
    """Let attach() find this lab no more."""
    if _pointer().exists() and _pointer().read_text() == str(run_dir):
        _pointer().unlink(missing_ok=True)


def current() -> Path:
    """Return the run directory of the lab that `up --detach` left running. Raises StartFailed when there is none."""
    try:
        run_dir = Path(_pointer().read_text())
    except FileNotFoundError:
        run_dir = None
    if run_dir is None or not is_alive(run_dir):
        raise StartFailed("no lab is running: start one with `make lab`")
    return run_dir
