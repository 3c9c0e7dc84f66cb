"""What `kubectl get` and `kubectl wait` tell: the truth about what is served, and what to do."""

import pytest
from msgspec.structs import replace

from lvs_dr.core.conditions import find
from lvs_dr.core.decisions import EventType
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node_status import Problem, TableException
from lvs_dr.core.objects import Invalid, Key, RealServerState, Selector
from lvs_dr.core.reasons import Reason
from lvs_dr.core.status import Condition, ConditionStatus, RealServerStatus
from lvs_dr.core.summary import director_group_status, events, real_server_status
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, agent, converge, down, nodes, serving, web_status
from tests.unit.core.worlds import LATER, NOW, VIP, Objects, group, real_server, service

WEB = Key("shop", "web")


def condition(conditions: tuple[Condition, ...], type_: str = "Ready") -> Condition:
    """Return a condition that must be there."""
    found = find(conditions, type_)
    assert found is not None
    return found


def told(conditions: tuple[Condition, ...], type_: str = "Ready") -> tuple[str, str]:
    """Return status and reason of a condition."""
    found = condition(conditions, type_)
    return found.status.value, found.reason


def server_status(objects: Objects, name: str, previous: RealServerStatus | None = None) -> RealServerStatus:
    """Return the status of a RealServer, after compiling its service."""
    objects.compile_service(WEB)
    return real_server_status(objects.world, Key("shop", name), objects.decisions, previous, NOW)


def test_a_service_that_is_served() -> None:
    """The table that `kubectl get virtualservices` prints."""
    found = web_status(serving())
    assert [(each.type, each.status.value, each.reason) for each in found.conditions] == [
        ("Accepted", "True", "Accepted"),
        ("Programmed", "True", "Programmed"),
        ("Ready", "True", "Serving"),
    ]
    assert (found.active_director, found.ports, found.real_servers.summary) == (D1, "80/TCP", "2/2")
    assert (found.observed_generation, found.serving_generation) == (1, 1)


def test_a_failed_real_server_is_counted_and_named() -> None:
    """Who looks must see which one and why."""
    objects = serving()
    agent(objects, D1, web=down(S2))
    found = web_status(objects)
    assert found.real_servers.summary == "1/2"
    assert told(found.conditions) == ("True", "Serving")
    assert f"{S2} (CheckFailed: connection refused)" in condition(found.conditions).message
    agent(objects, D1, web=down(S1) + down(S2))
    assert told(web_status(objects).conditions) == ("False", "NoHealthyRealServer")
    server = server_status(objects, S2)
    assert told(server.conditions, "Healthy") == ("False", "CheckFailed")
    assert told(server.conditions) == ("False", "CheckFailed")


def test_a_check_that_cannot_be_made_leaves_the_count_and_makes_healthy_unknown() -> None:
    """The real server serves, and nobody knows whether it is well: neither True nor False is the truth."""
    objects = serving()
    for director in (D1, D2):
        agent(objects, director, web=(TableException("CheckBroken", "no script", S2, serves=True),))
    found = web_status(objects)
    assert found.real_servers.summary == "2/2"
    assert told(found.conditions) == ("True", "Serving")
    assert f"unsure of {S2} (CheckBroken: no script)" in condition(found.conditions).message
    server = server_status(objects, S2)
    assert told(server.conditions, "Healthy") == ("Unknown", "CheckBroken")
    assert told(server.conditions) == ("Unknown", "CheckBroken")
    for director in (D1, D2):
        agent(objects, director, web=(TableException("CheckBroken", "no script", S2),))
    assert web_status(objects).real_servers.summary == "1/2"


def test_a_dissenting_director_is_named() -> None:
    """A takeover would end there."""
    objects = serving()
    agent(objects, D2, web=down(S2))
    found = web_status(objects)
    assert found.real_servers.summary == "2/2"
    assert f"{D2} sees 1" in condition(found.conditions).message


def test_maintenance_counts_in_total_only() -> None:
    """`1/2` tells that one is out; the service itself is fine."""
    objects = serving(service(), real_server(S1, state=RealServerState.MAINTENANCE), real_server(S2))
    found = web_status(objects)
    assert found.real_servers.summary == "1/2"
    assert told(found.conditions) == ("True", "Serving")
    assert f"{S1} (Maintenance)" in condition(found.conditions).message
    assert told(server_status(objects, S1).conditions) == ("False", "Maintenance")


