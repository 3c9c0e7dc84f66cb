"""Taking a real server out: nobody's connection is cut before its time, and it does come to an end."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.director_group import IpvsSettings
from lvs_dr.core.dirty import drain_over_changed
from lvs_dr.core.drain_status import drain_end
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node import IpvsSysctl
from lvs_dr.core.objects import (
    DrainPersistence,
    ForwardingMethod,
    Invalid,
    Key,
    Persistence,
    Port,
    Protocol,
    RealServer,
    RealServerState,
    Selector,
)
from lvs_dr.core.status import RealServerStatus
from lvs_dr.core.summary import events, real_server_status
from lvs_dr.core.table import TableDestination
from tests.unit.core.clusters import D1, D2, S1, S2, agent, converge, serving, web_status
from tests.unit.core.test_summary import WEB, condition, told
from tests.unit.core.worlds import LATER, NOW, VIP, Objects, group, real_server, service

KEY = Key("shop", S1)


def set_state(objects: Objects, state: RealServerState, **more: Any) -> None:
    """Give the first real server another state."""
    known = objects.world.real_servers[KEY]
    assert isinstance(known, RealServer)
    meta = replace(known.meta, generation=known.meta.generation + 1)
    objects.put(replace(known, meta=meta, state=state, **more))


def draining(left: int = 3, **more: Any) -> Objects:
    """Return a cluster whose first real server drains, with connections on one director."""
    objects = serving()
    objects.left[D1, S1] = left
    set_state(objects, RealServerState.DRAIN, **more)
    converge(objects)
    return objects


def time_is_over(objects: Objects) -> None:
    """Let the drain's time be over."""
    objects.drain_over.add(KEY)
    dirty = drain_over_changed(objects.world, KEY)
    assert KEY in dirty.real_servers
    objects.services |= dirty.services
    objects.nodes |= dirty.nodes


def entry(objects: Objects, table: Key = WEB) -> TableDestination | None:
    """Return the real server as the table has it."""
    found = [each for each in objects.world.tables[table].spec.destinations if each.real_server == S1]
    return found[0] if found else None


def status(objects: Objects, previous: RealServerStatus | None = None, now: str = NOW) -> RealServerStatus:
    """Return its status."""
    return real_server_status(objects.world, KEY, objects.decisions, previous, now)


def on_lo(objects: Objects) -> tuple[str, ...]:
    """Return the VIPs that its node is told to carry."""
    return objects.world.lvs_nodes[S1].spec.backend_addresses


def test_it_gets_nothing_new_and_stays_while_a_connection_lives() -> None:
    """Whoever downloads from it would be cut off; its answers need the VIP on its lo."""
    objects = draining(3)
    found = entry(objects)
    assert found is not None
    assert (found.weight, found.draining) == (0, True)
    assert on_lo(objects) == (VIP,)
    seen = status(objects)
    assert told(seen.conditions) == ("False", "Draining")
    assert told(seen.conditions, "Drained") == ("False", "Draining")
    text = condition(seen.conditions, "Drained").message
    assert text == f"3 connections left, as {D1} counts them; it is taken out at 2026-01-01T01:00:00Z at the latest"
    assert told(seen.conditions, "Configured") == ("True", "Configured")
    web = web_status(objects)
    assert web.real_servers.summary == "1/2"
    assert told(web.conditions) == ("True", "Serving")
    assert f"{S1} (Draining)" in condition(web.conditions).message


def test_it_leaves_after_the_last_connection_on_any_director() -> None:
    """The largest count is what is left; a Backup that knows of one more may be Active any moment."""
    objects = draining(3)
    objects.left |= {(D1, S1): 0, (D2, S1): 1}
    converge(objects)
    assert entry(objects) is not None
    before = status(objects)
    assert condition(before.conditions, "Drained").message.startswith(f"1 connection left, as {D2} counts them")
    objects.left[D2, S1] = 0
    agent(objects, D2)
    objects.settle()
    assert entry(objects) is None
    assert on_lo(objects) == (VIP,)  # until the directors have told that they do not send to it
    converge(objects)
    assert on_lo(objects) == ()
    after = status(objects, before, LATER)
    assert told(after.conditions, "Drained") == ("True", "Drained")
    assert told(after.conditions) == ("False", "Drained")
    assert told(after.conditions, "Configured") == ("Unknown", "Drained")
    assert told(after.conditions, "Accepted") == ("True", "Accepted")
    assert [note.reason for note in events(before, after)] == ["Drained"]


def test_it_stays_out_until_it_is_put_back() -> None:
    """A drained server is about to be switched off."""
    objects = draining(0)
    assert entry(objects) is None
    objects.everything()
    converge(objects)
    assert entry(objects) is None
    set_state(objects, RealServerState.IN_SERVICE)
    converge(objects)
    found = entry(objects)
    assert found is not None
    assert (found.weight, found.draining) == (100, False)
    assert told(status(objects).conditions) == ("True", "InService")


