"""Redirection as users name it: algorithms, status codes, and the combinations that hurt clients.

Controller, agent and redirector all need these words; the redirector alone carries them out.
"""

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Final


class Algorithm(StrEnum):
    """How the real server of a redirect is chosen; the first eleven are IPVS schedulers with their meaning there."""

    RR = "rr"
    WRR = "wrr"
    LC = "lc"
    WLC = "wlc"
    SH = "sh"
    DH = "dh"
    LBLC = "lblc"
    LBLCR = "lblcr"
    SED = "sed"
    NQ = "nq"
    MH = "mh"
    LEAST_INBOUND_BYTES = "leastInboundBytes"
    POWER_OF_TWO_CHOICES = "powerOfTwoChoices"


STATUS_CODES: Final = (301, 302, 307, 308)
PERMANENT: Final = frozenset({301, 308})
"""Cacheable without a word in the answer (RFC 9110, 15.4.2 and 15.4.9)."""
METHOD_CHANGING: Final = frozenset({301, 302})
"""Codes after which a client may turn POST into GET (RFC 9110, 15.4.2 and 15.4.3)."""
NEVER_REDIRECTED: Final = frozenset({"CONNECT", "TRACE"})
SAFE_CACHE_CONTROL: Final = "no-store"

_HARMLESS_METHODS = frozenset({"GET", "HEAD"})
_FORBIDS_REUSE = ("no-store", "no-cache", "max-age=0")


def harms(
    *, status_code: int, methods: Sequence[str], cache_control: str, tls: bool, target_scheme: str, token: bool
) -> tuple[str, ...]:
    """Return what a combination of settings does to clients, in words for a condition; () when nothing.

    `methods`: which are redirected, () is all. `cache_control`: as sent, "" is the default. `tls`: the VIP speaks it.
    """
    found: list[str] = []
    if status_code in METHOD_CHANGING and not _only(methods, _HARMLESS_METHODS):
        found.append(
            f"with {status_code} clients may turn POST, and some PUT, into GET without a body: use 307, or 308"
        )
    sent = (cache_control or SAFE_CACHE_CONTROL).lower()
    if status_code in PERMANENT and not any(word in sent for word in _FORBIDS_REUSE):
        found.append(
            f"{status_code} with Cache-Control {cache_control!r} is remembered by clients: they go to the same real "
            "server without asking again, also when it is down"
        )
    if token and "no-store" not in sent:
        found.append(f"a Location with a token may be stored under Cache-Control {cache_control!r}: use no-store")
    if tls and target_scheme == "http":
        found.append(
            "clients that came by https are sent to http: their credentials and data cross the network in clear"
        )
    if methods and "OPTIONS" in methods:
        found.append("browsers refuse a redirect as the answer to a CORS preflight: leave OPTIONS out of the methods")
    return tuple(found)


def _only(methods: Iterable[str], allowed: frozenset[str]) -> bool:
    listed = frozenset(methods)
    return bool(listed) and listed <= allowed
