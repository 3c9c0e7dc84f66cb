"""Which checks the tables ask for, without going through all of them when one table changes."""

from collections.abc import Mapping

from lvs_dr.core.desired import in_service
from lvs_dr.core.health import CheckKey, check_keys
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.table import DirectorTableSpec

_NONE: frozenset[CheckKey] = frozenset()


class CheckList:
    """Remembers what each table asks for, by the table's identity. One thread at a time.

    A check's key is dear to hash, and there may be thousands: sets are made from sets, which takes the hashes along.
    """

    def __init__(self) -> None:
        self._known: dict[str, tuple[DirectorTableSpec, frozenset[CheckKey]]] = {}
        self._all = _NONE

    def follow(
        self, tables: Mapping[str, DirectorTableSpec], actual: KernelState
    ) -> tuple[frozenset[CheckKey], frozenset[CheckKey]]:
        """Return all checks, and which of those that are new the kernel sends to already.

        The first is the same object as before while the tables ask for the same checks.
        """
        known, before = self._known, self._all
        self._known = {name: self._of(table, known.get(name)) for name, table in tables.items()}
        # Sets that are the same objects as before cannot add or miss anything.
        changed = [
            table for name, (table, keys) in self._known.items() if name not in known or known[name][1] is not keys
        ]
        if changed or known.keys() - tables.keys():
            found = _NONE.union(*(keys for _, keys in self._known.values()))
            self._all = before if found == before else found
        return self._all, in_service(changed, actual)

    @staticmethod
    def _of(
        table: DirectorTableSpec, known: tuple[DirectorTableSpec, frozenset[CheckKey]] | None
    ) -> tuple[DirectorTableSpec, frozenset[CheckKey]]:
        if known is not None and known[0] is table:
            return known
        keys = frozenset(check_keys(table))
        return table, known[1] if known is not None and known[1] == keys else keys
