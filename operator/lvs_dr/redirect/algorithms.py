"""The choice of a real server, pure: IPVS schedulers with their meaning in user space, and two on reported load.

Sources: net/netfilter/ipvs/ip_vs_{rr,wrr,lc,wlc,sed,nq,lblc,lblcr,twos}.c; the hashing ones are in `hashing`. Where a
scheduler counts connections, `in_flight` stands for them. Where it looks at the destination address, which is always
the VIP here, the requested path stands for it: that is what a client of a cache asks for.

Weight 0 gets nothing. A candidate at its limit (`full`) is passed over, as an overloaded destination is in the kernel;
only sh, dh and mh, which return nothing then unless told to fall back, go on to the next slot instead.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import gcd
from typing import Final, Protocol

from lvs_dr.core.redirect import Algorithm
from lvs_dr.redirect.hashing import DestinationHashing, Maglev, SourceHashing

LOCALITY_ENTRIES: Final = 16 * 1024  # of lblc and lblcr: 16 times the size of the kernel's table
LOCALITY_SECONDS: Final = 24 * 3600.0


class Candidate:
    """A real server that may get requests. Weight is above 0; whoever asks keeps the loads up to date."""

    __slots__ = ("address", "backlog", "full", "in_flight", "name", "weight")

    def __init__(self, name: str, weight: int, *, address: str = "", in_flight: float = 0, backlog: float = 0) -> None:
        self.name = name
        self.weight = weight
        self.address = address or name
        self.in_flight = in_flight  # uploads
        self.backlog = backlog  # bytes that it is still to receive
        self.full = False


class Asked:
    """What a choice may depend on. `client`: packed address; `resource`: path without query; `now`: seconds.

    `size`: bytes of the body, announced or expected.
    """

    __slots__ = ("client", "now", "resource", "size")

    def __init__(self, client: bytes = b"", resource: bytes = b"", now: float = 0.0, size: float = 0.0) -> None:
        self.client = client
        self.resource = resource
        self.now = now
        self.size = size


class Chooser(Protocol):
    """One algorithm and what it remembers."""

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:
        """Return who gets the request; None when nobody can take it."""
        ...


def chooser(algorithm: Algorithm, uniform: Callable[[], float]) -> Chooser:
    """Make a chooser. `uniform` returns random numbers in [0, 1)."""
    return _CHOOSERS[algorithm](uniform)


def _connections(one: Candidate) -> float:
    return one.in_flight


def _connections_by_weight(one: Candidate) -> float:
    return one.in_flight / one.weight


def _expected_delay(one: Candidate) -> float:
    return (one.in_flight + 1) / one.weight


def _least(candidates: Iterable[Candidate], cost: Callable[[Candidate], float]) -> Candidate | None:
    """Return the first of the cheapest: the kernel's loops keep the earlier one on a tie."""
    return min((one for one in candidates if not one.full), key=cost, default=None)


class RoundRobin:
    """rr: one after the other, whatever their weights."""

    def __init__(self) -> None:
        self._at = -1

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:  # noqa: ARG002
        """Return the next."""
        count = len(candidates)
        for step in range(1, count + 1):
            at = (self._at + step) % count
            if not candidates[at].full:
                self._at = at
                return candidates[at]
        return None


class WeightedRoundRobin:
    """wrr: interleaved; a round gives each as many turns as its weight, the heaviest first.

    The kernel steps its current weight down also past overloaded servers; leaving them out first gives the same order
    among the others without up to 65,535 empty rounds.
    """

    def __init__(self) -> None:
        self._at = -1
        self._current = 0

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:  # noqa: ARG002
        """Return the next."""
        weights = [0 if one.full else one.weight for one in candidates]
        most, step, count = max(weights, default=0), gcd(*weights), len(weights)
        if not most:
            return None
        if self._at >= count:
            self._at = -1
        self._current = min(self._current, most)
        while True:
            self._at = (self._at + 1) % count
            if self._at == 0:
                self._current -= step
                if self._current <= 0:
                    self._current = most
            if self._current and weights[self._at] >= self._current:
                return candidates[self._at]


class Least:
    """lc, wlc, sed: the cheapest."""

    def __init__(self, cost: Callable[[Candidate], float]) -> None:
        self._cost = cost

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:  # noqa: ARG002
        """Return the cheapest."""
        return _least(candidates, self._cost)


class NeverQueue:
    """nq: one that is idle, else as sed."""

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:  # noqa: ARG002
        """Return the first idle one, else the one with the shortest expected delay."""
        idle = (one for one in candidates if not one.full and one.in_flight < 1)
        return next(idle, None) or _least(candidates, _expected_delay)


