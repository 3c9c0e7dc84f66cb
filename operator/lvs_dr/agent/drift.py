"""Drift: the same change made again and again means that somebody else keeps undoing it."""

import math
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from typing import Final

import msgspec

from lvs_dr.agent.words_settings import describe_setting
from lvs_dr.core.kernel import (
    AddressOp,
    DaemonOp,
    DestinationOp,
    Failure,
    GuardOp,
    GuePortOp,
    Op,
    RouteOp,
    ServiceKey,
    ServiceOp,
    SysctlOp,
    TimeoutOp,
    TunnelOp,
)
from lvs_dr.core.settings import in_words, is_shared

FREE_REPAIRS = 4  # made at once; more within the window and we step back
FIRST_PAUSE_SECONDS = 2.0
LONGEST_PAUSE_SECONDS = 60.0
WINDOW_SECONDS = 120.0  # a repair that held this long was not fought over
_NO_DRAWER: Final = object()


class _Record(msgspec.Struct, gc=False):
    op: Op
    at: float
    repeats: int = 0
    not_before: float = 0.0
    asked: float = 0.0  # when it was last held back


_NOTHING: Final[Mapping[object, _Record]] = {}


def describe(op: Op) -> str:
    """Return an operation's entry in words."""
    if isinstance(op, SysctlOp):
        return in_words(op)
    if isinstance(op, TimeoutOp | TunnelOp | GuePortOp | DaemonOp | GuardOp):
        return describe_setting(op)
    if isinstance(op, RouteOp):
        return f"blackhole route {op.key.address}"
    if isinstance(op, AddressOp):
        return f"address {op.key.address} on {op.key.interface}"
    if isinstance(op, ServiceOp):
        return f"IPVS service {service_text(op.key)}"
    return f"IPVS destination {op.key.address}:{op.key.port} of {service_text(op.key.service)}"


def service_text(key: ServiceKey) -> str:
    """Return an IPVS service as people write it."""
    if key.mark:
        return f"firewall mark {key.mark}"
    protocol = {6: "TCP", 17: "UDP", 132: "SCTP"}.get(key.protocol, str(key.protocol))
    host = f"[{key.address}]" if ":" in key.address else key.address
    return f"{protocol} {host}:{key.port}"


class Drift:
    """Counts repairs, and holds back those that another writer keeps undoing.

    A pass may carry out thousands of operations, of which hardly any is ever fought over: those few are kept apart.
    """

    def __init__(self) -> None:
        self._records: dict[object, dict[object, _Record]] = {}  # by drawer (`_drawer`) and key
        self._fought: dict[tuple[type, object], _Record] = {}  # those that were to wait at some time
        self._oldest = math.inf  # no record is older
        self.repairs = 0

    def admit(self, ops: Iterable[Op], now: float) -> tuple[tuple[Op, ...], tuple[Op, ...]]:
        """Return the operations to carry out, and those to hold back for now."""
        if not any(now < record.not_before for record in self._fought.values()):
            return tuple(ops), ()
        admitted: list[Op] = []
        withheld: list[Op] = []
        missing: set[ServiceKey] = set()
        for op in ops:
            record = self._records.get(_drawer(op), _NOTHING).get(op.key)
            late = record is not None and record.op == op and now < record.not_before
            late = late or (isinstance(op, DestinationOp) and op.key.service in missing)
            if late and isinstance(op, ServiceOp):
                missing.add(op.key)
            if late and record is not None:
                record.asked = now
            (withheld if late else admitted).append(op)
        return tuple(admitted), tuple(withheld)

    def applied(self, ops: Sequence[Op], failures: Sequence[Failure], repairs: AbstractSet[Op], now: float) -> None:
        """Note what was carried out. `repairs`: what the plan knows to have been lost."""
        refused = {failure.op for failure in failures}
        self._oldest = min(self._oldest, now)
        last, records = _NO_DRAWER, dict[object, _Record]()
        for op in ops:
            if refused and op in refused:
                continue  # a refused change is a failure, told as such
            drawer = _drawer(op)
            if drawer is not last:
                last = drawer
                records = self._records.setdefault(drawer, {})
            fresh = _Record(op, now)
            record = records.setdefault(op[1], fresh)
            if record is fresh or record.op != op:
                if repairs and op in repairs:
                    self.repairs += 1
                if record is not fresh:
                    records[op[1]] = fresh
                    self._fought.pop((type(op), op[1]), None)
                continue
            self.repairs += 1
            self._repeated(record, now)

    def _repeated(self, record: _Record, now: float) -> None:
        record.repeats = record.repeats + 1 if now - record.at < WINDOW_SECONDS else 1
        record.at = now
        excess = record.repeats - FREE_REPAIRS
        if excess < 0:
            return
        key = record.op.key
        self._fought[type(record.op), key] = record
        if is_shared(key):
            record.not_before = math.inf  # it has another owner: until the wish changes
        else:
            record.not_before = now + min(LONGEST_PAUSE_SECONDS, FIRST_PAUSE_SECONDS * 2.0 ** min(excess, 10))

    def contested(self, now: float) -> tuple[str, ...]:
        """Return what is fought over, in words, sorted; entries that nobody fights over are forgotten."""
        return tuple(sorted(words for found in self.contested_at(now).values() for words in found))

    def contested_at(self, now: float) -> dict[str, tuple[str, ...]]:
        """Return the same by VIP; "" where it is no single VIP's (settings, firewall marks)."""
        if now - self._oldest > WINDOW_SECONDS:
            self._forget(now)
        found: dict[str, list[str]] = {}
        for record in self._fought.values():
            if record.repeats > FREE_REPAIRS and not is_shared(record.op.key):
                found.setdefault(_address(record.op), []).append(describe(record.op))
        return {address: tuple(sorted(words)) for address, words in sorted(found.items())}

    def conflicts(self) -> tuple[str, ...]:
        """Return the shared settings that were given up because somebody else keeps setting them, in words, sorted."""
        found = [record for record in self._fought.values() if record.not_before == math.inf]
        return tuple(sorted(describe(record.op) for record in found))

    def _forget(self, now: float) -> None:
        """Forget what was neither carried out nor asked for lately."""
        self._oldest = math.inf
        for drawer, records in list(self._records.items()):
            kept: dict[object, _Record] = {}
            for key, record in records.items():
                last = max(record.at, record.asked)
                if now - last <= WINDOW_SECONDS:
                    kept[key] = record
                    self._oldest = min(self._oldest, last)
                elif self._fought:
                    self._fought.pop((type(record.op), key), None)
            if kept:
                self._records[drawer] = kept
            else:
                del self._records[drawer]


def _drawer(op: Op) -> object:
    """Return where the record of an operation is kept: one mapping of all would grow in steps that take long."""
    return op.key.service if type(op) is DestinationOp else type(op)


def _address(op: Op) -> str:
    """Return the VIP that an operation is about, "" where it is about none or one that its key does not name."""
    if isinstance(op, DestinationOp):
        return op.key.service.address
    return op.key.address if isinstance(op, ServiceOp | AddressOp | RouteOp) else ""
