"""Values of the kernel that are ours for a while: noted as found, set, and put back when the wish for them ends."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Generic, NamedTuple, TypeVar

from msgspec import Struct
from msgspec.structs import replace

EARLIER = 8  # values of ours that are remembered of one setting

K = TypeVar("K", bound=tuple[Any, ...])
V = TypeVar("V")


class Borrowed(Struct, Generic[K, V], frozen=True):
    """A value that is ours for a while. `earlier`: what we wanted before, and may still be in the kernel."""

    key: K
    found: V
    ours: V
    earlier: tuple[V, ...] = ()

    def wanting(self, value: V) -> "Borrowed[K, V]":
        """Return the record for another value of ours."""
        if value == self.ours:
            return self
        return replace(self, ours=value, earlier=(*self.earlier, self.ours)[-EARLIER:])

    def is_ours(self, value: V | None) -> bool:
        """Tell whether the kernel's value is one that we set."""
        return value == self.ours or value in self.earlier


class Borrowing(NamedTuple, Generic[K, V]):
    """What to set, what to put back, and what the ledger must say of it before that."""

    to_set: list[tuple[K, V]]
    to_restore: list[tuple[K, V]]
    records: tuple[Borrowed[K, V], ...]


def borrow(
    wanted: Mapping[K, V],
    actual: Mapping[K, V],
    recorded: Iterable[Borrowed[K, V]],
    does: Callable[[K, V], bool] | None = None,
) -> Borrowing[K, V]:
    """Compare wishes with what is there; what is not there cannot be set.

    `does` tells whether a value found will do for a key, where others than the wanted one may.
    """
    records = {record.key: record for record in recorded}
    to_set: list[tuple[K, V]] = []
    for key, value in wanted.items():
        found = actual.get(key)
        if found is None:
            continue
        known = records.get(key)
        records[key] = known.wanting(value) if known else Borrowed(key, found, value)
        if not (found == value if does is None else does(key, found)):
            to_set.append((key, value))
    to_restore: list[tuple[K, V]] = []
    for key, record in list(records.items()):
        if key in wanted:
            continue
        if record.is_ours(actual.get(key)) and actual[key] != record.found:
            to_restore.append((key, record.found))
        else:
            del records[key]
    return Borrowing(to_set, to_restore, tuple(records[key] for key in sorted(records)))
