"""Secrets that the DirectorGroup names, read from the operator's namespace: kept in memory, never on disk.

They are read by name, one request each: the only right that this needs is `get` on these names. Missing is not empty:
what was read once is used on when the Secret, the right or the API server is away; each is told as a problem.
"""

import asyncio
import logging
import random
from collections.abc import Callable, Iterable, Mapping
from typing import Final

import msgspec

from lvs_dr.agent.apiclient import ApiClient, ApiError, ForbiddenError, NotFoundError, UnreachableError

log = logging.getLogger(__name__)

READ_SECONDS: Final = 30.0
AGAIN_SECONDS: Final = 5.0  # while one was never read


class Secret(msgspec.Struct, frozen=True):
    """What a Secret holds, by key."""

    name: str
    version: str
    data: Mapping[str, bytes] = {}


class SecretUnavailableError(Exception):
    """The Secret was never read. The text says why, for people."""


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""


class _Body(msgspec.Struct):
    metadata: _Metadata
    data: dict[str, bytes] = {}  # base64 in JSON


_decoder: Final = msgspec.json.Decoder(_Body)


class Secrets:
    """Reads what is wanted, again and again. `changed` is called when one is new, another or in trouble."""

    def __init__(self, client: ApiClient, namespace: str, *, changed: Callable[[], None]) -> None:
        self._client = client
        self._namespace = namespace
        self._changed = changed
        self._wanted: tuple[str, ...] = ()
        self._known: dict[str, Secret] = {}
        self._troubles: dict[str, str] = {}
        self._news = asyncio.Event()

    def want(self, names: Iterable[str]) -> None:
        """Read exactly these from now on; the others are forgotten."""
        wanted = tuple(sorted(set(names)))
        if wanted == self._wanted:
            return
        self._wanted = wanted
        self._known = {name: known for name, known in self._known.items() if name in wanted}
        self._troubles = {name: text for name, text in self._troubles.items() if name in wanted}
        self._news.set()

    def read(self, name: str) -> Secret:
        """Return a Secret as it was last read. Raises SecretUnavailableError when it never was."""
        known = self._known.get(name)
        if known is not None:
            return known
        if name not in self._wanted:
            raise SecretUnavailableError(f"Secret {name} is not among spec.secrets of the DirectorGroup")
        raise SecretUnavailableError(self._troubles.get(name) or f"Secret {name} has not been read yet")

    def problems(self) -> tuple[str, ...]:
        """Return what is wrong with the wanted Secrets, for people."""
        return tuple(text for _, text in sorted(self._troubles.items()))

    async def run(self) -> None:
        """Read until cancelled."""
        while True:
            self._news.clear()
            for name in self._wanted:
                await self._one(name)
            unread = any(name not in self._known for name in self._wanted)
            seconds = (AGAIN_SECONDS if unread else READ_SECONDS) * random.uniform(0.8, 1.2)
            try:
                async with asyncio.timeout(seconds if self._wanted else None):
                    await self._news.wait()
            except TimeoutError:
                pass

    async def _one(self, name: str) -> None:
        try:
            body = _decoder.decode(await self._client.get(f"/api/v1/namespaces/{self._namespace}/secrets/{name}"))
        except (ApiError, msgspec.MsgspecError) as error:
            self._failed(name, error)
            return
        if name not in self._wanted:  # meanwhile
            return
        fresh = Secret(name, body.metadata.resource_version, body.data)
        news = self._known.get(name) != fresh
        if news:
            log.info("Secret %s/%s was read", self._namespace, name)
        self._known[name] = fresh
        if self._troubles.pop(name, "") or news:
            self._changed()

    def _failed(self, name: str, error: Exception) -> None:
        if isinstance(error, UnreachableError) and name in self._known:
            return  # that the API server is away is told elsewhere
        text = self._why(name, error) + (", what was read before is used on" if name in self._known else "")
        if name in self._wanted and self._troubles.get(name) != text:
            log.warning("%s", text)
            self._troubles[name] = text
            self._changed()

    def _why(self, name: str, error: Exception) -> str:
        whole = f"Secret {self._namespace}/{name}"
        if isinstance(error, NotFoundError):
            return f"{whole} does not exist: create it, or take it out of spec.secrets of the DirectorGroup"
        if isinstance(error, ForbiddenError):
            return f"the agents may not read {whole}: add its name to Role lvs-agent-secrets (docs/health.md)"
        return f"{whole} cannot be read: {error}"[:400]
