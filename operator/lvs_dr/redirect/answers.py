"""The bytes of answers. Pure."""

from enum import StrEnum
from typing import Final

from lvs_dr.core.redirect import NEVER_REDIRECTED

REASONS: Final = {
    204: b"No Content",
    301: b"Moved Permanently",
    302: b"Found",
    307: b"Temporary Redirect",
    308: b"Permanent Redirect",
    400: b"Bad Request",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    414: b"URI Too Long",
    431: b"Request Header Fields Too Large",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}
COMMON_METHODS: Final = "GET, HEAD, OPTIONS, POST, PUT, PATCH, DELETE"
_CLOSE: Final = b"Connection: close\r\n"


class Refusal(StrEnum):
    """Why a request was not redirected; the label `reason` of the metric."""

    MALFORMED = "Malformed"
    HOST = "Host"
    TRANSFER_ENCODING = "TransferEncoding"
    TARGET = "RequestTarget"
    METHOD = "Method"
    UNKNOWN_METHOD = "UnknownMethod"
    HEADER_TOO_LARGE = "HeaderTooLarge"
    HEADER_TIMEOUT = "HeaderTimeout"
    NO_TARGET = "NoTarget"
    TOO_MANY_CONNECTIONS = "TooManyConnections"


ANSWERS: Final = {
    Refusal.MALFORMED: (400, b"the request is malformed\n"),
    Refusal.HOST: (400, b"a request has exactly one Host header\n"),
    Refusal.TRANSFER_ENCODING: (400, b"the only Transfer-Encoding taken is chunked, in HTTP/1.1\n"),
    Refusal.TARGET: (400, b"the request target is no path\n"),
    Refusal.METHOD: (405, b"this method is not served here\n"),
    Refusal.UNKNOWN_METHOD: (501, b"the method is not known\n"),
    Refusal.HEADER_TOO_LARGE: (431, b"the request header is too large\n"),
    Refusal.HEADER_TIMEOUT: (408, b"the request header took too long\n"),
    Refusal.NO_TARGET: (503, b"no server can take this request now\n"),
    Refusal.TOO_MANY_CONNECTIONS: (503, b"too many connections\n"),
}


def allowed(methods: tuple[str, ...]) -> str:
    """Return the value of Allow; () is every method that can be redirected."""
    return ", ".join(one for one in methods if one not in NEVER_REDIRECTED) or COMMON_METHODS


def redirect_head(status: int, origin: str) -> bytes:
    """Return the beginning of a redirect, up to the origin in Location; path and `redirect_tail` follow."""
    return b"HTTP/1.1 %d %b\r\nLocation: %b" % (status, REASONS[status], origin.encode("ascii"))


def redirect_tail(cache_control: str) -> bytes:
    """Return what stands between the Location's path and `last_lines`."""
    return b"\r\nCache-Control: %b\r\nContent-Length: 0\r\n" % cache_control.encode("ascii")


def last_lines(date: bytes, *, close: bool) -> bytes:
    """Return the end of a header."""
    return b"Date: %b\r\n%b\r\n" % (date, _CLOSE if close else b"")


def refusal(
    why: Refusal, date: bytes, *, close: bool, head_only: bool = False, allow: str = "", retry_after: int = 0
) -> bytes:
    """Return an answer that says why a request is not redirected."""
    status, text = ANSWERS[why]
    more = b"Allow: %b\r\n" % allow.encode("ascii") if allow else b""
    if retry_after:
        more += b"Retry-After: %d\r\n" % retry_after
    lines = (
        b"HTTP/1.1 %d %b\r\n" % (status, REASONS[status]),
        b"Content-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\n",
        more,
        b"Content-Length: %d\r\n" % len(text),
        last_lines(date, close=close),
        b"" if head_only else text,
    )
    return b"".join(lines)


def options_of_server(date: bytes, allow: str, *, close: bool) -> bytes:
    """Return the answer to `OPTIONS *`, which asks about the server and not about a path."""
    return b"HTTP/1.1 204 No Content\r\nAllow: %b\r\n%b" % (allow.encode("ascii"), last_lines(date, close=close))
