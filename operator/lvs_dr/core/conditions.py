"""Conditions as the Kubernetes API conventions want them."""

from collections.abc import Iterable

from lvs_dr.core.decisions import Verdict
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, ConditionStatus

MAXIMUM_MESSAGE = 2048

TRUE = ConditionStatus.TRUE
FALSE = ConditionStatus.FALSE
UNKNOWN = ConditionStatus.UNKNOWN


class Finding(Verdict, frozen=True):
    """A verdict that may also be unknown."""

    unknown: bool = False

    @property
    def status(self) -> ConditionStatus:
        """Value of the condition."""
        if self.unknown:
            return UNKNOWN
        return TRUE if self.ok else FALSE


def well(reason: Reason, message: str = "") -> Finding:
    """Return that all is well."""
    return Finding(True, reason, message)


def wrong(reason: Reason, message: str) -> Finding:
    """Return that something is wrong, and what to do."""
    return Finding(False, reason, message)


def unknown(reason: Reason, message: str) -> Finding:
    """Return that nobody can tell, and why."""
    return Finding(False, reason, message, unknown=True)


def conditions(
    findings: Iterable[tuple[str, Finding]], generation: int, previous: Iterable[Condition], now: str
) -> tuple[Condition, ...]:
    """Return conditions by type. The time of transition is `now` (RFC 3339) where the status changed."""
    before = {condition.type: condition for condition in previous}
    return tuple(
        Condition(
            type=type_,
            status=finding.status,
            reason=finding.reason.value,
            message=finding.message[:MAXIMUM_MESSAGE],
            observed_generation=generation,
            last_transition_time=_since(before.get(type_), finding.status, now),
        )
        for type_, finding in findings
    )


def _since(before: Condition | None, status: ConditionStatus, now: str) -> str:
    return before.last_transition_time if before is not None and before.status is status else now


def find(of: Iterable[Condition], type_: str) -> Condition | None:
    """Return the condition of a type."""
    return next((condition for condition in of if condition.type == type_), None)


def is_true(of: Iterable[Condition], type_: str) -> bool:
    """Tell whether there is such a condition and it is True."""
    condition = find(of, type_)
    return condition is not None and condition.status is TRUE


def reason_of(text: str) -> Reason:
    """Return a reason that an agent reported; one of a newer version becomes KernelRefused, its message says more."""
    try:
        return Reason(text)
    except ValueError:
        return Reason.KERNEL_REFUSED
