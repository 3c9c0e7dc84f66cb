"""Writes what volumes project (ServiceAccount tokens, ConfigMaps, Secrets, downward API), and keeps tokens fresh.

Files are replaced by rename in a directory that the node sees, so a reader finds the old or the new content. A token
is bound to its pod and renewed at 80 % of its life, as the kubelet does.
"""

import asyncio
import base64
import logging
import time
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, ApiError
from lvs_lab.podspec import PodPlan
from lvs_lab.podvolumes import MapSource, Projection, TextSource, TokenSource

LOG = logging.getLogger(__name__)
MAP_SECONDS = 20.0
"""How often ConfigMaps and Secrets are read again."""
RENEW_AT = 0.8


class NotMountable(Exception):  # the pod waits with this text until it can
    """A volume's content is not there yet."""


class Projector:
    """Content of one pod's projected volumes."""

    def __init__(self, client: ApiClient, plan: PodPlan) -> None:
        self._client = client
        self._plan = plan
        self._renew_at: dict[Path, float] = {}
        self._maps_at = 0.0
        self._hurry = asyncio.Event()

    async def write_all(self) -> None:
        """Write everything that is due. Raises NotMountable, ApiError and the client's errors."""
        for projection in self._plan.projections:
            projection.directory.mkdir(parents=True, exist_ok=True)
            for source in projection.sources:
                await self._write(projection, source)
        self._maps_at = time.monotonic() + MAP_SECONDS

    async def keep_fresh(self) -> None:
        """Renew tokens and re-read maps until cancelled; failures are logged and tried again."""
        while True:
            due = min([self._maps_at, *self._renew_at.values()])
            try:
                async with asyncio.timeout(max(due - time.monotonic(), 1.0)):
                    await self._hurry.wait()
            except TimeoutError:
                pass
            else:
                self._hurry.clear()
            try:
                await self.write_all()
            except (*WAY_ERRORS, ApiError, NotMountable) as error:
                LOG.info("%s/%s: volumes: %s", self._plan.namespace, self._plan.name, error or type(error).__name__)

    def rotate(self) -> None:
        """Renew every token now, however young."""
        for path in self._renew_at:
            self._renew_at[path] = 0
        self._hurry.set()

    async def _write(self, projection: Projection, source: TokenSource | MapSource | TextSource) -> None:
        match source:
            case TextSource():
                _replace(projection.directory / source.path, source.text.encode())
            case MapSource():
                if time.monotonic() >= self._maps_at:
                    for path, content in (await self._read_map(source)).items():
                        _replace(projection.directory / path, content)
            case TokenSource():
                target = projection.directory / source.path
                if time.monotonic() >= self._renew_at.get(target, 0):
                    token, lifetime = await self._request_token(source)
                    _replace(target, token.encode())
                    self._renew_at[target] = time.monotonic() + RENEW_AT * lifetime

    async def _request_token(self, source: TokenSource) -> tuple[str, float]:
        plan = self._plan
        bound = {"apiVersion": "v1", "kind": "Pod", "name": plan.name, "uid": plan.uid}
        spec: dict[str, object] = {"expirationSeconds": source.seconds, "boundObjectRef": bound}
        if source.audience:
            spec["audiences"] = [source.audience]
        path = f"/api/v1/namespaces/{plan.namespace}/serviceaccounts/{plan.service_account}/token"
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        answer = await self._client.call("POST", path, body)
        expires = datetime.fromisoformat(answer["status"]["expirationTimestamp"])
        return answer["status"]["token"], expires.timestamp() - time.time()

    async def _read_map(self, source: MapSource) -> Mapping[str, bytes]:
        kind = "configmaps" if source.kind == "configMap" else "secrets"
        path = f"/api/v1/namespaces/{self._plan.namespace}/{kind}/{source.name}"
        status, answer = await self._client.request("GET", path)
        if status == 404 and source.optional:
            return {}
        if status != 200:
            raise NotMountable(f"{source.kind} {source.name}: {answer.get('message', status)}")
        content = {key: text.encode() for key, text in (answer.get("data") or {}).items()}
        if kind == "secrets":
            content = {key: base64.b64decode(text) for key, text in content.items()}
        content |= {key: base64.b64decode(text) for key, text in (answer.get("binaryData") or {}).items()}
        if not source.items:
            return content
        if absent := [key for key, _ in source.items if key not in content and not source.optional]:
            raise NotMountable(f"{source.kind} {source.name} has no key {', '.join(absent)}")
        return {path: content[key] for key, path in source.items if key in content}


def _replace(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and path.read_bytes() == content:
        return
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_bytes(content)
    fresh.chmod(0o644)
    fresh.rename(path)
