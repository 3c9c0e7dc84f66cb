"""MassRemovalHeld: most of a node's VIPs do not vanish in one relist."""

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.hold import HOLD_SECONDS, Hold, decide, held_spec, held_tables, node_addresses
from lvs_dr.core.node import BackendTunnel, DirectorRole, LVSNodeSpec, VirtualRouter, Vrrp
from lvs_dr.core.objects import TunnelType
from lvs_dr.core.table import TableTunnel
from tests.unit.core.plan_cases import EMPTY, VIPS, table

A, B, C = VIPS
ALL = frozenset(VIPS)


def role(*addresses: str, tables: tuple[str, ...] = (), id_: int = 51) -> DirectorRole:
    """Return the role of a director that is told VIPs in one virtual router."""
    return DirectorRole("default", tables=tables, vrrp=Vrrp(routers=(VirtualRouter(id_, 250, addresses),)))


BEFORE = LVSNodeSpec(decided=True, director=role(A, B, tables=("a/web",)), backend_addresses=(A, C))


def relist(
    after: frozenset[str], hold: Hold | None = None, *, before: frozenset[str] = ALL, now: float = 0.0
) -> Hold | None:
    """Return the hold after a relist."""
    return decide(before, after, hold, relisted=True, released=False, now=now)


def test_most_vips_vanishing_in_one_relist_are_held() -> None:
    """A restored backup or a confused controller would take a serving node down."""
    assert relist(frozenset()) == Hold(ALL, 0.0)
    assert relist(frozenset({A})) == Hold(frozenset({B, C}), 0.0)


def test_few_vips_vanishing_are_believed() -> None:
    """Ordinary deletions would wait for minutes."""
    assert relist(frozenset({A, B})) is None
    assert relist(frozenset(), before=frozenset({A})) is None
    assert relist(frozenset({"192.0.2.1", "192.0.2.2", A, B}), before=ALL | {"192.0.2.1", "192.0.2.2"}) is None


def test_what_a_watch_tells_is_believed() -> None:
    """`kubectl delete` of two VirtualServices would wait for minutes."""
    assert decide(ALL, frozenset(), None, relisted=False, released=False, now=0.0) is None


def test_a_hold_ends_after_its_time_or_by_annotation() -> None:
    """A meant removal would never happen."""
    hold = relist(frozenset())
    assert relist(frozenset(), hold, now=HOLD_SECONDS - 1) == hold
    assert decide(ALL, frozenset(), hold, relisted=False, released=False, now=HOLD_SECONDS) is None
    assert decide(ALL, frozenset(), hold, relisted=True, released=True, now=1.0) is None


def test_a_relist_at_the_end_of_a_hold_does_not_start_it_again() -> None:
    """A hold would be renewed by every relist, for ever."""
    assert relist(frozenset(), relist(frozenset()), now=HOLD_SECONDS) is None


def test_vips_that_come_back_are_released_from_the_hold() -> None:
    """A VIP would be kept in an old form although its object is back."""
    assert relist(frozenset({A, B}), relist(frozenset())) == Hold(frozenset({C}), 0.0)
    assert relist(ALL, relist(frozenset())) is None


def test_held_vips_keep_role_tables_and_loopback() -> None:
    """A held VIP would lose its services or its place on lo all the same."""
    tables = {"a/web": table(A), "b/web": table(B)}
    hold = Hold(frozenset({A, C}), 0.0)
    spec = held_spec(hold, BEFORE, EMPTY)
    assert spec.backend_addresses == (A, C)
    assert spec.director == role(A)
    assert held_tables(hold, BEFORE, tables, {}) == {"a/web": tables["a/web"]}
    assert held_spec(None, BEFORE, EMPTY) == EMPTY
    smaller = LVSNodeSpec(decided=True, director=role(B))
    assert held_spec(hold, BEFORE, smaller).director == role(A, B)
    other = held_spec(hold, BEFORE, LVSNodeSpec(decided=True, director=role(B, id_=61))).director
    assert other is not None
    assert [(each.id, each.addresses) for each in other.vrrp.routers] == [(51, (A,)), (61, (B,))]
    assert other.addresses == (A, B)
    assert node_addresses(BEFORE, tables) == ALL
    assert node_addresses(EMPTY, tables) == frozenset()


def test_held_vips_keep_their_tunnels() -> None:
    """A held VIP on lo would get no packets, because the end of its tunnel is gone."""
    old, new = BackendTunnel("192.0.2.7", TableTunnel()), BackendTunnel("192.0.2.7", TableTunnel(TunnelType.GRE))
    before = LVSNodeSpec(decided=True, backend_addresses=(A, C), backend_tunnels=(old,))
    after = LVSNodeSpec(decided=True, backend_addresses=(B,), backend_tunnels=(new,))
    assert held_spec(Hold(frozenset({A, C}), 0.0), before, EMPTY).backend_tunnels == (old,)
    assert held_spec(Hold(frozenset({A}), 0.0), before, after).backend_tunnels == (old, new)
    assert held_spec(Hold(frozenset({"192.0.2.9"}), 0.0), before, after).backend_tunnels == (new,)
    assert held_spec(None, before, EMPTY).backend_tunnels == ()


@given(st.frozensets(st.sampled_from("abcdef")), st.frozensets(st.sampled_from("abcdef")))
def test_no_relist_takes_more_than_half_at_once(before: frozenset[str], after: frozenset[str]) -> None:
    """Whatever a relist says, at least half of the VIPs (or all but one) stay."""
    hold = relist(after, before=before)
    kept = before & (after | (hold.addresses if hold else frozenset()))
    assert len(before - kept) <= max(1, len(before) // 2)
