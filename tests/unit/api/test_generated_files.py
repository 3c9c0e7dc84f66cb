"""crds/ and docs/api.md are what the models say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from lvs_dr.api import crd, kinds
from lvs_dr.api.models.health_check import KINDS

ROOT = Path(__file__).parents[3]
FORBIDDEN = {"$ref", "$defs", "anyOf", "oneOf", "allOf", "const", "title", "nullable", "uniqueItems", "discriminator"}

DEFINITIONS = {each.kind: each for each in crd.definitions()}

TIMES = ("intervalSeconds", "timeoutSeconds", "rise", "fall", "jitterPercent", "fastIntervalSeconds")
PAYLOAD = ("send", "sendHex", "expect", "expectHex")
HTTP = ("method", "path", "host", "headers", "headers[]", "headers[].name", "headers[].value", "expectedStatuses")
HTTP += ("expectedStatuses[]", "bodyContains")
TLS = ("tls", "tls.serverName", "tls.verify", "tls.caBundle", "tls.secretName")
REDIRECT = (
    *("statusCode", "scheme", "port", "algorithm", "methods", "host", "tls", "token", "cacheControl", "keepQuery"),
    *(
        "maximumInFlightPerServer",
        "retryAfterSeconds",
        "discardBytes",
        "discardSeconds",
        "headerBytes",
        "headerSeconds",
    ),
    *("idleSeconds", "loadWindowSeconds", "loadStaleSeconds"),
)


def schemas(schema: dict[str, Any], path: str, *, in_list: bool = False) -> Iterator[tuple[str, dict[str, Any], bool]]:
    """Every schema below one, with its path and whether it is below a list."""
    yield path, schema, in_list
    for name, each in schema.get("properties", {}).items():
        yield from schemas(each, f"{path}.{name}", in_list=in_list)
    if "items" in schema:
        yield from schemas(schema["items"], f"{path}[]", in_list=True)
    if "additionalProperties" in schema:
        yield from schemas(schema["additionalProperties"], f"{path}.*", in_list=True)


ALL = [
    found
    for definition in DEFINITIONS.values()
    for name, part in (("spec", definition.spec), ("status", definition.status))
    if part is not None
    for found in schemas(part, f"{definition.kind.kind}.{name}")
]


@pytest.mark.parametrize("path", sorted(crd.files()))
def test_committed_files_are_what_the_models_say(path: str) -> None:
    """What is installed and documented is what the code was written against. To mend it: make crds."""
    committed = ROOT / path
    assert committed.is_file(), f"{path} is missing; {crd.REMEDY}"
    assert committed.read_bytes() == crd.files()[path].encode(), f"{path} is out of date; {crd.REMEDY}"


def test_check_names_stale_and_stray_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A change of a model that was not carried into the files is named, with the command that mends it."""
    assert crd.main(["--root", str(tmp_path)]) == 0
    assert crd.main(["--root", str(tmp_path), "--check"]) == 0
    (tmp_path / "crds/virtualservices.yaml").write_text("changed")
    (tmp_path / "crds/gone.yaml").write_text("left over")
    capsys.readouterr()
    assert crd.main(["--root", str(tmp_path), "--check"]) == 1
    said = capsys.readouterr().err
    assert "crds/virtualservices.yaml" in said
    assert "crds/gone.yaml" in said
    assert "make crds" in said


def test_docs_alone(tmp_path: Path) -> None:
    """`--docs` leaves the CRDs alone."""
    assert crd.main(["--root", str(tmp_path), "--docs"]) == 0
    assert [path.name for path in tmp_path.rglob("*.*")] == ["api.md"]


def test_no_keyword_that_the_api_server_refuses() -> None:
    """A CRD with one of these is refused or warned about, and then nothing of an upgrade is installed."""
    found = {(path, key) for path, schema, _ in ALL for key in FORBIDDEN & set(schema)}
    assert found == set()


def test_everything_is_bounded() -> None:
    """An unbounded string, list or map lets one object fill etcd, and makes CEL rules too expensive to accept."""
    for path, schema, _ in ALL:
        if schema["type"] == "string":
            assert "maxLength" in schema or "enum" in schema, path
        if schema["type"] == "array":
            assert "maxItems" in schema, path
        if schema["type"] == "integer":
            assert "minimum" in schema, path
        if "additionalProperties" in schema:
            assert "maxProperties" in schema, path


def test_everything_is_described() -> None:
    """kubectl explain has a text for every field."""
    for path, schema, _ in ALL:
        if not path.endswith(("[]", ".*")) or schema["type"] == "object":
            assert len(schema["description"]) > len("Node."), path


def test_no_defaults_in_lists_and_none_in_compiled_objects() -> None:
    """A default in a list item makes every client-side apply report a change; compiled objects stay as written."""
    for path, schema, in_list in ALL:
        if in_list or path.startswith(("DirectorTable", "LVSNode")) or ".status" in path:
            assert "default" not in schema, path


def test_every_default_is_told() -> None:
    """A field with a default says which: kubectl explain does not show it by itself."""
    for path, schema, _ in ALL:
        if "default" in schema:
            assert f"Default: {schema['default']}" in schema["description"], path


def test_optional_fields_of_users_tell_what_their_absence_means() -> None:
    """Leaving a field out is a choice; its description says what then happens."""
    for kind in kinds.USER_KINDS:
        for path, schema, _ in schemas(DEFINITIONS[kind].spec, kind.kind):
            for name, each in schema.get("properties", {}).items():
                told = "Default: " in each["description"] or name in ("ports", *KINDS)  # one of several must be set
                assert name in schema.get("required", []) or told, f"{path}.{name}"


