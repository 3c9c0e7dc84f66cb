"""Destinations kept service by service say what one mapping of all would say."""

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.destination_diff import destination_diff
from lvs_dr.core.destinations import Destinations, DestinationSet
from lvs_dr.core.diff import diff
from lvs_dr.core.kernel import DestinationConfig, DestinationKey, ServiceKey
from lvs_dr.core.ledger import Ledger, OwnDestinations, destination_listing

SERVICES = [ServiceKey("192.0.2.100", port, 6) for port in (80, 443, 8443)]
keys = st.builds(
    DestinationKey, st.sampled_from(SERVICES), st.sampled_from(("192.0.2.21", "192.0.2.22")), st.sampled_from((0, 80))
)
configs = st.builds(DestinationConfig, st.integers(0, 2))
tables = st.dictionaries(keys, configs, max_size=8)


@given(tables, tables, st.sets(keys, max_size=8), tables, st.sets(st.sampled_from(SERVICES)))
def test_the_comparison_is_the_one_of_all_at_once(
    wanted: dict[DestinationKey, DestinationConfig],
    actual: dict[DestinationKey, DestinationConfig],
    ours: set[DestinationKey],
    adopted: dict[DestinationKey, DestinationConfig],
    alone: set[ServiceKey],
) -> None:
    """Somebody else's destination would be taken for ours, or one of ours be forgotten."""
    adopted = {key: config for key, config in adopted.items() if key not in ours}
    whole = diff(wanted, actual, frozenset(ours), adopted, lambda key: key.service in alone)
    ours_before, adopted_before = DestinationSet.of(ours), Destinations.of(adopted.items())
    grouped = destination_diff(
        Destinations.of(wanted.items()),
        Destinations.of(actual.items()),
        ours_before,
        adopted_before,
        told=SERVICES,
        left_alone=lambda service: service in alone,
    )
    assert (grouped.add, grouped.edit, grouped.adopted) == (whole.add, whole.edit, whole.adopted)
    assert (set(grouped.delete), set(grouped.foreign)) == (set(whole.delete), set(whole.foreign))
    assert (grouped.ours, grouped.lost) == (whole.ours, whole.lost)
    assert (grouped.ours is ours_before) == (whole.ours == ours), "what did not change is told by identity"
    assert (grouped.adopted is adopted_before) == (whole.adopted == adopted)
    assert all(grouped.ours.groups.values()), "a service without destinations is not listed"  # type: ignore[attr-defined]


@given(tables, tables)
def test_groups_read_like_one_mapping(
    one: dict[DestinationKey, DestinationConfig], other: dict[DestinationKey, DestinationConfig]
) -> None:
    """A destination would be looked for in vain, or two tables taken for the same."""
    grouped, again = Destinations.of(one.items()), Destinations.of(other.items())
    assert dict(grouped) == one
    assert (len(grouped), bool(grouped)) == (len(one), bool(one))
    assert (grouped == again) == (one == other) == (grouped == other)
    assert [grouped.get(key) for key in other] == [one.get(key) for key in other]
    assert [key in grouped for key in other] == [key in one for key in other]
    assert DestinationSet.of(one) | DestinationSet.of(other) == one.keys() | other.keys()
    assert "192.0.2.21" not in grouped


def test_only_the_service_that_changed_is_listed_anew() -> None:
    """The ledger of ten thousand destinations would be written out again for one."""
    one, two = (OwnDestinations(service, (("192.0.2.21", 80),)) for service in SERVICES[:2])
    ledger = Ledger("boot", destinations=(one, two))
    assert destination_listing(ledger.own_destinations, ledger) is ledger.destinations
    more = ledger.own_destinations | {DestinationKey(SERVICES[1], "192.0.2.9", 80)}
    listed = destination_listing(more, ledger)
    assert listed[0] is one
    assert listed[1] == OwnDestinations(SERVICES[1], (("192.0.2.21", 80), ("192.0.2.9", 80)))
