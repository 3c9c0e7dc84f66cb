"""What people see: columns, names, explanations."""

import datetime as dt
import re
from collections.abc import Iterator
from typing import Any

import msgspec

from lvs_dr.api import compiled, kinds
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.status import (
    DirectorGroupStatus,
    RealServerCount,
    RealServerStatus,
    VirtualRouterStatus,
    VirtualServiceStatus,
)
from lvs_dr.core.table import (
    DirectorTableSpec,
    TablePort,
)
from tests.api.crds.objects import Objects, conditions
from tests.api.crds.refusals import service_spec

NAMESPACE = "lvs-crds-kubectl"


def rows(objects: Objects, *argv: str) -> list[list[str]]:
    """Header and first row that kubectl prints; cells are two spaces apart. The age is left out."""
    lines = objects.kubectl("get", *argv).stdout.splitlines()
    table = [re.split(r"\s{2,}", line.strip()) for line in lines]
    age = table[0].index("AGE")
    return [row[:age] + row[age + 1 :] for row in table]


def test_columns_of_virtual_services(objects: Objects) -> None:
    """`kubectl get vip` answers: which address, how many are well, who serves it, is it ready."""
    objects.apply(kinds.VIRTUAL_SERVICE, "columns", spec=service_spec(scheduler="rr"))
    status = VirtualServiceStatus(
        observed_generation=1,
        serving_generation=1,
        active_director="director-1",
        ports="80/TCP,443/TCP",
        real_servers=RealServerCount(1, 2, "1/2"),
        conditions=conditions(Accepted="True", Programmed="True", Ready="True"),
    )
    objects.apply(kinds.VIRTUAL_SERVICE, "columns", status=msgspec.to_builtins(status))
    header = ["NAME", "VIP", "PORTS", "SCHEDULER", "REAL SERVERS", "DIRECTOR", "READY"]
    row = ["columns", "192.0.2.10", "80/TCP,443/TCP", "rr", "1/2", "director-1", "True"]
    assert rows(objects, "vip", "columns") == [header, row]
    wide = ["GROUP", "ON FAILURE", "ACCEPTED", "PROGRAMMED", "REASON", "MESSAGE"]
    more = ["default", "Remove", "True", "True", "ReadyReason", "about Ready"]
    assert rows(objects, "vip", "columns", "--output=wide") == [header + wide, row + more]
    objects.kubectl("wait", "--for=condition=Ready", "--timeout=5s", "vip/columns")


def test_columns_of_real_servers(objects: Objects) -> None:
    """`kubectl get rip` answers: which machine, what share, does it serve."""
    objects.apply(kinds.REAL_SERVER, "columns", spec={"nodeName": "storage-1", "weight": 7})
    status = RealServerStatus(1, "192.0.2.21", 3, conditions(Configured="True", Healthy="False", Ready="False"))
    objects.apply(kinds.REAL_SERVER, "columns", status=msgspec.to_builtins(status))
    header = ["NAME", "NODE", "ADDRESS", "WEIGHT", "STATE", "READY"]
    row = ["columns", "storage-1", "192.0.2.21", "7", "InService", "False"]
    assert rows(objects, "rip", "columns") == [header, row]
    wide = ["VIRTUAL SERVICES", "CONFIGURED", "HEALTHY", "REASON", "MESSAGE"]
    more = ["3", "True", "False", "ReadyReason", "about Ready"]
    assert rows(objects, "rip", "columns", "--output=wide") == [header + wide, row + more]