def test_exactly_the_fields_of_this_version() -> None:
    """No field is accepted that nothing acts on, and none is missing."""
    fields = {
        kind: {
            path.removeprefix(f"{kind.kind}.")
            for path, _, _ in schemas(DEFINITIONS[kind].spec, kind.kind)
            if "elector." not in path and "allowedNamespaces." not in path and path != kind.kind
        }
        for kind in kinds.USER_KINDS
    }
    check = {f"healthCheck.{name}" for name in (*KINDS, *TIMES, "sourceNetwork", "path")}
    check |= {f"healthCheck.{kind}.port" for kind in KINDS if kind != "ping"}
    check |= {f"healthCheck.{kind}.{name}" for kind in ("tcp", "udp") for name in PAYLOAD}
    check |= {f"healthCheck.{kind}.{name}" for kind in ("http", "https") for name in HTTP}
    check |= {f"healthCheck.{kind}.{name}" for kind in ("https", "grpc") for name in TLS}
    check |= {f"healthCheck.dns.{name}" for name in ("name", "type", "expect", "protocol")}
    check |= {f"healthCheck.{name}" for name in ("grpc.service", "exec.name", "exec.arguments", "exec.arguments[]")}
    port = {f"ports[].{name}" for name in ("port", "protocol", "targetPort", "name")}
    service = {"directorGroup", "address", "ports", "ports[]", "scheduler", "realServers", "realServers.selector"}
    service |= {
        "anyPort",
        "anyPortProtocols",
        "anyPortProtocols[]",
        "firewallMark",
        "schedulerFlags",
        "schedulerFlags[]",
    }
    service |= {"quorum", "quorum.minimumHealthy", "quorum.hysteresis", "panicThresholdPercent"}
    load = {"source", "target", "port", "path", "jsonPointer", "metric", "linkMegabits", "timeConstantSeconds"}
    load |= {"deadBandPercent", "minimumPercent", "maximumPercent", "intervalSeconds"}
    service |= {"slowStart", "slowStart.seconds", "slowStart.floorPercent", "loadFeedback"}
    service |= {f"loadFeedback.{name}" for name in load}
    service |= {"quorum.minimumWeight", "quorum.weightHysteresis", "sorryServer"}
    service |= {"persistence", "onePacket", "forwardingMethod", "tunnel", "quiesceSeconds"}
    redirect = {"redirect", "redirect.methods[]", "redirect.tls.secretName"}
    redirect |= {f"redirect.{name}" for name in REDIRECT}
    redirect |= {f"redirect.token.{name}" for name in ("secretName", "keyId", "lifetimeSeconds")}
    service |= redirect
    service |= {f"persistence.{name}" for name in ("timeoutSeconds", "prefixLength", "engine")}
    tunnel = {f"tunnel.{name}" for name in ("type", "port", "checksum")}
    service |= {
        f"sorryServer.{name}" for name in ("realServer", "address", "port", "forwardingMethod", "tunnel", *tunnel)
    }
    limits = {"connectionLimits", "connectionLimits.upper", "connectionLimits.lower"}
    drain = {"drain", "drain.timeoutSeconds", "drain.persistence", "drain.beforeDeletion"}
    override = {"name", "weight", "forwardingMethod", "tunnel", *tunnel, *limits}
    overrides = {"realServers.overrides", "realServers.overrides[]"}
    overrides |= {f"realServers.overrides[].{name}" for name in override}
    addresses = {"allowedAddresses", "allowedAddresses[]"}
    timeouts = {f"timeouts.{name}" for name in ("tcpSeconds", "tcpFinSeconds", "udpSeconds")}
    sysctls = ("connReuseMode", "expireNodestConn", "expireQuiescentTemplate", "sloppyTCP", "sloppySCTP")
    sysctls += ("runEstimation", "dropEntry", "pmtuDisc", "conntrack")
    settings = {"timeouts", "kernelSettings", *timeouts, *(f"kernelSettings.{name}" for name in sysctls)}
    vrrp = {"firstVirtualRouterID", "instances", "advertisementIntervalMilliseconds", "preempt", "preemptDelaySeconds"}
    vrrp = {"vrrp", *(f"vrrp.{name}" for name in (*vrrp, "unicast", "stopHoldSeconds"))}
    sync = ("mode", "interface", "syncID", "multicastGroup", "port", "hopLimit", "maximumLength")
    settings |= {"checkMarks", "checkMarks.first", "checkMarks.last"}
    settings |= {"connectionSync", *(f"connectionSync.{name}" for name in sync)}
    assert fields == {
        kinds.VIRTUAL_SERVICE: service | check | port | tunnel | overrides | {"healthCheck", "onFailure"},
        kinds.REAL_SERVER: {"nodeName", "addresses", "addresses[]", "weight", "state", "checkAddress", "hostname"}
        | drain
        | limits,
        kinds.DIRECTOR_GROUP: addresses
        | settings
        | vrrp
        | {"nodeSelector", "interface", "interface.name", "interface.subnet", "allowedNamespaces"}
        | {"secrets", "secrets[]"},
    }


def test_manifests_have_what_the_controller_and_agents_rely_on() -> None:
    """Status is a subresource (its writers cannot change specs) and tables are selectable by group."""
    for kind in kinds.KINDS:
        document = yaml.safe_load((ROOT / f"crds/{kind.plural}.yaml").read_text())
        (version,) = document["spec"]["versions"]
        assert document["metadata"]["name"] == f"{kind.plural}.lvs-operator.io"
        assert ("subresources" in version) == (kind is not kinds.DIRECTOR_TABLE)
        assert document["spec"]["names"]["categories"] == ["lvs"]
        assert version["name"] == "v1alpha1"
        if kind is kinds.DIRECTOR_TABLE:
            assert version["selectableFields"] == [{"jsonPath": ".spec.directorGroup"}]
