"""What is remembered of tables is what would be worked out afresh."""

from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.desired import desired
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.objects import OnFailure
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_entries import EntriesMemory
from tests.unit.core.plan_cases import CHECK, RIPS, VIPS, director, table

PORTS = (80, 443)
TABLES = st.builds(
    table,
    st.sampled_from(VIPS[:2]),
    ports=st.lists(st.sampled_from(PORTS), min_size=1, max_size=2, unique=True),
    rips=st.lists(st.sampled_from(RIPS[4]), max_size=3, unique=True),
    check=st.sampled_from([CHECK, CHECK, None]),
    on_failure=st.sampled_from(OnFailure),
    paused=st.sampled_from([False, False, True]),
)
HEALTH = st.dictionaries(
    st.builds(CheckKey, st.sampled_from(RIPS[4]), st.sampled_from(PORTS), st.just(CHECK)), st.sampled_from(Health)
)
NAMES = ("a/one", "a/two", "b/three")


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(NAMES), st.one_of(st.none(), TABLES), HEALTH, st.booleans()), max_size=12))
def test_remembered_entries_are_those_made_afresh(
    changes: list[tuple[str, DirectorTableSpec | None, dict[CheckKey, Health], bool]],
) -> None:
    """A changed table or a failed check would not reach the kernel."""
    memory, tables, health = EntriesMemory(), dict[str, DirectorTableSpec](), dict[CheckKey, Health]()
    for name, changed, checked, told in changes:
        tables = {key: one for key, one in tables.items() if key != name}
        if changed is not None:
            tables[name] = changed
        if told:
            health = checked
        known, fresh = (
            desired(director(), tables, health, Ledger("boot"), held=frozenset(VIPS), reserved={}, memory=each)
            for each in (memory, None)
        )
        assert known == fresh
