"""The CRDs on a real API server: what it accepts, refuses, stores and prints."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

from lvs_dr.api import kinds, translate
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, LVSNodeStatus, TableException, TableReport
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.status import (
    Condition,
    ConditionStatus,
    DirectorGroupStatus,
    RealServerCount,
    RealServerStatus,
    VirtualServiceStatus,
)
from lvs_dr.core.table import (
    MAXIMUM_DESTINATIONS,
    MAXIMUM_PORTS,
    DirectorTableSpec,
    TableDestination,
    TableHealthCheck,
    TablePort,
    TcpCheck,
)
from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.spec import Completed
from tests.api.refusals import NAMESPACE, REFUSALS, Refusal, manifest, service_spec

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "manifests/examples").glob("*.yaml"))
CLUSTER_NAMES = ("crds-group", "crds-node", "edge")
SERVER_SIDE = ("--server-side", "--force-conflicts", "--field-manager=test-crds")
APPLY = "application/apply-patch+yaml"


@pytest.fixture(scope="module")
def server(api_server: LocalControlPlane) -> Iterator[LocalControlPlane]:
    """The API server with our CRDs and a namespace of this module's own; what it made is gone afterwards."""
    files = [f"--filename={ROOT}/crds/{kind.plural}.yaml" for kind in kinds.KINDS]
    applied = api_server.kubectl("apply", *SERVER_SIDE, "--validate=strict", *files)
    assert applied.stderr == "", "the API server warns about our CRDs"
    crds = [f"crd/{kind.crd_name}" for kind in kinds.KINDS]
    api_server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    api_server.kubectl("create", "namespace", NAMESPACE)
    yield api_server
    plurals = ",".join(kind.plural for kind in kinds.KINDS if not kind.namespaced)
    api_server.kubectl("delete", plurals, *CLUSTER_NAMES, "--ignore-not-found")
    api_server.kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def kubectl(server: LocalControlPlane, *argv: str, **options: Any) -> Completed:
    """Run kubectl in this module's namespace."""
    return server.kubectl(*argv, f"--namespace={NAMESPACE}", **options)


def path(kind: kinds.Kind, name: str = "", *, status: bool = False) -> str:
    """URL path of an object of this module's namespace, or of all of them."""
    inside = f"/namespaces/{NAMESPACE}" if kind.namespaced else ""
    parts = [f"/apis/{kinds.API_VERSION}{inside}/{kind.plural}", *filter(None, [name, "status" if status else ""])]
    return "/".join(parts)


def apply(server: LocalControlPlane, kind: kinds.Kind, name: str, **content: Any) -> dict[str, Any]:
    """Write spec or status as the controller and the agent do: server-side apply, unknown fields refused."""
    query = "?fieldManager=lvs-test&force=true&fieldValidation=Strict"
    body = manifest(kind, name, {}) | content
    if "spec" not in content:
        del body["spec"]
    status, answer = server.api(
        "PATCH", path(kind, name, status="status" in content) + query, body, content_type=APPLY, timeout=60
    )
    assert status in (200, 201), answer["message"]
    stored: dict[str, Any] = answer
    return stored


def conditions(**values: str) -> tuple[Condition, ...]:
    """Conditions with these statuses."""
    return tuple(
        Condition(
            type=kind,
            status=ConditionStatus(status),
            reason=f"{kind}Reason",
            message=f"about {kind}",
            observed_generation=1,
            last_transition_time="2026-01-01T00:00:00Z",
        )
        for kind, status in values.items()
    )


# What users get wrong


@pytest.fixture(scope="module", params=["server-side", "client-side"])
def mistakes(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, server: LocalControlPlane
) -> Any:
    """All mistakes of the table, applied in one go: what kubectl said, and how it was asked."""
    directory = tmp_path_factory.mktemp("mistakes")
    for refusal in REFUSALS:
        (directory / f"{refusal.name}.yaml").write_text(json.dumps(refusal.manifest))
    mode = ["--server-side"] if request.param == "server-side" else []
    done = kubectl(server, "apply", *mode, f"--filename={directory}", check=False)
    assert done.returncode == 1
    assert done.stdout == "", "a mistake was accepted"
    return request.param, done.stderr


NOT_CHECKED = (
    ", <nil>: Invalid value: null: some validation rules were not checked because the object was invalid;"
    " correct the existing errors to complete validation]"
)


