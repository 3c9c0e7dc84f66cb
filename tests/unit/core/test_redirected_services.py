"""forwardingMethod Redirect from what users wrote to what directors are told, and what the user is told of it."""

from typing import Any

import pytest
from msgspec.structs import replace

from lvs_dr.core.checks import TableHealthCheck, TcpCheck
from lvs_dr.core.conditions import find
from lvs_dr.core.health import CheckKey, check_keys
from lvs_dr.core.objects import (
    ConnectionLimits,
    ForwardingMethod,
    Key,
    Operator,
    Override,
    Persistence,
    Port,
    RealServerState,
    Requirement,
    Selector,
    SorryServer,
    Tunnel,
    TunnelType,
    VirtualService,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.core.redirect import Algorithm
from lvs_dr.core.redirect_spec import ADDRESS, HOSTNAME, TableRedirect, TableToken
from lvs_dr.core.summary import real_server_status
from lvs_dr.core.table import FEATURE_REDIRECT, DirectorTableSpec
from tests.unit.core.clusters import ADDRESSES, D1, D2, S1, S2, agent, converge, nodes, serving, web_status
from tests.unit.core.test_forwarding import change, entries, reason, ways
from tests.unit.core.worlds import NOW, VIP, Objects, group, real_server, service

WEB = Key("shop", "web")
DIRECTORS = Selector(match_expressions=(Requirement("lvs-operator.io/director", Operator.EXISTS),))
REDIRECT, DIRECT = ForwardingMethod.REDIRECT, ForwardingMethod.DIRECT_ROUTING


def redirected(name: str = "web", given: TableRedirect | None = None, **more: Any) -> VirtualService:
    """Return a service that redirects."""
    fields: dict[str, Any] = {"scheduler": "wlc", "forwarding": REDIRECT, "redirect": given or TableRedirect()}
    return service(name, **(fields | more))


def table(objects: Objects, key: Key = WEB) -> DirectorTableSpec:
    """Return the table as it is."""
    return objects.world.tables[key].spec


def test_everything_arrives_in_the_table() -> None:
    """What a user wrote is what directors are told."""
    given = TableRedirect(port=8080, host="{name}.example.org", tls_secret="tls", token=TableToken("t", "k1"))  # noqa: S106 - names of Secrets
    objects = serving(
        group("default", node_selector=DIRECTORS, secrets=("t", "tls")),
        redirected(given=given, overrides=(Override(S2, weight=10),)),
        real_server(S1, hostname="s1.example.org", limits=ConnectionLimits(9, 5)),
        real_server(S2),
    )
    assert table(objects).redirect == given
    assert given.secrets == {"tls", "t"}
    assert FEATURE_REDIRECT in table(objects).requires, "an older agent would put it into IPVS"
    told = {name: (each.hostname, each.weight, each.upper) for name, each in entries(objects).items()}
    assert told == {S1: ("s1.example.org", 100, 0), S2: ("", 10, 0)}


def test_secrets_are_those_that_the_group_names() -> None:
    """Whoever writes a VirtualService would read the keys of everybody else's."""
    objects = serving(redirected(given=TableRedirect(token=TableToken("t", "k1"))), real_server(S1))
    accepted = objects.decisions[WEB].accepted
    assert (accepted.ok, accepted.reason) == (False, Reason.SECRET_NOT_NAMED)
    assert "redirect names Secret t" in accepted.message


def test_nothing_is_set_up_on_real_servers_and_they_enter_at_once() -> None:
    """A VIP on lo would take the address away from a node that answers for its own."""
    objects = nodes(D1)
    far = real_server("far", node_name="", addresses=("198.51.100.7",))
    objects.put(redirected(), real_server(S1), far)
    objects.settle()
    assert ways(objects) == {S1: REDIRECT, "far": REDIRECT}
    converge(objects)
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == ()
    assert web_status(objects).real_servers.summary == "2/2"
    decisions = objects.decisions
    for name in (S1, "far"):
        told = find(real_server_status(objects.world, Key("shop", name), decisions, None, NOW).conditions, "Configured")
        assert told is not None
        assert "clients are told its name" in told.message


def test_the_vip_is_given_to_the_directors_as_every_other() -> None:
    """It is held, and moves, by VRRP."""
    objects = serving(redirected(), real_server(S1))
    for name in (D1, D2):
        role = objects.world.lvs_nodes[name].spec.director
        assert role is not None
        assert role.addresses == (VIP,)
        assert role.tables == ("shop/web",)
    assert web_status(objects).active_director == D1


def test_checks_ask_the_port_that_clients_are_sent_to() -> None:
    """The VIP's port is the redirector's; the real server need not have it."""
    objects = serving(redirected(given=TableRedirect(port=8080)), real_server(S1))
    check = TableHealthCheck(TcpCheck())
    assert list(check_keys(table(objects))) == [CheckKey(ADDRESSES[S1], 8080, check)]


def test_maintenance_takes_no_new_uploads() -> None:
    """The states of a real server mean the same as for every method."""
    objects = serving(redirected(), real_server(S1, state=RealServerState.MAINTENANCE), real_server(S2))
    assert {name: each.weight for name, each in entries(objects).items()} == {S1: 0, S2: 100}


def test_the_sorry_server_is_redirected_to() -> None:
    """It needs nothing on its node either, and is named like a real server."""
    objects = serving(
        redirected(sorry_server=SorryServer(real_server=S2)),
        real_server(S1),
        real_server(S2, hostname="sorry.example.org"),
    )
    entry = table(objects).sorry_server
    assert entry is not None
    assert (entry.real_server, entry.forwarding, entry.hostname) == (S2, REDIRECT, "sorry.example.org")
    assert list(entries(objects)) == [S1]
    assert objects.world.lvs_nodes[S2].spec.backend_addresses == ()


def test_downloads_and_uploads_share_a_vip() -> None:
    """One name for both is why there is a redirect at all; the VIP is on lo for the downloads' sake."""
    objects = serving(
        service(ports=(Port(443),)), redirected("upload", ports=(Port(8443),)), real_server(S1), real_server(S2)
    )
    upload = Key("shop", "upload")
    assert ways(objects) == {S1: DIRECT, S2: DIRECT}
    assert {each.forwarding for each in table(objects, upload).destinations} == {REDIRECT}
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == (VIP,)
    objects.put(redirected("other", ports=(Port(8443),), meta_={"created": "2025-06-01T00:00:00Z"}))
    objects.settle()
    assert objects.decisions[Key("shop", "other")].accepted.reason is Reason.PORT_CLAIMED


@pytest.mark.parametrize("first", ["any", "redirected"])
def test_a_service_of_any_port_leaves_nothing_to_redirect(first: str) -> None:
    """IPVS would take the packets before the redirector, and nothing would say why uploads are balanced."""
    any_port = service("any", ports=(Port(0),), persistence=Persistence(300, 32))
    both = [any_port, redirected("redirected", ports=(Port(8443),))]
    both.sort(key=lambda each: each.meta.key.name != first)
    later = replace(both[1], meta=replace(both[1].meta, created="2025-06-01T00:00:00Z"))
    objects = serving(both[0], later, real_server(S1))
    assert objects.decisions[both[0].meta.key].accepted.ok
    assert objects.decisions[later.meta.key].accepted.reason is Reason.PORT_CLAIMED


def test_a_real_server_without_a_name_gets_nothing_and_says_so() -> None:
    """Clients would be told a name that is none."""
    objects = serving(redirected(), real_server(S1, hostname="s1.example.org"), real_server(S2))
    change(objects, redirect=TableRedirect(host=HOSTNAME))
    assert list(entries(objects)) == [S1]
    assert reason(objects, S2) is Reason.NO_HOSTNAME
    converge(objects)
    ready = find(web_status(objects).conditions, "Ready")
    assert ready is not None
    assert "1 of 2" in ready.message
    assert "NoHostname" in ready.message
    told = find(real_server_status(objects.world, Key("shop", S2), objects.decisions, None, NOW).conditions, "Accepted")
    assert told is not None
    assert told.reason == "NoHostname"
    objects.put(real_server(S2, hostname="s2.example.org"))
    objects.settle()
    assert list(entries(objects)) == [S1, S2]


@pytest.mark.parametrize(
    ("given", "hostname", "words"),
    [
        ({}, "s1.example.org", ""),
        ({"status_code": 301}, "s1.example.org", "POST"),
        ({"status_code": 301, "methods": ("GET", "HEAD")}, "s1.example.org", ""),
        ({"status_code": 308, "cache_control": "max-age=60"}, "s1.example.org", "remembered"),
        ({"tls_secret": "tls"}, "s1.example.org", "in clear"),
        ({"scheme": "https"}, "s1.example.org", ""),
        ({"scheme": "https"}, "", "certificate"),
        ({"scheme": "https", "host": ADDRESS}, "s1.example.org", "certificate"),
        ({"scheme": "https", "host": "{name}.example.org"}, "", ""),
    ],
)
def test_what_harms_clients_is_told_where_the_user_looks(given: dict[str, Any], hostname: str, words: str) -> None:
    """Uploads that are lost in some clients alone are found by nobody else."""
    whole = group("default", node_selector=DIRECTORS, secrets=("tls",))
    objects = serving(whole, redirected(given=TableRedirect(**given)), real_server(S1, hostname=hostname))
    found = find(web_status(objects).conditions, "RedirectSafe")
    assert (found is not None) == bool(words)
    if found is not None:
        assert (found.status.value, found.reason) == ("False", "HarmfulRedirect")
        assert words in found.message


def test_weights_that_an_algorithm_ignores_are_told() -> None:
    """As for IPVS's schedulers of that name."""
    servers = (real_server(S1, weight=1), real_server(S2, weight=9))
    for algorithm, told in ((Algorithm.RR, True), (Algorithm.LEAST_INBOUND_BYTES, False)):
        objects = serving(redirected(given=TableRedirect(algorithm=algorithm)), *servers)
        assert (find(web_status(objects).conditions, "WeightsHonoured") is not None) == told


def test_from_direct_routing_to_redirect_and_back_leaves_nobody_without_service() -> None:
    """A table is IPVS's or redirected as a whole: the way back waits for the VIP on lo."""
    objects = serving(service(), real_server(S1), real_server(S2))
    change(objects, forwarding=REDIRECT, redirect=TableRedirect(), scheduler="wlc")
    assert (table(objects).redirect is not None, ways(objects)) == (True, {S1: REDIRECT, S2: REDIRECT})
    converge(objects)
    assert objects.world.lvs_nodes[S1].spec.backend_addresses == ()

    change(objects, forwarding=DIRECT, redirect=None)
    assert (table(objects).redirect is not None, ways(objects)) == (True, {S1: REDIRECT, S2: REDIRECT})
    agent(objects, S1)
    objects.settle()
    assert (table(objects).redirect, ways(objects)) == (None, {S1: DIRECT})
    converge(objects)
    assert ways(objects) == {S1: DIRECT, S2: DIRECT}


def test_a_refused_change_of_the_method_keeps_the_one_of_before() -> None:
    """The last good table goes on, and nothing else is in it than it can carry."""
    refused = {"address": "198.51.100.1"}
    objects = serving(service(forwarding=ForwardingMethod.TUNNEL, tunnel=Tunnel(TunnelType.GRE)), real_server(S1))
    before = entries(objects)
    change(objects, forwarding=REDIRECT, redirect=TableRedirect(), tunnel=None, **refused)
    assert not objects.decisions[WEB].accepted.ok
    assert (table(objects).redirect, entries(objects)) == (None, before)

    objects = serving(redirected(), real_server(S1))
    change(objects, forwarding=DIRECT, redirect=None, **refused)
    objects.put(real_server(S2))
    objects.settle()
    assert (table(objects).redirect, ways(objects)) == (TableRedirect(), {S1: REDIRECT, S2: REDIRECT})