def test_without_a_check_real_servers_count_as_healthy_and_say_so() -> None:
    """Nobody looks: Healthy is Unknown, Ready is not."""
    objects = serving(service(health_check=None), real_server(S1))
    found = web_status(objects)
    assert found.real_servers.summary == "1/1"
    assert "not checked" in condition(found.conditions).message
    server = server_status(objects, S1)
    assert told(server.conditions, "Healthy") == ("Unknown", "NotChecked")
    assert told(server.conditions) == ("True", "InService")


def test_a_silent_active_director_makes_ready_unknown() -> None:
    """Traffic may flow or not: nobody can tell."""
    objects = serving()
    objects.silence(D1, silent=True)
    found = web_status(objects)
    assert told(found.conditions) == ("Unknown", "AgentSilent")
    assert told(found.conditions, "Programmed") == ("Unknown", "AgentSilent")
    assert D1 in condition(found.conditions).message
    assert told(server_status(objects, S1).conditions, "Healthy") == ("Unknown", "AgentSilent")


def test_a_silent_backup_director_leaves_the_service_ready() -> None:
    """Nothing that is served depends on it."""
    objects = serving()
    objects.silence(D2, silent=True)
    found = web_status(objects)
    assert told(found.conditions) == ("True", "Serving")
    assert told(found.conditions, "Programmed") == ("Unknown", "AgentSilent")


def test_real_servers_on_a_silent_node_are_unknown() -> None:
    """Health still comes from the director; whether VIP and ARP are in place nobody can tell."""
    objects = serving()
    objects.silence(S1, silent=True)
    found = server_status(objects, S1)
    assert told(found.conditions, "Configured") == ("Unknown", "AgentSilent")
    assert told(found.conditions, "Healthy") == ("True", "Healthy")
    assert told(found.conditions) == ("Unknown", "AgentSilent")
    assert told(web_status(objects).conditions) == ("True", "Serving")


def test_a_refused_change_says_what_is_still_served() -> None:
    """The edit is wrong, the service goes on: both must be visible."""
    objects = serving()
    before = web_status(objects)
    objects.put(service(address="198.51.100.1", meta_={"generation": 2}))
    found = web_status(objects, before)
    assert told(found.conditions, "Accepted") == ("False", "AddressNotAllowed")
    assert told(found.conditions) == ("False", "AddressNotAllowed")
    assert condition(found.conditions).message.endswith("serving generation 1")
    assert (found.observed_generation, found.serving_generation) == (2, 1)
    assert found.real_servers.summary == "2/2"


def test_a_new_generation_is_ready_when_the_director_has_it() -> None:
    """`kubectl apply` and then `kubectl wait` must wait for the new one."""
    objects = serving()
    before = web_status(objects)
    objects.put(service(scheduler="wlc", meta_={"generation": 2}))
    found = web_status(objects, before)
    assert told(found.conditions) == ("False", "WaitingForDirector")
    assert condition(found.conditions).observed_generation == 2
    converge(objects)
    assert told(web_status(objects, found).conditions) == ("True", "Serving")


def test_a_changed_weight_does_not_make_the_service_unready() -> None:
    """It is served all the time; only Programmed tells that a director lags."""
    objects = serving()
    before = web_status(objects)
    objects.put(real_server(S1, weight=7))
    objects.compile_service(WEB)
    found = web_status(objects, before)
    assert told(found.conditions) == ("True", "Serving")
    assert told(found.conditions, "Programmed") == ("False", "WaitingForDirector")
    earlier = server_status(serving(), S2)
    assert told(server_status(objects, S2, earlier).conditions, "Healthy") == ("True", "Healthy")


def test_transition_times_change_with_the_status_only() -> None:
    """Alerts are built on them."""
    objects = serving()
    before = web_status(objects)
    agent(objects, D1, web=down(S1) + down(S2))
    after = web_status(objects, before, LATER)
    assert condition(after.conditions).last_transition_time == LATER
    assert condition(after.conditions, "Accepted").last_transition_time == NOW
    agent(objects, D1, web=down(S1) + down(S2, "timeout"))
    assert condition(web_status(objects, after, "z").conditions).last_transition_time == LATER


@pytest.mark.parametrize(
    ("given", "expected", "hint"),
    [
        ((service(),), Reason.NO_REAL_SERVER, "selector"),
        ((service(), real_server("x", node_name="", addresses=("198.51.100.9",))), Reason.NO_REAL_SERVER, "NotOnLink"),
    ],
)
def test_a_service_without_usable_real_servers_says_why(given: tuple[object, ...], expected: Reason, hint: str) -> None:
    """The commonest beginnings must explain themselves."""
    found = web_status(serving(*given))
    assert told(found.conditions) == ("False", expected.value)
    assert hint in condition(found.conditions).message


