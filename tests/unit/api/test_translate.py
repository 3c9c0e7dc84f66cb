"""Bodies of the API server to the values that core decides on."""

import ipaddress
import json
import logging
import re
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.api import compiled, kinds, translate
from lvs_dr.core.checks import (
    DnsCheck,
    DnsProtocol,
    DnsType,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    HttpHeader,
    PingCheck,
    TableHealthCheck,
    TcpCheck,
    TlsSettings,
    UdpCheck,
)
from lvs_dr.core.director_group import (
    DirectorGroup,
    InterfaceChoice,
    IpvsSettings,
    SyncMode,
    SyncSettings,
    VrrpSettings,
)
from lvs_dr.core.load_spec import LoadSource, TableLoadFeedback, TableSlowStart
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import (
    ConnectionLimits,
    ForwardingMethod,
    Invalid,
    Key,
    OnFailure,
    Operator,
    Override,
    Persistence,
    Port,
    Protocol,
    Quorum,
    RealServer,
    RealServerState,
    Requirement,
    Selector,
    SorryServer,
    Tunnel,
    TunnelChecksum,
    TunnelType,
    VirtualService,
)
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TablePort
from tests.api.crds.refusals import REFUSALS, Refusal, service_spec
from tests.unit.api.test_generated_files import ALL, ROOT

PARSERS: dict[kinds.Kind, Any] = {
    kinds.VIRTUAL_SERVICE: translate.virtual_service,
    kinds.REAL_SERVER: translate.real_server,
    kinds.DIRECTOR_GROUP: translate.director_group,
}


OUR_TEXTS = {rule["message"] for _, schema, _ in ALL for rule in schema.get("x-kubernetes-validations", ())}


def body(spec: Any, **metadata: Any) -> dict[str, Any]:
    """An object as the API server sends it."""
    return {"metadata": {"name": "web", "namespace": "shop", "uid": "u-1", "generation": 4} | metadata, "spec": spec}


def service(**changes: Any) -> VirtualService:
    """A VirtualService that parses."""
    parsed = translate.virtual_service(body(service_spec(**changes)))
    assert isinstance(parsed, VirtualService), parsed
    return parsed


@pytest.mark.parametrize("refusal", REFUSALS, ids=[each.name for each in REFUSALS])
def test_what_the_api_server_refuses_parses_to_invalid(refusal: Refusal) -> None:
    """An object from before a rule existed harms only itself: it is refused in the same words, or is harmless."""
    parsed = PARSERS[refusal.kind](refusal.manifest | {"metadata": {"name": "old"}})
    assert isinstance(parsed, Invalid) == refusal.parsed, parsed
    if refusal.parsed:
        assert parsed.message.startswith("spec")
        assert [text for text in OUR_TEXTS if refusal.said.endswith(text) and text not in parsed.message] == []


def test_a_full_virtual_service() -> None:
    """Every field arrives; what carries no order is sorted, so that equal objects are equal values."""
    parsed = service(
        directorGroup="edge",
        ports=[{"port": 443, "name": "https"}, {"port": 80}, {"port": 443, "protocol": "UDP"}],
        scheduler="mh",
        realServers={
            "selector": {
                "matchLabels": {"b": "2", "a": "1"},
                "matchExpressions": [{"key": "tier", "operator": "In", "values": ["z", "y"]}],
            }
        },
        onFailure="Quiesce",
    )
    assert parsed.meta.key == Key("shop", "web")
    assert (parsed.meta.uid, parsed.meta.generation, parsed.meta.paused) == ("u-1", 4, False)
    assert parsed.director_group == "edge"
    assert parsed.ports == (Port(80), Port(443, Protocol.TCP, "https"), Port(443, Protocol.UDP))
    assert parsed.selector == Selector((("a", "1"), ("b", "2")), (Requirement("tier", Operator.IN, ("y", "z")),))
    assert (parsed.scheduler, parsed.on_failure, parsed.health_check) == ("mh", OnFailure.QUIESCE, None)


