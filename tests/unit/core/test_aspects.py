"""Conditions that appear only where they say something: marks, weights, overrides, shared settings, tunnels."""

import pytest
from msgspec.structs import replace

from lvs_dr.core.conditions import find
from lvs_dr.core.director_group import IpvsSettings
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback
from lvs_dr.core.node_status import LVSNodeStatus, Problem, TableException
from lvs_dr.core.objects import ForwardingMethod, Key, Override, Port, Protocol, Selector
from lvs_dr.core.status import Condition, ServiceWeight
from lvs_dr.core.summary import director_group_status, real_server_status
from lvs_dr.core.weight_report import WeightReport
from tests.unit.core.clusters import D1, D2, S1, S2, agent, converge, nodes, serving, web_status
from tests.unit.core.worlds import NOW, Objects, group, real_server, service

NOT_SEEN = (TableException(reason="MarkNotSeen"),)


def told(conditions: tuple[Condition, ...], type_: str) -> tuple[str, str] | None:
    """Return status and reason of a condition; None when it is not there."""
    found = find(conditions, type_)
    return (found.status.value, found.reason) if found is not None else None


def report(objects: Objects, name: str) -> LVSNodeStatus:
    """Return a node's last report."""
    status = objects.world.lvs_nodes[name].status
    assert status is not None
    return status


def test_a_mark_that_no_packet_carries_is_told_and_changes_nothing_else() -> None:
    """The user marks packets: forgotten, everything looks well and nothing is balanced."""
    objects = serving(service(ports=(), firewall_mark=7), real_server(S1))
    agent(objects, D1, web=NOT_SEEN)
    agent(objects, D2, web=NOT_SEEN)
    found = web_status(objects)
    assert told(found.conditions, "Marked") == ("False", "MarkNotSeen")
    message = find(found.conditions, "Marked")
    assert message is not None
    assert "iptables -t mangle -A PREROUTING -d 192.0.2.100" in message.message
    assert told(found.conditions, "Ready") == ("True", "Serving")
    assert told(found.conditions, "Programmed") == ("True", "Programmed")
    agent(objects, D1)  # the Backup director never sees one
    assert told(web_status(objects).conditions, "Marked") == ("True", "MarkSeen")
    assert told(web_status(serving()).conditions, "Marked") is None


def test_a_mark_is_unknown_until_the_active_director_has_reported() -> None:
    """Nobody is told that marking failed before anybody could know."""
    objects = nodes(D1)
    objects.put(service(ports=(), firewall_mark=7), real_server(S1))
    objects.settle()
    assert told(web_status(objects).conditions, "Marked") == ("Unknown", "WaitingForDirector")


@pytest.mark.parametrize("reason", ["Contested", "ForeignEntry"])
def test_another_writer_on_a_director_is_told_where_the_user_looks(reason: str) -> None:
    """keepalived or kube-proxy writes to the same service: status of the node alone is read by nobody."""
    objects = serving(service(), real_server(S1))
    assert told(web_status(objects).conditions, "Undisturbed") is None
    theirs = Problem(reason=reason, message="IPVS service TCP 192.0.2.100:80", address="192.0.2.100")
    elsewhere = Problem(reason=reason, message="another VIP's", address="192.0.2.101")
    objects.report(D2, replace(report(objects, D2), problems=(elsewhere,)))
    assert told(web_status(objects).conditions, "Undisturbed") is None
    objects.report(D2, replace(report(objects, D2), problems=(elsewhere, theirs)))
    found = find(web_status(objects).conditions, "Undisturbed")
    assert found is not None
    assert (found.status.value, found.reason) == ("False", reason)
    assert found.message == f"director {D2}: IPVS service TCP 192.0.2.100:80"
    assert told(web_status(objects).conditions, "Ready") == ("True", "Serving")


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (service(ports=(), firewall_mark=7), "fwmark 7"),
        (service(ports=(Port(0), Port(0, Protocol.UDP))), "any/TCP,any/UDP"),
        (service(ports=(Port(80), Port(53, Protocol.UDP))), "80/TCP,53/UDP"),
    ],
)
def test_the_ports_column_says_which_packets(given: object, expected: str) -> None:
    """`kubectl get virtualservices` shows them without a look at the spec."""
    assert web_status(serving(given, real_server(S1))).ports == expected


@pytest.mark.parametrize(
    ("scheduler", "weights", "ignored"),
    [
        ("rr", (1, 2), True),
        ("lc", (1, 2), True),
        ("dh", (1, 2), True),
        ("rr", (100, 100), False),
        ("rr", (100, 0), False),
        ("wrr", (1, 2), False),
        ("wlc", (1, 2), False),
        ("mh", (1, 2), False),
        ("sh", (100, 100), False),
        ("sh", (100, 200), False),
        ("sh", (257, 1), True),
    ],
)
def test_weights_that_have_no_effect_are_a_condition(scheduler: str, weights: tuple[int, int], ignored: bool) -> None:  # noqa: FBT001
    """Never a refusal: the service is served, only not in the shares that someone expects."""
    first, second = weights
    objects = serving(service(scheduler=scheduler), real_server(S1, weight=first), real_server(S2, weight=second))
    found = web_status(objects).conditions
    assert told(found, "WeightsHonoured") == (("False", "WeightsIgnored") if ignored else None)
    assert told(found, "Ready") == ("True", "Serving")