def said_about(refusal: Refusal, stderr: str) -> str:
    """What kubectl said about one object, without what names the object: one line of its output."""
    named = re.compile(rf'[/"]{re.escape(refusal.name)}(?:"|;|\.yaml")')
    (line,) = [each for each in stderr.splitlines() if named.search(each)]
    text = re.sub(r'^Error from server[^:]*: (?:error when creating "[^"]*": )?', "", line)
    text = text.removeprefix(f'{refusal.kind.kind}.{kinds.GROUP} "{refusal.name}" is invalid: ')
    return text.removeprefix("[").removesuffix(NOT_CHECKED)


@pytest.mark.parametrize("refusal", REFUSALS, ids=[each.name for each in REFUSALS])
def test_mistakes_are_refused_in_these_words(mistakes: tuple[str, str], refusal: Refusal) -> None:
    """A person who makes this mistake reads what is wrong and what to write instead."""
    mode, stderr = mistakes
    expected = refusal.client if mode == "client-side" and refusal.client else refusal.said
    assert said_about(refusal, stderr) == expected


def test_the_api_refuses_unknown_fields_of_the_empty_check(server: LocalControlPlane) -> None:
    """A setting that does not exist is never stored, whoever writes: tcp {} has none."""
    spec = service_spec(healthCheck={"tcp": {"port": 1}})
    status, answer = server.api(
        "POST", path(kinds.VIRTUAL_SERVICE) + "?fieldValidation=Ignore", manifest(kinds.VIRTUAL_SERVICE, "prune", spec)
    )
    assert (status, answer["spec"]["healthCheck"]["tcp"]) == (201, {})


# What users get right


def test_examples_are_accepted_and_change_nothing_the_second_time(server: LocalControlPlane) -> None:
    """GitOps tools and people who apply the same file again see `unchanged`, and an empty diff."""
    files = [f"--filename={example}" for example in EXAMPLES if example.name != "maintenance.yaml"]
    first = kubectl(server, "apply", "--validate=strict", *files)
    assert first.stderr == ""
    again = kubectl(server, "apply", *files)
    assert {line.rsplit(" ", 1)[1] for line in again.stdout.splitlines()} == {"unchanged"}
    assert kubectl(server, "diff", *files).stdout == ""


def test_server_side_apply_is_idempotent(server: LocalControlPlane) -> None:
    """A second server-side apply writes nothing: same resourceVersion, empty diff."""
    files = [f"--filename={example}" for example in EXAMPLES if example.name != "maintenance.yaml"]
    for_us = [*SERVER_SIDE, *files]
    versions = 'jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {"\\n"}{end}'
    kubectl(server, "apply", *for_us)
    before = kubectl(server, "get", "vip,rip,dg", f"--output={versions}").stdout
    kubectl(server, "apply", *for_us)
    assert kubectl(server, "get", "vip,rip,dg", f"--output={versions}").stdout == before
    assert "webdav" in before
    assert kubectl(server, "diff", *for_us).stdout == ""


def test_maintenance_example_changes_the_state_alone(server: LocalControlPlane) -> None:
    """The example for maintenance fits the first example: same object, another state, and back."""
    kubectl(server, "apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/webdav.yaml")
    kubectl(server, "apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/maintenance.yaml")
    stored = yaml.safe_load(kubectl(server, "get", "rip", "storage-1", "--output=yaml").stdout)
    assert stored["spec"] == {"nodeName": "storage-1", "weight": 100, "state": "Maintenance"}
    kubectl(server, "apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/webdav.yaml")
    assert kubectl(server, "get", "rip", "storage-1", "--output=jsonpath={.spec.state}").stdout == "InService"


def test_defaults_are_those_that_are_documented(server: LocalControlPlane) -> None:
    """What a user leaves out is filled in on the server, so that `kubectl get -o yaml` shows what holds."""
    stored = apply(server, kinds.VIRTUAL_SERVICE, "defaults", spec=service_spec(healthCheck={"tcp": {}}))
    filled = {"directorGroup": "default", "scheduler": "wlc", "onFailure": "Remove"}
    check = {"tcp": {}, "intervalSeconds": 2, "timeoutSeconds": 1, "rise": 2, "fall": 3}
    assert stored["spec"] == service_spec() | filled | {"healthCheck": check}


