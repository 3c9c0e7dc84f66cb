"""Two small clients for the Kubernetes API: one that blocks, for tests and people, one for the supervisor's loop.

Both speak plain JSON and know nothing about kinds. Errors of the server are data (a status code), errors of the
way to it are exceptions: OSError for the blocking one, `aiohttp.ClientError`, OSError and TimeoutError for the
other.
"""

import asyncio
import http.client
import json
import logging
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any, Self

import aiohttp

from lvs_lab.kubeconfig import Access

LOG = logging.getLogger(__name__)
WAY_ERRORS = (aiohttp.ClientError, OSError, TimeoutError)
"""What can go wrong between the asynchronous client and the server."""
WATCH_IDLE_SECONDS = 70.0
WATCH_LINE_BYTES = 4 << 20
Object = dict[str, Any]


class _NamedConnection(http.client.HTTPSConnection):
    """HTTPS to an address whose certificate carries another name."""

    def __init__(self, access: Access, timeout: float) -> None:
        self._tls = access.tls()
        super().__init__(access.host, access.port, timeout=timeout, context=self._tls)
        self._name = access.tls_server_name

    def connect(self) -> None:
        plain = socket.create_connection((self.host, self.port), self.timeout)
        try:
            self.sock = self._tls.wrap_socket(plain, server_hostname=self._name)
        except OSError:
            plain.close()
            raise


def request(
    access: Access,
    method: str,
    path: str,
    body: object | None = None,
    *,
    content_type: str = "application/json",
    timeout: float = 10,
) -> tuple[int, Any]:
    """Send one request and wait; return the status code and the decoded answer.

    An answer that is not JSON (`/readyz`, `/metrics`) is returned as text. Raises OSError (also for timeouts,
    `timeout` in seconds) and `http.client.HTTPException` when there was no answer.
    """
    connection = _NamedConnection(access, timeout)
    try:
        payload = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {access.token}", "Accept": "application/json"}
        if payload is not None:
            headers["Content-Type"] = content_type
        connection.request(method, path, payload, headers)
        answer = connection.getresponse()
        return answer.status, _decoded(answer.read(), answer.headers.get("Content-Type", ""))
    finally:
        connection.close()


def _decoded(data: bytes, content_type: str) -> Any:  # noqa: ANN401 - JSON has no narrower type
    if "json" in content_type and data:
        return json.loads(data)
    return data.decode(errors="replace")


class ApiError(Exception):
    """The API server answered, and refused. `code` is the HTTP status."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class ApiClient:
    """Asynchronous client of the supervisor: requests, lists and watches as one identity."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            headers={"Authorization": f"Bearer {self._access.token}"},
            read_bufsize=WATCH_LINE_BYTES,
        )
        self._tls = self._access.tls()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """End every request and watch that is under way."""
        if self._session is not None:
            await self._session.close()

    def _open(
        self,
        method: str,
        path: str,
        *,
        body: object,
        content_type: str,
        params: Mapping[str, str] | None,
        limit: aiohttp.ClientTimeout,
    ) -> Any:  # noqa: ANN401 - aiohttp's private context manager type
        if self._session is None:
            raise RuntimeError("ApiClient is used before it was entered")
        return self._session.request(
            method,
            self._access.server + path,
            params=params,
            data=None if body is None else json.dumps(body),
            headers={} if body is None else {"Content-Type": content_type},
            ssl=self._tls,
            server_hostname=self._access.tls_server_name,
            timeout=limit,
        )

    async def request(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        content_type: str = "application/json",
        params: Mapping[str, str] | None = None,
        timeout: float = 10,  # noqa: ASYNC109 - handed on to aiohttp
    ) -> tuple[int, Any]:
        """Send one request; return the status code and the decoded answer."""
        async with self._open(
            method,
            path,
            body=body,
            content_type=content_type,
            params=params,
            limit=aiohttp.ClientTimeout(total=timeout),
        ) as answer:
            return answer.status, _decoded(await answer.read(), answer.headers.get("Content-Type", ""))

    async def call(self, method: str, path: str, body: object | None = None, **options: Any) -> Any:  # noqa: ANN401
        """Like `request`, but raise ApiError for any status from 400 on and return the answer alone."""
        status, answer = await self.request(method, path, body, **options)
        if status >= 400:
            message = answer.get("message", "") if isinstance(answer, dict) else str(answer)
            raise ApiError(status, f"{method} {path}: {message}")
        return answer

    async def watch(self, path: str, version: str, params: Mapping[str, str]) -> AsyncIterator[Object]:
        """Yield watch events from `version` on until the server ends the watch or the way to it breaks."""
        query = {**params, "watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true"}
        limit = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=WATCH_IDLE_SECONDS)
        async with self._open("GET", path, body=None, content_type="", params=query, limit=limit) as answer:
            if answer.status >= 400:
                raise ApiError(answer.status, f"watch {path}: {await answer.text()}")
            async for line in answer.content:
                yield json.loads(line)


class Mirror:
    """A list and watch that keeps a copy of every object of one kind and tells when something changed.

    It survives restarts of the server, 410 Gone and lost connections by listing again. Every event given out by
    `subscribe` is set after each list and each change, so level-triggered loops can wait for it.
    """

    def __init__(self, client: ApiClient, path: str, params: Mapping[str, str] | None = None) -> None:
        self._client = client
        self._path = path
        self._params = dict(params or {})
        self.objects: dict[tuple[str, str], Object] = {}
        self.listed = asyncio.Event()
        self._subscribers: list[asyncio.Event] = []

    def subscribe(self) -> asyncio.Event:
        """Return an event of the caller's own, set now and at every change; the caller clears it."""
        event = asyncio.Event()
        event.set()
        self._subscribers.append(event)
        return event

    def _changed(self) -> None:
        for event in self._subscribers:
            event.set()

    async def run(self) -> None:
        """List and watch until cancelled; an error is logged and followed by a fresh list."""
        while True:
            try:
                version = await self._list()
                await self._follow(version)
            except (*WAY_ERRORS, ApiError, json.JSONDecodeError) as error:
                LOG.info("%s: %s; listing again", self._path, error or type(error).__name__)
            await asyncio.sleep(0.2)

    async def _list(self) -> str:
        answer = await self._client.call("GET", self._path, params=self._params)
        self.objects = {_key(item): item for item in answer.get("items") or []}
        self.listed.set()
        self._changed()
        version: str = answer["metadata"]["resourceVersion"]
        return version

    async def _follow(self, version: str) -> None:
        async for event in self._client.watch(self._path, version, self._params):
            item = event["object"]
            match event["type"]:
                case "ADDED" | "MODIFIED":
                    self.objects[_key(item)] = item
                case "DELETED":
                    self.objects.pop(_key(item), None)
                case "ERROR":
                    raise ApiError(item.get("code", 500), item.get("message", "watch failed"))
                case _:
                    continue
            self._changed()


def _key(item: Object) -> tuple[str, str]:
    metadata = item["metadata"]
    return metadata.get("namespace", ""), metadata["name"]