def test_everything_of_ipvs_arrives() -> None:
    """Each field means to the compiler what the user wrote; what is left out has its safe default."""
    parsed = service(
        ports=[{"port": 53, "protocol": "UDP", "targetPort": 5353}],
        scheduler="sh",
        schedulerFlags=["sh-port", "sh-fallback"],
        persistence={"prefixLength": 24, "engine": "sip"},
        onePacket=True,
        forwardingMethod="Masquerade",
        quiesceSeconds=0,
        quorum={"minimumHealthy": 3, "hysteresis": 2, "minimumWeight": 250, "weightHysteresis": 50},
        panicThresholdPercent=40,
        realServers={
            "selector": {"matchLabels": {"a": "1"}},
            "overrides": [
                {"name": "b", "connectionLimits": {"upper": 9}},
                {"name": "a", "weight": 0, "forwardingMethod": "Masquerade"},
            ],
        },
        healthCheck={"tcp": {"port": 5353}},
    )
    assert parsed.ports == (Port(53, Protocol.UDP, "", 5353),)
    assert parsed.scheduler_flags == ("sh-fallback", "sh-port")
    assert parsed.persistence == Persistence(300, 24, "sip")
    assert (parsed.one_packet, parsed.quiesce_seconds, parsed.forwarding) == (True, 0, ForwardingMethod.MASQUERADE)
    assert (parsed.quorum, parsed.panic_threshold_percent) == (Quorum(3, 2, 250, 50), 40)
    assert parsed.overrides == (
        Override("a", weight=0, forwarding=ForwardingMethod.MASQUERADE),
        Override("b", limits=ConnectionLimits(9)),
    )
    assert parsed.health_check == TableHealthCheck(TcpCheck(port=5353))
    plain = service()
    assert (plain.scheduler_flags, plain.persistence, plain.one_packet, plain.overrides) == ((), None, False, ())
    assert (plain.quorum, plain.panic_threshold_percent) == (Quorum(1, 0), 0)
    assert (plain.forwarding, plain.tunnel, plain.quiesce_seconds) == (ForwardingMethod.DIRECT_ROUTING, None, 60)


def test_changing_weights_arrive_with_the_defaults_of_their_source() -> None:
    """A target that nobody set would be 0: every server is above it."""
    given = {"source": "Prometheus", "port": 9100, "metric": 'jobs{queue="a"}', "target": 40, "intervalSeconds": 9}
    parsed = service(slowStart={"seconds": 30}, loadFeedback=given)
    assert parsed.slow_start == TableSlowStart(30, 10)
    assert parsed.load_feedback == TableLoadFeedback(
        LoadSource.PROMETHEUS, 40, 9100, "/metrics", metric='jobs{queue="a"}', interval_seconds=9
    )
    found = [
        service(loadFeedback={"source": each}).load_feedback for each in ("CPUPressure", "RunQueue", "NetworkBytes")
    ]
    assert [(each.target, each.port, each.path, each.time_constant_seconds) for each in found if each is not None] == [
        (20, 0, "", 10),
        (100, 0, "", 10),
        (70, 0, "", 10),
    ]
    check = service(loadFeedback={"source": "AgentCheck", "port": 99}).load_feedback
    assert check == TableLoadFeedback(LoadSource.AGENT_CHECK, port=99)
    plain = service()
    assert (plain.slow_start, plain.load_feedback) == (None, None)


def test_marks_and_any_port_take_the_place_of_ports() -> None:
    """A mark has no ports; any port is port 0 of each protocol, TCP alone unless more are named."""
    marked = service(ports=None, firewallMark=7)
    assert (marked.firewall_mark, marked.ports) == (7, ())
    whole = service(ports=None, anyPort=True, persistence={}, address="2001:db8::7")
    assert (whole.ports, whole.persistence) == ((Port(0),), Persistence(300, 128))
    both = service(ports=None, anyPort=True, persistence={}, anyPortProtocols=["UDP", "TCP"])
    assert both.ports == (Port(0, Protocol.TCP), Port(0, Protocol.UDP))