def test_without_director_nothing_is_ready() -> None:
    """The message says how to make a node a director."""
    objects = nodes()
    objects.put(service(), real_server(S1))
    found = web_status(objects)
    assert told(found.conditions) == ("False", "NoDirector")
    assert "kubectl label node" in condition(found.conditions).message
    assert found.real_servers.summary == "0/0"


@pytest.mark.parametrize(
    ("exceptions", "problems", "expected"),
    [
        ((TableException("SchedulerUnavailable", "modprobe ip_vs_mh"),), (), "SchedulerUnavailable"),
        ((TableException("FromTheFuture", "new"),), (), "KernelRefused"),
        ((), (Problem("AddressInUse", "02:00:00:00:00:01 answers", VIP),), "AddressInUse"),
    ],
)
def test_what_the_active_director_cannot_do_is_the_reason(
    exceptions: tuple[TableException, ...], problems: tuple[Problem, ...], expected: str
) -> None:
    """A kernel without the scheduler, an address in use: the user sees it on the service."""
    objects = serving()
    agent(objects, D1, web=exceptions)
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    if problems:
        objects.report(D1, replace(record.status, problems=problems, held_addresses=()))
    assert told(web_status(objects).conditions) == ("False", expected)


def test_a_vip_that_no_director_may_take_says_why() -> None:
    """A director does not take part for a VIP that another machine has: "nobody is Active" would explain nothing."""
    objects = serving()
    for name in (D1, D2):
        record = objects.world.lvs_nodes[name]
        assert record.status is not None
        problem = Problem("AddressInUse", "02:00:00:00:00:01 answers", VIP)
        objects.report(name, replace(record.status, problems=(problem,), held_addresses=(), virtual_routers=()))
    found = web_status(objects)
    assert told(found.conditions) == ("False", "AddressInUse")
    assert "02:00:00:00:00:01" in condition(found.conditions).message


def test_a_vip_that_another_node_still_holds_is_waited_for() -> None:
    """The name of who holds it is in the message."""
    objects = serving(group("other"), service(), real_server(S1), directors=(D1,))
    record = objects.world.nodes[D2]
    objects.put(replace(record, meta=replace(record.meta, labels=(("group", "other"), *record.meta.labels))))
    converge(objects)
    objects.put(service(director_group="other", meta_={"generation": 2}))
    objects.settle()
    found = web_status(objects)
    assert told(found.conditions) == ("False", "WaitingForRelease")
    assert D1 in condition(found.conditions).message
    assert found.active_director == ""


def test_a_paused_service_goes_on_being_ready() -> None:
    """Pause stops writes, not traffic."""
    objects = serving()
    before = web_status(objects)
    objects.put(service(meta_={"paused": True}))
    objects.compile_service(WEB)
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    paused = replace(record.status.tables[0], exceptions=(TableException("Paused", "nothing is written"),))
    objects.report(D1, replace(record.status, tables=(paused,)))
    found = web_status(objects, before)
    assert told(found.conditions) == ("True", "Serving")
    assert told(found.conditions, "Programmed") == ("False", "Paused")


def test_an_unreadable_service_shows_what_is_served() -> None:
    """The count comes from the table that stays."""
    objects = serving()
    before = web_status(objects)
    objects.change(Kind.VIRTUAL_SERVICE, WEB, Invalid(service(meta_={"generation": 2}).meta, "spec.ports: no"))
    found = web_status(objects, before)
    assert told(found.conditions) == ("False", "Invalid")
    assert (found.real_servers.summary, found.ports, found.serving_generation) == ("2/2", "80/TCP", 1)


def test_a_report_that_was_cut_makes_the_unnamed_unknown() -> None:
    """They may be among those that did not fit."""
    objects = serving()
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    cut = replace(record.status.tables[0], exceptions=down(S2), cut=5, healthy=0)
    objects.report(D1, replace(record.status, tables=(cut,)))
    assert told(server_status(objects, S1).conditions, "Healthy") == ("Unknown", "Checking")
    assert told(server_status(objects, S2).conditions, "Healthy") == ("False", "CheckFailed")
    assert web_status(objects).real_servers.healthy == 0


def test_a_real_server_that_nobody_selects() -> None:
    """A label that is misspelt is the usual cause."""
    objects = serving()
    objects.put(real_server("lone", node_name=S1, meta_={"labels": {"pool": "wbe"}}))
    found = server_status(objects, "lone")
    assert told(found.conditions) == ("False", "NotSelected")
    assert "labels" in condition(found.conditions).message
    assert found.virtual_services == 0


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (real_server("x", node_name="", addresses=("198.51.100.9",)), "NotOnLink"),
        (real_server("x", node_name="ghost"), "NodeMissing"),
    ],
)
def test_a_refused_real_server_says_so(given: object, expected: str) -> None:
    """On the object that has to be repaired."""
    objects = serving()
    objects.put(given)
    found = server_status(objects, "x")
    assert told(found.conditions, "Accepted") == ("False", expected)
    assert told(found.conditions) == ("False", expected)


