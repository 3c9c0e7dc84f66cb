"""Tokens in a Location, and their verification on real servers. This one file, standard library only, may be copied.

A token is the last parameter of the query, `lvs-token=KEYID.EXPIRY.MAC`: EXPIRY in seconds since 1970, MAC the
unpadded base64url HMAC-SHA256 over these lines, joined by newlines:

    lvs-token-1
    KEYID
    EXPIRY
    METHOD
    host as in the Host header, lower case
    path and query as sent, without the token

    python3 verify.py --listen 127.0.0.1:9444 --key KEYID=FILE [--key ...]

answers nginx's `auth_request`: 204 for a good token, 403 for any other. FILE holds the key in base64. The request is
named by the headers X-Original-Method, X-Original-Host and X-Original-URI.
"""

import argparse
import base64
import binascii
import hashlib
import hmac
import re
import sys
import time
from collections.abc import Mapping, Sequence
from enum import Enum
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

PARAMETER = b"lvs-token="
SHORTEST_KEY = 16
REQUEST_SECONDS = 10.0

_TOKEN = re.compile(
    rb"(?P<path>.*)[?&]lvs-token=(?P<key>[A-Za-z0-9_-]{1,32})\.(?P<expiry>\d{1,12})\.(?P<mac>[\w-]{43})"
)


class Verdict(Enum):
    """What a token is worth; only GOOD is."""

    GOOD = "good"
    MISSING = "there is no token"
    UNKNOWN_KEY = "the key is not known"
    EXPIRED = "the token has expired"
    WRONG = "the token is not for this request, or was not made with this key"


def read_key(text: str) -> bytes:
    """Decode a key in base64. Raises ValueError when it is none, or shorter than 16 bytes."""
    try:
        key = base64.b64decode("".join(text.split()), validate=True)
    except binascii.Error as error:
        raise ValueError(f"the key is not base64: {error}") from error
    if len(key) < SHORTEST_KEY:
        raise ValueError(f"the key has {len(key)} bytes; at least {SHORTEST_KEY} are needed, better 32")
    return key


def signed(key: bytes, key_id: bytes, *, method: bytes, host: bytes, path: bytes, expiry: int) -> bytes:
    """Return the path with a token that is good until `expiry`, in seconds since 1970."""
    mac = _mac(key, key_id, str(expiry).encode(), method, host.lower(), path)
    return b"%b%b%b%b.%d.%b" % (path, b"&" if b"?" in path else b"?", PARAMETER, key_id, expiry, mac)


def verify(keys: Mapping[bytes, bytes], *, method: bytes, host: bytes, path: bytes, now: float) -> Verdict:
    """Judge the token of a request. `keys`: by key id; `path`: path and query as sent; `now`: seconds since 1970."""
    found = _TOKEN.fullmatch(path)
    if found is None:
        return Verdict.MISSING
    key = keys.get(found["key"])
    if key is None:
        return Verdict.UNKNOWN_KEY
    expected = _mac(key, found["key"], found["expiry"], method, host.lower(), found["path"])
    if not hmac.compare_digest(found["mac"], expected):
        return Verdict.WRONG
    return Verdict.GOOD if now <= int(found["expiry"]) else Verdict.EXPIRED


def _mac(key: bytes, *lines: bytes) -> bytes:
    text = b"\n".join((b"lvs-token-1", *lines))
    return base64.urlsafe_b64encode(hmac.digest(key, text, hashlib.sha256)).rstrip(b"=")


def handler(keys: Mapping[bytes, bytes]) -> type[BaseHTTPRequestHandler]:
    """Return what answers `auth_request`."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = REQUEST_SECONDS

        def do_GET(self) -> None:
            """Judge the request that the headers name."""
            named = (self.headers.get(f"X-Original-{name}", "").encode("latin-1") for name in ("Method", "Host", "URI"))
            method, host, path = named
            verdict = verify(keys, method=method, host=host, path=path, now=time.time())
            self.send_response(204 if verdict is Verdict.GOOD else 403)
            if verdict is not Verdict.GOOD:
                self.send_header("X-Reason", verdict.value)
                self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class names it so
            """Say nothing: nginx has the access log, and tokens do not belong into another."""

    return Handler


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve `auth_request` until interrupted."""
    parser = argparse.ArgumentParser(prog="verify.py", description="Verifies tokens of lvs-operator's redirects.")
    parser.add_argument("--listen", default="127.0.0.1:9444", metavar="ADDRESS:PORT")
    parser.add_argument("--key", action="append", required=True, metavar="KEYID=FILE", help="key in base64; repeat")
    options = parser.parse_args(arguments)
    keys: dict[bytes, bytes] = {}
    try:
        for given in options.key:
            key_id, _, file = given.partition("=")
            keys[key_id.encode()] = read_key(Path(file).read_text(encoding="ascii"))
        host, _, port = options.listen.rpartition(":")
        server = ThreadingHTTPServer((host.strip("[]"), int(port)), handler(keys))
    except (OSError, ValueError) as error:
        sys.stderr.write(f"verify.py: {error}\n")
        sys.exit(1)
    with server:
        server.serve_forever()


if __name__ == "__main__":
    main()
