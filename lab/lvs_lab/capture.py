"""Recorded packets: a pcap file, written by tcpdump on a node, read on the host."""

import contextlib
import signal
import struct
import subprocess
import time
from pathlib import Path
from typing import Protocol

from lvs_lab import cache
from lvs_lab.errors import LabError

_FILE_HEADER = 24
_RECORD_HEADER = struct.Struct("=IIII")
_SETTLE = 0.15
_SETTLE_AT_MOST = 2.0


class _Process(Protocol):
    def signal(self, number: int = ..., *, group: bool = ...) -> bool: ...

    def wait(self, timeout: float = ...) -> int: ...

    def output(self) -> str: ...


def records(data: bytes) -> list[tuple[float, bytes]]:
    """Split a pcap file into (time in seconds of the node's clock, frame); a record still being written is left out.

    Written by tcpdump on this machine: native byte order, microseconds (pcap-savefile(5)).
    """
    found = []
    position = _FILE_HEADER
    while position + _RECORD_HEADER.size <= len(data):
        seconds, micros, captured, _ = _RECORD_HEADER.unpack_from(data, position)
        position += _RECORD_HEADER.size
        if position + captured > len(data):
            break
        found.append((seconds + micros / 1e6, data[position : position + captured]))
        position += captured
    return found


class Capture:
    """A capture under way or, after stop() or the end of its block, a finished one. `path` is the pcap file."""

    def __init__(self, path: Path, process: _Process) -> None:
        self.path = path
        self._process = process
        self._stopped = False

    def stop(self) -> None:
        """Stop once the packets seen so far are written. A second stop does nothing."""
        if self._stopped:
            return
        self._stopped = True
        self._settle()
        with contextlib.suppress(LabError):  # the node died: what was written is what there is
            self._process.signal(signal.SIGINT)
            self._process.wait(10)

    def _settle(self) -> None:
        """Wait until the file has stopped growing for a moment: tcpdump drops at its end what it has not read."""
        deadline = time.monotonic() + _SETTLE_AT_MOST
        size = -1
        while size != (size := self.path.stat().st_size) and time.monotonic() < deadline:
            time.sleep(_SETTLE)

    def frames(self) -> list[bytes]:
        """Return the Ethernet frames so far, whole."""
        return [frame for _, frame in self.timed_frames()]

    def timed_frames(self) -> list[tuple[float, bytes]]:
        """Return the frames so far with the node's clock (seconds; it differs from the host's by some ms)."""
        return records(self.path.read_bytes())

    def count(self) -> int:
        """Count the packets so far."""
        return len(self.timed_frames())

    @property
    def lines(self) -> list[str]:
        """What tcpdump prints about each packet: numeric, with Ethernet header (-nne)."""
        tcpdump = cache.find_command("tcpdump")
        if tcpdump is None:
            raise LabError(f"no tcpdump: {cache.HOW_TO_GET_TOOLS}")
        argv = [str(tcpdump), "-nne", "-tttt", "-Z", "root", "-r", str(self.path)]
        done = subprocess.run(
            argv, env=cache.tool_environment(), capture_output=True, text=True, timeout=60, check=False
        )
        if done.returncode:
            raise LabError(f"tcpdump cannot read {self.path.name}: {done.stderr.strip()}")
        return done.stdout.splitlines()
