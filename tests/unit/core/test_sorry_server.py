"""The sorry server: there when too few serve, gone when they are back, and nobody's connection is cut for it."""

from typing import Any

import pytest
from hypothesis import given as drawn
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.health import CheckKey, Health, check_key
from lvs_dr.core.indexing import Kind
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node_status import TableException
from lvs_dr.core.objects import ForwardingMethod, Key, OnFailure, Quorum, RealServerState, SorryServer
from lvs_dr.core.quorum import is_short, table_quorum
from lvs_dr.core.summary import real_server_status
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableQuorum
from lvs_dr.core.table_entries import EntriesMemory
from tests.unit.core.clusters import D1, D2, S1, S2, agent, converge, down, serving, web_status
from tests.unit.core.plan_cases import CHECK, VIPS, Node, director, service
from tests.unit.core.test_panic import DOWN, UNKNOWN, UP, health, pool, weights
from tests.unit.core.test_summary import condition, told
from tests.unit.core.worlds import NOW, VIP, Objects, real_server
from tests.unit.core.worlds import service as virtual_service

SORRY = "192.0.2.99"
WEB = Key("shop", "web")


def table(
    sizes: list[int], quorum: TableQuorum | None = None, on_failure: OnFailure = OnFailure.REMOVE, **more: Any
) -> DirectorTableSpec:
    """Return a table with a real server of each weight, and a sorry server."""
    sorry = TableDestination("sorry", SORRY, 1, forwarding=more.pop("forwarding", ForwardingMethod.DIRECT_ROUTING))
    plain = pool(sizes, 0, on_failure)
    return replace(plain, sorry_server=sorry, quorum=quorum or TableQuorum(), **more)


def wanted(given: DirectorTableSpec, verdicts: list[Health], memory: EntriesMemory | None = None) -> Desired:
    """Return what a director wants."""
    view = health(given, verdicts)
    return desired(director(), {"a/web": given}, view, Ledger("boot"), held=frozenset(VIPS), reserved={}, memory=memory)


def test_it_serves_when_nobody_else_does_and_not_before() -> None:
    """Clients would see a refused connection instead of a page that says so; or the page while all is well."""
    given = table([100, 100])
    assert weights(wanted(given, [UP, DOWN])) == {"10": 100}
    assert not wanted(given, [UP, DOWN]).sorry
    found = wanted(given, [DOWN, DOWN])
    assert weights(found) == {"99": 1}
    assert found.sorry == {service()}


def test_checks_through_the_vip_decide_where_they_are_made() -> None:
    """All real servers have lost the VIP, and clients get silence instead of the sorry server."""
    plain = table([100, 100])
    marked = tuple(replace(each, check_mark=4097 + n) for n, each in enumerate(plain.destinations))
    given = replace(plain, destinations=marked)
    own = dict.fromkeys((CheckKey(each.address, 8443, CHECK) for each in marked), UP)
    through = dict.fromkeys((check_key(given, each, 8443, CHECK) for each in marked), DOWN)
    found = desired(director(), {"a/web": given}, own | through, Ledger("boot"), held=frozenset(VIPS), reserved={})
    assert found.sorry == {service()}
    probes = {key: found.destinations.group(key).keys() for key in found.probes}
    assert sorted(key.mark for key in probes) == [4097, 4098], "checks go on: without them nobody comes back"
    assert all(("192.0.2.99", 0) not in places for places in probes.values())
    served = {place[0]: one.weight for place, one in found.destinations.group(service()).items()}
    assert served == {SORRY: 1}


@pytest.mark.parametrize(
    ("on_failure", "left"),
    [(OnFailure.REMOVE, {"10": 0, "99": 1}), (OnFailure.QUIESCE, {"10": 0, "11": 0, "12": 0, "99": 1})],
)
def test_below_the_quorum_the_healthy_ones_keep_their_connections(on_failure: OnFailure, left: dict[str, int]) -> None:
    """Transfers from a server that is well would break because others are not."""
    given = table([100, 100, 100], TableQuorum(minimum=2, back=2), on_failure)
    assert weights(wanted(given, [UP, DOWN, DOWN])) == left


@pytest.mark.parametrize("scheduler", ["sh", "dh"])
def test_schedulers_that_choose_weight_zero_get_the_sorry_server_alone(scheduler: str) -> None:
    """Half of the clients would be turned away by a slot that has a quiesced server."""
    given = replace(table([100, 100], TableQuorum(minimum=2, back=2)), scheduler=scheduler)
    assert weights(wanted(given, [UP, DOWN])) == {"99": 1}


