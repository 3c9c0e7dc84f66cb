"""The Location of a redirect: scheme and authority are ours, path and query are the client's, byte for byte.

Since the authority always stands before a path that begins with `/`, nothing in a request can lead elsewhere.
"""

import ipaddress
import re
from typing import Final

from lvs_dr.redirect.messages import Target

DEFAULT_PORTS: Final = {"http": 80, "https": 443}
LONGEST_HOST: Final = 253

_LABEL = r"[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
_HOSTNAME = re.compile(rf"{_LABEL}(?:\.{_LABEL})*\.?")
_PLACE = re.compile(r"\{([^{}]*)\}")
_SCHEMES = (b"http://", b"https://")


class NotRedirectable(ValueError):
    """A request target that names no path."""


class UnusableHost(ValueError):
    """A real server's name is no host name and no address."""


def host_name(template: str, target: Target) -> str:
    """Return how a real server is named: the template filled in; without one its hostname, else its address.

    Raises UnusableHost when what results cannot stand in a URL.
    """
    if not template:
        return checked_host(target.hostname or target.address)
    known = {"hostname": target.hostname, "address": target.address, "name": target.name}

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise UnusableHost(
                f"host template {template!r} names {match[0]}; there are {{hostname}} {{address}} {{name}}"
            )
        if not known[match[1]]:
            raise UnusableHost(f"host template {template!r} needs the {match[1]} of {target.name}, which has none")
        return known[match[1]]

    return checked_host(_PLACE.sub(fill, template))


def checked_host(host: str) -> str:
    """Return the host, if it is a host name or an address. Raises UnusableHost."""
    if ":" in host:
        try:
            return ipaddress.IPv6Address(host).compressed
        except ValueError as error:
            raise UnusableHost(f"{host!r} is no IPv6 address and no host name") from error
    if len(host) > LONGEST_HOST or not _HOSTNAME.fullmatch(host):
        raise UnusableHost(f"{host!r} is no host name and no address")
    return host


def authority(scheme: str, host: str, port: int) -> str:
    """Return `host[:port]` as a client will send it in Host: IPv6 in brackets, no port where it is the scheme's own."""
    name = f"[{host}]" if ":" in host else host
    return name if port == DEFAULT_PORTS[scheme] else f"{name}:{port}"


def request_path(target: bytes, *, keep_query: bool = True) -> bytes:
    """Return path and query of a request target (RFC 9112, 3.2), without fragment; always begins with `/`.

    Raises NotRedirectable for `*`, for an authority, and for schemes other than http and https.
    """
    path = target if target.startswith(b"/") else _after_authority(target)
    path = path.partition(b"#")[0]
    if not keep_query:
        path = path.partition(b"?")[0]
    return path if path.startswith(b"/") else b"/" + path


def _after_authority(target: bytes) -> bytes:
    for scheme in _SCHEMES:
        if target[: len(scheme)].lower() == scheme:
            rest = target[len(scheme) :]
            ends = [at for at in map(rest.find, (b"/", b"?", b"#")) if at >= 0]
            end = min(ends, default=len(rest))
            if not end:
                raise NotRedirectable("the request target has an empty authority")
            return rest[end:]
    raise NotRedirectable("the request target is no path and no http URL")