def test_an_override_of_nobody_is_told() -> None:
    """A misspelt name changes nothing, which nobody would notice otherwise."""
    objects = serving(service(overrides=(Override("typo", weight=1), Override(S1, weight=1))), real_server(S1))
    found = find(web_status(objects).conditions, "OverridesApplied")
    assert found is not None
    assert (found.status.value, found.reason) == ("False", "NotSelected")
    assert "typo" in found.message
    assert S1 not in found.message
    objects.put(real_server("typo", node_name="", addresses=("192.0.2.60",)))
    converge(objects)
    assert told(web_status(objects).conditions, "OverridesApplied") is None


def test_settings_of_a_group_are_applied_or_in_conflict() -> None:
    """Someone else's setting is reported where the wish was written, and not fought over."""
    labels = Selector((("lvs-operator.io/director", ""),))
    objects = serving(
        group("default", node_selector=labels, ipvs=IpvsSettings(tcp_seconds=7200)), service(), real_server(S1)
    )

    def settings() -> tuple[str, str] | None:
        return told(director_group_status(objects.world, "default", None, NOW).conditions, "SettingsApplied")

    assert settings() == ("True", "Configured")
    conflict = Problem(reason="SharedSettingConflict", message="kube-proxy sets the timeouts")
    objects.report(D2, replace(report(objects, D2), problems=(conflict,)))
    assert settings() == ("False", "SharedSettingConflict")
    objects.report(D2, replace(report(objects, D2), problems=(), observed_generation=0))
    assert settings() == ("Unknown", "WaitingForDirector")
    objects.put(group("default", node_selector=labels))
    assert settings() is None


def test_a_real_server_is_configured_when_its_method_has_what_it_needs() -> None:
    """VIP and tunnel for a tunnel; nothing at all for masquerading."""
    key = Key("shop", S1)
    objects = serving(service(forwarding=ForwardingMethod.TUNNEL), real_server(S1))

    def configured() -> tuple[str, str] | None:
        objects.compile_service(Key("shop", "web"))
        return told(real_server_status(objects.world, key, objects.decisions, None, NOW).conditions, "Configured")

    assert configured() == ("True", "Configured")
    objects.report(S1, replace(report(objects, S1), tunnels=()))
    assert configured() == ("False", "WaitingForTunnel")
    problem = Problem(reason="TunnelUnavailable", message="load the module ipip")
    objects.report(S1, replace(report(objects, S1), problems=(problem,)))
    assert configured() == ("False", "TunnelUnavailable")
    objects.put(service(forwarding=ForwardingMethod.MASQUERADE))
    converge(objects)
    assert configured() == ("True", "Configured")
    assert report(objects, S1).loopback_addresses == ()


FEEDBACK = TableLoadFeedback(LoadSource.CPU_PRESSURE, 20)
CHANGED = WeightReport(S1, 62, "s1: 100 -> 62, CPU pressure 38% for 20 s", NOW)


def test_a_load_that_nobody_hears_is_told_and_harms_nothing() -> None:
    """The weights stand still, and the user believes that they follow; or the server is called ill for it."""
    objects = serving(service(scheduler="wlc", load_feedback=FEEDBACK), real_server(S1))
    assert told(web_status(objects).conditions, "LoadKnown") == ("True", "LoadKnown")
    unheard = (TableException("LoadUnknown", "node s1: no PSI", S1, serves=True),)
    agent(objects, D1, web=unheard)
    found = web_status(objects)
    assert told(found.conditions, "LoadKnown") == ("False", "LoadUnknown")
    assert told(found.conditions, "Ready") == ("True", "Serving")
    message = find(found.conditions, "LoadKnown")
    assert message is not None
    assert message.message == "director d1 does not hear the load of s1: node s1: no PSI"
    assert found.real_servers.healthy == 1
    assert told(web_status(serving()).conditions, "LoadKnown") is None


def test_the_last_change_of_a_weight_stands_where_the_server_is_looked_at() -> None:
    """Who asks why a server gets less must not have to read the directors' reports."""
    objects = serving(service(scheduler="wlc", load_feedback=FEEDBACK), real_server(S1), real_server(S2))

    def weights(name: str) -> tuple[ServiceWeight, ...]:
        found = real_server_status(objects.world, Key("shop", name), objects.decisions, None, NOW)
        return found.weights

    assert weights(S1) == ()
    for director in (D1, D2):
        seen = report(objects, director)
        changed = CHANGED if director == D1 else replace(CHANGED, weight=1)
        dirty = objects.report(director, replace(seen, tables=(replace(seen.tables[0], weights=(changed,)),)))
        assert dirty.real_servers == {Key("shop", S1)}
    assert weights(S1) == (ServiceWeight("web", 62, CHANGED.message, NOW),), "as the Active director has it"
    assert weights(S2) == ()
