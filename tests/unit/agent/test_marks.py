"""What makes a firewall mark fit for checks, and what a check does until it is."""

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from msgspec import structs

from lvs_dr.agent.health import prober as prober_module
from lvs_dr.agent.health.attempt import CannotCheckError
from lvs_dr.agent.health.marks import Done, Marks, service_of
from lvs_dr.agent.health.outcomes import Outcome
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.health.source_addresses import SourceAddresses
from lvs_dr.agent.health.source_ports import RESET_SECONDS, SILENT_SECONDS, SourcePorts
from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import (
    AddressKey,
    DestinationConfig,
    DestinationKey,
    KernelState,
    MarkUse,
    ServiceKey,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger, OwnDestinations
from lvs_dr.core.probes import (
    ACCEPT_LOCAL,
    EVERYWHERE,
    RP_FILTER,
    RUN_ESTIMATION,
    Probe,
    interface_key,
    probe_service,
)

CHECK = TableHealthCheck(TcpCheck(), 0.02, 0.5, 1, 1)  # type: ignore[arg-type]
KEY = CheckKey("192.0.2.21", 443, CHECK, "192.0.2.100", 4097)
SERVICE = service_of(KEY)
PLACE = ("192.0.2.21", 0)
PROBES = {SERVICE: Probe(PLACE, DestinationConfig(1))}


def kernel(packets: int = 0, *, places: tuple[tuple[str, int], ...] = (PLACE,), **sysctls: str) -> KernelState:
    """Return a kernel that has the mark's service."""
    entries = {DestinationKey(SERVICE, *place): DestinationConfig(1) for place in places}
    return KernelState(
        services={SERVICE: probe_service(SERVICE)},
        destinations=Destinations.of(entries.items()),
        mark_packets={SERVICE: packets},
        sysctls={RUN_ESTIMATION: sysctls.get("estimation", "1")},
    )


def carried_on(packets: int, connections: int) -> KernelState:
    """Return the same, with connections that live."""
    live = Destinations.of([(DestinationKey(SERVICE, *PLACE), connections)])
    return structs.replace(kernel(packets), connections=live)


def done(**given: Any) -> Done:
    """Return a pass that found everything as it should be."""
    ledger = Ledger("boot", services=(SERVICE,), destinations=(OwnDestinations(SERVICE, (PLACE,)),))
    return Done(**({"ops": (), "undone": (), "taken": frozenset(), "ledger": ledger} | given))


class Bench:
    """Marks with a clock and a kernel of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.use: MarkUse | None = MarkUse(frozenset({PLACE}), 0, 1)
        self.changes = 0
        self.marks = Marks(self._look_up, changed=self._changed, clock=lambda: self.now)

    async def _look_up(self, service: ServiceKey) -> MarkUse | None:
        assert service == SERVICE
        return self.use

    def _changed(self) -> None:
        self.changes += 1

    def follow(self, state: KernelState, probes: Mapping[ServiceKey, Probe] = PROBES, **given: Any) -> None:
        """Make a pass."""
        self.marks.follow(probes, state, done(**given), "eth0")


def test_a_mark_is_used_once_its_service_leads_to_its_real_server_alone() -> None:
    """A check would ask any real server of the VIP."""
    bench = Bench()
    assert not bench.marks.usable(KEY)
    bench.follow(KernelState())
    assert not bench.marks.usable(KEY)
    assert "is not in the kernel" in bench.marks.hindrance(KEY)
    bench.follow(kernel())
    assert bench.marks.usable(KEY)
    bench.follow(kernel(places=(PLACE, ("192.0.2.66", 0))))
    assert not bench.marks.usable(KEY)
    bench.follow(kernel(), taken=frozenset({SERVICE}), ledger=Ledger("boot"))
    assert "somebody else" in bench.marks.hindrance(KEY)


async def test_a_first_success_counts_only_when_its_packets_came_to_the_mark() -> None:
    """With a rewritten mark a dead real server would enter because another one answered."""
    bench = Bench()
    bench.follow(kernel())
    bench.use = MarkUse(frozenset({PLACE}), 0, 0)
    assert "changes the mark" in await bench.marks.doubt(KEY, failed=False)
    bench.use = MarkUse(frozenset({PLACE}), 0, 1)
    assert await bench.marks.doubt(KEY, failed=False) == ""


async def test_a_failure_does_not_count_when_the_service_was_taken_away() -> None:
    """`ipvsadm -C` would take all real servers out although they are well."""
    bench = Bench()
    bench.follow(kernel())
    assert await bench.marks.doubt(KEY, failed=True) == ""
    for use in (None, MarkUse(frozenset(), 9, 9), MarkUse(frozenset({("192.0.2.66", 0)}), 9, 9)):
        bench.use = use
        assert "somebody else" in await bench.marks.doubt(KEY, failed=True)


async def test_a_first_success_counts_again_after_the_service_was_made_anew() -> None:
    """Its counters begin at 0: a real server that came back would stay out until they are where they once were."""
    bench = Bench()
    bench.follow(carried_on(1000, 5))
    bench.use = MarkUse(frozenset({PLACE}), 1000, 5)
    assert "changes the mark" in await bench.marks.doubt(KEY, failed=False)
    bench.follow(KernelState())  # ipvsadm -C
    bench.follow(carried_on(0, 0))
    bench.use = MarkUse(frozenset({PLACE}), 0, 1)
    assert await bench.marks.doubt(KEY, failed=False) == ""


async def test_connections_of_an_agent_before_hide_no_success_for_long() -> None:
    """Where the kernel does not add packets up, a restart of the agent would keep out who comes back later."""
    bench = Bench()
    for live in (5, 4):
        bench.follow(carried_on(0, live))
    bench.use = MarkUse(frozenset({PLACE}), 0, 5)
    assert await bench.marks.doubt(KEY, failed=False) == ""


ACCEPTS = interface_key("eth0", ACCEPT_LOCAL)
FILTER = interface_key("eth0", RP_FILTER)


@pytest.mark.parametrize(
    ("sysctls", "on_lo", "barred"),
    [
        ({ACCEPTS: "1"}, False, ""),
        ({ACCEPTS: "0"}, False, "accept_local is not 1"),
        ({ACCEPTS: "1", FILTER: "1"}, False, ""),
        ({ACCEPTS: "1", FILTER: "1"}, True, "rp_filter is not 2"),
        ({ACCEPTS: "1", FILTER: "0", EVERYWHERE: "1"}, True, "rp_filter is not 2"),
        ({ACCEPTS: "1", FILTER: "0", EVERYWHERE: "0"}, True, ""),
        ({ACCEPTS: "1", FILTER: "2", EVERYWHERE: "1"}, True, ""),
    ],
)
def test_checks_wait_for_settings_that_let_answers_in(
    sysctls: dict[SysctlKey, str],
    on_lo: bool,  # noqa: FBT001 - a case
    barred: str,
) -> None:
    """Whoever sets them back again and again would take out all real servers of all VIPs."""
    bench, lo = Bench(), AddressKey("lo", "192.0.2.100")
    ledger = structs.replace(done().ledger, addresses=(lo,) if on_lo else ())
    repair = [SysctlOp(Verb.SET, ACCEPTS, "1"), SysctlOp(Verb.SET, FILTER, "2")]
    bench.follow(structs.replace(kernel(), sysctls=sysctls), ledger=ledger, undone=repair)
    assert bench.marks.usable(KEY) is not bool(barred)
    if barred:
        assert barred in bench.marks.hindrance(KEY)
    bench.follow(structs.replace(kernel(), sysctls=sysctls), ledger=ledger, ops=repair)
    assert bench.marks.usable(KEY)


@pytest.mark.parametrize(("estimation", "doubted"), [("1", True), ("0", False)])
async def test_a_counter_that_stops_is_noticed(estimation: str, doubted: bool) -> None:  # noqa: FBT001
    """A rule that rewrites marks may come later; where the kernel does not count, nothing can be said."""
    bench = Bench()
    packets = 0
    for step in range(30):
        bench.now = float(step)
        packets += 3 if step < 10 else 0
        bench.follow(kernel(packets, estimation=estimation))
        bench.marks.asked(KEY)
        if step == 9:
            assert await bench.marks.doubt(KEY, failed=False) == ""
    assert bool(await bench.marks.doubt(KEY, failed=False)) is doubted


async def test_a_counter_that_moves_is_trusted_whatever_the_pace() -> None:
    """A check once an hour, or a service made anew, would be called broken."""
    bench = Bench()
    packets = 0
    for step in range(60):
        bench.now = float(step)
        if step % 20 == 0:
            bench.marks.asked(KEY)
            packets += 1
        if step == 35:
            packets = 0  # made anew
        bench.follow(kernel(packets))
        assert await bench.marks.doubt(KEY, failed=False) == "", step


def test_a_source_port_is_not_used_for_another_real_server_too_soon() -> None:
    """IPVS remembers the connection, so the check would reach the real server before."""
    now = 0.0
    ports = SourcePorts(clock=lambda: now)
    target = ("192.0.2.100", 443)
    assert ports.take(target, 40000, 4097, 1.0)
    assert ports.take(target, 40000, 4097, 1.0)
    assert not ports.take(target, 40000, 4098, 1.0)
    assert ports.take(("192.0.2.100", 80), 40000, 4098, 1.0)
    ports.reset(target, 40000, 4097, 1.0)
    now = RESET_SECONDS + 2.0
    assert ports.take(target, 40000, 4098, 1.0)
    now += SILENT_SECONDS + 2.0
    assert ports.take(target, 40000, 4097, 1.0)


class Answers:
    """Real servers: what each says on the VIP and on its own address."""

    def __init__(self) -> None:
        self.vip = self.own = ""
        self.asked: list[tuple[str, str]] = []

    async def __call__(self, key: CheckKey, source: str) -> str:
        self.asked.append((key.vip, source))
        await asyncio.sleep(0)
        return self.vip if key.vip else self.own


async def outcome(prober: Prober, wanted: Health, *, blackholed: bool | None = None) -> Outcome:
    """Wait for a verdict."""
    async with asyncio.timeout(10):
        while True:
            found = prober.outcome(prober.view(), KEY)
            if found.health is wanted and blackholed in (None, found.blackholed):
                return found
            await asyncio.sleep(0.005)


async def test_checks_wait_for_their_marks_and_come_from_the_directors_own_address() -> None:
    """Made before, they would be answered by any real server; from the VIP, by nobody."""
    bench, answers = Bench(), Answers()
    prober = Prober(changed=lambda: None, check=answers, marks=bench.marks)
    prober.use_addresses((), ("198.51.100.1/24", "192.0.2.11/24"))
    prober.update([KEY])
    running = asyncio.create_task(prober.run())
    await asyncio.sleep(0.05)
    assert answers.asked == []
    bench.follow(kernel())
    prober.marks_changed()
    await outcome(prober, Health.UP)
    assert set(answers.asked) == {("192.0.2.100", "192.0.2.11")}
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_dead_on_the_vip_alone_is_told_apart() -> None:
    """People would look at the service, which is well, instead of the VIP on that node."""
    bench, answers = Bench(), Answers()
    bench.follow(kernel())
    prober = Prober(changed=lambda: None, check=answers, marks=bench.marks)
    prober.use_addresses((), ("192.0.2.11/24",))
    answers.vip = "no answer within 1 s"
    prober.update([KEY])
    running = asyncio.create_task(prober.run())
    assert (await outcome(prober, Health.DOWN, blackholed=True)).message == "no answer within 1 s"
    answers.own = "connection refused"
    await outcome(prober, Health.DOWN, blackholed=False)
    answers.vip = ""
    await outcome(prober, Health.UP)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_doubtful_result_changes_no_verdict() -> None:
    """One firewall rule on a director would take out everybody, or let in the dead."""
    bench, answers, news = Bench(), Answers(), asyncio.Event()
    bench.follow(kernel())
    bench.use = None
    answers.own = "connection refused"
    prober = Prober(changed=news.set, check=answers, marks=bench.marks)
    prober.use_addresses((), ("192.0.2.11/24",))
    prober.update([KEY])
    running = asyncio.create_task(prober.run())
    async with asyncio.timeout(10):
        await news.wait()
        while len(answers.asked) < 6:  # noqa: ASYNC110 - several rounds
            await asyncio.sleep(0.005)
    assert "somebody else" in prober.outcome(prober.view(), KEY).trouble
    assert prober.outcome(prober.view(), KEY).health is Health.UNKNOWN
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_who_was_let_in_by_its_own_address_stays_doubted_until_a_check_counts() -> None:
    """Status would call a real server well on the VIP that nobody has asked there."""
    bench, answers = Bench(), Answers()
    bench.follow(kernel())
    bench.use = MarkUse(frozenset({PLACE}), 0, 0)  # somebody rewrites the mark
    prober = Prober(changed=lambda: None, check=answers, marks=bench.marks)
    prober.use_addresses((), ("192.0.2.11/24",))
    prober.update([KEY])
    running = asyncio.create_task(prober.run())
    await outcome(prober, Health.UP)
    rounds = len(answers.asked) + 5
    async with asyncio.timeout(10):
        while len(answers.asked) < rounds:  # noqa: ASYNC110 - several rounds
            await asyncio.sleep(0.005)
        assert "changes the mark" in prober.outcome(prober.view(), KEY).trouble
        bench.use = MarkUse(frozenset({PLACE}), 0, 1)
        while prober.outcome(prober.view(), KEY).trouble:  # noqa: ASYNC110 - until one counts
            await asyncio.sleep(0.005)
    assert prober.view()[KEY] is Health.UP
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_fault_in_the_second_question_does_not_end_the_checks() -> None:
    """A real server that comes back would stay out until the agent is restarted."""
    bench, asked = Bench(), asyncio.Event()
    bench.follow(kernel())
    on_vip = "no answer within 1 s"

    async def check(key: CheckKey, _source: str) -> str:
        if not key.vip:
            asked.set()
            raise RuntimeError("a fault of ours")
        return on_vip

    prober = Prober(changed=lambda: None, check=check, marks=bench.marks)
    prober.use_addresses((), ("192.0.2.11/24",))
    prober.update([KEY])
    running = asyncio.create_task(prober.run())
    async with asyncio.timeout(10):
        await asked.wait()
    assert (await outcome(prober, Health.DOWN)).message == on_vip
    on_vip = ""
    await outcome(prober, Health.UP)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


async def test_a_check_that_is_dropped_before_its_turn_does_not_wait_for_its_mark(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It would wait for ever: nobody drops it a second time."""
    monkeypatch.setattr(prober_module, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(prober_module, "HELD_PAUSE_SECONDS", 0.0)
    first = CheckKey("192.0.2.22", 443, CHECK)
    made, enough = 0, asyncio.Event()

    async def check(_key: CheckKey, _source: str) -> str:
        nonlocal made
        made += 1
        prober.update([first])
        if made == 5:
            enough.set()
        return ""

    prober = Prober(changed=lambda: None, check=check, marks=Bench().marks)
    prober.update([first])
    prober.update([first, KEY])
    running = asyncio.create_task(prober.run())
    async with asyncio.timeout(10):
        await enough.wait()
    assert prober.broken == 0
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)


def test_a_director_without_an_address_of_its_own_cannot_check() -> None:
    """The kernel would choose the VIP as the source, and no answer would come back."""
    addresses = SourceAddresses()
    addresses.use(("192.0.2.100/32",), ())
    with pytest.raises(CannotCheckError, match="no address of its own"):
        addresses.source(KEY)
