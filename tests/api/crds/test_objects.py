"""What the API server accepts and stores: users' objects, examples, and compiled objects of the largest size."""

from pathlib import Path

import msgspec
import yaml

from lvs_dr.api import compiled, kinds
from lvs_dr.core.node import DirectorRole, LVSNodeSpec, PeerDirector, VirtualRouter, Vrrp
from lvs_dr.core.node_status import LVSNodeStatus, TableException, TableReport
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.status import (
    RealServerStatus,
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
from tests.api.crds.objects import SERVER_SIDE, Objects
from tests.api.crds.refusals import manifest, service_spec

NAMESPACE = "lvs-crds-objects"
ROOT = Path(__file__).parents[3]
EXAMPLES = sorted((ROOT / "manifests/examples").glob("*.yaml"))


def test_examples_are_accepted_and_change_nothing_the_second_time(objects: Objects) -> None:
    """GitOps tools and people who apply the same file again see `unchanged`, and an empty diff."""
    files = [f"--filename={example}" for example in EXAMPLES if example.name != "maintenance.yaml"]
    first = objects.kubectl("apply", "--validate=strict", *files)
    assert first.stderr == ""
    again = objects.kubectl("apply", *files)
    assert {line.rsplit(" ", 1)[1] for line in again.stdout.splitlines()} == {"unchanged"}
    assert objects.kubectl("diff", *files).stdout == ""


def test_server_side_apply_is_idempotent(objects: Objects) -> None:
    """A second server-side apply writes nothing: same resourceVersion, empty diff."""
    files = [f"--filename={example}" for example in EXAMPLES if example.name != "maintenance.yaml"]
    for_us = [*SERVER_SIDE, *files]
    versions = 'jsonpath={range .items[*]}{.metadata.name}={.metadata.resourceVersion} {"\\n"}{end}'
    objects.kubectl("apply", *for_us)
    before = objects.kubectl("get", "vip,rip,dg", f"--output={versions}").stdout
    objects.kubectl("apply", *for_us)
    assert objects.kubectl("get", "vip,rip,dg", f"--output={versions}").stdout == before
    assert "webdav" in before
    assert objects.kubectl("diff", *for_us).stdout == ""


def test_maintenance_example_changes_the_state_alone(objects: Objects) -> None:
    """The example for maintenance fits the first example: same object, another state, and back."""
    objects.kubectl("apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/webdav.yaml")
    objects.kubectl("apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/maintenance.yaml")
    stored = yaml.safe_load(objects.kubectl("get", "rip", "storage-1", "--output=yaml").stdout)
    assert stored["spec"] == {"nodeName": "storage-1", "weight": 100, "state": "Maintenance"}
    objects.kubectl("apply", *SERVER_SIDE, f"--filename={ROOT}/manifests/examples/webdav.yaml")
    assert objects.kubectl("get", "rip", "storage-1", "--output=jsonpath={.spec.state}").stdout == "InService"


def test_defaults_are_those_that_are_documented(objects: Objects) -> None:
    """What a user leaves out is filled in on the server, so that `kubectl get -o yaml` shows what holds."""
    stored = objects.apply(kinds.VIRTUAL_SERVICE, "defaults", spec=service_spec(healthCheck={"tcp": {}}))
    filled = {"directorGroup": "default", "scheduler": "wlc", "onFailure": "Remove"}
    filled |= {"forwardingMethod": "DirectRouting", "quiesceSeconds": 60}
    check = {"tcp": {}, "intervalSeconds": 2, "timeoutSeconds": 1, "rise": 2, "fall": 3}
    assert stored["spec"] == service_spec() | filled | {"healthCheck": check}


def test_address_and_group_may_change(objects: Objects) -> None:
    """Moving a VIP is an edit, not a new object."""
    objects.apply(kinds.VIRTUAL_SERVICE, "moves", spec=service_spec())
    moved = objects.apply(
        kinds.VIRTUAL_SERVICE, "moves", spec=service_spec(address="2001:db8::7", directorGroup="edge")
    )
    assert (moved["spec"]["address"], moved["spec"]["directorGroup"]) == ("2001:db8::7", "edge")


def test_largest_virtual_service_is_accepted(objects: Objects) -> None:
    """The bounds in the schema are real: the rules' running cost allows the largest object it describes."""
    value = "v" * 63
    largest = {
        "matchLabels": {f"{'p' * 200}.{i}/{'k' * 60}": value for i in range(32)},
        "matchExpressions": [{"key": "k" * 63, "operator": "NotIn", "values": [value] * 64}] * 32,
    }
    ports = [{"port": i + 1, "protocol": "TCP", "name": f"{'n' * 60}{i}"} for i in range(32)]
    limits = {"upper": 4294967295, "lower": 4294967295}
    tunnel = {"type": "GUE", "port": 65535, "checksum": "RemoteChecksum"}
    one = {"weight": 65535, "forwardingMethod": "Tunnel", "tunnel": tunnel, "connectionLimits": limits}
    overrides = [{"name": f"{'o' * 245}-{i}"} | one for i in range(256)]
    spec = service_spec(
        directorGroup="g" * 253,
        ports=ports,
        realServers={"selector": largest, "overrides": overrides},
        healthCheck={
            "https": {
                "path": "/" + "p" * 1023,
                "host": "h" * 253,
                "headers": [{"name": f"X-{'n' * 60}{i:x}", "value": "v" * 1024} for i in range(16)],
                "expectedStatuses": [f"{200 + i}-299" for i in range(16)],
                "bodyContains": "b" * 256,
                "tls": {"serverName": "s" * 253, "caBundle": "-----BEGIN CERTIFICATE-----".ljust(16384, "x")},
            }
        },
        scheduler="mh",
        schedulerFlags=["mh-port", "mh-fallback"],
        persistence={"timeoutSeconds": 2678400, "prefixLength": 32},
    )
    assert len(objects.apply(kinds.VIRTUAL_SERVICE, "largest", spec=spec)["spec"]["ports"]) == 32
    group = {
        "nodeSelector": largest,
        "allowedNamespaces": largest,
        "allowedAddresses": [f"2001:db8:ffff:{i:x}:ffff:ffff:ffff:{i * 4 + 4096:x}/126" for i in range(64)],
        "interface": {"subnet": "2001:db8:ffff::/48"},
        "vrrp": {
            "firstVirtualRouterID": 224,
            "instances": 32,
            "advertisementIntervalMilliseconds": 40950,
            "preemptDelaySeconds": 86400,
            "unicast": True,
            "stopHoldSeconds": 86400,
        },
    }
    assert objects.apply(kinds.DIRECTOR_GROUP, "crds-group", spec=group)["metadata"]["generation"] == 1


def test_largest_table_is_accepted_and_reads_back_equal(objects: Objects) -> None:
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
    stored = objects.apply(kinds.DIRECTOR_TABLE, "largest", spec=compiled.spec_body(spec))
    record = compiled.table_record(stored)
    assert record is not None
    assert record.spec == spec


def test_node_of_1000_tables_is_accepted_and_reads_back_equal(objects: Objects) -> None:
    """A director of 1,000 tables fits into one LVSNode, its report with exceptions too."""
    names = tuple(f"namespace-{i:04}/service-{i:04}" for i in range(1000))
    addresses = tuple(f"2001:db8:ffff:ffff:ffff:ffff:ffff:{i + 4096:x}" for i in range(1000))
    spec = LVSNodeSpec(
        decided=True,
        director=DirectorRole(
            group="edge",
            tables=names,
            interface_name="eth0",
            vrrp=Vrrp(
                routers=(VirtualRouter(51, 250, addresses[:500]), VirtualRouter(52, 245, addresses[500:])),
                peers=(PeerDirector("director-2", ("2001:db8::2",)),),
            ),
        ),
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
    objects.apply(kinds.LVS_NODE, "crds-node", spec=compiled.spec_body(spec))
    stored = objects.apply(kinds.LVS_NODE, "crds-node", status=msgspec.to_builtins(status))
    record = compiled.node_record(stored)
    assert record is not None
    assert (record.spec, record.status) == (spec, status)


def test_a_node_can_become_empty_and_undecided(objects: Objects) -> None:
    """Taking everything back from an LVSNode is not refused, and what remains tears nothing down."""
    full = LVSNodeSpec(decided=True, backend_addresses=("192.0.2.1",))
    for spec in (full, LVSNodeSpec(decided=True), LVSNodeSpec(), full):
        stored = objects.apply(kinds.LVS_NODE, "crds-node", spec=compiled.spec_body(spec))
        record = compiled.node_record(stored)
        assert record is not None
        assert record.spec == spec


def test_tables_are_selectable_by_group(objects: Objects) -> None:
    """An agent lists and watches the tables of its own group alone."""
    for name, group in (("of-one", "crds-one"), ("of-two", "crds-two")):
        spec = DirectorTableSpec(group, 1, "192.0.2.1", (TablePort(80, Protocol.TCP),), "rr", OnFailure.REMOVE, ())
        objects.apply(kinds.DIRECTOR_TABLE, name, spec=compiled.spec_body(spec))
    status, listed = objects.server.api(
        "GET", f"/apis/{kinds.API_VERSION}/directortables?fieldSelector=spec.directorGroup%3Dcrds-two"
    )
    assert (status, [each["metadata"]["name"] for each in listed["items"]]) == (200, ["of-two"])


def test_the_api_drops_unknown_fields_of_a_check(objects: Objects) -> None:
    """A setting that does not exist is never stored, whoever writes."""
    spec = service_spec(healthCheck={"tcp": {"prot": 1}})
    status, answer = objects.server.api(
        "POST",
        objects.path(kinds.VIRTUAL_SERVICE) + "?fieldValidation=Ignore",
        manifest(kinds.VIRTUAL_SERVICE, "prune", spec),
    )
    assert (status, answer["spec"]["healthCheck"]["tcp"]) == (201, {})


def test_status_cannot_change_a_spec(objects: Objects) -> None:
    """An agent or a controller that writes status cannot change what a user asked for."""
    objects.apply(kinds.REAL_SERVER, "subresource", spec={"nodeName": "storage-1"})
    body = manifest(kinds.REAL_SERVER, "subresource", {"nodeName": "storage-2"})
    status = RealServerStatus(1, "192.0.2.21", 0, ())
    objects.server.api(
        "PATCH",
        objects.path(kinds.REAL_SERVER, "subresource", status=True),
        body | {"status": msgspec.to_builtins(status)},
        content_type="application/merge-patch+json",
    )
    _, stored = objects.server.api("GET", objects.path(kinds.REAL_SERVER, "subresource"))
    assert (stored["spec"]["nodeName"], stored["status"]["address"]) == ("storage-1", "192.0.2.21")