def test_tunnels() -> None:
    """Encapsulation, port and checksum of a tunnel, of a service and of one real server."""
    selector = {"matchLabels": {"a": "1"}}
    gue = {"type": "GUE", "port": 6080, "checksum": "RemoteChecksum"}
    parsed = service(
        forwardingMethod="Tunnel",
        tunnel=gue,
        realServers={"selector": selector, "overrides": [{"name": "a", "tunnel": {"type": "GRE"}}]},
    )
    assert parsed.tunnel == Tunnel(TunnelType.GUE, 6080, TunnelChecksum.REMOTE)
    assert parsed.overrides == (Override("a", tunnel=Tunnel(TunnelType.GRE)),)


def test_settings_of_a_group() -> None:
    """Timeouts and sysctls by their kernel names; what is left out is not touched on the nodes."""
    labels = {"matchLabels": {"site": "edge"}}
    plain = translate.director_group(body({"nodeSelector": labels}))
    assert isinstance(plain, DirectorGroup)
    assert plain.ipvs == IpvsSettings()
    kernel = {"connReuseMode": 2, "expireNodestConn": False, "sloppyTCP": True, "sloppySCTP": True}
    full = translate.director_group(
        body({"nodeSelector": labels, "timeouts": {"tcpSeconds": 7200}, "kernelSettings": kernel})
    )
    assert isinstance(full, DirectorGroup)
    names = (("conn_reuse_mode", 2), ("expire_nodest_conn", 0), ("sloppy_sctp", 1), ("sloppy_tcp", 1))
    assert full.ipvs == IpvsSettings(tcp_seconds=7200, sysctls=names)


def test_the_election_has_defaults_that_fit_the_number_of_instances() -> None:
    """One Active stays where it is; of several each returns to its share, once it has learnt of the connections."""
    for vrrp, expected in (
        (None, VrrpSettings()),
        ({}, VrrpSettings()),
        ({"instances": 1, "preempt": True}, VrrpSettings(preempt=True)),
        ({"instances": 3}, VrrpSettings(instances=3, preempt=True, preempt_delay_seconds=120)),
        ({"instances": 3, "preemptDelaySeconds": 0}, VrrpSettings(instances=3, preempt=True)),
        ({"instances": 3, "preempt": False}, VrrpSettings(instances=3)),
        (
            {
                "firstVirtualRouterID": 200,
                "advertisementIntervalMilliseconds": 1000,
                "unicast": True,
                "stopHoldSeconds": 0,
            },
            VrrpSettings(200, advertisement_interval_milliseconds=1000, unicast=True, stop_hold_seconds=0),
        ),
    ):
        spec = {"nodeSelector": {"matchLabels": {"a": "1"}}} | ({} if vrrp is None else {"vrrp": vrrp})
        parsed = translate.director_group(body(spec))
        assert isinstance(parsed, DirectorGroup)
        assert parsed.vrrp == expected


@pytest.mark.parametrize(
    ("text", "priority", "refused"),
    [
        ("1", 1, ""),
        (" 254 ", 254, ""),
        ("0", 0, "0"),
        ("255", 0, "255"),
        ("high", 0, "high"),
        ("", 0, " "),
        ("-1", 0, "-1"),
    ],
)
def test_a_nodes_priority_is_a_number_that_vrrp_has(text: str, priority: int, refused: str) -> None:
    """What is no priority must be told, and must change nothing."""
    parsed = translate.node(body({}, annotations={"lvs-operator.io/vrrp-priority": text}))
    assert (parsed.vrrp_priority, parsed.refused_priority) == (priority, refused)


@pytest.mark.parametrize(
    ("spec", "annotations", "standby"),
    [
        ({}, {}, False),
        ({"unschedulable": True}, {}, True),
        ({}, {"lvs-operator.io/standby": ""}, True),
        ({}, {"lvs-operator.io/standby": "false"}, False),
    ],
)
def test_a_cordoned_or_annotated_node_gives_its_vips_away(
    spec: dict[str, Any],
    annotations: dict[str, str],
    standby: bool,  # noqa: FBT001
) -> None:
    """`kubectl drain` moves VIPs before anything stops."""
    assert translate.node(body(spec, annotations=annotations)).standby is standby


