"""A table that is deleted by mistake and made anew does not drop its real servers for the moment in between."""

from msgspec.structs import replace

from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.agent.succession import INHERIT_SECONDS, Succession
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TablePort

ONE, TWO = (
    TableDestination(real_server=name, address=f"192.0.2.{at}", weight=100) for name, at in (("a", 1), ("b", 2))
)
TABLE = DirectorTableSpec(
    director_group="default",
    service_generation=1,
    address="192.0.2.100",
    ports=(TablePort(port=80, protocol=Protocol.TCP),),
    scheduler="rr",
    on_failure=OnFailure.REMOVE,
    destinations=(ONE, TWO),
)
EMPTY = replace(TABLE, destinations=())
OLD, NEW = TableVersion(7, "uid-1"), TableVersion(1, "uid-2")


def serving() -> Succession:
    """Return the state of an agent that serves TABLE."""
    succession = Succession()
    tables = {"default/web": TABLE}
    assert succession.follow(tables, {"default/web": OLD}, 0.0) is tables
    return succession


def test_a_new_object_keeps_what_the_old_one_served() -> None:
    """The empty successor keeps both, as pending, and is not settled."""
    succession = serving()
    found = succession.follow({"default/web": EMPTY}, {"default/web": NEW}, 1.0)
    assert found["default/web"].pending == (ONE, TWO)
    assert succession.unsettled == {"default/web"}


def test_it_ends_when_all_have_entered() -> None:
    """What has entered is inherited no more; when nothing is left the table is as written."""
    succession = serving()
    succession.follow({"default/web": EMPTY}, {"default/web": NEW}, 1.0)
    half = {"default/web": replace(EMPTY, destinations=(ONE,))}
    assert succession.follow(half, {"default/web": TableVersion(2, "uid-2")}, 2.0)["default/web"].pending == (TWO,)
    full = {"default/web": TABLE}
    assert succession.follow(full, {"default/web": TableVersion(3, "uid-2")}, 3.0) is full
    assert succession.unsettled == frozenset()


def test_it_ends_by_itself() -> None:
    """A successor that is meant to be smaller is, after a moment."""
    succession = serving()
    tables = {"default/web": EMPTY}
    succession.follow(tables, {"default/web": NEW}, 1.0)
    assert succession.follow(tables, {"default/web": NEW}, 1.0 + INHERIT_SECONDS) is tables
    assert succession.unsettled == frozenset()


def test_an_ordinary_change_inherits_nothing() -> None:
    """The same object with fewer destinations drops them at once; so does another VIP."""
    succession = serving()
    tables = {"default/web": EMPTY}
    assert succession.follow(tables, {"default/web": TableVersion(8, "uid-1")}, 1.0) is tables
    succession = serving()
    moved = {"default/web": replace(EMPTY, address="192.0.2.101")}
    assert succession.follow(moved, {"default/web": NEW}, 1.0) is moved
