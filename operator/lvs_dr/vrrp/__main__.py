"""`lvs-speaker`: the command line of the VRRP speaker."""

import fcntl
import json
import logging
import os
import signal
import socket
import stat
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple, NoReturn

from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.vrrp.alive import answers
from lvs_dr.vrrp.event_loop import EventLoop

if TYPE_CHECKING:
    from lvs_dr.vrrp.speaker import Speaker

log = logging.getLogger("lvs_dr.vrrp")

_LONGEST_WAIT = 3600.0
_LOCK_RETRY = 0.1


class _Stderr(logging.Handler):
    """Writes lines and never waits: a reader that hangs must not hold up adverts. What does not fit is lost."""

    def __init__(self) -> None:
        super().__init__()
        with suppress(OSError):
            os.set_blocking(2, not stat.S_ISFIFO(os.fstat(2).st_mode))

    def emit(self, record: logging.LogRecord) -> None:
        with suppress(OSError):
            os.write(2, self.format(record).encode("utf-8", "replace") + b"\n")


class _JsonFormatter(logging.Formatter):
    """One JSON object a line; the standard library alone must do."""

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{moment}.{int(record.msecs):03d}+00:00",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line)


_USAGE = """usage: lvs-speaker [OPTION VALUE]...
       lvs-speaker alive [OPTION VALUE]...

Holds this node's VIPs by VRRPv3, as the agent tells it to. `alive` asks the one that runs whether it hangs.

  --run-directory DIR     where the control socket is (default: /run/lvs-operator)
  --state-directory DIR   where the last configuration is kept (default: /var/lib/lvs-operator)
  --stop-wait SECONDS     at most, to wait for a successor when stopped (default: 20)
  --log-level LEVEL       debug, info (default), warning or error
  --log-format FORM       text (default) or json
"""
_LOG_LEVELS = ("debug", "info", "warning", "error")
_LOG_FORMATS = ("text", "json")


class Options(NamedTuple):
    """The command line."""

    run_directory: str = "/run/lvs-operator"
    state_directory: str = "/var/lib/lvs-operator"
    stop_wait: float = 20.0
    log_level: str = "info"
    log_format: str = "text"


def options(arguments: Sequence[str]) -> Options:
    """Read the command line; argparse would cost a twentieth of this process's memory. Raises ValueError."""
    given: dict[str, str] = {}
    words = list(arguments)
    while words:
        name, equals, value = words.pop(0).partition("=")
        field = name.removeprefix("--").replace("-", "_")
        if not name.startswith("--") or field not in Options._fields:
            raise ValueError(f"unknown option {name}")
        if not equals and not words:
            raise ValueError(f"{name} needs a value")
        given[field] = value if equals else words.pop(0)
    wait = float(given.pop("stop_wait", Options().stop_wait))
    found = Options(
        run_directory=given.get("run_directory", Options().run_directory),
        state_directory=given.get("state_directory", Options().state_directory),
        stop_wait=wait,
        log_level=given.get("log_level", Options().log_level),
        log_format=given.get("log_format", Options().log_format),
    )
    if found.log_level not in _LOG_LEVELS or found.log_format not in _LOG_FORMATS or not 0 <= wait < _LONGEST_WAIT:
        raise ValueError("--log-level, --log-format or --stop-wait has no possible value")
    return found


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run until SIGTERM or SIGINT; exit with 0, 1 when it cannot start or does not answer, 2 for wrong usage."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    asking = words[:1] == ["alive"]
    if {"-h", "--help"} & set(words):
        sys.stdout.write(_USAGE)
        sys.exit(0)
    try:
        given = options(words[asking:])
    except ValueError as error:
        sys.stderr.write(f"{_USAGE}\nlvs-speaker: {error}\n")
        sys.exit(2)
    control = os.path.join(given.run_directory, "speaker.sock")  # noqa: PTH118 - pathlib costs memory
    if asking:
        sys.exit(_say(answers(control)))
    from lvs_dr.vrrp.address_writer import AddressWriter  # noqa: PLC0415 - a probe asks often, and needs none of it
    from lvs_dr.vrrp.speaker import Speaker  # noqa: PLC0415
    from lvs_dr.vrrp.undisturbed import settle  # noqa: PLC0415

    handler = _Stderr()
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_JsonFormatter() if given.log_format == "json" else text)
    logging.basicConfig(level=given.log_level.upper(), handlers=[handler])
    loop = EventLoop()
    speaker = Speaker(
        loop,
        AddressWriter(),
        control=control,
        kept_at=os.path.join(given.state_directory, "speaker.json"),  # noqa: PTH118
        stop_wait=given.stop_wait,
    )
    try:
        locked = _lock(os.path.join(given.run_directory, "speaker.lock"))  # noqa: PTH118
        waker = _stop_on_signals(loop, speaker)
        speaker.open()
    except (OSError, NetlinkFailure) as error:
        sys.stderr.write(f"lvs-speaker: cannot start: {error}\n")
        sys.exit(1)
    speaker.granted = settle()
    log.info("running; memory locked: %s, real-time priority: %s", *speaker.granted)
    loop.run()
    signal.set_wakeup_fd(-1)
    waker.close()
    speaker.close()
    os.close(locked)
    log.info("stopped")
    sys.exit(0)


def _say(trouble: str) -> int:
    """Print why it does not answer, if it does not; returns the exit code."""
    if trouble:
        sys.stderr.write(f"lvs-speaker: {trouble}\n")
    return 1 if trouble else 0


def _lock(path: str) -> int:
    """Wait until no other speaker runs on the node: two would take and release each other's addresses."""
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: sys.exit(0))
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)  # noqa: PTH103, PTH120
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    told = False
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not told:
                log.warning("another speaker runs on this node; waiting for its end")
            told = True
            time.sleep(_LOCK_RETRY)
        else:
            return descriptor


def _stop_on_signals(loop: EventLoop, speaker: "Speaker") -> socket.socket:
    """Turn signals into events of the loop; they come as long as what is returned is open."""
    reading, writing = socket.socketpair()
    for end in (reading, writing):
        end.setblocking(False)

    def told(now: float) -> None:
        reading.recv(64)
        speaker.stop(now)

    loop.read(reading.fileno(), told)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    signal.set_wakeup_fd(writing.fileno(), warn_on_full_buffer=False)
    return writing


if __name__ == "__main__":
    main()
