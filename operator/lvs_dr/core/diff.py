"""Comparing desired with actual entries of one kind, knowing what is ours, adopted or foreign."""

from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from typing import Generic, TypeVar

from msgspec import Struct

K = TypeVar("K")
C = TypeVar("C")


class Changes(Struct, Generic[K, C], frozen=True):
    """What to change, and what the ledger must say before it is changed.

    `ours` and `adopted` are the very objects that `diff` was given where they stay as they are.
    """

    add: Mapping[K, C]
    edit: Mapping[K, C]
    delete: tuple[K, ...]
    ours: AbstractSet[K]
    adopted: Mapping[K, C]
    foreign: tuple[K, ...]
    lost: AbstractSet[K]  # ours or adopted, wanted, and no longer in the kernel


def diff(
    desired: Mapping[K, C],
    actual: Mapping[K, C],
    ours: frozenset[K],
    adopted: Mapping[K, C],
    left_alone: Callable[[K], bool] = lambda _: False,
) -> Changes[K, C]:
    """Compare one kind of entry.

    A wanted entry that exists and is not ours is adopted: kept as found in the ledger, edited in place, and put
    back as found when it is no longer wanted. Whatever else is not ours is foreign. Where `left_alone` says so,
    entries that are not wanted stay as they are, and stay ours.

    Sets are made from mappings where that spares hashing the keys again: tables have thousands of entries.
    """
    wanted, present = frozenset(desired), frozenset(actual)
    missing = wanted - present
    add = {key: config for key, config in desired.items() if key in missing} if missing else {}
    edit = {key: config for key, config in desired.items() if key not in missing and actual[key] != config}
    known = wanted | present
    new_ours = ours & known if ours - known else ours
    new_adopted = adopted if known.issuperset(adopted) else {k: found for k, found in adopted.items() if k in known}
    fresh = missing - new_ours - new_adopted.keys()
    new_ours = new_ours | fresh if fresh else new_ours
    taken = wanted - missing - new_ours - new_adopted.keys()
    if taken:
        new_adopted = {**new_adopted, **{key: actual[key] for key in desired if key in taken}}
    leaving = (ours & present) - wanted
    delete = tuple(key for key in actual if key in leaving and not left_alone(key)) if leaving else ()
    for key, found in adopted.items():
        if key in wanted or key not in present or left_alone(key):
            continue
        if actual[key] == found:
            new_adopted = {other: config for other, config in new_adopted.items() if other != key}
        else:
            edit[key] = found
    others = present - new_ours - new_adopted.keys()
    foreign = tuple(key for key in actual if key in others) if others else ()
    return Changes(add, edit, delete, new_ours, new_adopted, foreign, missing & (ours | adopted.keys()))