def test_columns_of_groups_and_compiled_objects(objects: Objects) -> None:
    """The other kinds print what an operator looks for first."""
    objects.apply(kinds.DIRECTOR_GROUP, "crds-group", spec={"nodeSelector": {"matchLabels": {"a": "b"}}})
    since = (dt.datetime.now(dt.UTC) - dt.timedelta(minutes=90)).strftime("%Y-%m-%dT%H:%M:%SZ")
    status = DirectorGroupStatus(
        observed_generation=1,
        directors=("d-1", "d-2"),
        active="d-1,d-2",
        virtual_services=5,
        conditions=conditions(Accepted="True", Elected="True", PeersHeard="True"),
        active_since=since,
        virtual_routers=(
            VirtualRouterStatus(51, 4, "d-1", since, 3, "no other director was heard"),
            VirtualRouterStatus(52, 6, "d-2", since, 2, "its priority is higher"),
        ),
    )
    objects.apply(kinds.DIRECTOR_GROUP, "crds-group", status=msgspec.to_builtins(status))
    assert rows(objects, "dg", "crds-group", "--output=wide") == [
        ["NAME", "ACTIVE", "SINCE", "VIRTUAL SERVICES", "ACCEPTED", "ELECTED", "PEERS HEARD", "DIRECTORS", "MESSAGE"],
        ["crds-group", "d-1,d-2", "90m", "5", "True", "True", "True", '["d-1","d-2"]', "about Elected"],
    ]
    table = DirectorTableSpec("edge", 4, "192.0.2.1", (TablePort(80, Protocol.TCP),), "rr", OnFailure.REMOVE, ())
    objects.apply(kinds.DIRECTOR_TABLE, "columns", spec=compiled.spec_body(table))
    assert rows(objects, "dtab", "columns") == [
        ["NAME", "VIP", "GROUP", "SCHEDULER", "SERVICE GENERATION"],
        ["columns", "192.0.2.1", "edge", "rr", "4"],
    ]
    objects.apply(kinds.LVS_NODE, "crds-node", spec={"decided": True, "director": {"group": "edge"}})
    report = LVSNodeStatus(director_interface="eth0", observed_generation=1)
    objects.apply(kinds.LVS_NODE, "crds-node", status=msgspec.to_builtins(report))
    header, row = rows(objects, "lvsnode", "crds-node")
    assert header == ["NAME", "DIRECTOR OF", "INTERFACE", "DECIDED", "GENERATION", "OBSERVED", "PROBLEM"]
    assert row[:4] == ["crds-node", "edge", "eth0", "true"]


def test_names_that_kubectl_knows(objects: Objects) -> None:
    """Short names and the category work, and none of them is one that other products have."""
    found = objects.kubectl("api-resources", f"--api-group={kinds.GROUP}", "--no-headers", "--output=wide").stdout
    table = {line.split()[0]: line for line in found.splitlines()}
    assert set(table) == {kind.plural for kind in kinds.KINDS}
    for kind in kinds.KINDS:
        assert " lvs" in table[kind.plural]
        assert not {"vs", "rs", "svc"} & set(kind.short_names)
        for name in (*kind.short_names, kind.singular):
            objects.kubectl("get", name)


def test_explain_teaches(objects: Objects) -> None:
    """`kubectl explain` has a text for every field of every kind, the one from the model."""
    text = " ".join(objects.kubectl("explain", "virtualservice.spec").stdout.split())
    for taught in ("that clients connect to", "Default: wlc.", "mh: by the client's address", "enum: Remove, Quiesce"):
        assert taught in text
    assert "write tcp: {}" in " ".join(objects.kubectl("explain", "vip.spec.healthCheck").stdout.split())
    assert "direct routing" in objects.kubectl("explain", "virtualservice").stdout
    _, openapi = objects.server.api("GET", f"/openapi/v3/apis/{kinds.API_VERSION}")
    for kind in kinds.KINDS:
        schema = openapi["components"]["schemas"][f"io.lvs-operator.{kinds.VERSION}.{kind.kind}"]
        assert list(undescribed(schema["properties"]["spec"], f"{kind.kind}.spec")) == []


def undescribed(schema: dict[str, Any], where: str) -> Iterator[str]:
    """Paths of fields without a description."""
    for name, each in schema.get("properties", {}).items():
        if not each.get("description"):
            yield f"{where}.{name}"
        yield from undescribed(each.get("items", each), f"{where}.{name}")
