"""Keys of IPVS entries, and destinations of many services, kept service by service.

A node has thousands of them, and one step over all (a comparison, a copy, a larger table for one more key) keeps the
interpreter from every other thread until it is done. In one small mapping for each service no step is long, services
that did not change are the same objects as before, and no key with a service in it is hashed.
"""

from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from typing import Final, Generic, NamedTuple, TypeVar

V = TypeVar("V")

Place = tuple[str, int]
"""Address and port of a destination inside its service."""

_NO_ENTRIES: Final[Mapping[Place, object]] = {}
_new: Final = tuple.__new__


class ServiceKey(NamedTuple):
    """An IPVS service: VIP, port and IP protocol number; or a firewall mark (then address "" and port 0)."""

    address: str
    port: int
    protocol: int
    mark: int = 0
    family: int = 2  # AF_INET; AF_INET6 is 10


class DestinationKey(NamedTuple):
    """A destination inside one service."""

    service: ServiceKey
    address: str
    port: int


def keys_of(service: ServiceKey, places: Iterable[Place]) -> Iterator[DestinationKey]:
    """Return the keys of destinations of one service."""
    for address, port in places:
        yield _new(DestinationKey, (service, address, port))


class Destinations(Mapping[DestinationKey, V], Generic[V]):
    """What is known of each destination. Not to be changed, nor are its groups, which others share.

    `groups`: by service, and there by place; none of them is empty.
    """

    __slots__ = ("groups",)

    def __init__(self, groups: Mapping[ServiceKey, Mapping[Place, V]] | None = None) -> None:
        self.groups: Final[Mapping[ServiceKey, Mapping[Place, V]]] = {} if groups is None else groups

    @classmethod
    def of(cls, entries: Iterable[tuple[DestinationKey, V]]) -> "Destinations[V]":
        """Return the same entries, grouped."""
        groups: dict[ServiceKey, dict[Place, V]] = {}
        for (service, address, port), value in entries:
            groups.setdefault(service, {})[address, port] = value
        return cls(groups)

    def group(self, service: ServiceKey) -> Mapping[Place, V]:
        """Return what is known of one service's destinations."""
        return self.groups.get(service, _NO_ENTRIES)  # type: ignore[arg-type]

    def __getitem__(self, key: DestinationKey) -> V:
        try:
            return self.groups[key[0]][key[1], key[2]]
        except KeyError:
            raise KeyError(key) from None

    def __contains__(self, key: object) -> bool:
        if not isinstance(key, DestinationKey):
            return False
        group = self.groups.get(key[0])
        return group is not None and (key[1], key[2]) in group

    def __iter__(self) -> Iterator[DestinationKey]:
        for service, group in self.groups.items():
            yield from keys_of(service, group)

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def __bool__(self) -> bool:
        return bool(self.groups)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Destinations):
            return super().__eq__(other)
        if self.groups is other.groups:
            return True
        if len(self.groups) != len(other.groups):
            return False
        groups = other.groups
        for service, group in self.groups.items():  # one by one: each step is short
            found = groups.get(service)
            if found is not group and found != group:
                return False
        return True

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Destinations({dict(self)})"


class DestinationSet(AbstractSet[DestinationKey]):
    """Which destinations. Not to be changed, nor are its groups, none of which is empty."""

    __slots__ = ("groups",)

    def __init__(self, groups: Mapping[ServiceKey, AbstractSet[Place]] | None = None) -> None:
        self.groups: Final[Mapping[ServiceKey, AbstractSet[Place]]] = {} if groups is None else groups

    @classmethod
    def of(cls, keys: Iterable[DestinationKey]) -> "DestinationSet":
        """Return the same keys, grouped."""
        groups: dict[ServiceKey, set[Place]] = {}
        for service, address, port in keys:
            groups.setdefault(service, set()).add((address, port))
        return cls(groups)

    @classmethod
    def _from_iterable(cls, it: Iterable[DestinationKey]) -> "DestinationSet":  # type: ignore[override]
        return cls.of(it)

    def group(self, service: ServiceKey) -> AbstractSet[Place]:
        """Return which destinations of one service."""
        return self.groups.get(service, frozenset())

    def __contains__(self, key: object) -> bool:
        return isinstance(key, DestinationKey) and (key[1], key[2]) in self.groups.get(key[0], ())

    def __iter__(self) -> Iterator[DestinationKey]:
        for service, group in self.groups.items():
            yield from keys_of(service, group)

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    def __bool__(self) -> bool:
        return bool(self.groups)


NO_DESTINATIONS: Final = DestinationSet()
