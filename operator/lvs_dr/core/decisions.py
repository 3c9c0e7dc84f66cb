"""What the compiler returns: values that the controller carries out and the summary explains."""

from enum import StrEnum

from msgspec import Struct

from lvs_dr.core.objects import ForwardingMethod, Key
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import DirectorTableSpec, TableTunnel


class Verdict(Struct, frozen=True):
    """Accepted or refused, and why."""

    ok: bool
    reason: Reason
    message: str = ""


class Action(StrEnum):
    """What to do with the compiled object."""

    WRITE = "write"  # create or change to `spec`
    KEEP = "keep"  # leave what is there (also when nothing is there)
    DELETE = "delete"  # its VirtualService is gone, or has another VIP or group


class Member(Struct, frozen=True):
    """A real server that the VirtualService selects, and whether it is (or may become) a destination."""

    real_server: Key
    address: str  # "" when none is usable
    node: str
    verdict: Verdict  # ok=False: left out, with the reason; ok=True with WaitingForBackend: enters soon
    forwarding: ForwardingMethod = ForwardingMethod.DIRECT_ROUTING  # as it is to be
    tunnel: TableTunnel | None = None


class TableDecision(Struct, frozen=True):
    """The outcome of compiling one VirtualService: about the table for its VIP, and about the others it has."""

    key: Key  # the VirtualService
    action: Action
    accepted: Verdict
    spec: DirectorTableSpec | None = None  # for WRITE; for KEEP the spec that stays, if any
    members: tuple[Member, ...] = ()
    name: Key | None = None  # the DirectorTable's; None = that of the VirtualService
    others: tuple["TableDecision", ...] = ()
    sorry: Member | None = None  # the sorry server, where one is wished
    handover: Verdict | None = None  # of the table of the VIP before: whether the new one serves, or what that needs

    @property
    def table(self) -> Key:
        """Name of the DirectorTable that this is about."""
        return self.name or self.key

    @property
    def former(self) -> "TableDecision | None":
        """The decision about the table of the VIP before, while there is one."""
        return next((each for each in self.others if each.handover is not None), None)


class EventType(StrEnum):
    """Type of a Kubernetes Event."""

    NORMAL = "Normal"
    WARNING = "Warning"


class EventNote(Struct, frozen=True):
    """An Event worth telling: at most 1,024 characters of message."""

    type: EventType
    reason: Reason
    message: str


class Dirty(Struct, frozen=True):
    """What must be compiled again after a change."""

    services: frozenset[Key] = frozenset()
    real_servers: frozenset[Key] = frozenset()  # status only
    groups: frozenset[str] = frozenset()  # status only
    nodes: frozenset[str] = frozenset()
