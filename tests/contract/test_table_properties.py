"""Properties of every change to the IPVS tables: the same cases on the fake and on a real kernel."""

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.desired import Desired
from tests.contract.conftest import REAL
from tests.contract.table_cases import Found, found, wishes
from tests.contract.walk import empty, walk

PROPERTY = settings(
    max_examples=40 if REAL else 100,
    deadline=None,  # fails on a busy machine, not on a bug
    derandomize=REAL,  # the real kernel sees the same cases every time
    database=None,
    phases=[Phase.generate] if REAL else [Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],  # emptied before each case
)


@PROPERTY
@given(found(), st.lists(wishes(), min_size=1, max_size=3))
def test_every_table_is_reached_without_loss_and_undone_exactly(
    kernel: Kernel, theirs: Found, wanted: list[Desired]
) -> None:
    """A user would lose connections in the middle of a change, or somebody else his entries."""
    empty(kernel)
    walk(kernel, theirs, wanted)
