"""A health check as users write it to the compiled one."""

from lvs_dr.api import models
from lvs_dr.api.models import check_tls, checks, http_checks
from lvs_dr.core.checks import (
    DnsCheck,
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

STATUSES = ("200-299",)


def health_check(check: models.HealthCheck) -> TableHealthCheck:
    """Return the compiled check."""
    http = check.http or check.https
    return TableHealthCheck(
        tcp=TcpCheck(*_payload(check.tcp)) if check.tcp is not None else None,
        http=_http(http) if http is not None else None,
        dns=_dns(check.dns) if check.dns is not None else None,
        udp=UdpCheck(*_payload(check.udp)) if check.udp is not None else None,
        ping=PingCheck() if check.ping is not None else None,
        grpc=_grpc(check.grpc) if check.grpc is not None else None,
        script=_script(check.script) if check.script is not None else None,
        interval_seconds=check.interval_seconds,
        timeout_seconds=check.timeout_seconds,
        rise=check.rise,
        fall=check.fall,
        jitter_percent=check.jitter_percent or 0,
        fast_interval_seconds=check.fast_interval_seconds or 0,
        source_network=check.source_network or "",
    )


def _payload(check: checks.TcpCheck | checks.UdpCheck) -> tuple[int, str, str]:
    return check.port or 0, _hex(check.send, check.send_hex), _hex(check.expect, check.expect_hex)


def _hex(text: str | None, digits: str | None) -> str:
    return text.encode().hex() if text is not None else (digits or "").lower()


def _http(check: http_checks.HttpCheck) -> HttpCheck:
    return HttpCheck(
        port=check.port or 0,
        method=check.method,
        path=check.path,
        host=check.host or "",
        headers=tuple(HttpHeader(each.name, each.value) for each in check.headers),
        expected_statuses=tuple(sorted(set(check.expected_statuses))) or STATUSES,
        body_contains=check.body_contains or "",
        tls=_tls(check.tls) if isinstance(check, http_checks.HttpsCheck) else None,
    )


def _tls(given: check_tls.Tls | None) -> TlsSettings:
    if given is None:
        return TlsSettings()
    return TlsSettings(given.server_name or "", given.verify, given.ca_bundle or "", given.secret_name or "")


def _dns(check: checks.DnsCheck) -> DnsCheck:
    return DnsCheck(check.name, check.type, check.expect or "", check.protocol, check.port or 0)


def _grpc(check: checks.GrpcCheck) -> GrpcCheck:
    return GrpcCheck(check.port or 0, check.service or "", _tls(check.tls) if check.tls is not None else None)


def _script(check: checks.ExecCheck) -> ExecCheck:
    return ExecCheck(check.name, check.arguments, check.port or 0)