def test_weights_count_where_they_are_asked_for() -> None:
    """Two small servers would be taken for enough."""
    given = table([100, 10, 10], TableQuorum(minimum_weight=50, back_weight=115))
    memory = EntriesMemory()
    assert not wanted(given, [UP, DOWN, DOWN], memory).sorry
    assert wanted(given, [DOWN, UP, UP], memory).sorry
    assert wanted(given, [UP, UP, DOWN], memory).sorry  # 110, with the hysteresis
    assert not wanted(given, [UP, UP, UP], memory).sorry


def test_a_service_that_starts_waits_for_its_checks() -> None:
    """Each new service, and each new director, would begin with the sorry page."""
    given, memory = table([100, 100]), EntriesMemory()
    assert not wanted(given, [UNKNOWN, UNKNOWN], memory).sorry
    assert wanted(given, [DOWN, DOWN], memory).sorry
    assert wanted(given, [UNKNOWN, DOWN], memory).sorry  # a new one that is not known to be well


def test_a_changed_table_does_not_end_it() -> None:
    """An edit during an outage would send clients to servers that are not back yet."""
    given, memory = table([100, 100], TableQuorum(minimum=1, back=2)), EntriesMemory()
    assert wanted(given, [DOWN, DOWN], memory).sorry
    assert wanted(replace(given, service_generation=2), [UP, DOWN], memory).sorry
    assert not wanted(given, [UP, UP], memory).sorry


def test_masquerading_reaches_another_port() -> None:
    """The page is often a small server beside another one, on a port of its own."""
    nat = table([], forwarding=ForwardingMethod.MASQUERADE, sorry_port=8081)
    assert {(key.address, key.port) for key in wanted(nat, []).destinations} == {(SORRY, 8081)}


def test_there_is_no_gap_on_the_way_there_and_back() -> None:
    """In the moment of change clients would be refused; and a reader of the page cut off."""
    given, node, memory = table([100]), Node(), EntriesMemory()

    def make(verdict: Health) -> dict[str, int]:
        view = health(given, [verdict])
        goal = desired(
            director(), {"a/web": given}, view, node.ledger, held=frozenset(VIPS), reserved={}, memory=memory
        )
        made = node.plan(goal)
        node.ledger = made.ledger
        for op in made.ops:
            before = any(config.weight for config in node.kernel.destinations.values())
            node.kernel.apply([op])
            assert not before or any(config.weight for config in node.kernel.destinations.values()) or verdict is DOWN
        return {key.address: config.weight for key, config in node.kernel.destinations.items()}

    assert make(UP) == {"192.0.2.10": 100}
    assert make(DOWN) == {SORRY: 1}
    node.kernel.connections[next(iter(node.kernel.destinations))] = 3
    assert make(UP) == {"192.0.2.10": 100, SORRY: 0}


@drawn(
    st.lists(st.tuples(st.sampled_from([0, 1, 100]), st.sampled_from([UP, DOWN, UNKNOWN])), max_size=8),
    st.builds(Quorum, st.integers(1, 4), st.integers(0, 3), st.sampled_from([0, 50, 150]), st.sampled_from([0, 100])),
)
def test_it_begins_and_ends_as_told(known: list[tuple[int, Health]], quorum: Quorum) -> None:
    """It would flap, or stay for ever although all are well."""
    needed = table_quorum(quorum)
    new, running = (is_short(needed, known, already=already) for already in (False, True))
    assert running or not new
    serving_ = [weight for weight, verdict in known if weight and verdict is UP]
    all_up = len(serving_) == sum(1 for weight, _ in known if weight)
    if all_up and len(serving_) >= quorum.minimum and sum(serving_) >= quorum.minimum_weight:
        assert not running


# The controller


def cluster(sorry: SorryServer, *more: Any, **given: Any) -> Objects:
    """Return a cluster that serves on one real server, with a sorry server."""
    return serving(virtual_service(sorry_server=sorry, **given), real_server(S1), *more)


def test_a_real_server_is_prepared_beforehand_and_is_no_member() -> None:
    """Taking the VIP onto its lo takes a second, in which clients are refused; and it must not serve before."""
    objects = cluster(SorryServer(S2), real_server(S2))
    spec = objects.world.tables[WEB].spec
    assert [each.real_server for each in spec.destinations] == [S1]
    assert spec.sorry_server is not None
    assert (spec.sorry_server.real_server, spec.sorry_server.weight) == (S2, 1)
    assert spec.requires == ("sorry-server",)
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == (VIP,)
    found = web_status(objects)
    assert told(found.conditions, "SorryServerPrepared") == ("True", "Configured")
    assert found.real_servers.summary == "1/1"
    status = real_server_status(objects.world, Key("shop", S2), objects.decisions, None, NOW)
    assert told(status.conditions) == ("True", "InService")
    assert told(status.conditions, "Healthy") == ("Unknown", "NotChecked")


