"""From what was heard of loads to the weights in the kernel and to the report."""

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest

from lvs_dr.agent import decider
from lvs_dr.agent.load.answers import Saying
from lvs_dr.agent.load.asking import LoadUnknownError
from lvs_dr.agent.load.reader import Heard, LoadReader, Want
from lvs_dr.agent.load.weighing import Weighing
from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.load_spec import LoadQuestion, LoadSource, TableLoadFeedback, TableSlowStart
from lvs_dr.core.loads import PortLoad, ServerLoad, Sockets, Trouble
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.core.table_entries import EntriesMemory
from tests.unit.agent.bench import DIRECTOR, TABLE, VIP, Bench
from tests.unit.core.plan_cases import director

NAME = "web/webdav"
ONE, TWO = "192.0.2.11", "192.0.2.12"
CHECK = TableHealthCheck(TcpCheck())
QUEUE = TableLoadFeedback(LoadSource.RUN_QUEUE, target=100, time_constant_seconds=1)
SLOW = TableSlowStart(20, 20)


def table(**changes: Any) -> DirectorTableSpec:
    """Return the example's table with a scheduler that looks at weights."""
    plain = msgspec.convert(TABLE | {"scheduler": "wlc"}, DirectorTableSpec)
    return msgspec.structs.replace(plain, **changes)


class Ears(LoadReader):
    """What was heard, as the test says."""

    def __init__(self) -> None:
        self.wanted: Mapping[LoadQuestion, Want] = {}
        self.answers: dict[LoadQuestion, Heard] = {}
        self.troubles: dict[LoadQuestion, str] = {}

    def want(self, who: str, wanted: Mapping[LoadQuestion, Want]) -> None:
        """Note it."""
        assert who == "weights"
        self.wanted = wanted

    def heard(self, question: LoadQuestion) -> Heard | None:
        """Return what was heard last."""
        return self.answers.get(question)

    def trouble(self, question: LoadQuestion) -> str:
        """Return what went wrong."""
        return self.troubles.get(question, "")


class Director:
    """A director whose kernel always is as wanted."""

    def __init__(self, spec: DirectorTableSpec, *, health: Health = Health.UP) -> None:
        self.ears = Ears()
        self.weighing = Weighing(self.ears, wall=lambda: 0.0)
        self.memory = EntriesMemory()
        self.tables = {NAME: spec}
        self.actual = KernelState()
        self.now = 100.0
        self.health = dict.fromkeys((CheckKey(each, 80, CHECK) for each in (ONE, TWO)), health)

    def edit(self, spec: DirectorTableSpec) -> None:
        """Change the table."""
        self.tables = {NAME: spec}

    def check(self, address: str, verdict: Health) -> None:
        """Have a check say something else."""
        self.health = {**self.health, CheckKey(address, 80, CHECK): verdict}

    def restart(self) -> None:
        """Begin with a new agent on the same kernel."""
        ears, self.ears = self.ears, Ears()
        self.ears.answers = dict(ears.answers)
        self.weighing, self.memory = Weighing(self.ears, wall=lambda: 0.0), EntriesMemory()

    def look(self) -> dict[str, int]:
        """Make a pass; return address -> weight."""
        self.weighing.take(self.tables)
        factors = self.weighing.follow(self.tables, self.health, self.actual, self.now)
        goal = desired(
            director(), self.tables, self.health, Ledger("boot"), held=frozenset([VIP]), reserved={},
            memory=self.memory, factors=factors,
        )  # fmt: skip
        self.actual = KernelState(destinations=goal.destinations)
        return {key.address: config.weight for key, config in goal.destinations.items()}

    def hear(self, seconds: int = 5, **queues: int) -> dict[str, int]:
        """Let time go by, in which both report so many running tasks for each CPU in percent; return the weights."""
        for _ in range(seconds):
            self.now += 1
            for address, percent in ((ONE, queues["one"]), (TWO, queues["two"])):
                load = ServerLoad("node", round(self.now * 1000), processors=100, running=percent)
                self.ears.answers[LoadQuestion(address)] = Heard(load, self.now)
            weights = self.look()
        return weights

    def told(self) -> list[str]:
        """Return the messages of changes."""
        return [each.message for each in self.weighing.told.get(NAME, ((), ()))[0]]

    def exceptions(self) -> list[tuple[str, str]]:
        """Return real server and reason of what is not as it should be."""
        return [(each.real_server, each.reason) for each in self.weighing.told.get(NAME, ((), ()))[1]]


