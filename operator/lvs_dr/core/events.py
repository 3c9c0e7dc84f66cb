"""Which Events a change of status is worth: few, each about what a user would want to know at once."""

from lvs_dr.core.conditions import FALSE, TRUE, find, reason_of
from lvs_dr.core.decisions import EventNote, EventType
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, DirectorGroupStatus, RealServerStatus, VirtualServiceStatus

MAXIMUM_MESSAGE = 1024

Status = VirtualServiceStatus | RealServerStatus | DirectorGroupStatus


def events(before: Status | None, after: Status) -> tuple[EventNote, ...]:
    """Return what to tell: refusals, transitions of Ready (of a group: Elected), takeovers, a change of health.

    Of a group one for each virtual router whose Active changed, of the others four at most. A first status that is not
    ready yet is no event.
    """
    notes = [_refused(before, after), _transition(before, after)]
    if isinstance(after, VirtualServiceStatus) and isinstance(before, VirtualServiceStatus):
        notes.append(_moved(before, after))
        if notes[1] is None:
            notes.append(_health(before, after))
    if isinstance(after, RealServerStatus):
        notes.append(_drained(before, after))
    if isinstance(after, DirectorGroupStatus) and isinstance(before, DirectorGroupStatus):
        notes += _takeovers(before, after)
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


def _drained(before: Status | None, after: RealServerStatus) -> EventNote | None:
    new = find(after.conditions, "Drained")
    old = find(before.conditions, "Drained") if before is not None else None
    done = new is not None and new.status is TRUE and old is not None and old.status is FALSE
    return _note(EventType.NORMAL, new) if done and new is not None else None


def _moved(before: VirtualServiceStatus, after: VirtualServiceStatus) -> EventNote | None:
    """Tell that another director took the VIP over, or another VIP. Who is the first to hold it is told by `Ready`."""
    ready = find(after.conditions, "Ready")
    if _changes_vip(before):
        done = ready is not None and ready.status is TRUE and not _changes_vip(after)
        return _note(EventType.NORMAL, ready) if done and ready is not None else None
    old, new = before.active_director, after.active_director
    if not old or not new or old == new:
        return None
    return _took_over(f"director {new} is Active for the VIP, after {old}", after.active_reason)


def _changes_vip(status: VirtualServiceStatus) -> bool:
    ready = find(status.conditions, "Ready")
    return ready is not None and ready.reason in (Reason.CHANGING_ADDRESS, Reason.GAVE_UP_WAITING)


def _takeovers(before: DirectorGroupStatus, after: DirectorGroupStatus) -> list[EventNote]:
    """Tell of each virtual router whose Active director changed."""
    known = {(each.id, each.family): each for each in before.virtual_routers}
    found = []
    for each in after.virtual_routers:
        old = known[each.id, each.family].active if (each.id, each.family) in known else ""
        what = f"virtual router {each.id} (IPv{each.family})"
        if each.active and each.active != old:
            found.append(
                _took_over(f"{what}: director {each.active} is Active{f', after {old}' if old else ''}", each.message)
            )
        elif old and not each.active:
            text = f"{what}: no director is Active any more, after {old}: {each.message}"
            found.append(EventNote(EventType.WARNING, Reason.NOBODY_ACTIVE, text[:MAXIMUM_MESSAGE]))
    return found


def _took_over(text: str, reason: str) -> EventNote:
    return EventNote(EventType.NORMAL, Reason.TOOK_OVER, (f"{text}: {reason}" if reason else text)[:MAXIMUM_MESSAGE])


def _health(before: VirtualServiceStatus, after: VirtualServiceStatus) -> EventNote | None:
    """Tell a change of the healthy count of a service that was and is served (`Ready` names up to three servers)."""
    ready = find(after.conditions, "Ready")
    if ready is None or ready.status is not TRUE or before.real_servers.healthy == after.real_servers.healthy:
        return None
    worse = after.real_servers.healthy < before.real_servers.healthy
    return _note(EventType.WARNING if worse else EventType.NORMAL, ready)
