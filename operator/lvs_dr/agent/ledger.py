"""The ledger's file in /run: written before the kernel is changed, void after a reboot."""

import logging
from pathlib import Path
from typing import Final

import msgspec

from lvs_dr.agent.lastgood import write_atomically
from lvs_dr.core.kernel import ServiceKey
from lvs_dr.core.ledger import Ledger, OwnDestinations, ledger_for

log = logging.getLogger(__name__)

FILE_NAME = "ledger.json"
VERSION: Final = 2

_AT_ONCE: Final = 256  # services that are put together in one step


class DamagedLedgerError(Exception):
    """The ledger cannot be read: what is ours is unknown, so nothing may be removed."""


class _Rest(msgspec.Struct):
    """The file without its destinations: they stand before it, and are written piece by piece."""

    ledger: Ledger
    version: int = VERSION


class _Stored(_Rest):
    """The file."""

    destinations: tuple[OwnDestinations, ...] = ()


class _Pieces:
    """Destinations as JSON, service by service, and none of them made twice: one step over all would take long."""

    def __init__(self) -> None:
        self._made: dict[ServiceKey, tuple[OwnDestinations, bytes]] = {}

    def of(self, ledger: Ledger) -> list[bytes]:
        """Return the file's content."""
        before = self._made
        made: dict[ServiceKey, tuple[OwnDestinations, bytes]] = {}
        texts: list[bytes] = []
        for one in ledger.destinations:
            known = before.get(one.service)
            if known is None or known[0] is not one:
                known = one, msgspec.json.encode(one)
            made[one.service] = known
            texts.append(known[1])
        self._made = made
        joined = [b",".join(texts[first : first + _AT_ONCE]) for first in range(0, len(texts), _AT_ONCE)] or [b""]
        rest = msgspec.json.encode(_Rest(msgspec.structs.replace(ledger, destinations=())))
        joined[0] = b'{"destinations":[' + joined[0]
        joined[-1] += b"]," + rest.removeprefix(b"{")
        return [piece if piece is joined[-1] else piece + b"," for piece in joined]


class LedgerFile:
    """Reads and writes the ledger; `current` is what the file says."""

    def __init__(self, run_directory: Path, boot_id: str) -> None:
        self.path = run_directory / FILE_NAME
        self._boot_id = boot_id
        self._pieces = _Pieces()
        self.current = Ledger(boot_id)

    def load(self, *, put_aside: bool = True) -> Ledger:
        """Return the ledger of this boot, an empty one if there is none.

        Raises PermissionError, and DamagedLedgerError after putting the file aside; the ledger is then empty, and
        what the agent wants and finds is adopted as found.
        """
        try:
            stored = msgspec.json.decode(self.path.read_bytes(), type=_Stored)
        except FileNotFoundError:
            return self.current
        except PermissionError:
            raise  # not damaged: the wrong user
        except (OSError, msgspec.MsgspecError) as error:
            if not put_aside:
                raise DamagedLedgerError(
                    f"{self.path} cannot be read ({error}), so what is ours is not known; look with ipvsadm -Ln, "
                    "ip address and ip route, and delete the file when nothing of ours is left"
                ) from error
            damaged = self.path.with_suffix(".damaged")
            try:
                self.path.replace(damaged)
            except OSError as again:
                log.warning("cannot put %s aside: %s", self.path, again)
            raise DamagedLedgerError(f"{self.path} cannot be read ({error}); put aside as {damaged.name}") from error
        whole = msgspec.structs.replace(stored.ledger, destinations=stored.destinations)
        self.current = ledger_for(self._boot_id, whole)
        return self.current

    def save_plan(self, planned: Ledger) -> bool:
        """Write it if it changed; one thread at a time. Raises OSError, and then nothing may be changed.

        Not synced to disk: /run is memory, and void after a reboot anyway.
        """
        if planned == self.current:
            return False
        write_atomically(self.path, *self._pieces.of(planned), sync=False)
        self.current = planned
        return True

    def remove(self) -> None:
        """Delete the file: nothing is ours any more. Raises OSError."""
        self.path.unlink(missing_ok=True)
        self.current = Ledger(self._boot_id)