def test_the_busy_one_gets_less_and_status_says_why() -> None:
    """The overloaded server keeps its share, or nobody finds out why it lost it."""
    one = Director(table(load_feedback=QUEUE))
    assert one.look() == {ONE: 100, TWO: 100}
    assert one.ears.wanted == dict.fromkeys((LoadQuestion(ONE), LoadQuestion(TWO)), Want(5.0, Sockets.NONE))
    weights = one.hear(30, one=20, two=400)
    assert weights[ONE] == 100
    assert weights[TWO] < 60
    (told,) = one.told()
    assert told.startswith("storage-2: ")
    assert "run queue 400% of the CPUs for " in told
    assert one.hear(120, one=20, two=20) == {ONE: 100, TWO: 100}, "and it gets it back"


def test_nothing_changes_where_nothing_is_to_change() -> None:
    """Each pass would work out all entries anew."""
    one = Director(table(load_feedback=QUEUE))
    one.hear(10, one=50, two=50)
    first, told = one.weighing.follow(one.tables, one.health, one.actual, one.now), one.weighing.told
    one.hear(20, one=50, two=60)
    assert one.weighing.follow(one.tables, one.health, one.actual, one.now) is first
    assert one.weighing.told is told
    assert one.told() == []


def test_a_stale_report_gives_the_configured_weight_back_visibly() -> None:
    """The server of a dead agent would keep its last share for ever."""
    one = Director(table(load_feedback=QUEUE))
    assert one.hear(30, one=20, two=400)[TWO] < 60
    one.ears.troubles[LoadQuestion(TWO)] = "192.0.2.12 port 9442: connection refused"
    before = one.now
    while one.now < before + QUEUE.stale_seconds + QUEUE.interval_seconds:
        one.now += 1
        one.ears.answers[LoadQuestion(ONE)] = Heard(ServerLoad("node", round(one.now * 1000)), one.now)
        weights = one.look()
    assert weights == {ONE: 100, TWO: 100}
    assert one.exceptions() == [("storage-2", "LoadUnknown")]
    assert "-> 100, its load is not known: 192.0.2.12 port 9442: connection refused" in one.told()[0]
    one.hear(2, one=20, two=20)
    one.hear(5, one=20, two=20)
    assert one.exceptions() == []


def test_a_restart_of_the_agent_changes_no_weight() -> None:
    """An upgrade of the agents would give every overloaded server its whole weight, all at once."""
    one = Director(table(load_feedback=QUEUE))
    before = one.hear(30, one=20, two=400)
    one.restart()
    assert one.look() == before
    assert one.hear(1, one=20, two=100) == before


def test_small_weights_follow_too_and_nothing_jumps_when_it_begins() -> None:
    """With weights 1 and 2 there is nothing between all and nothing."""
    plain = table()
    one, two = plain.destinations
    plain = table(destinations=(msgspec.structs.replace(one, weight=1), msgspec.structs.replace(two, weight=2)))
    given = Director(plain)
    assert given.look() == {ONE: 1, TWO: 2}
    given.edit(msgspec.structs.replace(plain, load_feedback=QUEUE, slow_start=SLOW))
    assert given.look() == {ONE: 100, TWO: 200}
    assert 100 < given.hear(15, one=20, two=400)[TWO] < 200
    given.edit(plain)
    assert given.look() == {ONE: 1, TWO: 2}


def test_a_server_that_comes_back_starts_slowly() -> None:
    """Its caches are cold: with its whole share at once it fails again."""
    one = Director(table(health_check=CHECK, slow_start=SLOW))
    one.actual = KernelState(destinations=desired(
        director(), {NAME: table()}, {}, Ledger("boot"), held=frozenset([VIP]), reserved={}
    ).destinations)  # fmt: skip
    assert one.look() == {ONE: 100, TWO: 100}, "what serves already needs no start"
    one.check(TWO, Health.DOWN)
    assert one.look() == {ONE: 100}
    one.check(TWO, Health.UP)
    seen = [one.look()[TWO]]
    assert one.told() == ["storage-2: 20 -> 100 in 20 s, slow start on port 80/TCP"]
    while one.weighing.due < 1e9:
        assert one.now < one.weighing.due <= one.now + 1.001
        one.now = one.weighing.due
        seen.append(one.look()[TWO])
    assert seen == sorted(seen)
    assert (seen[0], seen[-1], len(seen)) == (20, 100, 21)


