"""The ledger's file in /run: written before the kernel is changed, void after a reboot."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import msgspec

from lvs_dr.agent.lastgood import write_atomically
from lvs_dr.core.kernel import AddressKey
from lvs_dr.core.ledger import Ledger, ledger_for, merge_plan, merge_speaker

log = logging.getLogger(__name__)

FILE_NAME = "ledger.json"
VERSION: Final = 1


class DamagedLedgerError(Exception):
    """The ledger cannot be read: what is ours is unknown, so nothing may be removed."""


class _Stored(msgspec.Struct):
    ledger: Ledger
    version: int = VERSION


class LedgerFile:
    """Reads and writes the ledger; `current` is what the file says."""

    def __init__(self, run_directory: Path, boot_id: str) -> None:
        self.path = run_directory / FILE_NAME
        self._boot_id = boot_id
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
        self.current = ledger_for(self._boot_id, stored.ledger)
        return self.current

    def save_plan(self, planned: Ledger) -> bool:
        """Write the loop's part. Raises OSError, and then nothing may be changed."""
        return self._save(merge_plan(self.current, planned))

    def save_held(self, held: Mapping[AddressKey, bool]) -> bool:
        """Write the speaker's part: its addresses, each with whether it was adopted. Raises OSError."""
        return self._save(merge_speaker(self.current, held))

    def remove(self) -> None:
        """Delete the file: nothing is ours any more. Raises OSError."""
        self.path.unlink(missing_ok=True)
        self.current = Ledger(self._boot_id)

    def _save(self, ledger: Ledger) -> bool:
        """Write the ledger if it changed. Not synced to disk: /run is memory, and void after a reboot anyway."""
        if ledger == self.current:
            return False
        write_atomically(self.path, msgspec.json.encode(_Stored(ledger)), sync=False)
        self.current = ledger
        return True
