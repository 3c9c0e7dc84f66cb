"""A server that stores what is uploaded, and remembers what came."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Self


class Handler(BaseHTTPRequestHandler):
    """Stores every request."""

    protocol_version = "HTTP/1.1"
    timeout = 20
    server: "_Server"

    def do_PUT(self) -> None:
        """Take the body, and answer 201."""
        digest = hashlib.sha256()
        for part in self._body():
            digest.update(part)
        storage = self.server.storage
        storage.headers[self.path] = {name.lower(): value for name, value in self.headers.items()}
        storage.stored[self.path] = self.command, digest.hexdigest()
        self.send_response(201)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_DELETE = do_HEAD = do_OPTIONS = do_PROPFIND = do_MKCOL = do_PUT  # noqa: N815

    def _body(self) -> Iterator[bytes]:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            while size := int(self.rfile.readline().partition(b";")[0], 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            while self.rfile.readline().strip():
                pass
            return
        left = int(self.headers.get("Content-Length", "0"))
        while left and (part := self.rfile.read(min(left, 1 << 16))):
            left -= len(part)
            yield part

    def log_message(self, format: str, *arguments: object) -> None:  # noqa: A002
        """Say nothing."""


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    storage: "Storage"

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients that give up are no news."""


class Storage:
    """A real server on a loopback address of its own: 127.0.0.N."""

    _number = 10

    def __init__(self) -> None:
        Storage._number += 1
        self.host = f"127.0.0.{Storage._number}"
        self.stored: dict[str, tuple[str, str]] = {}  # method and SHA-256 by path and query
        self.headers: dict[str, dict[str, str]] = {}
        self._server = self._listen(0)

    def _listen(self, port: int) -> _Server:
        server = _Server((self.host, port), Handler)
        server.storage = self
        return server

    @property
    def port(self) -> int:
        """Where it listens."""
        return self._server.server_port

    def use_port_of(self, other: "Storage") -> None:
        """Listen on the same port as another one, as real servers of one service do."""
        self._stop()
        self._server = self._listen(other.port)
        self._start()

    def _start(self) -> None:
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()

    def _stop(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def __enter__(self) -> Self:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
