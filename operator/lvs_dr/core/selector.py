"""Label selectors, as Kubernetes defines them."""

from collections.abc import Mapping

from lvs_dr.core.objects import Operator, Requirement, Selector


def matches(selector: Selector, labels: tuple[tuple[str, str], ...]) -> bool:
    """Tell whether all labels and all expressions of the selector match; an empty selector matches everything."""
    if any(label not in labels for label in selector.match_labels):
        return False
    if not selector.match_expressions:
        return True
    mapping = dict(labels)
    return all(_holds(requirement, mapping) for requirement in selector.match_expressions)


def _holds(requirement: Requirement, labels: Mapping[str, str]) -> bool:
    value = labels.get(requirement.key)
    match requirement.operator:
        case Operator.IN:
            return value is not None and value in requirement.values
        case Operator.NOT_IN:
            return value is None or value not in requirement.values
        case Operator.EXISTS:
            return value is not None
        case Operator.DOES_NOT_EXIST:
            return value is None
