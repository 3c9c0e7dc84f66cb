"""Selectors decide which machines get traffic: they must mean what Kubernetes means."""

import pytest

from lvs_dr.core.objects import Operator, Requirement, Selector
from lvs_dr.core.selector import matches

LABELS = (("pool", "web"), ("zone", "a"))


@pytest.mark.parametrize(
    ("selector", "expected"),
    [
        (Selector(), True),
        (Selector(match_labels=(("pool", "web"),)), True),
        (Selector(match_labels=(("pool", "web"), ("zone", "b"))), False),
        (Selector(match_expressions=(Requirement("zone", Operator.IN, ("a", "b")),)), True),
        (Selector(match_expressions=(Requirement("zone", Operator.IN, ("b",)),)), False),
        (Selector(match_expressions=(Requirement("zone", Operator.NOT_IN, ("b",)),)), True),
        (Selector(match_expressions=(Requirement("zone", Operator.NOT_IN, ("a",)),)), False),
        (Selector(match_expressions=(Requirement("rack", Operator.NOT_IN, ("1",)),)), True),
        (Selector(match_expressions=(Requirement("zone", Operator.EXISTS),)), True),
        (Selector(match_expressions=(Requirement("rack", Operator.EXISTS),)), False),
        (Selector(match_expressions=(Requirement("rack", Operator.DOES_NOT_EXIST),)), True),
        (Selector(match_expressions=(Requirement("zone", Operator.DOES_NOT_EXIST),)), False),
        (Selector((("pool", "web"),), (Requirement("zone", Operator.IN, ("b",)),)), False),
    ],
)
def test_selector_means_what_kubernetes_means(selector: Selector, expected: bool) -> None:  # noqa: FBT001
    """Else a real server gets traffic it should not, or none."""
    assert matches(selector, LABELS) is expected
