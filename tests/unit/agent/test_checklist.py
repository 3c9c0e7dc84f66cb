"""Thousands of checks and a change of one table: work is counted, by how often a check's key is hashed."""

from msgspec import structs

from lvs_dr.agent.health.checklist import CheckList
from lvs_dr.agent.health.prober import Prober
from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.table import DirectorTableSpec
from tests.unit.core.plan_cases import CHECK, table

TABLES, SERVERS = 100, 10
NOTHING = KernelState()


class Text(str):
    """Part of a check's settings that counts how often it is hashed: once for each time that a check's key is."""

    __slots__ = ()
    hashed = 0

    def __hash__(self) -> int:
        Text.hashed += 1
        return super().__hash__()


COUNTED = TableHealthCheck(TcpCheck(send=Text("00")), 2, 1, 2, 3)


def tables() -> dict[str, DirectorTableSpec]:
    """Return tables with real servers of their own."""
    return {
        f"web/t{number}": table(check=COUNTED, rips=[f"10.{number}.0.{n}" for n in range(SERVERS)])
        for number in range(TABLES)
    }


def taken() -> int:
    """Return how many hashes were made since the last call."""
    count, Text.hashed = Text.hashed, 0
    return count


async def never(_key: CheckKey, _source: str) -> str:
    """Stand in for checks that nobody runs here."""
    return ""


async def test_what_asks_for_the_same_checks_costs_the_event_loop_nothing() -> None:
    """Each new weight would hold up the answers to thousands of checks."""
    known, prober, checks = tables(), Prober(changed=lambda: None, check=never), CheckList()
    prober.update(*checks.follow(known, NOTHING))
    assert len(prober.view()) == TABLES * SERVERS
    one = known["web/t7"]
    weighed = structs.replace(one, destinations=(structs.replace(one.destinations[0], weight=7), *one.destinations[1:]))
    view = prober.view()
    taken()
    for again in (dict(known), {**known, "web/t7": weighed}):
        wanted, serving = checks.follow(again, NOTHING)
        assert taken() <= 3 * SERVERS  # in a thread
        prober.update(wanted, serving)
        assert taken() == 0
        assert prober.view() is view


async def test_a_changed_table_costs_what_it_asks_for() -> None:
    """One real server more would cost a look at all the others."""
    known, prober, checks = tables(), Prober(changed=lambda: None, check=never), CheckList()
    prober.update(*checks.follow(known, NOTHING))
    before = prober.view()
    fresh = table(check=COUNTED, rips=[f"10.7.0.{n}" for n in range(1, SERVERS + 1)])
    taken()
    wanted, serving = checks.follow({**known, "web/t7": fresh}, NOTHING)
    assert taken() <= 6 * SERVERS
    prober.update(wanted, serving)
    view = prober.view()
    assert taken() <= 3 * SERVERS
    assert {key.address for key in before.keys() - view.keys()} == {"10.7.0.0"}
    assert {key.address for key in view.keys() - before.keys()} == {"10.7.0.10"}


async def test_a_verdict_costs_its_own_check() -> None:
    """When a rack dies, thousands of verdicts change, one after the other."""
    prober, checks = Prober(changed=lambda: None, check=never), CheckList()
    prober.update(*checks.follow(tables(), NOTHING))
    key = next(iter(prober.view()))
    taken()
    prober._result(key, "connection refused", 1)
    view = prober.view()
    assert taken() <= 20
    assert view[key] is Health.DOWN
    assert sum(health is Health.UNKNOWN for health in view.values()) == TABLES * SERVERS - 1


async def test_a_check_of_two_tables_stays_while_one_asks_for_it() -> None:
    """The other service would go on with a verdict that nobody renews."""
    prober, checks = Prober(changed=lambda: None, check=never), CheckList()
    both = {name: table(check=CHECK, rips=["10.0.0.1"]) for name in ("web/one", "web/two")}
    prober.update(*checks.follow(both, NOTHING))
    prober.update(*checks.follow({"web/two": both["web/two"]}, NOTHING))
    assert [key.address for key in prober.view()] == ["10.0.0.1"]
    prober.update(*checks.follow({}, NOTHING))
    assert not prober.view()


async def test_changed_settings_keep_the_verdict() -> None:
    """Editing an interval would bring a dead real server back."""
    prober, checks = Prober(changed=lambda: None, check=never), CheckList()
    prober.update(*checks.follow({"web/one": table(check=CHECK, rips=["10.0.0.1"])}, NOTHING))
    (key,) = prober.view()
    prober._result(key, "connection refused", 1)
    other = TableHealthCheck(TcpCheck(), 10, 1, 1, 1)
    prober.update(*checks.follow({"web/one": table(check=other, rips=["10.0.0.1"])}, NOTHING))
    assert prober.view() == {key._replace(check=other): Health.DOWN}