def test_address_and_group_may_change(server: LocalControlPlane) -> None:
    """Moving a VIP is an edit, not a new object."""
    apply(server, kinds.VIRTUAL_SERVICE, "moves", spec=service_spec())
    moved = apply(
        server, kinds.VIRTUAL_SERVICE, "moves", spec=service_spec(address="2001:db8::7", directorGroup="edge")
    )
    assert (moved["spec"]["address"], moved["spec"]["directorGroup"]) == ("2001:db8::7", "edge")


def test_largest_virtual_service_is_accepted(server: LocalControlPlane) -> None:
    """The bounds in the schema are real: the rules' running cost allows the largest object it describes."""
    value = "v" * 63
    largest = {
        "matchLabels": {f"{'p' * 200}.{i}/{'k' * 60}": value for i in range(32)},
        "matchExpressions": [{"key": "k" * 63, "operator": "NotIn", "values": [value] * 64}] * 32,
    }
    ports = [{"port": i + 1, "protocol": "TCP", "name": f"{'n' * 60}{i}"} for i in range(32)]
    spec = service_spec(
        directorGroup="g" * 253, ports=ports, realServers={"selector": largest}, healthCheck={"tcp": {}}
    )
    assert len(apply(server, kinds.VIRTUAL_SERVICE, "largest", spec=spec)["spec"]["ports"]) == 32
    group = {
        "nodeSelector": largest,
        "allowedNamespaces": largest,
        "allowedAddresses": [f"2001:db8:ffff:{i:x}:ffff:ffff:ffff:{i * 4 + 4096:x}/126" for i in range(64)],
        "interface": {"subnet": "2001:db8:ffff::/48"},
    }
    assert apply(server, kinds.DIRECTOR_GROUP, "crds-group", spec=group)["metadata"]["generation"] == 1


# Compiled objects


def test_largest_table_is_accepted_and_reads_back_equal(server: LocalControlPlane) -> None:
    """1,024 destinations on 32 ports fit into one DirectorTable, and the agent reads what the controller wrote."""
    spec = DirectorTableSpec(
        director_group="edge",
        service_generation=7,
        address="2001:db8::100",
        ports=tuple(TablePort(port, Protocol.TCP) for port in range(1, MAXIMUM_PORTS + 1)),
        scheduler="mh",
        on_failure=OnFailure.QUIESCE,
        destinations=tuple(
            TableDestination(f"{'r' * 58}-{i:04}", f"2001:db8:ffff:ffff:ffff:ffff:ffff:{i + 4096:x}", i, "n" * 63)
            for i in range(MAXIMUM_DESTINATIONS)
        ),
        health_check=TableHealthCheck(TcpCheck(), 2, 1, 2, 3),
        paused=True,
        requires=("feature",),
    )
    stored = apply(server, kinds.DIRECTOR_TABLE, "largest", spec=translate.spec_body(spec))
    record = translate.table_record(stored)
    assert record is not None
    assert record.spec == spec


