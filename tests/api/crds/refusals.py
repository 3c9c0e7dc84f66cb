"""Mistakes that users make, and the text that tells them: one table for the API server and for parsing.

`said` is what `kubectl apply --server-side` prints after the object's name; `client` what `kubectl apply` prints,
where that differs. `parsed` says whether parsing an object that the API server holds all the same (from before a rule
existed) refuses it too: fields that nobody knows are ignored there.
"""

from typing import Any, NamedTuple

from lvs_dr.api import kinds
from lvs_dr.api.models import (
    check_combinations,
    check_fields,
    check_marks,
    combinations,
    connection_sync,
    director_group,
    forwarding,
    health_check,
    load,
    ports,
    quorum,
    real_server,
    redirect,
    redirect_combinations,
    rules,
    selector,
    sorry_server,
    vrrp,
)
from lvs_dr.api.models.fields import BAD_HOSTNAME, BAD_NAME
from lvs_dr.core.load_spec import FIXED_WEIGHTS

Spec = dict[str, Any]
LABELS = {"matchLabels": {"pool": "web"}}
SCHEDULERS = ["rr", "wrr", "lc", "wlc", "lblc", "lblcr", "dh", "sh", "sed", "nq", "fo", "ovf", "mh", "twos"]
NAMESPACE = "lvs-crds"
INVALID = "Invalid value: "


class Refusal(NamedTuple):
    """One mistake."""

    kind: kinds.Kind
    name: str
    spec: Spec
    said: str
    client: str = ""
    parsed: bool = True

    @property
    def manifest(self) -> dict[str, Any]:
        """The object as a user would write it."""
        return manifest(self.kind, self.name, self.spec)


def manifest(kind: kinds.Kind, name: str, spec: Spec) -> dict[str, Any]:
    """Return an object of a kind."""
    return {"apiVersion": kinds.API_VERSION, "kind": kind.kind, "metadata": {"name": name}, "spec": spec}


def service_spec(**changes: Any) -> Spec:
    """Return a good VirtualService spec with changes; a field set to None is left out."""
    spec = {"address": "192.0.2.10", "ports": [{"port": 80}], "realServers": {"selector": LABELS}} | changes
    return {field: value for field, value in spec.items() if value is not None}


def _service(name: str, said: str, *, client: str = "", parsed: bool = True, **changes: Any) -> Refusal:
    return Refusal(kinds.VIRTUAL_SERVICE, name, service_spec(**changes), said, client, parsed)


def _address(name: str, address: str, message: str) -> Refusal:
    return _service(name, f'spec.address: {INVALID}"{address}": {message}', address=address)


def _selector(name: str, said: str, chosen: Any, *, client: str = "", parsed: bool = True) -> Refusal:
    realservers = {"selector": chosen}
    said = said.replace("SELECTOR", "spec.realServers.selector")
    return _service(name, said, client=client, parsed=parsed, realServers=realservers)


def _server(name: str, said: str, **spec: Any) -> Refusal:
    return Refusal(kinds.REAL_SERVER, name, spec, said)


def _group(name: str, said: str, *, client: str = "", parsed: bool = True, **changes: Any) -> Refusal:
    spec = {"nodeSelector": LABELS} | changes
    return Refusal(kinds.DIRECTOR_GROUP, name, spec, said, client, parsed)


def _unsupported(field: str, value: str, supported: list[str]) -> str:
    return f'{field}: Unsupported value: "{value}": supported values: ' + ", ".join(f'"{each}"' for each in supported)


def _range(field: str, value: int, bound: str) -> str:
    return f"{field}: {INVALID}{value}: {field} in body should be {bound}"


def _undeclared(kind: str, name: str, field: str) -> tuple[str, str]:
    """Texts for a misspelt field, server-side and client-side."""
    return (
        f"{_patch(name, kind)}: .{field}: field not declared in schema",
        f'{kind} in version "v1alpha1" cannot be handled as a {kind}: strict decoding error: unknown field "{field}"',
    )


def _patch(name: str, kind: str = "VirtualService") -> str:
    where = f"{NAMESPACE}/{name}" if kind != "DirectorGroup" else f"/{name}"
    return f"failed to create typed patch object ({where}; {kinds.API_VERSION}, Kind={kind})"


def _misspelt(name: str, field: str, **changes: Any) -> Refusal:
    said, client = _undeclared("VirtualService", name, field)
    return _service(name, said, client=client, parsed=False, **changes)


def _check(name: str, field: str, value: str, message: str, check: Any) -> Refusal:
    return _service(name, f'spec.healthCheck.{field}: {INVALID}"{value}": {message}', healthCheck=check)


_NO_CHECK = health_check.wrong_number(0)
_EXPRESSIONS = "SELECTOR.matchExpressions[0]"

ADDRESSES = [
    _address("octet-too-large", "192.0.2.300", rules.NOT_AN_ADDRESS),
    _address("with-prefix-length", "192.0.2.10/32", rules.NOT_AN_ADDRESS),
    _address("with-zone", "fe80::1%eth0", rules.NOT_AN_ADDRESS),
    _address("ipv4-mapped", "::ffff:192.0.2.1", rules.NOT_AN_ADDRESS),
    _address("host-name", "www.example.com", rules.NOT_AN_ADDRESS),
    _address("leading-zero", "192.0.2.010", rules.NOT_AN_ADDRESS),
    _address("unspecified", "0.0.0.0", rules.NOT_UNICAST),
    _address("unspecified-v6", "::", rules.NOT_UNICAST),
    _address("loopback", "127.0.0.1", rules.NOT_UNICAST),
    _address("multicast", "224.0.0.1", rules.NOT_UNICAST),
    _address("broadcast", "255.255.255.255", rules.NOT_UNICAST),
    _address("link-local", "169.254.10.1", rules.NOT_UNICAST),
    _address("link-local-v6", "fe80::1", rules.NOT_UNICAST),
    _service(
        "not-canonical",
        f'spec.address: {INVALID}"2001:DB8::10": {rules.NOT_CANONICAL}',
        address="2001:DB8::10",
        parsed=False,
    ),
    _service("no-address", "spec.address: Required value", address=None),
    _service("long-address", "spec.address: Too long: may not be more than 45 bytes", address="1" * 46),
]

