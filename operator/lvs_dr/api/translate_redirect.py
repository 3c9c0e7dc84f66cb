"""A VirtualService's `redirect` to what directors are told; what is left out takes the defaults of the core."""

from typing import Any, Final

from lvs_dr.api.models.redirect import Redirect, RedirectToken
from lvs_dr.core.redirect_spec import ADDRESS, HOSTNAME, TableRedirect, TableToken

_HOSTS: Final = {None: "", "Hostname": HOSTNAME, "Address": ADDRESS}
_APART: Final = {"methods", "host", "tls", "token"}


def redirect_settings(given: Redirect | None) -> TableRedirect:
    """Return how requests are redirected; None is all defaults."""
    if given is None:
        return TableRedirect()
    plain: dict[str, Any] = given.model_dump(exclude=_APART, exclude_none=True)
    return TableRedirect(
        **plain,
        methods=tuple(sorted(set(given.methods))),
        host=_HOSTS.get(given.host, given.host or ""),
        tls_secret=given.tls.secret_name if given.tls is not None else "",
        token=_token(given.token),
    )


def _token(given: RedirectToken | None) -> TableToken | None:
    if given is None:
        return None
    lifetime = {} if given.lifetime_seconds is None else {"lifetime_seconds": given.lifetime_seconds}
    return TableToken(secret=given.secret_name, key_id=given.key_id, **lifetime)
