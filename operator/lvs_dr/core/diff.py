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
    left_alone: Callable[[K], bool] | None = None,
) -> Changes[K, C]:
    """Compare one kind of entry.

    A wanted entry that exists and is not ours is adopted: kept as found in the ledger, edited in place, and put
    back as found when it is no longer wanted. Whatever else is not ours is foreign. Where `left_alone` says so,
    entries that are not wanted stay as they are, and stay ours.

    Tables have thousands of entries, and hashing their nested keys is what costs: mappings and sets are made from
    each other, which takes the hashes along.
    """
    wanted, present = frozenset(desired), frozenset(actual)
    found_as = {**desired, **actual}  # in the order of `desired`; what is missing is as desired
    pairs = zip(desired.items(), found_as.values(), strict=False)
    edit = {item[0]: item[1] for item, found in pairs if item[1] != found}
    if len(found_as) == len(wanted) == len(present) and not adopted and ours == wanted:
        return Changes({}, edit, (), ours, adopted, (), frozenset())  # all is ours, and there
    missing = wanted - present
    if len(missing) == len(wanted):
        add = desired
    else:
        add = {key: config for key, config in desired.items() if key in missing} if missing else {}
    known = wanted | present
    new_ours = ours & known if ours - known else ours
    new_adopted = adopted if known.issuperset(adopted) else {k: found for k, found in adopted.items() if k in known}
    fresh = missing - new_ours - new_adopted.keys()
    new_ours = new_ours | fresh if fresh else new_ours
    taken = wanted - missing - new_ours - new_adopted.keys()
    if taken:
        new_adopted = {**new_adopted, **{key: actual[key] for key in desired if key in taken}}
    leaving = (ours & present) - wanted
    delete = _picked(actual, leaving)
    if left_alone is not None:
        delete = tuple(key for key in delete if not left_alone(key))
    for key, found in adopted.items():
        if key in wanted or key not in present or (left_alone is not None and left_alone(key)):
            continue
        if actual[key] == found:
            new_adopted = {other: config for other, config in new_adopted.items() if other != key}
        else:
            edit[key] = found
    foreign = _picked(actual, present - new_ours - new_adopted.keys())
    lost = missing & (ours | adopted.keys() if adopted else ours)
    return Changes(add, edit, delete, new_ours, new_adopted, foreign, lost)


def _picked(entries: Mapping[K, C], keys: AbstractSet[K]) -> tuple[K, ...]:
    """Return `keys`, all of which are entries, in the order of the entries."""
    if len(keys) == len(entries):
        return tuple(entries)
    return tuple(key for key in entries if key in keys) if keys else ()