def test_a_server_that_comes_back_on_the_vip_starts_slowly_too() -> None:
    """What its own address says does not count where the VIP is checked: it would never start, or always."""
    plain = table(health_check=CHECK, slow_start=SLOW)
    marked = tuple(msgspec.structs.replace(each, check_mark=4097 + n) for n, each in enumerate(plain.destinations))
    one = Director(msgspec.structs.replace(plain, destinations=marked))
    one.actual = KernelState(destinations=desired(
        director(), {NAME: table()}, {}, Ledger("boot"), held=frozenset([VIP]), reserved={}
    ).destinations)  # fmt: skip
    first, second = (CheckKey(each.address, 80, CHECK, VIP, each.check_mark) for each in marked)
    one.health = {first: Health.UP, second: Health.DOWN}
    one.look()
    one.health = {first: Health.UP, second: Health.UP}
    one.look()
    served = next(group for key, group in one.actual.destinations.groups.items() if not key.mark)
    assert {address: config.weight for (address, _), config in served.items()} == {ONE: 100, TWO: 20}
    assert one.told() == ["storage-2: 20 -> 100 in 20 s, slow start on port 80/TCP"]


def test_a_restart_in_the_middle_of_a_slow_start_goes_on_with_it() -> None:
    """It would begin anew with each restart, or end at once."""
    one = Director(table(health_check=CHECK, slow_start=SLOW))
    assert one.look() == {ONE: 20, TWO: 20}, "a new service: all begin alike"
    one.now += 10
    assert one.look() == {ONE: 60, TWO: 60}
    one.restart()
    assert one.look() == {ONE: 60, TWO: 60}
    one.now += 10.1
    assert one.look() == {ONE: 100, TWO: 100}


def test_connections_count_for_each_weight_at_the_services_ports() -> None:
    """A server of twice the weight has twice the connections, and is not busier for that."""
    policy = TableLoadFeedback(LoadSource.CONNECTIONS, target=100, time_constant_seconds=1)
    plain = table(load_feedback=policy)
    small, large = plain.destinations
    one = Director(table(load_feedback=policy, destinations=(small, msgspec.structs.replace(large, weight=400))))
    one.look()
    assert one.ears.wanted[LoadQuestion(ONE)] == Want(5.0, Sockets.COUNT)
    for _ in range(30):
        one.now += 1
        for address, count in ((ONE, 250), (TWO, 400)):
            ports = (PortLoad(VIP, 80, count), PortLoad(VIP, 443, 9999), PortLoad("192.0.2.101", 80, 9999))
            load = ServerLoad("node", round(one.now * 1000), ports=ports, sockets=Sockets.COUNT)
            one.ears.answers[LoadQuestion(address)] = Heard(load, one.now)
        weights = one.look()
    assert weights[TWO] == 400
    assert weights[ONE] < 80
    assert "250 connections for each 100 of weight" in one.told()[0]


def test_an_agent_check_that_says_drain_gets_no_connections() -> None:
    """Its word counts as HAProxy's users know it; status names it, and the server is not called healthy."""
    policy = TableLoadFeedback(LoadSource.AGENT_CHECK, port=99)
    one = Director(table(load_feedback=policy))
    questions = [policy.question(address) for address in (ONE, TWO)]
    for said in (Saying(100), Saying(100, "drain")):
        for _ in range(6):
            one.now += 1
            for question, saying in zip(questions, (Saying(50), said), strict=True):
                one.ears.answers[question] = Heard(saying, one.now)
            weights = one.look()
    assert weights == {ONE: 50, TWO: 0}
    assert one.exceptions() == [("storage-2", "Withdrawn")]
    assert one.told() == ["storage-1: 100 -> 50, agent check says 50%"]


