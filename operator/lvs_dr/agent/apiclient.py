"""A small client for the Kubernetes API: what the agent needs of it, on aiohttp.

Errors::

    ApiError             the request failed; `status` 0 when the server was not reached
    +- NotFoundError     404: the object, the list or the kind is missing
    +- GoneError         410: the resource version is too old, list again
    +- UnauthorizedError 401: the token was refused, also after it was read again
    +- ForbiddenError    403
    +- ConflictError     409: somebody else changed or created it first
    +- UnreachableError  no answer within the timeout, or no connection
"""

import asyncio
import logging
import os
import ssl
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import aiohttp
import msgspec

log = logging.getLogger(__name__)

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
TOKEN_SECONDS = 60.0  # the kubelet rotates the file long before the token ends
REQUEST_SECONDS = 10.0
CONNECT_SECONDS = 5.0
LINGER_SECONDS = 0.02
READ_BUFFER_BYTES = 4 * 1024 * 1024  # a watch event is one line, and aiohttp bounds lines by this
JSON = "application/json"
APPLY = "application/apply-patch+yaml"  # JSON is YAML

_CONNECTION_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ValueError)  # ValueError: a line beyond the buffer


class ApiError(Exception):
    """The API server refused a request, or could not be asked."""

    def __init__(self, status: int, reason: str, message: str) -> None:
        super().__init__(f"{status} {reason}: {message}" if status else f"{reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message


class NotFoundError(ApiError):
    """The object, the list or the kind is missing."""


class GoneError(ApiError):
    """The resource version is too old: list again."""


class UnauthorizedError(ApiError):
    """The token was refused."""


class ForbiddenError(ApiError):
    """The token may not do that."""


class ConflictError(ApiError):
    """Somebody else changed or created the object first."""


class UnreachableError(ApiError):
    """No connection, or no answer in time."""

    def __init__(self, cause: BaseException) -> None:
        super().__init__(0, type(cause).__name__, str(cause) or "no answer in time")


_BY_STATUS: Mapping[int, type[ApiError]] = {
    401: UnauthorizedError,
    403: ForbiddenError,
    404: NotFoundError,
    409: ConflictError,
    410: GoneError,
}


class _Status(msgspec.Struct):
    """The part of a Kubernetes `Status` object that explains a refusal."""

    reason: str = ""
    message: str = ""
    code: int = 0


def api_error(status: int, body: bytes) -> ApiError:
    """Return the error that an answer with this status and body stands for."""
    try:
        told = msgspec.json.decode(body, type=_Status)
    except msgspec.MsgspecError:
        told = _Status(message=body[:200].decode("utf-8", "replace"))
    code = status or told.code
    return _BY_STATUS.get(code, ApiError)(code, told.reason or "Refused", told.message[:500])


@dataclass(frozen=True, slots=True)
class ApiSettings:
    """Where the API server is and how to prove who we are. No token file: anonymous."""

    server: str
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def from_pod(cls, *, server: str = "", token_file: str = "", ca_file: str = "") -> Self:
        """Return the settings a pod is given, each replaced by the argument where one is given.

        Raises ValueError outside a pod when no server is named.
        """
        if not server:
            host = os.environ.get("KUBERNETES_SERVICE_HOST", "")
            if not host:
                raise ValueError("not in a pod: KUBERNETES_SERVICE_HOST is not set; name the server with --api-server")
            port = os.environ.get("KUBERNETES_SERVICE_PORT_HTTPS") or os.environ.get("KUBERNETES_SERVICE_PORT", "443")
            server = f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"
        token = Path(token_file) if token_file else SERVICE_ACCOUNT / "token"
        authority = Path(ca_file) if ca_file else SERVICE_ACCOUNT / "ca.crt"
        return cls(
            server=server.rstrip("/"),
            token_file=token if token_file or token.exists() else None,
            ca_file=authority if ca_file or authority.exists() else None,
        )


class ApiClient:
    """One session to the API server. Use as `async with`; every call has a timeout."""

    def __init__(self, settings: ApiSettings, *, seconds: float = REQUEST_SECONDS) -> None:
        self._settings = settings
        self._seconds = seconds
        self._session: aiohttp.ClientSession | None = None
        self._token = ""
        self._token_read = float("-inf")
        self._trust: ssl.SSLContext | None = None
        self._trust_stamp = 0

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            read_bufsize=READ_BUFFER_BYTES,
            headers={"User-Agent": "lvs-agent", "Accept": JSON},
            connector=aiohttp.TCPConnector(limit=8, ttl_dns_cache=60),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None
            await asyncio.sleep(LINGER_SECONDS)  # TLS transports close in later turns of the loop

    async def get(self, path: str, params: Mapping[str, str] | None = None) -> bytes:
        """Return the body of a GET. Raises ApiError."""
        return await self.request("GET", path, params=params)

    async def request(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        body: bytes | None = None,
        content_type: str = JSON,
    ) -> bytes:
        """Send one request and return the body of its answer. Raises ApiError."""
        headers = {"Content-Type": content_type} if body is not None else {}
        timeout = aiohttp.ClientTimeout(total=self._seconds, sock_connect=CONNECT_SECONDS)
        async with self._open(method, path, params=params, body=body, headers=headers, timeout=timeout) as answer:
            try:
                return await answer.read()
            except _CONNECTION_ERRORS as error:
                raise UnreachableError(error) from error

    async def apply(self, path: str, body: bytes, *, manager: str) -> bytes:
        """Apply by server-side apply, as owner `manager` of the fields sent. Raises ApiError."""
        params = {"fieldManager": manager, "force": "true"}
        return await self.request("PATCH", path, params=params, body=body, content_type=APPLY)

    @asynccontextmanager
    async def lines(self, path: str, params: Mapping[str, str], *, idle: float) -> AsyncIterator[AsyncIterator[bytes]]:
        """Open a GET that answers line by line; silence for `idle` seconds ends it with UnreachableError."""
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS, sock_read=idle)
        async with self._open("GET", path, params=params, body=None, headers={}, timeout=timeout) as answer:
            yield _lines(answer)

    @asynccontextmanager
    async def _open(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None,
        body: bytes | None,
        headers: Mapping[str, str],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - given to aiohttp, which keeps it
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send a request; a refused token is read again once, since the file may be newer than what we hold."""
        if self._session is None:
            raise RuntimeError("ApiClient is used outside of its `async with`")
        for attempt in (1, 2):
            token = self._current_token(fresh=attempt == 2)  # noqa: PLR2004
            sent = {**headers, "Authorization": f"Bearer {token}"} if token else dict(headers)
            try:
                answer = await self._session.request(
                    method,
                    self._settings.server + path,
                    params=params,
                    data=body,
                    headers=sent,
                    timeout=timeout,
                    ssl=self._current_trust() or True,
                    allow_redirects=False,
                )
            except _CONNECTION_ERRORS as error:
                raise UnreachableError(error) from error
            async with answer:
                if answer.ok:
                    yield answer
                    return
                refusal = await _refusal(answer)
            if attempt == 2 or not isinstance(refusal, UnauthorizedError):  # noqa: PLR2004
                raise refusal

    def _current_token(self, *, fresh: bool) -> str:
        """Return the bearer token, from the file once a minute and whenever the last one was refused."""
        path = self._settings.token_file
        if path is not None and (fresh or time.monotonic() - self._token_read > TOKEN_SECONDS):
            try:
                self._token = path.read_text(encoding="ascii").strip()
                self._token_read = time.monotonic()
            except (OSError, UnicodeDecodeError) as error:
                log.warning("cannot read the token file %s: %s; using the token read before", path, error)
        return self._token

    def _current_trust(self) -> ssl.SSLContext | None:
        """Return the TLS context for the CA file, made again when the file was changed."""
        path = self._settings.ca_file
        if path is None or self._settings.server.startswith("http:"):
            return None
        try:
            stamp = path.stat().st_mtime_ns
            if self._trust is None or stamp != self._trust_stamp:
                self._trust, self._trust_stamp = ssl.create_default_context(cafile=str(path)), stamp
        except OSError as error:  # ssl.SSLError is one
            if self._trust is None:
                raise UnreachableError(error) from error
            log.warning("cannot read the CA file %s: %s; using the one read before", path, error)
        return self._trust


async def _refusal(answer: aiohttp.ClientResponse) -> ApiError:
    """Return the error of an answer that is not 2xx."""
    try:
        return api_error(answer.status, await answer.content.read(64 * 1024))
    except _CONNECTION_ERRORS as error:
        return UnreachableError(error)


async def _lines(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """Yield the lines of an answer, errors of the connection as UnreachableError."""
    while True:
        try:
            line = await answer.content.readline()
        except _CONNECTION_ERRORS as error:
            raise UnreachableError(error) from error
        if not line:
            return
        yield line
