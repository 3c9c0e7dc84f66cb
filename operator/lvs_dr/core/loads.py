"""What a node tells of its load, and what two such reports mean together. Pure.

Everything that grows is told as a counter: whoever asks works out rates between his own two questions, so that any
number of directors may ask, each at its own pace.
"""

from collections.abc import Iterable
from enum import StrEnum
from typing import Annotated, Final

from msgspec import Meta, Struct

MAXIMUM_PORTS: Final = 1024
MAXIMUM_INTERFACES: Final = 64
MAXIMUM_TROUBLES: Final = 8

_BITS_PER_MEGABIT: Final = 1_000_000
_LEAST_MILLISECONDS: Final = 100  # between two reports that make a rate

Counter = Annotated[int, Meta(ge=0, le=2**63 - 1)]


class Part(StrEnum):
    """What of a report could not be read."""

    CPU_PRESSURE = "CPUPressure"
    RUN_QUEUE = "RunQueue"
    NETWORK = "Network"
    SOCKETS = "Sockets"


class Sockets(StrEnum):
    """How much a report says of connections: counting them costs a look at each."""

    NONE = "none"
    COUNT = "count"
    BYTES = "bytes"


class PortLoad(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Connections to one local address and TCP port that somebody listens on."""

    address: Annotated[str, Meta(min_length=2, max_length=45)]  # a VIP under direct routing and tunnels
    port: Annotated[int, Meta(ge=1, le=65535)]
    established: Counter = 0
    received_bytes: Counter = 0  # of all connections so far, as far as one can see; it may begin anew


class InterfaceLoad(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A network interface with an address of the node's own."""

    name: Annotated[str, Meta(max_length=15)]
    received_bytes: Counter = 0
    sent_bytes: Counter = 0
    megabits: Annotated[int, Meta(ge=0, le=10**7)] = 0  # of the link, each second; 0: not known


class Trouble(Struct, frozen=True, rename="camel", omit_defaults=True):
    """Why a part could not be read."""

    part: Annotated[str, Meta(max_length=31)]  # a newer agent may name parts that are not in `Part`
    message: Annotated[str, Meta(max_length=256)]


class ServerLoad(Struct, frozen=True, rename="camel", omit_defaults=True):
    """The load of one node as its agent reads it."""

    node: Annotated[str, Meta(max_length=253)]
    milliseconds: Counter  # of the node's monotonic clock when it was read; a smaller one than before: it was booted
    age_milliseconds: Counter = 0  # since then, when it was sent
    processors: Annotated[int, Meta(ge=0, le=10**5)] = 0
    cpu_stall_microseconds: Counter = 0  # in which some task waited for a CPU (PSI)
    running: Annotated[int, Meta(ge=0, le=10**7)] = 0  # tasks that run or wait for a CPU
    interfaces: Annotated[tuple[InterfaceLoad, ...], Meta(max_length=MAXIMUM_INTERFACES)] = ()
    ports: Annotated[tuple[PortLoad, ...], Meta(max_length=MAXIMUM_PORTS)] = ()
    sockets: Sockets = Sockets.NONE  # what `ports` is about
    troubles: Annotated[tuple[Trouble, ...], Meta(max_length=MAXIMUM_TROUBLES)] = ()

    def trouble(self, part: Part) -> str:
        """Return why a part could not be read; "" when it was."""
        return next((each.message for each in self.troubles if each.part == part), "")

    @property
    def running_for_each_processor(self) -> float:
        """Tasks that run or wait, for each CPU."""
        return self.running / max(1, self.processors)

    def established(self, addresses: Iterable[str], ports: Iterable[int]) -> int:
        """Return the connections to these addresses and ports; no ports: to any."""
        where, which = frozenset(addresses), frozenset(ports)
        return sum(
            each.established for each in self.ports if each.address in where and (not which or each.port in which)
        )


def cpu_pressure(before: ServerLoad, now: ServerLoad) -> float | None:
    """Return the percent of the time between two reports in which some task waited for a CPU; None: no rate yet."""
    elapsed = _elapsed(before, now)
    stalled = now.cpu_stall_microseconds - before.cpu_stall_microseconds
    if not elapsed or stalled < 0:
        return None
    return min(100.0, stalled / 10 / elapsed)


def link_use(before: ServerLoad, now: ServerLoad, megabits: int = 0) -> float | None:
    """Return the percent of its link that the busiest interface used, in its busier direction; None: no rate yet.

    `megabits`: speed of links whose speed is not known; 0: those are left out.
    """
    elapsed = _elapsed(before, now)
    if not elapsed:
        return None
    earlier = {each.name: each for each in before.interfaces}
    found = []
    for each in now.interfaces:
        was, speed = earlier.get(each.name), each.megabits or megabits
        if was is None or not speed:
            continue
        moved = (each.received_bytes - was.received_bytes, each.sent_bytes - was.sent_bytes)
        if min(moved) >= 0:
            found.append(max(moved) * 8 * 1000 / elapsed / (speed * _BITS_PER_MEGABIT) * 100)
    return min(100.0, max(found)) if found else None


def _elapsed(before: ServerLoad, now: ServerLoad) -> int:
    """Return the milliseconds between two reports; 0: too few, or it was booted in between."""
    elapsed = now.milliseconds - before.milliseconds
    return elapsed if before.node == now.node and elapsed >= _LEAST_MILLISECONDS else 0