class LeastInboundBytes:
    """The one that would be done first, this body included: least bytes to come for its weight; as sed among equals."""

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:
        """Return it."""
        size = asked.size
        usable = (one for one in candidates if not one.full)
        return min(usable, key=lambda one: ((one.backlog + size) / one.weight, _expected_delay(one)), default=None)


class PowerOfTwoChoices:
    """The less loaded of two drawn by weight (ip_vs_twos.c): many directors with old reports do not all run to one."""

    def __init__(self, uniform: Callable[[], float]) -> None:
        self._uniform = uniform

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:  # noqa: ARG002
        """Draw twice, without putting the first back."""
        usable = [one for one in candidates if not one.full]
        if not usable:
            return None
        first = usable.pop(self._draw(usable))
        if not usable:
            return first
        second = usable[self._draw(usable)]
        return min(first, second, key=_expected_delay)

    def _draw(self, usable: Sequence[Candidate]) -> int:
        mark = self._uniform() * sum(one.weight for one in usable)
        for index, one in enumerate(usable):
            mark -= one.weight
            if mark < 0:
                return index
        return len(usable) - 1


def _overloaded(one: Candidate, candidates: Iterable[Candidate]) -> bool:
    """Tell whether locality gives way: more in flight than the weight, and somebody below half of its own."""
    return one.in_flight > one.weight and any(other.in_flight * 2 < other.weight for other in candidates)


class Locality:
    """lblc: a path stays with its real server until that is overloaded; then, and at first, as wlc."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, tuple[str, float]] = OrderedDict()

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:
        """Return the path's own, or a new one."""
        name, seen = self._known.get(asked.resource, ("", 0.0))
        one = next((each for each in candidates if each.name == name and not each.full), None)
        if one is None or asked.now - seen > LOCALITY_SECONDS or _overloaded(one, candidates):
            one = _least(candidates, _connections_by_weight)
        if one is not None:
            self._known[asked.resource] = one.name, asked.now
            self._known.move_to_end(asked.resource)
            if len(self._known) > LOCALITY_ENTRIES:
                self._known.popitem(last=False)
        return one


class _Replicas:
    __slots__ = ("modified", "names")

    def __init__(self, now: float) -> None:
        self.names: set[str] = set()
        self.modified = now


class ReplicatedLocality:
    """lblcr: a path has a set of real servers, which grows while they are overloaded and loses one in a quiet day."""

    def __init__(self) -> None:
        self._known: OrderedDict[bytes, _Replicas] = OrderedDict()

    def choose(self, candidates: Sequence[Candidate], asked: Asked) -> Candidate | None:
        """Return the least loaded of the path's set; a new one when all of those are overloaded."""
        replicas = self._known.get(asked.resource)
        if replicas is None:
            replicas = self._known[asked.resource] = _Replicas(asked.now)
            if len(self._known) > LOCALITY_ENTRIES:
                self._known.popitem(last=False)
        self._known.move_to_end(asked.resource)
        own = [one for one in candidates if one.name in replicas.names]
        replicas.names = {one.name for one in own}
        one = _least(own, _connections_by_weight)
        if len(own) > 1 and asked.now - replicas.modified > LOCALITY_SECONDS:
            replicas.names.discard(max(own, key=_connections_by_weight).name)
            replicas.modified = asked.now
        if one is None or _overloaded(one, candidates):
            one = _least(candidates, _connections_by_weight)
        if one is not None and one.name not in replicas.names:
            replicas.names.add(one.name)
            replicas.modified = asked.now
        return one


_CHOOSERS: Final[Mapping[Algorithm, Callable[[Callable[[], float]], Chooser]]] = {
    Algorithm.RR: lambda _: RoundRobin(),
    Algorithm.WRR: lambda _: WeightedRoundRobin(),
    Algorithm.LC: lambda _: Least(_connections),
    Algorithm.WLC: lambda _: Least(_connections_by_weight),
    Algorithm.SH: lambda _: SourceHashing(),
    Algorithm.DH: lambda _: DestinationHashing(),
    Algorithm.LBLC: lambda _: Locality(),
    Algorithm.LBLCR: lambda _: ReplicatedLocality(),
    Algorithm.SED: lambda _: Least(_expected_delay),
    Algorithm.NQ: lambda _: NeverQueue(),
    Algorithm.MH: lambda _: Maglev(),
    Algorithm.LEAST_INBOUND_BYTES: lambda _: LeastInboundBytes(),
    Algorithm.POWER_OF_TWO_CHOICES: PowerOfTwoChoices,
}
