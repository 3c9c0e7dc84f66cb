"""Which Events a change of status is worth: few, each about what a user would want to know at once."""

from lvs_dr.core.conditions import FALSE, TRUE, find, reason_of
from lvs_dr.core.decisions import EventNote, EventType
from lvs_dr.core.status import Condition, DirectorGroupStatus, RealServerStatus, VirtualServiceStatus

MAXIMUM_MESSAGE = 1024

Status = VirtualServiceStatus | RealServerStatus | DirectorGroupStatus


def events(before: Status | None, after: Status) -> tuple[EventNote, ...]:
    """Return what to tell: refusals, transitions of Ready (of a group: Elected), one note for a change of health.

    Three at most. A first status that is not ready yet is no event.
    """
    notes = [_refused(before, after), _transition(before, after)]
    if isinstance(after, VirtualServiceStatus) and isinstance(before, VirtualServiceStatus) and notes[1] is None:
        notes.append(_health(before, after))
    return tuple(note for note in notes if note is not None)


def _note(event_type: EventType, condition: Condition) -> EventNote:
    message = condition.message or f"{condition.type} is {condition.status.value}"
    return EventNote(event_type, reason_of(condition.reason), message[:MAXIMUM_MESSAGE])


def _refused(before: Status | None, after: Status) -> EventNote | None:
    new = find(after.conditions, "Accepted")
    old = find(before.conditions, "Accepted") if before is not None else None
    if new is None or new.status is not FALSE:
        return None
    if old is not None and (old.status, old.reason, old.observed_generation) == (
        new.status,
        new.reason,
        new.observed_generation,
    ):
        return None
    return _note(EventType.WARNING, new)


def _transition(before: Status | None, after: Status) -> EventNote | None:
    type_ = "Elected" if isinstance(after, DirectorGroupStatus) else "Ready"
    new = find(after.conditions, type_)
    old = find(before.conditions, type_) if before is not None else None
    if new is None or (old is not None and old.status is new.status):
        return None
    if new.status is TRUE:
        return _note(EventType.NORMAL, new)
    accepted = find(after.conditions, "Accepted")
    if old is None or old.status is not TRUE or (accepted is not None and accepted.reason == new.reason):
        return None  # on its way, or said already
    return _note(EventType.WARNING, new)


def _health(before: VirtualServiceStatus, after: VirtualServiceStatus) -> EventNote | None:
    """Tell a change of the healthy count of a service that was and is served (`Ready` names up to three servers)."""
    ready = find(after.conditions, "Ready")
    if ready is None or ready.status is not TRUE or before.real_servers.healthy == after.real_servers.healthy:
        return None
    worse = after.real_servers.healthy < before.real_servers.healthy
    return _note(EventType.WARNING if worse else EventType.NORMAL, ready)