def test_a_real_server_without_its_vip_on_lo_is_not_configured() -> None:
    """The problem that the agent names is the reason."""
    objects = serving()
    record = objects.world.lvs_nodes[S1]
    assert record.status is not None
    objects.report(S1, replace(record.status, loopback_addresses=()))
    assert told(server_status(objects, S1).conditions, "Configured") == ("False", "WaitingForBackend")
    problem = Problem("KernelRefused", "arp_ignore cannot be set", VIP)
    objects.report(S1, replace(record.status, loopback_addresses=(), problems=(problem,)))
    assert told(server_status(objects, S1).conditions, "Configured") == ("False", "KernelRefused")


def test_addresses_of_a_real_server() -> None:
    """What `kubectl get realservers` prints."""
    objects = serving()
    found = server_status(objects, S1)
    assert (found.address, found.virtual_services) == (ADDRESSES[S1], 1)
    assert told(found.conditions) == ("True", "InService")


def test_a_group_has_elected_when_one_director_holds_all_vips() -> None:
    """Else the group's status must not look well."""
    objects = serving(
        group("default", node_selector=Selector((("lvs-operator.io/director", ""),))), service(), real_server(S1)
    )
    found = director_group_status(objects.world, "default", None, NOW)
    assert (found.directors, found.active, found.virtual_services) == ((D1, D2), D1, 1)
    assert told(found.conditions, "Elected") == ("True", "Elected")
    objects.silence(D1, silent=True)
    found = director_group_status(objects.world, "default", found, NOW)
    assert told(found.conditions, "Elected") == ("Unknown", "AgentSilent")
    objects.silence(D1, silent=False)
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    objects.report(D1, replace(record.status, held_addresses=()))
    found = director_group_status(objects.world, "default", found, NOW)
    assert told(found.conditions, "Elected") == ("False", "WaitingForDirector")


def test_events_tell_transitions_and_health_once() -> None:
    """Few, and with the names that matter."""
    objects = serving()
    well = web_status(objects)
    first = events(None, well)
    assert [(each.type, each.reason) for each in first] == [(EventType.NORMAL, Reason.SERVING)]
    agent(objects, D1, web=down(S2))
    one = web_status(objects, well)
    (note,) = events(well, one)
    assert (note.type, S2 in note.message, "1 of 2" in note.message) == (EventType.WARNING, True, True)
    assert events(one, one) == ()
    agent(objects, D1, web=down(S1) + down(S2))
    none = web_status(objects, one)
    (note,) = events(one, none)
    assert (note.type, note.reason) == (EventType.WARNING, Reason.NO_HEALTHY_REAL_SERVER)
    (note,) = events(none, well)
    assert (note.type, note.reason) == (EventType.NORMAL, Reason.SERVING)
    server = events(server_status(serving(), S2), server_status(objects, S2))
    assert [each.reason for each in server] == [Reason.CHECK_FAILED]


def test_a_refusal_is_one_event_for_each_generation() -> None:
    """Not one for the refusal and one for Ready."""
    objects = serving()
    before = web_status(objects)
    objects.put(service(address="198.51.100.1", meta_={"generation": 2}))
    refused = web_status(objects, before)
    assert [each.reason for each in events(before, refused)] == [Reason.ADDRESS_NOT_ALLOWED]
    assert events(refused, refused) == ()


def test_events_name_three_servers_and_fit() -> None:
    """A whole rack that fails is one Event of bounded length."""
    bare = [real_server(f"m{at:02}", node_name="", addresses=(f"192.0.2.{20 + at}",)) for at in range(60)]
    objects = serving(service(), *bare)
    well = web_status(objects)
    failed = tuple(each for one in bare[:40] for each in down(one.meta.key.name, "x" * 500))
    agent(objects, D1, web=failed)
    (note,) = events(well, web_status(objects, well))
    assert note.message.count("CheckFailed") == 3
    assert "and 37 more" in note.message
    assert len(note.message) <= 1024


def test_conditions_are_strings_that_the_api_takes() -> None:
    """An unknown enum value would be refused by the CRD."""
    found = condition(web_status(serving()).conditions)
    assert type(found.reason) is str
    assert found.status is ConditionStatus.TRUE