def test_back_in_the_middle_keeps_the_connections() -> None:
    """Who changes their mind loses nobody; and the condition of a drain that is not one goes."""
    objects = draining(3)
    set_state(objects, RealServerState.IN_SERVICE)
    converge(objects)
    found = entry(objects)
    assert found is not None
    assert found.weight == 100
    assert [each.type for each in status(objects).conditions] == ["Accepted", "Configured", "Healthy", "Ready"]


def test_the_time_ends_it_and_the_message_says_so() -> None:
    """One idle mount would hold up the maintenance for ever; who reads must know that it was cut."""
    objects = draining(3, drain_seconds=60)
    before = status(objects)
    time_is_over(objects)
    objects.settle()
    after = status(objects, before, LATER)
    objects.drain_over.clear()
    converge(objects)
    assert entry(objects) is None
    last = status(objects, after, LATER)
    for each in (after, last):
        assert told(each.conditions, "Drained") == ("True", "Drained")
        text = condition(each.conditions, "Drained").message
        assert text.startswith("its time is over (drain.timeoutSeconds: 60); last known: 3 connections left")


def test_without_a_limit_none_is_told() -> None:
    """0 means what it says."""
    assert "without limit" in condition(status(draining(1, drain_seconds=0)).conditions, "Drained").message
    assert drain_end(NOW, 0) is None


def test_a_restart_does_not_start_the_time_anew() -> None:
    """Since when it drains is in the object: each controller reads the same."""
    objects = draining(3)
    first = status(objects)
    objects.left[D1, S1] = 2
    converge(objects)
    later = status(objects, first, LATER)
    assert condition(later.conditions, "Drained").last_transition_time == NOW
    assert "2026-01-01T01:00:00Z" in condition(later.conditions, "Drained").message


def test_a_director_that_does_not_tell_is_waited_for_and_named() -> None:
    """A silent director may hold connections: its silence changes no table."""
    objects = draining(3)
    objects.left[D1, S1] = 0
    objects.silence(D2, silent=True)
    agent(objects, D1)
    objects.settle()
    assert entry(objects) is not None
    assert f"not told yet by {D2}" in condition(status(objects).conditions, "Drained").message
    objects.silence(D2, silent=False)
    objects.settle()
    assert entry(objects) is None


def test_one_that_was_never_in_a_table_does_not_enter() -> None:
    """A service made meanwhile would send to a server that is about to go."""
    objects = draining(3)
    objects.put(service("other", ports=(Port(81),)))
    converge(objects)
    assert entry(objects, Key("shop", "other")) is None
    assert entry(objects) is not None


def test_a_changed_vip_does_not_wait_for_it() -> None:
    """The new VIP would come up five minutes late for a server that will never carry it."""
    objects = draining(3)
    known = objects.world.virtual_services[WEB]
    objects.put(replace(known, address="192.0.2.101", meta=replace(known.meta, generation=2)))
    converge(objects)
    (record,) = objects.world.tables.values()
    assert record.spec.address == "192.0.2.101"
    assert [each.real_server for each in record.spec.destinations] == [S2]


def test_a_service_that_cannot_be_read_keeps_it_from_being_called_drained() -> None:
    """Its last table still sends there, with the weight of before."""
    objects = serving()
    objects.change(Kind.VIRTUAL_SERVICE, WEB, Invalid(objects.world.virtual_services[WEB].meta, "spec: bad"))
    set_state(objects, RealServerState.DRAIN)
    converge(objects)
    found = status(objects)
    assert told(found.conditions, "Drained") == ("False", "Draining")
    assert f"not told yet by {D1}, {D2}" in condition(found.conditions, "Drained").message


STEPS = st.one_of(
    st.tuples(st.just("state"), st.sampled_from(list(RealServerState))),
    st.tuples(st.just("left"), st.tuples(st.sampled_from([D1, D2]), st.integers(0, 2))),
    st.tuples(st.just("agent"), st.sampled_from([D1, D2, S1])),
    st.tuples(st.just("silent"), st.tuples(st.sampled_from([D1, D2]), st.booleans())),
)


@given(st.lists(STEPS, max_size=25))
def test_whatever_happens_nothing_new_and_nobody_cut(steps: list[tuple[str, Any]]) -> None:
    """A draining server never has a weight, and leaves the table only when no director has said otherwise last."""
    objects = serving()
    for what, value in steps:
        before = entry(objects)
        if what == "state":
            set_state(objects, value)
        elif what == "left":
            objects.left[value[0], S1] = value[1]
        elif what == "silent":
            objects.silence(value[0], silent=value[1])
        else:
            agent(objects, value)
        objects.settle()
        after, known = entry(objects), objects.world.real_servers[KEY]
        assert isinstance(known, RealServer)
        drains = known.state is RealServerState.DRAIN
        if after is not None:
            assert (after.weight == 0) == (known.state is not RealServerState.IN_SERVICE)
            assert after.draining == drains
        elif before is not None:
            assert drains
            for name in (D1, D2):
                said = objects.world.lvs_nodes[name].status
                assert said is not None
                assert all(each.idle for report in said.tables for each in report.draining)


