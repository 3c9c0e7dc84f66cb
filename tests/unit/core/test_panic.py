"""When nearly all real servers fail at once: connections go to all of them, and nobody who serves is ever taken out."""

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.health import CheckKey, Health, HealthView
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.objects import OnFailure
from lvs_dr.core.panic import panics
from lvs_dr.core.table import DirectorTableSpec, TableDestination
from lvs_dr.core.table_entries import EntriesMemory
from tests.unit.core.plan_cases import CHECK, VIPS, director, service, table

UP, DOWN, UNKNOWN = Health.UP, Health.DOWN, Health.UNKNOWN


def pool(weights: list[int], threshold: int, on_failure: OnFailure = OnFailure.REMOVE) -> DirectorTableSpec:
    """Return a table with a real server of each weight."""
    plain = table(VIPS[0], check=CHECK, on_failure=on_failure)
    entries = tuple(TableDestination(f"s{n:03}", f"192.0.2.{n + 10}", weight) for n, weight in enumerate(weights))
    return replace(plain, destinations=entries, panic_threshold_percent=threshold)


def health(given: DirectorTableSpec, verdicts: list[Health]) -> HealthView:
    """Return what the checks say, in the order of the destinations."""
    return {
        CheckKey(entry.address, 8443, CHECK): verdict
        for entry, verdict in zip(given.destinations, verdicts, strict=False)
    }


def wanted(given: DirectorTableSpec, verdicts: list[Health], memory: EntriesMemory | None = None) -> Desired:
    """Return what a director wants."""
    view = health(given, verdicts)
    return desired(director(), {"a/web": given}, view, Ledger("boot"), held=frozenset(VIPS), reserved={}, memory=memory)


def weights(found: Desired) -> dict[str, int]:
    """Return the last byte of the address -> weight."""
    return {key.address.rsplit(".", 1)[1]: config.weight for key, config in found.destinations.items()}


def test_all_serve_with_their_weights_when_too_few_are_healthy() -> None:
    """A checker in trouble would take the whole service down."""
    given = pool([100, 50, 7, 0], threshold=50)
    calm = wanted(given, [UP, UP, DOWN, UP])
    assert weights(calm) == {"10": 100, "11": 50, "13": 0}
    assert not calm.panic
    found = wanted(given, [UP, DOWN, DOWN, UP])
    assert weights(found) == {"10": 100, "11": 50, "12": 7, "13": 0}
    assert found.panic == {service()}
    assert not found.failed
    quiesced = wanted(pool([100, 50, 7], 50, OnFailure.QUIESCE), [DOWN, DOWN, DOWN])
    assert weights(quiesced) == {"10": 100, "11": 50, "12": 7}


def test_it_is_off_unless_it_is_asked_for() -> None:
    """A dead real server would get connections of users who never wanted that."""
    assert weights(wanted(pool([100, 50], threshold=0), [DOWN, DOWN])) == {}


def test_what_is_not_known_yet_is_no_reason() -> None:
    """A new service would send to one that never worked, because the others have no result yet."""
    found = wanted(pool([100] * 4, threshold=50), [DOWN, UNKNOWN, UNKNOWN, UNKNOWN])
    assert not found.panic
    assert "10" not in weights(found)


def test_one_that_comes_and_goes_does_not_change_all_weights() -> None:
    """Twenty real servers would enter and leave every few seconds."""
    given, memory = pool([100] * 20, threshold=50), EntriesMemory()

    def panic(healthy: int) -> bool:
        return bool(wanted(given, [UP] * healthy + [DOWN] * (20 - healthy), memory).panic)

    assert [panic(healthy) for healthy in (10, 9, 10, 11, 12, 11, 10, 9)] == [
        False, True, True, True, False, False, False, True,
    ]  # fmt: skip


def test_a_changed_table_does_not_end_it() -> None:
    """An edit during an outage would take half of the servers out, and put them back."""
    given, memory = pool([100] * 20, threshold=50), EntriesMemory()
    assert wanted(given, [UP] * 9 + [DOWN] * 11, memory).panic
    edited = replace(given, service_generation=2)
    assert wanted(edited, [UP] * 11 + [DOWN] * 9, memory).panic
    assert not wanted(edited, [UP] * 12 + [DOWN] * 8, memory).panic


@given(st.lists(st.sampled_from([UP, DOWN, UNKNOWN]), max_size=30), st.integers(0, 100))
def test_it_begins_and_ends_as_told(verdicts: list[Health], threshold: int) -> None:
    """It would never end, or never begin, or end the moment it begins."""
    new, running = (panics(threshold, verdicts, already=already) for already in (False, True))
    if DOWN not in verdicts or not threshold:
        assert not new
        assert not running
    elif all(each is DOWN for each in verdicts):
        assert new
    assert running or not new


@given(
    st.lists(st.tuples(st.sampled_from([0, 1, 100]), st.sampled_from([UP, DOWN, UNKNOWN])), max_size=12),
    st.integers(0, 100),
    st.sampled_from(OnFailure),
)
def test_panic_takes_nobody_out(servers: list[tuple[int, Health]], threshold: int, on_failure: OnFailure) -> None:
    """A threshold would cost the last real server that serves; or send to one that is drained."""
    sizes, verdicts = [weight for weight, _ in servers], [verdict for _, verdict in servers]
    without = weights(wanted(pool(sizes, 0, on_failure), verdicts))
    with_it = weights(wanted(pool(sizes, threshold, on_failure), verdicts))
    for name, weight in without.items():
        assert with_it[name] >= weight
    for number, size in enumerate(sizes):
        assert with_it.get(str(number + 10), 0) <= size
