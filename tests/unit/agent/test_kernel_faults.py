"""The agent's door to IPVS while its socket fails: passes are made until all is as wanted, and nothing else changed."""

from collections.abc import Mapping
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.agent.kernel.ipvs import Ipvs
from lvs_dr.core.desired import Desired
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    Failure,
    KernelState,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    Verb,
)
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.plan import Plan, plan
from lvs_dr.netlink.ipvs import FAMILY_NAME
from lvs_dr.netlink.socket import GenericNetlinkSocket
from tests.contract.table_cases import Found, found, wishes
from tests.unit.agent.faulty_transport import RECEIVING, SENDING, FaultyTransport
from tests.unit.netlink.netlink_kernel import NetlinkKernel

SECONDS = 6.0  # between passes: a drain of a second, and hand-overs, come to an end
LONGEST = 16  # passes without faults: two hand-overs of 30 s after each other, what begins and ends them, and the quiet
PROPERTY = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
WEB = ServiceKey("192.0.2.100", 443, 6)
ONE, TWO = DestinationKey(WEB, "192.0.2.21", 443), DestinationKey(WEB, "192.0.2.22", 443)
WISH = Desired(
    services={WEB: ServiceConfig("wrr")},
    destinations=Destinations.of([(ONE, DestinationConfig(1)), (TWO, DestinationConfig(2))]),
)


class Table(NamedTuple):
    """What is in IPVS."""

    services: Mapping[ServiceKey, ServiceConfig]
    destinations: Mapping[DestinationKey, DestinationConfig]


class Passes:
    """Passes of an agent over one kernel, through one door."""

    def __init__(self, kernel: NetlinkKernel, transport: FaultyTransport | None = None) -> None:
        self.ipvs = Ipvs(lambda: GenericNetlinkSocket(FAMILY_NAME, transport=transport or kernel, timeout=1))
        self.ledger = Ledger("boot")
        self.now = 0.0
        self.refused: list[Failure] = []

    def read(self) -> Table:
        """Return what is there."""
        state = self.ipvs.read()
        return Table(state.services, state.destinations)

    def one(self, wish: Desired) -> Plan:
        """Make one pass. Raises KernelError."""
        self.now += SECONDS
        state = self.ipvs.read()
        actual = KernelState(services=state.services, destinations=state.destinations, connections=state.connections)
        made = plan(wish, actual, self.ledger, now=self.now)
        self.ledger = made.ledger
        self.refused = self.ipvs.apply(made.ops) if made.ops else []  # type: ignore[arg-type]
        return made

    def until_quiet(self, wish: Desired, faults: int) -> int:
        """Make passes until two have nothing to do; no fault may cost more than one. Returns how many failed."""
        failed = quiet = 0
        for _ in range(faults + LONGEST):
            try:
                made = self.one(wish)
            except KernelError:
                failed += 1
                continue
            quiet = 0 if made.ops or made.draining else quiet + 1
            if quiet == 2:
                return failed
        raise AssertionError(f"not quiet after {faults + LONGEST} passes: {made.ops}, {self.refused}")


def put(kernel: NetlinkKernel, table: Found) -> Table:
    """Have others make entries; return them as they are read."""
    others = Passes(kernel)
    assert others.ipvs.apply([ServiceOp(Verb.ADD, *one) for one in table.services.items()]) == []
    assert others.ipvs.apply([DestinationOp(Verb.ADD, *one) for one in table.destinations.items()]) == []
    return others.read()


faults = st.tuples(
    st.lists(st.sampled_from(("", *SENDING)), max_size=6),
    st.lists(st.sampled_from(("", "", *RECEIVING)), max_size=30),
    st.integers(0, 20),
)


@PROPERTY
@given(found(), wishes(), wishes(), faults)
def test_whatever_goes_wrong_on_the_socket_passes_converge(
    theirs: Found, first: Desired, second: Desired, wrong: tuple[list[str], list[str], int]
) -> None:
    """After one lost answer a director would serve half a table, or lose what is somebody else's, until a restart."""
    kernel = NetlinkKernel()
    before = put(kernel, theirs)
    transport = FaultyTransport(kernel, *wrong)
    agent = Passes(kernel, transport)
    for wish in (first, second):
        agent.until_quiet(wish, len(wrong[0]) + len(wrong[1]))
        now = Passes(kernel).read()
        assert {key: now.services[key] for key in wish.services} == wish.services
        for entry, config in wish.destinations.items():
            assert entry in wish.uncertain or now.destinations[entry] == config
    agent.until_quiet(Desired(), len(wrong[0]) + len(wrong[1]))
    assert agent.ledger.holds_nothing
    after = Passes(kernel).read()
    if not {"flushed", "done before"} & {*transport.done}:
        assert after == before


@pytest.mark.parametrize("fault", SENDING)
def test_each_fault_of_sending_is_healed_by_the_next_pass(fault: str) -> None:
    """A refused or vanished change would stay undone for ever, or stop the ones beside it."""
    kernel = NetlinkKernel()
    transport = FaultyTransport(kernel, [fault], [], victim=1)
    agent = Passes(kernel, transport)
    agent.one(WISH)
    assert transport.done == [fault]
    refused = {failure.op.key for failure in agent.refused}
    if fault in ("ENOENT", "ENOBUFS", "EINTR"):
        assert refused == {ONE}, "only the message that was refused"
        assert TWO in agent.read().destinations
    elif fault == "no memory":
        assert refused == {WEB, ONE, TWO}, "nothing of it arrived, or not known what"
    else:
        assert not refused, "what is wanted is there"
    agent.one(WISH)
    assert agent.read() == Table(WISH.services, WISH.destinations)


@pytest.mark.parametrize("fault", RECEIVING)
def test_a_lost_answer_is_no_changed_table(fault: str) -> None:
    """A dump that was cut short would read as a table with fewer entries, and the rest would be added again."""
    kernel = NetlinkKernel()
    Passes(kernel).one(WISH)
    full = Passes(kernel).read()
    for position in range(8):
        transport = FaultyTransport(kernel, [], [""] * position + [fault])
        agent = Passes(kernel, transport)
        while not transport.done:
            try:
                assert agent.read() == full
            except KernelError:
                made_good = fault != "lost" and position > 0  # by asking again; what comes first is no dump
                assert not made_good
        assert agent.read() == full
