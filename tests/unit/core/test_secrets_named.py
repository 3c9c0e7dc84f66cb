"""Which Secrets a VirtualService may have directors use: those that its DirectorGroup names."""

from typing import Any

from msgspec.structs import replace

from lvs_dr.core.checks import HttpCheck, TableHealthCheck, TlsSettings
from lvs_dr.core.node_status import Problem
from lvs_dr.core.objects import Key, Selector
from lvs_dr.core.status import DirectorGroupStatus
from lvs_dr.core.summary import director_group_status
from tests.unit.core.clusters import D1, S1, S2, converge, serving, web_status
from tests.unit.core.test_summary import condition, told
from tests.unit.core.worlds import NOW, Objects, group, real_server, service

CHECK = TableHealthCheck(http=HttpCheck(tls=TlsSettings(secret="check")))  # noqa: S106 - its name
DIRECTORS = Selector(match_labels=(("lvs-operator.io/director", ""),))


def cluster(*secrets: str, **given: Any) -> Objects:
    """Return a cluster whose group names these Secrets."""
    named = group("default", node_selector=DIRECTORS, secrets=secrets)
    return serving(named, service(**given), real_server(S1), real_server(S2))


def group_status(objects: Objects) -> DirectorGroupStatus:
    """Return the group's status."""
    return director_group_status(objects.world, "default", None, NOW)


def test_a_named_secret_reaches_the_directors_and_the_table_requires_it() -> None:
    """Directors would not know what to read; an older agent would check without the certificate."""
    objects = cluster("check", "other", health_check=CHECK)
    role = objects.world.lvs_nodes[D1].spec.director
    assert role is not None
    assert role.secrets == ("check", "other")
    assert "check-secrets" in objects.world.tables[Key("shop", "web")].spec.requires
    assert told(web_status(objects).conditions) == ("True", "Serving")
    assert told(group_status(objects).conditions, "SecretsRead") == ("True", "SecretsRead")


def test_another_secret_is_refused_until_the_group_names_it() -> None:
    """Any editor of a namespace could make directors present somebody else's certificate."""
    objects = cluster(health_check=CHECK)
    refused = web_status(objects)
    assert told(refused.conditions, "Accepted") == ("False", "SecretNotNamed")
    assert "spec.secrets of DirectorGroup default" in condition(refused.conditions, "Accepted").message
    known = objects.world.groups["default"]
    objects.put(replace(known, secrets=("check",)))
    converge(objects)
    assert told(web_status(objects).conditions, "Accepted") == ("True", "Accepted")


def test_a_director_that_cannot_read_it_is_named() -> None:
    """The administrator would look at every agent's log."""
    objects = cluster("check")
    record = objects.world.lvs_nodes[D1]
    assert record.status is not None
    problem = Problem("SecretUnavailable", "the agents may not read Secret lvs-system/check")
    objects.report(D1, replace(record.status, problems=(problem,)))
    found = group_status(objects)
    assert told(found.conditions, "SecretsRead") == ("False", "SecretUnavailable")
    assert condition(found.conditions, "SecretsRead").message.startswith(f"{D1}: the agents may not")