@pytest.mark.parametrize(
    ("policy", "load", "words"),
    [
        (
            TableLoadFeedback(LoadSource.CPU_PRESSURE, 20),
            ServerLoad("storage-1", 1, troubles=(Trouble("CPUPressure", "this kernel has no PSI"),)),
            "node storage-1: this kernel has no PSI",
        ),
        (TableLoadFeedback(LoadSource.NETWORK_BYTES, 70), ServerLoad("storage-1", 1), "set linkMegabits"),
    ],
)
def test_a_source_that_is_broken_says_so(policy: TableLoadFeedback, load: ServerLoad, words: str) -> None:
    """A kernel without PSI looks idle, and the feature does nothing for ever."""
    one = Director(table(load_feedback=policy))
    for _ in range(30):
        one.now += 1
        for address in (ONE, TWO):
            one.ears.answers[LoadQuestion(address)] = Heard(load, one.now, load)
        assert one.look() == {ONE: 100, TWO: 100}
    exceptions = one.weighing.told[NAME].exceptions
    assert [each.reason for each in exceptions] == ["LoadUnknown", "LoadUnknown"]
    assert all(words in each.message and each.serves for each in exceptions)


def test_a_machine_without_an_agent_needs_another_source() -> None:
    """Nobody would ask it, and nobody would know."""
    plain = table(load_feedback=QUEUE)
    one, two = plain.destinations
    given = Director(table(load_feedback=QUEUE, destinations=(one, msgspec.structs.replace(two, node=""))))
    given.look()
    assert set(given.ears.wanted) == {LoadQuestion(ONE)}
    given.now += 100
    given.look()
    assert "use source AgentCheck, HTTP or Prometheus" in given.weighing.told[NAME].exceptions[1].message


# The whole agent


class Loads:
    """Tells the load of both real servers, or that nobody answers."""

    def __init__(self) -> None:
        self.running = {ONE: 0, TWO: 0}
        self.silent: set[str] = set()

    async def __call__(self, question: LoadQuestion, _: Sockets, seconds: float) -> ServerLoad | Saying:
        """Answer."""
        assert seconds <= 2
        if question.address in self.silent:
            raise LoadUnknownError("nobody answers")
        return ServerLoad("node", 1, processors=1, running=self.running[question.address])


async def test_a_load_reaches_the_kernel_and_the_report(bench: Bench) -> None:
    """The whole agent: a busy server gets less within seconds, one message to the kernel, and the report says why."""
    loads = Loads()
    bench.ask_load = loads
    feedback = {"source": "RunQueue", "target": 100, "timeConstantSeconds": 1, "intervalSeconds": 1}
    async with bench.running(poll=0.05):
        await bench.node(DIRECTOR | {"requires": ["vrrp"]})
        await bench.table(scheduler="wlc", loadFeedback=feedback, requires=["changing-weights"])
        await bench.until(lambda: bench.destinations() == {ONE: 100, TWO: 100})
        bench.kernel.journal.clear()
        loads.running[TWO] = 40
        await bench.until(lambda: bench.destinations()[TWO] < 80, seconds=15)
        assert bench.destinations()[ONE] == 100
        told = await bench.api.status_where(lambda status: status["tables"][0].get("weights"))
        (weight,) = told["tables"][0]["weights"]
        assert weight["realServer"] == "storage-2"
        assert weight["message"].startswith("storage-2: 100 -> ")
        assert "run queue " in weight["message"]
        assert {op.key.address for op in bench.kernel.journal} == {TWO}, "nothing else was touched"
        assert told["tables"][0]["healthy"] == 2


async def test_where_no_weight_changes_by_itself_nothing_is_decided_twice(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand entries would be worked out anew in every pass, on every node."""
    made: list[float] = []

    def counted(*given: Any, **more: Any) -> Desired:
        made.append(bench.agent.loop.passes)
        return desired(*given, **more)

    monkeypatch.setattr(decider, "desired", counted)
    async with bench.running(resync=0.05):
        await bench.node(DIRECTOR)
        await bench.table()
        await bench.until(lambda: len(bench.destinations()) == 2 and bench.speaker.held == {VIP})
        await bench.passes(3)
        before = len(made)
        await bench.passes(5)
        assert len(made) == before