def test_the_vip_leaves_its_node_when_it_is_no_longer_wished() -> None:
    """An address would stay taken on a node that has nothing to do with it any more."""
    objects = cluster(SorryServer(S2), real_server(S2, meta_={"labels": {}}))
    known = objects.world.virtual_services[WEB]
    objects.put(replace(known, sorry_server=None, meta=replace(known.meta, generation=2)))
    objects.settle()
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == (VIP,)  # until directors have let go of it
    converge(objects)
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == ()
    assert objects.world.tables[WEB].spec.sorry_server is None


def test_a_bare_address_enters_at_once_by_its_own_method() -> None:
    """A machine outside of the cluster, reached in its own way."""
    objects = cluster(SorryServer("", SORRY, 8081, ForwardingMethod.MASQUERADE))
    spec = objects.world.tables[WEB].spec
    assert spec.sorry_server == TableDestination(SORRY, SORRY, 1, forwarding=ForwardingMethod.MASQUERADE)
    assert spec.sorry_port == 8081
    assert spec.quorum == TableQuorum()


@pytest.mark.parametrize(
    ("sorry", "others", "reason"),
    [
        (SorryServer("nobody"), (), "NoRealServer"),
        (SorryServer(S2), (real_server(S2, state=RealServerState.MAINTENANCE),), "Maintenance"),
        (SorryServer(S2), (real_server(S2, state=RealServerState.DRAIN),), "Draining"),
        (SorryServer("", VIP), (), "AddressIsVirtual"),
        (SorryServer("", "198.51.100.1"), (), "NotOnLink"),
    ],
)
def test_one_that_cannot_serve_is_told_and_harms_nobody(
    sorry: SorryServer, others: tuple[Any, ...], reason: str
) -> None:
    """On the day it is needed it would not be there."""
    objects = cluster(sorry, *others)
    assert objects.world.tables[WEB].spec.sorry_server is None
    found = web_status(objects)
    assert told(found.conditions, "SorryServerPrepared") == ("False", reason)
    assert told(found.conditions) == ("True", "Serving")


def test_a_real_server_that_comes_later_is_taken_up() -> None:
    """The order in which objects are applied would matter."""
    objects = cluster(SorryServer(S2))
    assert objects.world.tables[WEB].spec.sorry_server is None
    objects.put(real_server(S2))
    converge(objects)
    assert objects.world.tables[WEB].spec.sorry_server is not None
    objects.remove(Kind.REAL_SERVER, S2, "shop")
    converge(objects)
    assert objects.world.tables[WEB].spec.sorry_server is None
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == ()


def test_ready_says_that_the_sorry_server_serves_with_numbers() -> None:
    """A dashboard would show a served service while clients read an apology."""
    objects = cluster(SorryServer(S2), real_server(S2), quorum=Quorum(1, minimum_weight=50))
    note = TableException("SorryServer", "too few real servers are healthy on port 80/TCP: new connections go to s2")
    agent(objects, D1, web=(note, *down(S1)))
    found = web_status(objects)
    assert told(found.conditions) == ("False", "SorryServer")
    text = condition(found.conditions).message
    assert text.startswith("0 of 1 real servers healthy")
    assert "they weigh 0 of 100, quorum.minimumWeight is 50" in text
    assert f"director {D1}: too few" in text
    agent(objects, D1)
    assert told(web_status(objects, found).conditions) == ("True", "Serving")


def test_the_quorum_by_weight_without_a_sorry_server() -> None:
    """A deployment that waits for Ready would go on with its two smallest servers."""
    objects = serving(
        virtual_service(quorum=Quorum(1, minimum_weight=150, weight_hysteresis=40)),
        real_server(S1),
        real_server(S2, weight=80),
    )
    agent(objects, D1, web=down(S2))
    agent(objects, D2, web=down(S2))
    lost = web_status(objects)
    assert told(lost.conditions) == ("False", "QuorumLost")
    assert "they weigh 100 of 180, quorum.minimumWeight is 150" in condition(lost.conditions).message
    agent(objects, D1)
    assert told(web_status(objects, lost).conditions) == ("True", "Serving")  # all that there is