PORTS = [
    _service("port-0", _range("spec.ports[0].port", 0, "greater than or equal to 1"), ports=[{"port": 0}]),
    _service("port-70000", _range("spec.ports[0].port", 70000, "less than or equal to 65535"), ports=[{"port": 70000}]),
    _service(
        "port-by-name",
        "failed to create typed patch object (lvs-crds/port-by-name; lvs-operator.io/v1alpha1, Kind=VirtualService):"
        " .spec.ports[0].port: expected numeric (int or float), got string",
        client=f'spec.ports[0].port: {INVALID}"string": spec.ports[0].port in body must be of type integer: "string"',
        ports=[{"port": "http"}],
    ),
    _service("no-ports", f"spec: {INVALID}{combinations.ONE_CHOICE}, got 0", ports=None),
    _service("empty-ports", f"spec.ports: {INVALID}0: spec.ports in body should have at least 1 items", ports=[]),
    _service(
        "too-many-ports",
        "spec.ports: Too many: 33: must have at most 32 items",
        ports=[{"port": port} for port in range(1, 34)],
    ),
    _service(
        "lower-case-protocol",
        _unsupported("spec.ports[0].protocol", "tcp", ["TCP", "UDP", "SCTP"]),
        ports=[{"port": 80, "protocol": "tcp"}],
    ),
    _service(
        "duplicate-port",
        f"spec.ports: {INVALID}{ports.DUPLICATE_PORT}",
        ports=[{"port": 80}, {"port": 81}, {"port": 80, "protocol": "TCP"}],
    ),
    _service(
        "duplicate-udp-port",
        f"spec.ports: {INVALID}{ports.DUPLICATE_PORT}",
        ports=[{"port": 53}, {"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "UDP"}],
    ),
    _service(
        "duplicate-port-name",
        f"spec.ports: {INVALID}{ports.DUPLICATE_NAME}",
        ports=[{"port": 80, "name": "web"}, {"port": 81, "name": "web"}],
    ),
    _service(
        "bad-port-name",
        f'spec.ports[0].name: {INVALID}"Web": {ports.BAD_PORT_NAME}',
        parsed=False,
        ports=[{"port": 80, "name": "Web"}],
    ),
]

CHECKS = [
    _service("empty-check", f"spec.healthCheck: {INVALID}{_NO_CHECK}", healthCheck={}),
    _service(
        "bare-tcp",
        f'spec.healthCheck.tcp: {INVALID}"null": spec.healthCheck.tcp in body must be of type object: "null"',
        client=f"spec.healthCheck: {INVALID}{_NO_CHECK}",
        healthCheck={"tcp": None},
    ),
    _misspelt("tcp-with-unknown-setting", "spec.healthCheck.tcp.prot", healthCheck={"tcp": {"prot": 80}}),
    _service(
        "check-port-0",
        _range("spec.healthCheck.tcp.port", 0, "greater than or equal to 1"),
        healthCheck={"tcp": {"port": 0}},
    ),
    _misspelt("check-of-later", "spec.healthCheck.smtp", healthCheck={"tcp": {}, "smtp": {}}),
    _service(
        "two-checks",
        f"spec.healthCheck: {INVALID}{health_check.wrong_number(2)}",
        healthCheck={"tcp": {}, "http": {}},
    ),
    _service(
        "all-checks",
        f"spec.healthCheck: {INVALID}{health_check.wrong_number(8)}",
        healthCheck={kind: {"port": 1} for kind in ("tcp", "http", "https", "grpc")}
        | {"dns": {"name": ".", "port": 1}, "udp": {"send": "x", "port": 1}, "exec": {"name": "x"}, "ping": {}},
    ),
    _check("path-with-space", "http.path", "/a b", check_fields.BAD_PATH, {"http": {"path": "/a b"}}),
    _check("path-of-two-lines", "http.path", "/\\r\\nX: y", check_fields.BAD_PATH, {"http": {"path": "/\r\nX: y"}}),
    _check("host-with-path", "http.host", "a/b", check_fields.BAD_HOST, {"http": {"host": "a/b"}}),
    _check(
        "own-header",
        "http.headers[0].name",
        "HOST",
        check_fields.OWN_HEADER,
        {"http": {"headers": [{"name": "HOST", "value": "x"}]}},
    ),
    _check(
        "header-of-two-lines",
        "http.headers[0].value",
        "a\\nb",
        check_fields.BAD_HEADER_VALUE,
        {"http": {"headers": [{"name": "X", "value": "a\nb"}]}},
    ),
    _check(
        "status-600",
        "http.expectedStatuses[0]",
        "600",
        check_fields.BAD_STATUS,
        {"http": {"expectedStatuses": ["600"]}},
    ),
    _service(
        "statuses-backwards",
        f"spec.healthCheck.http.expectedStatuses: {INVALID}{check_fields.BAD_STATUS}",
        healthCheck={"http": {"expectedStatuses": ["299-200"]}},
    ),
    _service(
        "body-of-head",
        f"spec.healthCheck.https.bodyContains: {INVALID}{check_fields.HEAD_HAS_NO_BODY}",
        healthCheck={"https": {"method": "HEAD", "bodyContains": "ok"}},
    ),
    _service(
        "effective-method",
        _unsupported("spec.healthCheck.http.method", "POST", ["GET", "HEAD", "OPTIONS"]),
        healthCheck={"http": {"method": "POST"}},
    ),
    _check(
        "no-certificate", "https.tls.caBundle", "x", check_fields.BAD_CERTIFICATE, {"https": {"tls": {"caBundle": "x"}}}
    ),
    _check("odd-hex", "tcp.sendHex", "0d0", check_fields.BAD_HEX, {"tcp": {"sendHex": "0d0"}}),
    _service(
        "two-payloads",
        f"spec.healthCheck.tcp.sendHex: {INVALID}{check_fields.ONE_PAYLOAD}",
        healthCheck={"tcp": {"send": "x", "sendHex": "00"}},
    ),
    _service(
        "two-answers",
        f"spec.healthCheck.tcp.expectHex: {INVALID}{check_fields.ONE_ANSWER}",
        healthCheck={"tcp": {"expect": "x", "expectHex": "00"}},
    ),
    _service(
        "udp-without-payload",
        f"spec.healthCheck.udp: {INVALID}{check_fields.PAYLOAD_NEEDED}",
        healthCheck={"udp": {"port": 53}},
    ),
    _check("dns-two-dots", "dns.name", "a..b", check_fields.BAD_DNS_NAME, {"dns": {"name": "a..b"}}),
    _check("script-in-directory", "exec.name", "../sh", check_fields.BAD_SCRIPT, {"exec": {"name": "../sh"}}),
    _service(
        "ping-with-setting",
        "spec.healthCheck.ping: Too many: 1: must have at most 0 items",
        client=_undeclared("VirtualService", "ping-with-setting", "spec.healthCheck.ping.count")[1],
        parsed=False,
        healthCheck={"ping": {"count": 3}},
    ),
    _service(
        "fast-interval-too-slow",
        f"spec.healthCheck.fastIntervalSeconds: {INVALID}{health_check.FAST_TOO_SLOW}",
        healthCheck={"tcp": {}, "fastIntervalSeconds": 3},
    ),
    _service(
        "unknown-check-path",
        _unsupported("spec.healthCheck.path", "Both", ["RealAddress", "VirtualAddress"]),
        healthCheck={"tcp": {}, "path": "Both"},
    ),
    _service(
        "ping-of-the-vip",
        f"spec.healthCheck.path: {INVALID}{health_check.PATH_NEEDS_SOCKET}",
        healthCheck={"ping": {}, "path": "VirtualAddress"},
    ),
    _service(
        "script-through-the-vip",
        f"spec.healthCheck.path: {INVALID}{health_check.PATH_NEEDS_SOCKET}",
        healthCheck={"exec": {"name": "x"}, "path": "VirtualAddress"},
    ),
    _service(
        "masqueraded-vip-checked",
        f"spec.healthCheck: {INVALID}{check_combinations.PATH_NOT_SEEN}",
        forwardingMethod="Masquerade",
        healthCheck={"tcp": {}, "path": "VirtualAddress"},
    ),
    _service(
        "redirected-vip-checked",
        f"spec.healthCheck: {INVALID}{check_combinations.PATH_NOT_SEEN}",
        forwardingMethod="Redirect",
        healthCheck={"http": {}, "path": "VirtualAddress"},
    ),
    _service(
        "source-without-prefix",
        f'spec.healthCheck.sourceNetwork: {INVALID}"192.0.2.1": {rules.NOT_A_NETWORK}',
        healthCheck={"tcp": {}, "sourceNetwork": "192.0.2.1"},
    ),
    _service(
        "udp-check-of-tcp",
        f"spec.healthCheck: {INVALID}{check_combinations.UDP_ONLY}",
        healthCheck={"udp": {"send": "x"}},
    ),
    _service(
        "http-check-of-udp",
        f"spec.healthCheck: {INVALID}{check_combinations.TCP_ONLY}",
        healthCheck={"http": {}},
        ports=[{"port": 443, "protocol": "UDP"}],
    ),
    _service(
        "check-of-udp",
        f"spec.healthCheck: {INVALID}{check_combinations.TCP_ONLY}",
        healthCheck={"tcp": {}},
        ports=[{"port": 53}, {"port": 53, "protocol": "UDP"}],
    ),
    _service(
        "timeout-beyond-interval",
        f"spec.healthCheck.timeoutSeconds: {INVALID}{health_check.TIMEOUT_TOO_LONG}",
        healthCheck={"tcp": {}, "timeoutSeconds": 3},
    ),
    _service(
        "fall-0",
        _range("spec.healthCheck.fall", 0, "greater than or equal to 1"),
        healthCheck={"tcp": {}, "fall": 0},
    ),
    _service(
        "interval-over-an-hour",
        _range("spec.healthCheck.intervalSeconds", 3601, "less than or equal to 3600"),
        healthCheck={"tcp": {}, "intervalSeconds": 3601},
    ),
]

CHOICES = [
    _service("unknown-scheduler", _unsupported("spec.scheduler", "wwrr", SCHEDULERS), scheduler="wwrr"),
    _service("unknown-on-failure", _unsupported("spec.onFailure", "Delete", ["Remove", "Quiesce"]), onFailure="Delete"),
    _misspelt("misspelt-field", "spec.shceduler", shceduler="rr"),
    _misspelt("field-of-later", "spec.mirrorTo", mirrorTo={"address": "192.0.2.9"}),
    _service(
        "bad-group-name", f'spec.directorGroup: {INVALID}"Edge!": {BAD_NAME}', parsed=False, directorGroup="Edge!"
    ),
    _service("empty-group-name", f'spec.directorGroup: {INVALID}"": {BAD_NAME}', parsed=False, directorGroup=""),
]

_FLAGS = ["sh-fallback", "sh-port", "mh-fallback", "mh-port"]
_PROTOCOL_FIELD = "spec.anyPortProtocols"

PACKETS = [
    _service("ports-and-mark", f"spec: {INVALID}{combinations.ONE_CHOICE}, got 2", firewallMark=7),
    _service(
        "any-port-false",
        f"spec: {INVALID}{combinations.ONE_CHOICE}, got 0",
        ports=None,
        anyPort=False,
    ),
    _service(
        "all-three",
        f"spec: {INVALID}{combinations.ONE_CHOICE}, got 3",
        anyPort=True,
        firewallMark=7,
        persistence={},
    ),
    _service("mark-0", _range("spec.firewallMark", 0, "greater than or equal to 1"), ports=None, firewallMark=0),
    _service(
        "mark-over-32-bits",
        f"spec.firewallMark: {INVALID}4294967296: spec.firewallMark in body should be less than or equal to 4294967295",
        ports=None,
        firewallMark=4294967296,
    ),
    _service(
        "any-port-without-persistence",
        f"spec.anyPort: {INVALID}{combinations.ANY_PORT_PERSISTENCE}",
        ports=None,
        anyPort=True,
    ),
    _service(
        "protocols-without-any-port",
        f"{_PROTOCOL_FIELD}: {INVALID}{combinations.PROTOCOLS_ALONE}",
        anyPortProtocols=["UDP"],
    ),
    _service(
        "no-protocols",
        f"{_PROTOCOL_FIELD}: {INVALID}0: {_PROTOCOL_FIELD} in body should have at least 1 items",
        ports=None,
        anyPort=True,
        persistence={},
        anyPortProtocols=[],
    ),
    _service(
        "check-without-port",
        f"spec.healthCheck: {INVALID}{check_combinations.CHECK_PORT}",
        ports=None,
        firewallMark=7,
        healthCheck={"tcp": {}},
    ),
    _service(
        "any-port-check-without-port",
        f"spec.healthCheck: {INVALID}{check_combinations.CHECK_PORT}",
        ports=None,
        anyPort=True,
        persistence={},
        healthCheck={"tcp": {}},
    ),
    _service(
        "one-packet-tcp",
        f"spec.onePacket: {INVALID}{combinations.ONE_PACKET_WITHOUT_UDP}",
        onePacket=True,
        ports=[{"port": 53, "protocol": "UDP"}, {"port": 53}],
    ),
    _service(
        "one-packet-any-tcp",
        f"spec.onePacket: {INVALID}{combinations.ONE_PACKET_WITHOUT_UDP}",
        onePacket=True,
        ports=None,
        anyPort=True,
        persistence={},
    ),
]

SCHEDULING = [
    _service(
        "flag-of-another",
        f"spec.schedulerFlags: {INVALID}{combinations.FLAG_OF_ANOTHER}",
        scheduler="mh",
        schedulerFlags=["sh-port"],
    ),
    _service(
        "flag-of-default",
        f"spec.schedulerFlags: {INVALID}{combinations.FLAG_OF_ANOTHER}",
        schedulerFlags=["mh-port"],
    ),
    _service(
        "flag-number",
        _unsupported("spec.schedulerFlags[0]", "flag-1", _FLAGS),
        scheduler="sh",
        schedulerFlags=["flag-1"],
    ),
    _service(
        "flag-twice",
        f'{_patch("flag-twice")}: .spec.schedulerFlags: duplicate entries for key [="sh-port"]',
        client='spec.schedulerFlags[1]: Duplicate value: "sh-port"',
        parsed=False,
        scheduler="sh",
        schedulerFlags=["sh-port", "sh-port"],
    ),
    _service(
        "ipv6-prefix-on-ipv4",
        f"spec.persistence.prefixLength: {INVALID}{combinations.PREFIX_TOO_LONG}",
        persistence={"prefixLength": 64},
    ),
    _service(
        "prefix-0",
        _range("spec.persistence.prefixLength", 0, "greater than or equal to 1"),
        persistence={"prefixLength": 0},
    ),
    _service(
        "timeout-over-a-month",
        f"spec.persistence.timeoutSeconds: {INVALID}2678401: spec.persistence.timeoutSeconds in body should be less"
        " than or equal to 2678400",
        persistence={"timeoutSeconds": 2678401},
    ),
    _service(
        "sip-over-tcp",
        f"spec.persistence.engine: {INVALID}{combinations.ENGINE_WITHOUT_UDP}",
        persistence={"engine": "sip"},
    ),
    _service(
        "unknown-engine", _unsupported("spec.persistence.engine", "http", ["sip"]), persistence={"engine": "http"}
    ),
    _service(
        "quiesce-forever",
        _range("spec.quiesceSeconds", 86401, "less than or equal to 86400"),
        quiesceSeconds=86401,
    ),
    _service(
        "panic-101",
        _range("spec.panicThresholdPercent", 101, "less than or equal to 100"),
        healthCheck={"tcp": {}},
        panicThresholdPercent=101,
    ),
    _service(
        "panic-unchecked",
        f"spec.panicThresholdPercent: {INVALID}{check_combinations.PANIC_UNCHECKED}",
        panicThresholdPercent=50,
    ),
    _service(
        "two-sorry-servers",
        f"spec.sorryServer: {INVALID}{sorry_server.ONE_SORRY_SERVER}",
        sorryServer={"realServer": "sorry", "address": "192.0.2.9"},
    ),
    _service(
        "sorry-port",
        f"spec.sorryServer.port: {INVALID}{combinations.SORRY_PORT}",
        sorryServer={"address": "192.0.2.9", "port": 8081},
    ),
    _service(
        "weight-hysteresis-alone",
        f"spec.quorum: {INVALID}{quorum.WEIGHTS_TOGETHER}",
        quorum={"weightHysteresis": 5},
    ),
    _service(
        "quorum-of-none",
        _range("spec.quorum.minimumHealthy", 0, "greater than or equal to 1"),
        quorum={"minimumHealthy": 0},
    ),
]

_HTTP = {"source": "HTTP", "port": 8080, "target": 50}


def _load(name: str, field: str, message: str, scheduler: str = "wlc", **feedback: Any) -> Refusal:
    said = f"spec.loadFeedback{field}: {INVALID}{message}"
    return _service(name, said, scheduler=scheduler, loadFeedback=feedback)


LOAD = [
    *(
        _service(
            f"slow-start-of-{scheduler}",
            f"spec.slowStart: {INVALID}{combinations.SLOW_START_SCHEDULER}",
            scheduler=scheduler,
            slowStart={"seconds": 30},
        )
        for scheduler in sorted(FIXED_WEIGHTS)
    ),
    *(
        _load(f"load-of-{scheduler}", "", combinations.FEEDBACK_SCHEDULER, scheduler, source="CPUPressure")
        for scheduler in sorted(FIXED_WEIGHTS)
    ),
    _service("slow-start-of-no-time", "spec.slowStart.seconds: Required value", slowStart={}),
    _service(
        "slow-start-from-0",
        _range("spec.slowStart.floorPercent", 0, "greater than or equal to 1"),
        slowStart={"seconds": 9, "floorPercent": 0},
    ),
    _service(
        "unknown-source",
        _unsupported(
            "spec.loadFeedback.source",
            "Load",
            ["CPUPressure", "RunQueue", "NetworkBytes", "Connections", "AgentCheck", "HTTP", "Prometheus"],
        ),
        loadFeedback={"source": "Load"},
    ),
    _load("load-without-port", ".source", load.PORT_NEEDED, source="AgentCheck"),
    _load("pressure-with-port", ".port", load.PORT_ALONE, source="CPUPressure", port=80),
    _load("agent-check-with-path", ".path", load.PATH_ALONE, source="AgentCheck", port=80, path="/"),
    _load(
        "metrics-with-pointer",
        ".jsonPointer",
        load.POINTER_ALONE,
        **_HTTP | {"source": "Prometheus", "metric": "jobs", "jsonPointer": "/a"},
    ),
    _load("metrics-without-metric", ".source", load.METRIC_NEEDED, **_HTTP | {"source": "Prometheus"}),
    _load("http-with-metric", ".metric", load.METRIC_ALONE, **_HTTP, metric="jobs"),
    _load("link-of-run-queue", ".linkMegabits", load.LINK_ALONE, source="RunQueue", linkMegabits=1000),
    _load("connections-without-target", ".source", load.TARGET_NEEDED, source="Connections"),
    _load("agent-check-with-target", ".source", load.CHECK_DECIDES, source="AgentCheck", port=80, target=5),
    _load("agent-check-averaged", ".source", load.CHECK_DECIDES, source="AgentCheck", port=80, timeConstantSeconds=5),
    _load("bad-pointer", ".jsonPointer", f'"a/b": {load.BAD_POINTER}', **_HTTP, jsonPointer="a/b"),
    _load(
        "bad-metric",
        ".metric",
        f'"sum(jobs)": {load.BAD_METRIC}',
        **_HTTP | {"source": "Prometheus"},
        metric="sum(jobs)",
    ),
    _service(
        "load-of-udp",
        f"spec.loadFeedback: {INVALID}{combinations.CONNECTIONS_WITHOUT_TCP}",
        ports=[{"port": 53, "protocol": "UDP"}],
        loadFeedback={"source": "Connections", "target": 100},
    ),
    _service(
        "load-of-redirect",
        f"spec.forwardingMethod: {INVALID}{redirect_combinations.WEIGHTS_OF_REDIRECT}",
        forwardingMethod="Redirect",
        loadFeedback={"source": "CPUPressure"},
    ),
    _service(
        "load-ceiling-below-all",
        _range("spec.loadFeedback.maximumPercent", 99, "greater than or equal to 100"),
        loadFeedback={"source": "CPUPressure", "maximumPercent": 99},
    ),
]


def _override(name: str, said: str, *overrides: Spec, parsed: bool = True, client: str = "", **changes: Any) -> Refusal:
    chosen = {"selector": LABELS, "overrides": list(overrides)}
    said = said.replace("OVERRIDES", "spec.realServers.overrides")
    return _service(name, said, client=client, parsed=parsed, realServers=chosen, **changes)


def _redirect(name: str, said: str, given: Any, *, client: str = "", parsed: bool = True, **changes: Any) -> Refusal:
    changes = {"forwardingMethod": "Redirect", "redirect": given} | changes
    return _service(name, said, client=client, parsed=parsed, **changes)


_NO_BALANCE = f"spec.forwardingMethod: {INVALID}{redirect_combinations.REDIRECT_BALANCES}"
_NO_PORTS = f"spec.forwardingMethod: {INVALID}{redirect_combinations.REDIRECT_PORTS}"

REDIRECTS = [
    _service(
        "redirect-unused",
        f"spec.redirect: {INVALID}{redirect_combinations.REDIRECT_ALONE}",
        redirect={"statusCode": 307},
    ),
    _redirect(
        "redirect-by-303",
        'spec.redirect.statusCode: Unsupported value: 303: supported values: "301", "302", "307", "308"',
        {"statusCode": 303},
    ),
    _redirect("redirect-udp", _NO_PORTS, {}, ports=[{"port": 80, "protocol": "UDP"}]),
    _redirect("redirect-mark", _NO_PORTS, {}, ports=None, firewallMark=7),
    _redirect("redirect-scheduler", _NO_BALANCE, {}, scheduler="rr"),
    _redirect("redirect-persistence", _NO_BALANCE, {}, persistence={}),
    _redirect(
        "redirect-one-host",
        f'spec.redirect.host: {INVALID}"up.example.org": {redirect.BAD_HOST}',
        {"host": "up.example.org"},
    ),
    _redirect(
        "redirect-host-with-path",
        f'spec.redirect.host: {INVALID}"{{name}}/x": {redirect.BAD_HOST}',
        {"host": "{name}/x"},
    ),
    _redirect(
        "redirect-trace", f'spec.redirect.methods[0]: {INVALID}"TRACE": {redirect.BAD_METHOD}', {"methods": ["TRACE"]}
    ),
    _redirect(
        "redirect-small-letters",
        f'spec.redirect.methods[0]: {INVALID}"put": {redirect.BAD_METHOD}',
        {"methods": ["put"]},
    ),
    _redirect(
        "redirect-two-headers",
        f'spec.redirect.cacheControl: {INVALID}"a\\nb": {redirect.BAD_CACHE_CONTROL}',
        {"cacheControl": "a\nb"},
    ),
    _redirect(
        "redirect-key-id",
        f'spec.redirect.token.keyId: {INVALID}"a.b": {redirect.BAD_KEY_ID}',
        {"token": {"secretName": "x", "keyId": "a.b"}},
    ),
    _redirect(
        "redirect-sorry-by-packets",
        f"spec.sorryServer: {INVALID}{combinations.SORRY_REDIRECT}",
        {},
        sorryServer={"address": "192.0.2.9", "forwardingMethod": "Masquerade"},
    ),
    _override(
        "override-to-redirect",
        f"OVERRIDES: {INVALID}{redirect_combinations.REDIRECT_OVERRIDE}",
        {"name": "web-1", "forwardingMethod": "Redirect"},
    ),
    _override(
        "override-of-redirect",
        f"OVERRIDES: {INVALID}{redirect_combinations.REDIRECT_OVERRIDE}",
        {"name": "web-1", "connectionLimits": {"upper": 5}},
        forwardingMethod="Redirect",
    ),
    _server(
        "hostname-as-url",
        f'spec.hostname: {INVALID}"http://a": {BAD_HOSTNAME}',
        addresses=["192.0.2.11"],
        hostname="http://a",
    ),
]

FORWARDING = [
    _service(
        "direct-routing-to-another-port",
        f"spec.ports: {INVALID}{combinations.TARGET_PORT}",
        ports=[{"port": 80, "targetPort": 8080}],
    ),
    _service(
        "tunnel-to-another-port",
        f"spec.ports: {INVALID}{combinations.TARGET_PORT}",
        forwardingMethod="Tunnel",
        ports=[{"port": 80, "targetPort": 8080}],
    ),
    _override(
        "one-by-direct-routing-to-another-port",
        f"spec.ports: {INVALID}{combinations.TARGET_PORT}",
        {"name": "web-1", "forwardingMethod": "DirectRouting"},
        forwardingMethod="Masquerade",
        ports=[{"port": 80, "targetPort": 8080}],
    ),
    _override(
        "override-masquerades-checked-vip",
        f"spec.healthCheck: {INVALID}{check_combinations.PATH_NOT_SEEN}",
        {"name": "web-1", "forwardingMethod": "Masquerade"},
        healthCheck={"tcp": {}, "path": "VirtualAddress"},
    ),
    _service(
        "unknown-method",
        _unsupported("spec.forwardingMethod", "NAT", ["DirectRouting", "Tunnel", "Masquerade", "Redirect"]),
        forwardingMethod="NAT",
    ),
    _service("tunnel-unused", f"spec.tunnel: {INVALID}{combinations.TUNNEL_ALONE}", tunnel={"type": "IPIP"}),
    _service("tunnel-without-type", "spec.tunnel.type: Required value", forwardingMethod="Tunnel", tunnel={}),
    _service(
        "gre-with-port",
        f"spec.tunnel: {INVALID}{forwarding.TUNNEL_PORT}",
        forwardingMethod="Tunnel",
        tunnel={"type": "GRE", "port": 6080},
    ),
    _service(
        "gue-without-port",
        f"spec.tunnel: {INVALID}{forwarding.TUNNEL_PORT}",
        forwardingMethod="Tunnel",
        tunnel={"type": "GUE"},
    ),
    _service(
        "gre-remote-checksum",
        f"spec.tunnel.checksum: {INVALID}{forwarding.TUNNEL_CHECKSUM}",
        forwardingMethod="Tunnel",
        tunnel={"type": "GRE", "checksum": "RemoteChecksum"},
    ),
    _service(
        "ipip-checksum",
        f"spec.tunnel.checksum: {INVALID}{forwarding.TUNNEL_CHECKSUM}",
        forwardingMethod="Tunnel",
        tunnel={"type": "IPIP", "checksum": "Checksum"},
    ),
    _override(
        "override-tunnel-unused",
        f"OVERRIDES: {INVALID}{combinations.OVERRIDE_TUNNEL}",
        {"name": "web-1", "tunnel": {"type": "GRE"}},
    ),
    _override(
        "override-twice",
        f'{_patch("override-twice")}: .OVERRIDES: duplicate entries for key [name="web-1"]',
        {"name": "web-1", "weight": 1},
        {"name": "web-1", "weight": 2},
        client='spec.realServers.overrides[1]: Duplicate value: {"name":"web-1"}',
    ),
    _override(
        "override-without-name",
        f"{_patch('override-without-name')}: .OVERRIDES: element 0: associative list with keys has an element that"
        ' omits all key fields ["name"] (and doesn\'t have default values for any key fields)',
        {"weight": 1},
        client="spec.realServers.overrides[0].name: Required value",
    ),
    _override(
        "override-limits-swapped",
        f"OVERRIDES[0].connectionLimits.lower: {INVALID}{forwarding.LOWER_ABOVE_UPPER}",
        {"name": "web-1", "connectionLimits": {"upper": 10, "lower": 11}},
    ),
    _server(
        "limits-swapped",
        f"spec.connectionLimits.lower: {INVALID}{forwarding.LOWER_ABOVE_UPPER}",
        nodeName="node-1",
        connectionLimits={"upper": 100, "lower": 200},
    ),
    _server(
        "lower-alone",
        "spec.connectionLimits.upper: Required value",
        nodeName="node-1",
        connectionLimits={"lower": 200},
    ),
    _group(
        "timeout-0",
        _range("spec.timeouts.tcpSeconds", 0, "greater than or equal to 1"),
        timeouts={"tcpSeconds": 0},
    ),
    _group(
        "unknown-reuse-mode",
        _range("spec.kernelSettings.connReuseMode", 4, "less than or equal to 3"),
        kernelSettings={"connReuseMode": 4},
    ),
]

SELECTORS = [
    _service("no-selector", "spec.realServers.selector: Required value", realServers={}),
    _selector("empty-selector", f"SELECTOR: {INVALID}{selector.EMPTY_SELECTOR}", {}),
    _selector("selector-without-labels", f"SELECTOR: {INVALID}{selector.EMPTY_SELECTOR}", {"matchLabels": {}}),
    _selector(
        "labels-without-match-labels",
        _undeclared("VirtualService", "labels-without-match-labels", "spec.realServers.selector.pool")[0],
        {"pool": "web"},
        client=_undeclared("VirtualService", "", "spec.realServers.selector.pool")[1],
    ),
    _selector(
        "bad-label-key",
        f"SELECTOR.matchLabels: {INVALID}{selector.BAD_KEY}",
        {"matchLabels": {"a b": "x"}},
        parsed=False,
    ),
    _selector(
        "bad-label-value",
        f'SELECTOR.matchLabels[a]: {INVALID}"x y": {selector.BAD_VALUE}',
        {"matchLabels": {"a": "x y"}},
        parsed=False,
    ),
    _selector(
        "in-without-values",
        f"{_EXPRESSIONS}: {INVALID}{selector.BAD_EXPRESSION}",
        {"matchExpressions": [{"key": "a", "operator": "In"}]},
    ),
    _selector(
        "exists-with-values",
        f"{_EXPRESSIONS}: {INVALID}{selector.BAD_EXPRESSION}",
        {"matchExpressions": [{"key": "a", "operator": "Exists", "values": ["x"]}]},
    ),
    _selector(
        "unknown-operator",
        _unsupported(f"{_EXPRESSIONS}.operator", "Equals", ["In", "NotIn", "Exists", "DoesNotExist"]),
        {"matchExpressions": [{"key": "a", "operator": "Equals", "values": ["x"]}]},
    ),
]

REAL_SERVERS = [
    _server("no-machine", f"spec: {INVALID}{real_server.NO_MACHINE}"),
    _server("weight-alone", f"spec: {INVALID}{real_server.NO_MACHINE}", weight=1),
    _server("empty-addresses", f"spec: {INVALID}{real_server.NO_MACHINE}", addresses=[]),
    _server("two-of-a-family", f"spec.addresses: {INVALID}{real_server.TWO_OF_A_FAMILY}", addresses=["192.0.2.1"] * 2),
    _server(
        "three-addresses",
        "spec.addresses: Too many: 3: must have at most 2 items",
        addresses=["192.0.2.1", "2001:db8::1", "2001:db8::2"],
    ),
    _server("name-as-address", f'spec.addresses[0]: {INVALID}"web-1": {rules.NOT_AN_ADDRESS}', addresses=["web-1"]),
    _server(
        "second-address-bad",
        f'spec.addresses[1]: {INVALID}"fe80::1": {rules.NOT_UNICAST}',
        addresses=["192.0.2.1", "fe80::1"],
    ),
    _server(
        "weight-65536", _range("spec.weight", 65536, "less than or equal to 65535"), nodeName="node-1", weight=65536
    ),
    _server("weight-negative", _range("spec.weight", -1, "greater than or equal to 0"), nodeName="node-1", weight=-1),
    _server(
        "drain-negative",
        _range("spec.drain.timeoutSeconds", -1, "greater than or equal to 0"),
        nodeName="node-1",
        drain={"timeoutSeconds": -1},
    ),
    _server(
        "state-of-later",
        _unsupported("spec.state", "Quiesce", ["InService", "Drain", "Maintenance"]),
        nodeName="node-1",
        state="Quiesce",
    ),
    Refusal(
        kinds.REAL_SERVER, "bad-node-name", {"nodeName": "Node_1"}, f'spec.nodeName: {INVALID}"Node_1": {BAD_NAME}',
        parsed=False,
    ),
]  # fmt: skip

_GROUP_LABELS = _undeclared("DirectorGroup", "node-selector-as-in-pods", "spec.nodeSelector.site")
_NAME = director_group.BAD_INTERFACE_NAME

GROUPS = [
    _group("empty-node-selector", f"spec.nodeSelector: {INVALID}{selector.EMPTY_SELECTOR}", nodeSelector={}),
    _group("node-selector-as-in-pods", _GROUP_LABELS[0], client=_GROUP_LABELS[1], nodeSelector={"site": "edge"}),
    _group("empty-interface", f"spec.interface: {INVALID}{director_group.ONE_INTERFACE}", interface={}),
    _group(
        "two-interfaces",
        f"spec.interface: {INVALID}{director_group.ONE_INTERFACE}",
        interface={"name": "eth0", "subnet": "192.0.2.0/24"},
    ),
    _group("interface-lo", f'spec.interface.name: {INVALID}"lo": {_NAME}', interface={"name": "lo"}, parsed=False),
    _group(
        "interface-label",
        f'spec.interface.name: {INVALID}"eth0:1": {_NAME}',
        interface={"name": "eth0:1"},
        parsed=False,
    ),
    _group(
        "interface-too-long",
        "spec.interface.name: Too long: may not be more than 15 bytes",
        interface={"name": "a" * 16},
    ),
    _group(
        "subnet-with-host-bits",
        f'spec.interface.subnet: {INVALID}"192.0.2.7/24": {rules.HOST_BITS}',
        interface={"subnet": "192.0.2.7/24"},
    ),
    _group(
        "subnet-without-length",
        f'spec.interface.subnet: {INVALID}"192.0.2.0": {rules.NOT_A_NETWORK}',
        interface={"subnet": "192.0.2.0"},
    ),
    _group(
        "netmask",
        f'spec.allowedAddresses[1]: {INVALID}"192.0.2.0/255.255.255.0": {rules.NOT_A_NETWORK}',
        allowedAddresses=["192.0.2.0/24", "192.0.2.0/255.255.255.0"],
    ),
    _group(
        "prefix-too-long",
        f'spec.allowedAddresses[0]: {INVALID}"192.0.2.0/33": {rules.NOT_A_NETWORK}',
        allowedAddresses=["192.0.2.0/33"],
    ),
    _group(
        "unicast-sync-group",
        f'spec.connectionSync.multicastGroup: {INVALID}"192.0.2.1": {connection_sync.NOT_MULTICAST}',
        connectionSync={"multicastGroup": "192.0.2.1"},
    ),
    _group(
        "broadcast-sync-group",
        f'spec.connectionSync.multicastGroup: {INVALID}"255.255.255.255": {connection_sync.NOT_MULTICAST}',
        connectionSync={"multicastGroup": "255.255.255.255"},
    ),
    _group(
        "sync-on-lo",
        f'spec.connectionSync.interface: {INVALID}"lo": {connection_sync.BAD_SYNC_INTERFACE}',
        connectionSync={"interface": "lo"},
        parsed=False,
    ),
]

GROUPS += [
    _group(
        "marks-backwards",
        f"spec.checkMarks.last: {INVALID}{check_marks.LAST_BELOW_FIRST}",
        checkMarks={"first": 300, "last": 200},
    ),
    _group(
        "first-mark-beyond-the-default-last",
        f"spec.checkMarks.last: {INVALID}{check_marks.LAST_BELOW_FIRST}",
        checkMarks={"first": 8192},
    ),
    _group(
        "too-many-marks",
        f"spec.checkMarks.last: {INVALID}{check_marks.TOO_MANY_MARKS}",
        checkMarks={"first": 1, "last": 65537},
    ),
    _group(
        "check-mark-0",
        _range("spec.checkMarks.first", 0, "greater than or equal to 1"),
        checkMarks={"first": 0, "last": 9},
    ),
    _group(
        "check-mark-over-32-bits",
        _range("spec.checkMarks.last", 4294967296, "less than or equal to 4294967295"),
        checkMarks={"first": 4294967290, "last": 4294967296},
    ),
    _group(
        "ids-beyond-255",
        f"spec.vrrp.instances: {INVALID}{vrrp.TOO_MANY_IDS}",
        vrrp={"firstVirtualRouterID": 250, "instances": 7},
    ),
    _group(
        "id-0",
        _range("spec.vrrp.firstVirtualRouterID", 0, "greater than or equal to 1"),
        vrrp={"firstVirtualRouterID": 0},
    ),
    _group("too-many-instances", _range("spec.vrrp.instances", 33, "less than or equal to 32"), vrrp={"instances": 33}),
    _group(
        "interval-of-15-milliseconds",
        f"spec.vrrp.advertisementIntervalMilliseconds: {INVALID}15: {vrrp.NOT_CENTISECONDS}",
        vrrp={"advertisementIntervalMilliseconds": 15},
    ),
    _group(
        "delay-without-preemption",
        f"spec.vrrp.preemptDelaySeconds: {INVALID}{vrrp.DELAY_WITHOUT_PREEMPTION}",
        vrrp={"preemptDelaySeconds": 60},
    ),
    _group(
        "delay-with-preemption-off",
        f"spec.vrrp.preemptDelaySeconds: {INVALID}{vrrp.DELAY_WITHOUT_PREEMPTION}",
        vrrp={"instances": 2, "preempt": False, "preemptDelaySeconds": 60},
    ),
]

REFUSALS = (
    ADDRESSES
    + PORTS
    + CHECKS
    + CHOICES
    + PACKETS
    + SCHEDULING
    + LOAD
    + FORWARDING
    + REDIRECTS
    + SELECTORS
    + REAL_SERVERS
    + GROUPS
)