def test_node_of_1000_tables_is_accepted_and_reads_back_equal(server: LocalControlPlane) -> None:
    """A director of 1,000 tables fits into one LVSNode, its report with exceptions too."""
    names = tuple(f"namespace-{i:04}/service-{i:04}" for i in range(1000))
    addresses = tuple(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{i + 4096:x}" for i in range(1000))
    spec = LVSNodeSpec(
        decided=True,
        director=DirectorRole(group="edge", tables=names, addresses=addresses, interface_name="eth0"),
        backend_addresses=addresses,
    )
    exceptions = tuple(TableException("CheckFailed", "connection refused", f"server-{i}") for i in range(4))
    status = LVSNodeStatus(
        agent_version="0.1.0",
        observed_generation=1,
        held_addresses=addresses,
        loopback_addresses=addresses,
        tables=tuple(TableReport(name, 3, 5, 9, exceptions) for name in names),
    )
    apply(server, kinds.LVS_NODE, "crds-node", spec=translate.spec_body(spec))
    stored = apply(server, kinds.LVS_NODE, "crds-node", status=msgspec.to_builtins(status))
    record = translate.node_record(stored)
    assert record is not None
    assert (record.spec, record.status) == (spec, status)


def test_a_node_can_become_empty_and_undecided(server: LocalControlPlane) -> None:
    """Taking everything back from an LVSNode is not refused, and what remains tears nothing down."""
    full = LVSNodeSpec(decided=True, backend_addresses=("192.0.2.1",))
    for spec in (full, LVSNodeSpec(decided=True), LVSNodeSpec(), full):
        stored = apply(server, kinds.LVS_NODE, "crds-node", spec=translate.spec_body(spec))
        record = translate.node_record(stored)
        assert record is not None
        assert record.spec == spec


def test_tables_are_selectable_by_group(server: LocalControlPlane) -> None:
    """An agent lists and watches the tables of its own group alone."""
    for name, group in (("of-one", "crds-one"), ("of-two", "crds-two")):
        spec = DirectorTableSpec(group, 1, "192.0.2.1", (TablePort(80, Protocol.TCP),), "rr", OnFailure.REMOVE, ())
        apply(server, kinds.DIRECTOR_TABLE, name, spec=translate.spec_body(spec))
    status, listed = server.api(
        "GET", f"/apis/{kinds.API_VERSION}/directortables?fieldSelector=spec.directorGroup%3Dcrds-two"
    )
    assert (status, [each["metadata"]["name"] for each in listed["items"]]) == (200, ["of-two"])


# What people see


def rows(server: LocalControlPlane, *argv: str) -> list[list[str]]:
    """Header and first row that kubectl prints; cells are two spaces apart. The age is left out."""
    lines = kubectl(server, "get", *argv).stdout.splitlines()
    table = [re.split(r"\s{2,}", line.strip()) for line in lines]
    age = table[0].index("AGE")
    return [row[:age] + row[age + 1 :] for row in table]


def test_columns_of_virtual_services(server: LocalControlPlane) -> None:
    """`kubectl get vip` answers: which address, how many are well, who serves it, is it ready."""
    apply(server, kinds.VIRTUAL_SERVICE, "columns", spec=service_spec(scheduler="rr"))
    status = VirtualServiceStatus(
        observed_generation=1,
        serving_generation=1,
        active_director="director-1",
        ports="80/TCP,443/TCP",
        real_servers=RealServerCount(1, 2, "1/2"),
        conditions=conditions(Accepted="True", Programmed="True", Ready="True"),
    )
    apply(server, kinds.VIRTUAL_SERVICE, "columns", status=msgspec.to_builtins(status))
    header = ["NAME", "VIP", "PORTS", "SCHEDULER", "REAL SERVERS", "DIRECTOR", "READY"]
    row = ["columns", "192.0.2.10", "80/TCP,443/TCP", "rr", "1/2", "director-1", "True"]
    assert rows(server, "vip", "columns") == [header, row]
    wide = ["GROUP", "ON FAILURE", "ACCEPTED", "PROGRAMMED", "REASON", "MESSAGE"]
    more = ["default", "Remove", "True", "True", "ReadyReason", "about Ready"]
    assert rows(server, "vip", "columns", "--output=wide") == [header + wide, row + more]
    kubectl(server, "wait", "--for=condition=Ready", "--timeout=5s", "vip/columns")


def test_columns_of_real_servers(server: LocalControlPlane) -> None:
    """`kubectl get rip` answers: which machine, what share, does it serve."""
    apply(server, kinds.REAL_SERVER, "columns", spec={"nodeName": "storage-1", "weight": 7})
    status = RealServerStatus(1, "192.0.2.21", 3, conditions(Configured="True", Healthy="False", Ready="False"))
    apply(server, kinds.REAL_SERVER, "columns", status=msgspec.to_builtins(status))
    header = ["NAME", "NODE", "ADDRESS", "WEIGHT", "STATE", "READY"]
    row = ["columns", "storage-1", "192.0.2.21", "7", "InService", "False"]
    assert rows(server, "rip", "columns") == [header, row]
    wide = ["VIRTUAL SERVICES", "CONFIGURED", "HEALTHY", "REASON", "MESSAGE"]
    more = ["3", "True", "False", "ReadyReason", "about Ready"]
    assert rows(server, "rip", "columns", "--output=wide") == [header + wide, row + more]


def test_columns_of_groups_and_compiled_objects(server: LocalControlPlane) -> None:
    """The other kinds print what an operator looks for first."""
    apply(server, kinds.DIRECTOR_GROUP, "crds-group", spec={"nodeSelector": {"matchLabels": {"a": "b"}}})
    status = DirectorGroupStatus(1, ("d-1", "d-2"), "d-1", 5, conditions(Accepted="True", Elected="True"))
    apply(server, kinds.DIRECTOR_GROUP, "crds-group", status=msgspec.to_builtins(status))
    assert rows(server, "dg", "crds-group", "--output=wide") == [
        ["NAME", "ACTIVE", "VIRTUAL SERVICES", "ACCEPTED", "ELECTED", "DIRECTORS", "MESSAGE"],
        ["crds-group", "d-1", "5", "True", "True", '["d-1","d-2"]', "about Elected"],
    ]
    table = DirectorTableSpec("edge", 4, "192.0.2.1", (TablePort(80, Protocol.TCP),), "rr", OnFailure.REMOVE, ())
    apply(server, kinds.DIRECTOR_TABLE, "columns", spec=translate.spec_body(table))
    assert rows(server, "dtab", "columns") == [
        ["NAME", "VIP", "GROUP", "SCHEDULER", "SERVICE GENERATION"],
        ["columns", "192.0.2.1", "edge", "rr", "4"],
    ]
    apply(server, kinds.LVS_NODE, "crds-node", spec={"decided": True, "director": {"group": "edge"}})
    report = LVSNodeStatus(director_interface="eth0", observed_generation=1)
    apply(server, kinds.LVS_NODE, "crds-node", status=msgspec.to_builtins(report))
    header, row = rows(server, "lvsnode", "crds-node")
    assert header == ["NAME", "DIRECTOR OF", "INTERFACE", "DECIDED", "GENERATION", "OBSERVED", "PROBLEM"]
    assert row[:4] == ["crds-node", "edge", "eth0", "true"]


def test_names_that_kubectl_knows(server: LocalControlPlane) -> None:
    """Short names and the category work, and none of them is one that other products have."""
    found = server.kubectl("api-resources", f"--api-group={kinds.GROUP}", "--no-headers", "--output=wide").stdout
    table = {line.split()[0]: line for line in found.splitlines()}
    assert set(table) == {kind.plural for kind in kinds.KINDS}
    for kind in kinds.KINDS:
        assert " lvs" in table[kind.plural]
        assert not {"vs", "rs", "svc"} & set(kind.short_names)
        for name in (*kind.short_names, kind.singular):
            kubectl(server, "get", name)


def test_explain_teaches(server: LocalControlPlane) -> None:
    """`kubectl explain` has a text for every field of every kind, the one from the model."""
    text = " ".join(server.kubectl("explain", "virtualservice.spec").stdout.split())
    for taught in ("that clients connect to", "Default: wlc.", "mh: by the client's address", "enum: Remove, Quiesce"):
        assert taught in text
    assert "write tcp: {}" in " ".join(server.kubectl("explain", "vip.spec.healthCheck").stdout.split())
    assert "direct routing" in server.kubectl("explain", "virtualservice").stdout
    _, openapi = server.api("GET", f"/openapi/v3/apis/{kinds.API_VERSION}")
    for kind in kinds.KINDS:
        schema = openapi["components"]["schemas"][f"io.lvs-operator.{kinds.VERSION}.{kind.kind}"]
        assert list(undescribed(schema["properties"]["spec"], f"{kind.kind}.spec")) == []


def undescribed(schema: dict[str, Any], where: str) -> Iterator[str]:
    """Paths of fields without a description."""
    for name, each in schema.get("properties", {}).items():
        if not each.get("description"):
            yield f"{where}.{name}"
        yield from undescribed(each.get("items", each), f"{where}.{name}")


def test_status_cannot_change_a_spec(server: LocalControlPlane) -> None:
    """An agent or a controller that writes status cannot change what a user asked for."""
    apply(server, kinds.REAL_SERVER, "subresource", spec={"nodeName": "storage-1"})
    body = manifest(kinds.REAL_SERVER, "subresource", {"nodeName": "storage-2"})
    status = RealServerStatus(1, "192.0.2.21", 0, ())
    server.api(
        "PATCH",
        path(kinds.REAL_SERVER, "subresource", status=True),
        body | {"status": msgspec.to_builtins(status)},
        content_type="application/merge-patch+json",
    )
    _, stored = server.api("GET", path(kinds.REAL_SERVER, "subresource"))
    assert (stored["spec"]["nodeName"], stored["status"]["address"]) == ("storage-1", "192.0.2.21")