# What persistence remembers

PERSISTENT = Persistence(300, 32)


def persistent(**more: Any) -> Objects:
    """Return a cluster whose first real server drains from a service with persistence; one client is remembered."""
    objects = serving(service(persistence=PERSISTENT), real_server(S1), real_server(S2))
    objects.remembered[D2, S1] = 1
    set_state(objects, RealServerState.DRAIN, **more)
    converge(objects)
    return objects


def expires(objects: Objects) -> bool:
    """Tell whether directors are told to forget clients of quiesced servers."""
    roles = [objects.world.lvs_nodes[name].spec.director for name in (D1, D2)]
    found = {
        bool(role and role.settings and IpvsSysctl("expire_quiescent_template", 1) in role.settings.sysctls)
        for role in roles
    }
    assert len(found) == 1
    return found.pop()


def test_clients_that_are_remembered_are_waited_for() -> None:
    """Somebody in the middle of a session would lose it with the next click."""
    objects = persistent()
    assert entry(objects) is not None
    assert not expires(objects)
    text = condition(status(objects).conditions, "Drained").message
    assert text.startswith("0 connections left, and 1 client that persistence brings back")
    objects.remembered.clear()
    converge(objects)
    assert entry(objects) is None


def test_or_they_go_elsewhere_if_that_is_wished() -> None:
    """A busy server would never be empty: each connection renews the memory. Afterwards all is as before."""
    objects = persistent(drain_persistence=DrainPersistence.IGNORE)
    found = entry(objects)
    assert found is not None
    assert found.forget_clients
    assert expires(objects)
    objects.remembered.clear()
    converge(objects)
    assert entry(objects) is None
    assert not expires(objects)


def test_what_the_group_says_itself_stands() -> None:
    """Two wishes for one setting: the one of the node's owner counts."""
    objects = persistent(drain_persistence=DrainPersistence.IGNORE)
    own = IpvsSettings(sysctls=(("expire_quiescent_template", 0),))
    selector = Selector(match_labels=(("lvs-operator.io/director", ""),))
    objects.put(group("default", node_selector=selector, ipvs=own))
    objects.settle()
    assert not expires(objects)


# The node's own sockets


def test_the_nodes_own_sockets_decide_once_no_director_sends_to_it() -> None:
    """Connections that the server reset would hold up the maintenance for 15 minutes."""
    objects = draining(3)
    (question,) = objects.world.lvs_nodes[S1].spec.draining
    assert (question.table, question.address, question.ports) == ("shop/web", VIP, (80,))
    objects.own[S1] = 2
    converge(objects)
    text = condition(status(objects).conditions, "Drained").message
    assert text.startswith("2 connections left, as its own node counts them; ")
    before = status(objects)
    objects.own[S1] = 0
    converge(objects)
    assert entry(objects) is None
    assert objects.world.lvs_nodes[S1].spec.draining == ()
    assert condition(status(objects, before, LATER).conditions, "Drained").message == "its node has no connection left"


def test_an_answer_from_before_proves_nothing() -> None:
    """Put back and drained again: a connection may have come in between."""
    objects = draining(3)
    objects.own[S1] = 5
    converge(objects)
    record = objects.world.lvs_nodes[S1]
    assert record.status is not None
    stale = replace(record.status, sockets=(replace(record.status.sockets[0], generation=1, connections=0, idle=True),))
    objects.report(S1, stale)
    objects.settle()
    assert entry(objects) is not None
    objects.own[S1] = 0
    agent(objects, S1)
    objects.silence(S1, silent=True)
    objects.settle()
    assert entry(objects) is not None  # nor that of an agent that is silent


@pytest.mark.parametrize(
    "more",
    [{"ports": (Port(80, Protocol.UDP),)}, {"persistence": PERSISTENT}, {"forwarding": ForwardingMethod.MASQUERADE}],
)
def test_where_sockets_cannot_tell_they_are_not_asked(more: dict[str, Any]) -> None:
    """UDP has no connections, persistence brings clients back, and a masquerading director sees all itself."""
    objects = serving(service(health_check=None, **more), real_server(S1), real_server(S2))
    objects.left[D1, S1] = 3
    objects.own[S1] = 0
    set_state(objects, RealServerState.DRAIN)
    converge(objects)
    assert objects.world.lvs_nodes[S1].spec.draining == ()
    assert entry(objects) is not None


def test_a_deleted_one_says_why_it_drains() -> None:
    """Nobody set its state to Drain."""
    objects = draining(3, deleting=True)
    assert "it is being deleted" in condition(status(objects).conditions).message