def test_connection_sync_of_a_group() -> None:
    """What is left out has its default, and no field is accepted that nothing acts on."""
    labels = {"matchLabels": {"site": "edge"}}
    plain = translate.director_group(body({"nodeSelector": labels}))
    assert isinstance(plain, DirectorGroup)
    assert plain.sync == SyncSettings(SyncMode.STANDARD)
    given = {"mode": "Strict", "interface": "eth1", "syncID": 7, "multicastGroup": "ff02::81", "port": 9000}
    full = translate.director_group(
        body({"nodeSelector": labels, "connectionSync": {**given, "hopLimit": 2, "maximumLength": 900}})
    )
    assert isinstance(full, DirectorGroup)
    assert full.sync == SyncSettings(SyncMode.STRICT, "eth1", 7, "ff02::81", 9000, 2, 900)
    off = translate.director_group(body({"nodeSelector": labels, "connectionSync": {"mode": "Off"}}))
    assert isinstance(off, DirectorGroup)
    assert off.sync.mode is SyncMode.OFF
    wrong = translate.director_group(body({"nodeSelector": labels, "connectionSync": {"multicastGroup": "192.0.2.1"}}))
    assert isinstance(wrong, Invalid)


def test_defaults_of_parsing_are_those_of_the_api_server() -> None:
    """An object stored before a default existed means the same as one that has it filled in."""
    filled = service(
        directorGroup="default",
        scheduler="wlc",
        onFailure="Remove",
        healthCheck={"tcp": {}, "intervalSeconds": 2, "timeoutSeconds": 1, "rise": 2, "fall": 3},
    )
    assert service(healthCheck={"tcp": {}}) == filled
    assert filled.health_check == TableHealthCheck(TcpCheck())


def test_real_servers() -> None:
    """A real server is a node, or addresses with IPv4 first, or both."""
    node = translate.real_server(body({"nodeName": "storage-1"}))
    assert isinstance(node, RealServer)
    assert (node.node_name, node.addresses, node.weight) == ("storage-1", (), 100)
    outside = translate.real_server(body({"addresses": ["2001:db8::1", "192.0.2.9"], "state": "Maintenance"}))
    assert isinstance(outside, RealServer)
    assert (outside.node_name, outside.addresses) == ("", ("192.0.2.9", "2001:db8::1"))
    assert outside.state is RealServerState.MAINTENANCE
    draining = translate.real_server(body({"nodeName": "storage-1", "state": "Drain", "drain": {"timeoutSeconds": 0}}))
    assert isinstance(draining, RealServer)
    assert (node.drain_seconds, draining.drain_seconds) == (3600, 0)
    assert draining.state is RealServerState.DRAIN


def test_director_groups() -> None:
    """No namespaces named means all; an empty selector of namespaces means all too, and is kept apart from none."""
    labels = {"matchLabels": {"site": "edge"}}
    plain = translate.director_group(body({"nodeSelector": labels}, namespace=None))
    assert isinstance(plain, DirectorGroup)
    assert plain.meta.key == Key("", "web")
    assert (plain.interface, plain.allowed_addresses, plain.allowed_namespaces) == (InterfaceChoice(), (), None)
    spec = {
        "nodeSelector": labels,
        "interface": {"subnet": "2001:DB8::/64"},
        "allowedAddresses": ["192.0.2.64/26", "192.0.2.0/26", "192.0.2.64/26"],
        "allowedNamespaces": {},
    }
    full = translate.director_group(body(spec))
    assert isinstance(full, DirectorGroup)
    assert full.interface == InterfaceChoice(subnet="2001:db8::/64")
    assert full.allowed_addresses == ("192.0.2.0/26", "192.0.2.64/26")
    assert full.allowed_namespaces == Selector()


