"""Uploads over HTTP in the lab, standard library only: a storage server, and a client that follows redirects.

    uploading.py serve PORT                    answers each PUT with 201, and "NAME BYTES"
    uploading.py put ADDRESS PORT --count N    exactly N uploads, one after the other
    uploading.py put ADDRESS PORT --until FILE until FILE exists (at most 300 s)

The client asks as curl does: with `Expect: 100-continue`, the body goes to whoever does not send it elsewhere. It
prints what lab/lvs_lab/guest/connect.py prints, and is run in its place.
"""

import argparse
import collections
import http.client
import http.server
import json
import pathlib
import socket
import sys
import time
from typing import Any
from urllib.parse import urlsplit

SIZE = 100_000
SECONDS = 10.0
LONGEST_RUN_SECONDS = 300
REDIRECTED = 307


class Storage(http.server.BaseHTTPRequestHandler):
    """Takes what is put."""

    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        """Read the body and say how much came."""
        size = len(self.rfile.read(int(self.headers["Content-Length"])))
        answer = f"{socket.gethostname()} {size}".encode()
        self.send_response(201)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


def upload(address: str, port: int) -> str:
    """Upload once, and return who has it. Raises OSError, http.client.HTTPException."""
    body = b"x" * SIZE
    asked = http.client.HTTPConnection(address, port, timeout=SECONDS)
    try:
        asked.putrequest("PUT", "/file?version=1")
        asked.putheader("Expect", "100-continue")
        asked.putheader("Content-Length", str(SIZE))
        asked.endheaders()
        answer = asked.getresponse()
        if answer.status != REDIRECTED:
            raise http.client.HTTPException(str(answer.status))
        target = urlsplit(answer.getheader("Location", ""))
    finally:
        asked.close()
    storage = http.client.HTTPConnection(target.hostname or "", target.port or 80, timeout=SECONDS)
    try:
        storage.request("PUT", f"{target.path}?{target.query}", body)
        name, _, size = storage.getresponse().read().decode().partition(" ")
    finally:
        storage.close()
    if int(size) != SIZE or target.path != "/file" or target.query != "version=1":
        raise http.client.HTTPException(f"{size} bytes at {target.path}")
    return name


def put(address: str, port: int, count: int, until: pathlib.Path | None) -> dict[str, object]:
    """Upload until the count is reached or the file appears."""
    answers: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    longest, done, end = 0.0, 0, time.monotonic() + LONGEST_RUN_SECONDS
    while time.monotonic() < end and (done < count if until is None else not until.exists()):
        began = time.monotonic()
        try:
            answers[upload(address, port)] += 1
        except (OSError, http.client.HTTPException) as error:
            errors[f"{type(error).__name__} {error}"] += 1
        longest = max(longest, time.monotonic() - began)
        done += 1
        if until is not None:
            time.sleep(0.01)
    return {"answers": dict(answers), "errors": dict(errors), "longest": round(longest, 3), "last": []}


def main() -> None:
    """Serve, or upload."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("serve", "put"))
    parser.add_argument("where", nargs="+")
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--until", type=pathlib.Path)
    options = parser.parse_args()
    if options.what == "serve":
        server = http.server.ThreadingHTTPServer(("0.0.0.0", int(options.where[0])), Storage)
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()
    result = put(options.where[0], int(options.where[1]), options.count, options.until)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
