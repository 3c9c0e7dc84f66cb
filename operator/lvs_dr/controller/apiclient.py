"""Requests to the API server through kubernetes.aio: plain data in and out, a timeout on each, errors as a tree.

Objects stay plain mappings here, because `api.translate` reads mappings and a typed model per object would cost
more time and memory than everything else the controller does.
"""

import asyncio
from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Self
from urllib.parse import urlencode

import aiohttp
import msgspec
from kubernetes.aio.client import ApiClient

from lvs_dr.controller.credentials import Credentials
from lvs_dr.controller.errors import Unreachable, api_error

FIELD_MANAGER = "lvs-controller"
TIMEOUT_SECONDS = 10.0
PAGE = 250

Body = dict[str, Any]


class Api:
    """A client for the lifetime of the process."""

    def __init__(self, client: ApiClient) -> None:
        self._client = client
        self._server = client.configuration.host

    @classmethod
    async def connect(cls, credentials: Credentials) -> Self:
        """Return a client; no request is made yet. Raises BadConfiguration."""
        return cls(ApiClient(configuration=await credentials.configuration()))

    async def close(self) -> None:
        """Close all connections."""
        connector = self._client.configuration.client_session_kwargs["connector"]
        await self._client.close()  # type: ignore[no-untyped-call]
        await connector.close()

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: object = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> Body:
        """Send one request and return the decoded answer. Raises ApiError or Unreachable."""
        url = f"{self._server}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = {"Accept": "application/json", "Content-Type": content_type}
        try:
            async with asyncio.timeout(timeout_seconds):
                response = await self._client.call_api(
                    method,
                    url,
                    header_params=headers,
                    body=body,
                    _request_timeout=aiohttp.ClientTimeout(total=timeout_seconds),
                )
                data = await response.read()  # type: ignore[no-untyped-call]
        except (aiohttp.ClientError, OSError, TimeoutError) as error:
            raise Unreachable(f"{method} {path}: {error or type(error).__name__}") from error
        return _decoded(response.status, data)

    async def get(self, path: str, *, timeout_seconds: float = TIMEOUT_SECONDS) -> Body:
        """Read one object."""
        return await self.request("GET", path, timeout_seconds=timeout_seconds)

    async def list(self, path: str, *, label_selector: str = "") -> tuple[list[Body], str]:
        """LIST the latest state, in pages; return the items and the version of the list."""
        items: list[Body] = []
        query = {"limit": str(PAGE)} | ({"labelSelector": label_selector} if label_selector else {})
        while True:
            answer = await self.request("GET", path, query=query, timeout_seconds=30.0)
            metadata = answer.get("metadata", {})
            items += answer.get("items") or []
            if not metadata.get("continue"):
                return items, str(metadata.get("resourceVersion", ""))
            query["continue"] = metadata["continue"]

    async def apply(self, path: str, body: Body, *, manager: str = FIELD_MANAGER) -> Body:
        """Server-side apply as `lvs-controller`, taking over fields from whoever holds them."""
        return await self.request(
            "PATCH",
            path,
            body=body,
            query={"fieldManager": manager, "force": "true"},
            content_type="application/apply-patch+yaml",
        )

    async def delete(self, path: str, *, uid: str) -> Body:
        """Delete exactly the object with this uid; a namesake gives Conflict."""
        body = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        return await self.request("DELETE", path, body=body)


def _decoded(status: int, data: bytes) -> Body:
    try:
        answer = msgspec.json.decode(data) if data else {}
    except msgspec.DecodeError:
        answer = {"message": data[:200].decode(errors="replace")}
    if not isinstance(answer, dict):
        answer = {}
    if status >= HTTPStatus.BAD_REQUEST:
        raise api_error(status, str(answer.get("reason", "")), str(answer.get("message", "")))
    return answer
