"""Every reason that a user may meet is explained."""

import re
from pathlib import Path

from lvs_dr.core.reasons import Reason

PAGE = Path(__file__).parents[3] / "docs" / "reasons.md"


def test_every_reason_is_documented_and_nothing_else() -> None:
    """Who looks up a reason from `kubectl describe` must find what to do."""
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| (.+?) \|$", PAGE.read_text(), re.MULTILINE)
    assert sorted(row[0] for row in rows) == sorted(reason.value for reason in Reason)
    assert all(meaning.strip() and cure.strip() for _, meaning, cure in rows)
