"""Comparing desired with actual entries of one kind, knowing what is ours, adopted or foreign."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from msgspec import Struct

K = TypeVar("K")
C = TypeVar("C")


class Changes(Struct, Generic[K, C], frozen=True):
    """What to change, and what the ledger must say before it is changed."""

    add: Mapping[K, C]
    edit: Mapping[K, C]
    delete: tuple[K, ...]
    ours: frozenset[K]
    adopted: Mapping[K, C]
    foreign: tuple[K, ...]
    lost: frozenset[K]  # ours or adopted, wanted, and no longer in the kernel


def diff(
    desired: Mapping[K, C],
    actual: Mapping[K, C],
    ours: AbstractSet[K],
    adopted: Mapping[K, C],
    left_alone: Callable[[K], bool] = lambda _: False,
) -> Changes[K, C]:
    """Compare one kind of entry.

    A wanted entry that exists and is not ours is adopted: kept as found in the ledger, edited in place, and put
    back as found when it is no longer wanted. Whatever else is not ours is foreign. Where `left_alone` says so,
    entries that are not wanted stay as they are, and stay ours.
    """
    new_ours = {key for key in ours if key in desired or key in actual}
    new_adopted = {key: found for key, found in adopted.items() if key in desired or key in actual}
    add = {key: config for key, config in desired.items() if key not in actual}
    new_ours.update(key for key in add if key not in new_adopted)
    new_adopted.update(
        (key, actual[key]) for key in desired if key in actual and key not in new_ours and key not in new_adopted
    )
    edit = {key: config for key, config in desired.items() if key in actual and actual[key] != config}
    delete = tuple(key for key in ours if key not in desired and key in actual and not left_alone(key))
    for key, found in adopted.items():
        if key in desired or key not in actual or left_alone(key):
            continue
        if actual[key] == found:
            del new_adopted[key]
        else:
            edit[key] = found
    foreign = tuple(key for key in actual if key not in new_ours and key not in new_adopted)
    lost = frozenset(key for key in add if key in ours or key in adopted)
    return Changes(add, edit, delete, frozenset(new_ours), new_adopted, foreign, lost)