@pytest.mark.parametrize(
    ("annotations", "paused"),
    [
        (None, False),
        ({}, False),
        ({"lvs-operator.io/paused": "true"}, True),
        ({"lvs-operator.io/paused": ""}, True),
        ({"lvs-operator.io/paused": "false"}, False),
        ({"other/paused": "true"}, False),
    ],
)
def test_pause_annotation(annotations: dict[str, str] | None, paused: bool) -> None:  # noqa: FBT001
    """Any value but "false" pauses, also on an object that does not parse."""
    assert translate.virtual_service(body(service_spec(), annotations=annotations)).meta.paused is paused
    assert translate.virtual_service(body({}, annotations=annotations)).meta.paused is paused
    assert translate.node(body({}, annotations=annotations)).meta.paused is paused


def test_message_of_an_invalid_object_is_bounded_and_says_where() -> None:
    """The condition that carries it is read by a person, and has a maximum length."""
    ports = [{"port": 0} for _ in range(30)]
    parsed = translate.virtual_service(body(service_spec(address="1.2.3", ports=ports)))
    assert isinstance(parsed, Invalid)
    assert parsed.message.startswith("spec.address: must be an IPv4 or IPv6 address")
    assert "spec.ports[0].port: " in parsed.message
    assert parsed.message.endswith("; and 29 more")
    assert len(parsed.message) < 1024


def test_nodes_and_namespaces() -> None:
    """Only usable InternalIPs count, in canonical form and in the node's own order."""
    addresses = [
        {"type": "Hostname", "address": "storage-1"},
        {"type": "InternalIP", "address": "2001:DB8::0:1"},
        {"type": "InternalIP", "address": "192.0.2.7"},
        {"type": "InternalIP", "address": "nonsense"},
        {"type": "ExternalIP", "address": "203.0.113.1"},
        {"type": "InternalIP", "address": "192.0.2.7"},
    ]
    labelled = {"metadata": {"name": "storage-1", "labels": {"b": "2", "a": "1"}}, "status": {"addresses": addresses}}
    node = translate.node(labelled)
    assert node.internal_addresses == ("2001:db8::1", "192.0.2.7")
    assert node.meta.labels == (("a", "1"), ("b", "2"))
    assert translate.node({"metadata": {"name": "bare"}}).internal_addresses == ()
    assert translate.namespace(labelled).labels == (("a", "1"), ("b", "2"))


TABLE = DirectorTableSpec(
    director_group="edge",
    service_generation=3,
    address="192.0.2.10",
    ports=(TablePort(80, Protocol.TCP),),
    scheduler="rr",
    on_failure=OnFailure.REMOVE,
    destinations=(TableDestination("storage-1", "192.0.2.21", 100, "storage-1"),),
)
OWNERS = [{"kind": "Other", "uid": "o-1"}, {"kind": "VirtualService", "uid": "o-2"}, {"kind": "Node", "uid": "o-3"}]


def test_compiled_objects_read_back_as_they_were_written() -> None:
    """What the controller wrote is what it decides on after a restart."""
    table = compiled.table_record(body(compiled.spec_body(TABLE), ownerReferences=OWNERS))
    assert table is not None
    assert (table.key, table.generation, table.owner_uid, table.spec) == (Key("shop", "web"), 4, "o-2", TABLE)
    spec = LVSNodeSpec(decided=True, director=DirectorRole(group="edge"), backend_addresses=("192.0.2.10",))
    status = LVSNodeStatus(agent_version="1", loopback_addresses=("192.0.2.10",))
    raw = body(compiled.spec_body(spec), ownerReferences=OWNERS) | {"status": msgspec.to_builtins(status)}
    node = compiled.node_record(raw)
    assert node is not None
    assert (node.name, node.owner_uid, node.spec, node.status) == ("web", "o-3", spec, status)


