"""The last good spec on disk, so that an agent can start while the API server is away."""

import logging
import os
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec

log = logging.getLogger(__name__)

FILE_NAME = "last-good.json"
VERSION: Final = 1


class TableVersion(NamedTuple):
    """Which version of which DirectorTable: a namesake of a deleted one starts at generation 1 again."""

    generation: int
    uid: str


class StoredTable(msgspec.Struct, frozen=True):
    """A DirectorTable as it was last read."""

    version: TableVersion
    spec: DirectorTableSpec


class LastGood(msgspec.Struct, frozen=True):
    """What the node was to be when the API server was last heard."""

    node: str
    generation: int
    spec: LVSNodeSpec
    tables: dict[str, StoredTable] = {}
    uid: str = ""  # of the LVSNode
    version: int = VERSION


class _Version(msgspec.Struct):
    version: int


class LastGoodFile:
    """Reads and writes the file. A file that cannot be read is reported, put aside and ignored."""

    def __init__(self, state_directory: Path) -> None:
        self.path = state_directory / FILE_NAME
        self._written = b""

    def load(self, node: str, *, put_aside: bool = True) -> LastGood | None:
        """Return the last good state of `node` ("": of whichever it is), or None if there is none that can be used."""
        try:
            data = self.path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            log.warning("cannot read %s: %s; starting without it", self.path, error)
            return None
        try:
            version = msgspec.json.decode(data, type=_Version).version
            if version != VERSION:
                log.warning("%s has version %d, this agent knows %d; starting without it", self.path, version, VERSION)
                return None
            stored = msgspec.json.decode(data, type=LastGood)
        except msgspec.MsgspecError as error:
            log.error("%s is damaged: %s; starting without it", self.path, error)  # noqa: TRY400 - told in one line
            if put_aside:
                self._put_aside()
            return None
        if node and stored.node != node:
            log.warning("%s is of node %s, this is %s; starting without it", self.path, stored.node, node)
            return None
        self._written = data
        return stored

    def save(self, state: LastGood) -> bool:
        """Write the file if it changed, so that a crash leaves the old one or the new one. Returns whether it wrote.

        Raises OSError.
        """
        data = msgspec.json.encode(state)
        if data == self._written:
            return False
        write_atomically(self.path, data)
        self._written = data
        return True

    def remove(self) -> bool:
        """Delete the file; returns whether there was one."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        return True

    def _put_aside(self) -> None:
        try:
            self.path.replace(self.path.with_suffix(".damaged"))
        except OSError as error:
            log.warning("cannot put %s aside: %s", self.path, error)


def write_atomically(path: Path, *pieces: bytes, sync: bool = True) -> None:
    """Replace a file as a whole, readable by root alone. `sync` waits for the disk. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    fresh = path.with_name(path.name + ".new")
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[os.write(descriptor, view) :]
        if sync:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
    fresh.replace(path)
