"""From what the tables ask for to what the redirector is told. Pure."""

from collections.abc import Callable, Mapping
from typing import Final

from lvs_dr.core.redirect_spec import TableRedirect
from lvs_dr.core.redirected import Redirected, RedirectTarget, Standing
from lvs_dr.redirect.messages import Listener, Settings, SorryServer, Target, TargetState, Tls, Token, socket_key

CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"

Secrets = Mapping[str, Mapping[str, bytes] | None]
"""What is in the Secrets that are used, by name; None: not known."""


def listener(one: Redirected, secrets: Secrets, serves: Callable[[RedirectTarget], bool]) -> Listener:
    """Return a listener. `serves`: whether a real server of which nobody knows gets requests.

    What a Secret does not hold is told empty: then the redirector goes on with what it had.
    """
    return Listener(
        service=one.table,
        address=one.service.address,
        port=one.service.port,
        settings=_settings(one.settings, one.target_port, secrets),
        targets=tuple(_target(each, serves=serves(each)) for each in one.targets),
        tls=_tls(one.settings.tls_secret, secrets),
        sorry_server=_sorry(one),
    )


def _sorry(one: Redirected) -> SorryServer | None:
    if one.sorry is None:
        return None
    host, port = one.sorry
    return SorryServer(host, port, "https" if one.settings.scheme == "https" else "http")


def _target(one: RedirectTarget, *, serves: bool) -> Target:
    good = one.standing is Standing.SERVING or (one.standing is Standing.AWAITED and serves)
    return Target(
        name=one.entry.real_server,
        address=one.entry.address,
        hostname=one.entry.hostname,
        weight=one.weight,
        state=TargetState.IN_SERVICE if good else TargetState.FAILED,
    )


def _settings(given: TableRedirect, port: int, secrets: Secrets) -> Settings:
    token = given.token
    return Settings(
        status_code=given.status_code,  # type: ignore[arg-type] # the API takes no other
        scheme="https" if given.scheme == "https" else "http",
        port=port,
        algorithm=given.algorithm,
        methods=given.methods,
        host=given.host,
        cache_control=given.cache_control,
        keep_query=given.keep_query,
        maximum_in_flight_per_server=given.maximum_in_flight_per_server,
        retry_after_seconds=given.retry_after_seconds,
        discard_bytes=given.discard_bytes,
        discard_seconds=given.discard_seconds,
        header_bytes=given.header_bytes,
        header_seconds=given.header_seconds,
        idle_seconds=given.idle_seconds,
        load_window_seconds=given.load_window_seconds,
        load_stale_seconds=given.load_stale_seconds,
        token=None
        if token is None
        else Token(token.key_id, _text(secrets, token.secret, token.key_id), token.lifetime_seconds),
    )


def _tls(name: str, secrets: Secrets) -> Tls | None:
    return Tls(_text(secrets, name, CERTIFICATE), _text(secrets, name, KEY)) if name else None


def _text(secrets: Secrets, name: str, key: str) -> str:
    return ((secrets.get(name) or {}).get(key) or b"").decode("utf-8", "replace").strip()


def lacking(given: TableRedirect, secrets: Secrets) -> str:
    """Return what a Secret that was read does not hold; "" when nothing is missing."""
    wanted = [(given.tls_secret, key) for key in (CERTIFICATE, KEY) if given.tls_secret]
    wanted += [(given.token.secret, given.token.key_id)] if given.token is not None else []
    missing = [(name, key) for name, key in wanted if secrets.get(name) is not None and not _text(secrets, name, key)]
    return "; ".join(f"Secret {name} has no {key}" for name, key in missing)


def key_of(one: Redirected) -> str:
    """Return the name of a listener's socket."""
    return socket_key(one.service.address, one.service.port)