def test_fields_of_a_newer_version_are_ignored() -> None:
    """An older controller beside newer objects goes on with what it knows."""
    assert service(someLaterField="192.0.2.99") == service()
    record = compiled.table_record(body(compiled.spec_body(TABLE) | {"someLaterField": "192.0.2.9"}))
    assert record is not None
    assert (record.spec, record.owner_uid) == (TABLE, "")


def test_undecodable_compiled_objects_count_as_absent(caplog: pytest.LogCaptureFixture) -> None:
    """Someone edited a compiled object: the controller says so and writes it anew; it does not stop."""
    with caplog.at_level(logging.WARNING):
        assert compiled.table_record(body({"address": 7})) is None
        assert compiled.table_record(body(None)) is None
        assert compiled.node_record(body({"decided": "perhaps"})) is None
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "DirectorTable shop/web cannot be decoded and counts as absent",
        "DirectorTable shop/web cannot be decoded and counts as absent",
        "LVSNode web cannot be decoded and counts as absent",
    ]


@pytest.mark.parametrize("status", [None, {}, {"tables": "many"}])
def test_a_status_that_says_nothing_counts_as_not_reported(status: Any) -> None:
    """A report that cannot be read takes nothing away: the node is as one that has not reported yet."""
    node = compiled.node_record(body({"decided": True}) | {"status": status})
    assert node is not None
    assert (node.spec, node.status) == (LVSNodeSpec(decided=True), None)


def test_an_empty_node_spec_always_states_decided() -> None:
    """Server-side apply of {} over a full spec is refused; and an absent spec is undecided: nothing is torn down."""
    assert compiled.spec_body(LVSNodeSpec()) == {"decided": False}
    node = compiled.node_record(body(None))
    assert node is not None
    assert node.spec == LVSNodeSpec()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["port", "tcp", "x"]), inner, max_size=3)
    ),
    max_leaves=8,
)
FIELDS = ["address", "ports", "scheduler", "realServers", "healthCheck", "nodeName", "addresses", "weight", "interface"]


@given(spec=JSON | st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_spec_makes_parsing_fail(spec: Any) -> None:
    """One broken object never stops the controller, whatever is in it."""
    for kind, parse in PARSERS.items():
        parsed = parse(body(spec))
        assert isinstance(parsed, Invalid | VirtualService | RealServer | DirectorGroup), kind
        if isinstance(parsed, Invalid):
            assert parsed.message
    compiled.table_record(body(spec))
    compiled.node_record(body(spec))


@given(address=st.ip_addresses(), ports=st.sets(st.integers(1, 65535), min_size=1, max_size=32), order=st.randoms())
def test_parsing_depends_on_what_is_said_not_on_how(address: Any, ports: set[int], order: Any) -> None:
    """Order of ports and spelling of the address do not matter; only reachable addresses are let in."""
    shuffled = [{"port": port} for port in ports]
    order.shuffle(shuffled)
    spellings = [str(address), address.exploded.upper()]
    parsed = [translate.virtual_service(body(service_spec(address=text, ports=shuffled))) for text in spellings]
    mapped = isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped
    if mapped or address.is_loopback or address.is_link_local or address.is_multicast or address.is_unspecified:
        assert all(isinstance(each, Invalid) for each in parsed)
    elif isinstance(parsed[0], VirtualService):
        assert parsed[0] == parsed[1]
        assert parsed[0].address == str(address)
        assert [port.port for port in parsed[0].ports] == sorted(ports)
    else:
        assert str(address) == "255.255.255.255"


def test_recipes_for_health_checks_parse() -> None:
    """What is copied from the page works."""
    page = (ROOT / "docs" / "health.md").read_text()
    recipes = [yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)]
    assert len(recipes) >= 8
    for recipe in recipes:
        if list(recipe) == ["sorryServer"]:
            assert service(**recipe).sorry_server is not None
            continue
        assert list(recipe) == ["healthCheck"]
        protocol = "UDP" if "udp" in recipe["healthCheck"] else "TCP"
        assert service(ports=[{"port": 123, "protocol": protocol}], **recipe).health_check is not None


