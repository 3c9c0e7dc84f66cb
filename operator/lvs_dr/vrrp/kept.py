"""The last configuration on disk, so that a speaker serves again without its agent."""

import json
import logging
import os
import threading

from lvs_dr.vrrp.configuration import SpeakerConfiguration, parse

log = logging.getLogger(__name__)


def save(path: str, data: object) -> None:
    """Replace the file in one step, and make it last. Raises OSError."""
    directory = os.path.dirname(path) or "."  # noqa: PTH120 - pathlib costs memory, here and below
    os.makedirs(directory, exist_ok=True)  # noqa: PTH103
    temporary = f"{path}.new"
    with open(temporary, "w", encoding="utf-8") as file:  # noqa: PTH123
        json.dump({"format": 1, "configuration": data}, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(temporary, path)  # noqa: PTH105
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def load(path: str) -> SpeakerConfiguration | None:
    """Read the file; None when there is none, or (logged) none that can be used."""
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return parse(json.load(file)["configuration"])
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s is not used: %s", path, error)
        return None


class Saver:
    """Saves in a thread: a busy disk takes seconds, and adverts must not wait. The last configuration wins."""

    def __init__(self, path: str) -> None:
        self.problem = ""
        """Why the last one could not be saved; "" when it was."""
        self._path = path
        self._lock = threading.Lock()
        self._waiting: list[object] = []
        self._thread: threading.Thread | None = None

    def save(self, data: object) -> None:
        """Save soon."""
        with self._lock:
            self._waiting = [data]
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="saving", daemon=True)
                self._thread.start()

    def finish(self, timeout: float) -> None:
        """Wait for what is under way, `timeout` seconds at most."""
        with self._lock:
            thread = self._thread
        if thread is not None:
            thread.join(timeout)

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return
                data = self._waiting.pop()
            try:
                save(self._path, data)
                self.problem = ""
            except (OSError, ValueError, TypeError) as error:  # it serves all the same, and the state tells
                self.problem = str(error)
                log.error("the configuration cannot be kept: %s", error)  # noqa: TRY400 - no trace