def test_examples_parse() -> None:
    """What the README tells people to apply is what the controller understands."""
    for example in (ROOT / "manifests/examples").glob("*.yaml"):
        for document in yaml.safe_load_all(example.read_text()):
            kind = next(kind for kind in kinds.USER_KINDS if kind.kind == document["kind"])
            assert not isinstance(PARSERS[kind](json.loads(json.dumps(document))), Invalid), example.name


CHECKS: list[tuple[dict[str, Any], TableHealthCheck]] = [
    (
        {"tcp": {"send": "PING\r\n", "expectHex": "2B50"}, "jitterPercent": 10, "fastIntervalSeconds": 1},
        TableHealthCheck(TcpCheck(0, "50494e470d0a", "2b50"), jitter_percent=10, fast_interval_seconds=1),
    ),
    ({"http": {}}, TableHealthCheck(http=HttpCheck())),
    (
        {"http": {"path": "/up", "headers": [{"name": "X", "value": "y"}], "expectedStatuses": ["301", "200"]}},
        TableHealthCheck(http=HttpCheck(path="/up", headers=(HttpHeader("X", "y"),), expected_statuses=("200", "301"))),
    ),
    ({"https": {"host": "a"}}, TableHealthCheck(http=HttpCheck(host="a", tls=TlsSettings()))),
    (
        {"https": {"tls": {"serverName": "b", "verify": False}}},
        TableHealthCheck(http=HttpCheck(tls=TlsSettings("b", verify=False))),
    ),
    (
        {"dns": {"name": "a.example", "type": "MX", "expect": "mx", "protocol": "TCP"}},
        TableHealthCheck(dns=DnsCheck("a.example", DnsType.MX, "mx", DnsProtocol.TCP)),
    ),
    ({"ping": {}, "sourceNetwork": "192.0.2.0/24"}, TableHealthCheck(ping=PingCheck(), source_network="192.0.2.0/24")),
    ({"grpc": {"service": "a.B"}}, TableHealthCheck(grpc=GrpcCheck(service="a.B"))),
    ({"grpc": {"tls": {}}}, TableHealthCheck(grpc=GrpcCheck(tls=TlsSettings()))),
    (
        {"exec": {"name": "check", "arguments": ["-v", "a b"], "port": 1}},
        TableHealthCheck(script=ExecCheck("check", ("-v", "a b"), 1)),
    ),
]


@pytest.mark.parametrize(("written", "compiled"), CHECKS)
def test_checks_arrive_as_they_were_written(written: dict[str, Any], compiled: TableHealthCheck) -> None:
    """A setting that got lost on the way would be checked otherwise than its user thinks."""
    parsed = service(healthCheck=written)
    assert isinstance(parsed, VirtualService)
    assert parsed.health_check == compiled
    assert msgspec.json.decode(msgspec.json.encode(compiled), type=TableHealthCheck) == compiled


def test_a_udp_check_and_a_check_address() -> None:
    """A service of UDP ports, checked on another network."""
    parsed = service(ports=[{"port": 53, "protocol": "UDP"}], healthCheck={"udp": {"sendHex": "00FF"}})
    assert isinstance(parsed, VirtualService)
    assert parsed.health_check == TableHealthCheck(udp=UdpCheck(send="00ff"))
    server = translate.real_server(body(spec={"nodeName": "a", "checkAddress": "198.51.100.9"}))
    assert isinstance(server, RealServer)
    assert server.check_address == "198.51.100.9"


def test_the_sorry_server_arrives() -> None:
    """It would be sent to by another method, or not at all."""
    assert service().sorry_server is None
    found = service(sorryServer={"realServer": "sorry"})
    assert found.sorry_server == SorryServer("sorry")
    assert found.sorry_key == Key("shop", "sorry")
    bare = service(sorryServer={"address": "192.0.2.9", "port": 8081, "forwardingMethod": "Masquerade"})
    assert bare.sorry_server == SorryServer("", "192.0.2.9", 8081, ForwardingMethod.MASQUERADE)
    assert bare.sorry_key is None
