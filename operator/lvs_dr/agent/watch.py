"""List and watch one kind: the whole list first, then its changes, for ever.

The sink is told the difference between a list (`replaced`: what is not in it is gone) and an event, and it is
told when nothing can be known (`unknown`: keep the last good). An object whose spec cannot be read is handed
over as `Unreadable`, never left out, so that it is not taken for a deleted one.
"""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, Protocol, TypeVar

import msgspec

from lvs_dr.agent.apiclient import ApiClient, ApiError, ForbiddenError, GoneError, NotFoundError, api_error
from lvs_dr.core.node import FEATURE_CONNECTION_SYNC, FEATURE_IPVS_SETTINGS, FEATURE_TUNNELS, FEATURE_VRRP
from lvs_dr.core.reasons import Reason
from lvs_dr.core.table import (
    FEATURE_ANY_PORT,
    FEATURE_CHANGING_WEIGHTS,
    FEATURE_CHECK_SECRETS,
    FEATURE_FIREWALL_MARK,
    FEATURE_FORWARDING,
    FEATURE_HEALTH_CHECKS,
    FEATURE_PANIC,
    FEATURE_REDIRECT,
    FEATURE_SERVICE_OPTIONS,
    FEATURE_SORRY_SERVER,
    FEATURE_VIRTUAL_CHECKS,
)

log = logging.getLogger(__name__)

IDLE_SECONDS = 70.0  # the API server sends a bookmark about every 60 s
WATCH_SECONDS = 300  # the server ends a watch after this, plus up to as much again
PAGE = "250"  # objects per answer: bounds the memory of a first list
FIRST_BACKOFF_SECONDS = 0.2
LONGEST_BACKOFF_SECONDS = 5.0
KNOWN_FEATURES: frozenset[str] = frozenset(  # what `requires` may name
    (
        FEATURE_FORWARDING,
        FEATURE_FIREWALL_MARK,
        FEATURE_ANY_PORT,
        FEATURE_SERVICE_OPTIONS,
        FEATURE_HEALTH_CHECKS,
        FEATURE_CHECK_SECRETS,
        FEATURE_PANIC,
        FEATURE_REDIRECT,
        FEATURE_CHANGING_WEIGHTS,
        FEATURE_SORRY_SERVER,
        FEATURE_VIRTUAL_CHECKS,
        FEATURE_IPVS_SETTINGS,
        FEATURE_TUNNELS,
        FEATURE_VRRP,
        FEATURE_CONNECTION_SYNC,
    )
)

S = TypeVar("S")


class Metadata(msgspec.Struct, frozen=True, rename="camel"):
    """The part of an object's metadata that the agent uses."""

    name: str
    namespace: str = ""
    uid: str = ""
    resource_version: str = ""
    generation: int = 0
    annotations: Mapping[str, str] = {}

    @property
    def key(self) -> str:
        """`namespace/name`, or the name of a cluster-scoped object."""
        return f"{self.namespace}/{self.name}" if self.namespace else self.name


class Seen(msgspec.Struct, Generic[S], frozen=True):
    """An object as the API server has it."""

    meta: Metadata
    spec: S
    reported: bool = True  # it has a status


class Unreadable(msgspec.Struct, frozen=True):
    """An object that this agent cannot follow: its last good state stays."""

    meta: Metadata
    reason: Reason
    message: str
    address: str = ""  # `spec.address`, where there is one


class Sink(Protocol[S]):
    """Who is told. Called from the event loop; must not block."""

    def replaced(self, items: Mapping[str, Seen[S] | Unreadable]) -> None:
        """The whole list was read."""
        ...

    def changed(self, item: Seen[S] | Unreadable) -> None:
        """One object was added or changed."""
        ...

    def deleted(self, key: str) -> None:
        """One object was deleted, or left the selection."""
        ...

    def unknown(self, message: str) -> None:
        """The list cannot be read: missing kind, missing right, server away."""
        ...


class _Object(msgspec.Struct):
    metadata: Metadata
    spec: msgspec.Raw = msgspec.Raw(b"{}")
    status: msgspec.Raw = msgspec.Raw(b"null")


class _ListMetadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    continue_: str = msgspec.field(default="", name="continue")


class _List(msgspec.Struct):
    metadata: _ListMetadata
    items: list[_Object]


class _Event(msgspec.Struct):
    type: str
    object: msgspec.Raw


class _Requires(msgspec.Struct):
    requires: list[str] = []


class _Address(msgspec.Struct):
    address: str = ""


_list_decoder = msgspec.json.Decoder(_List)
_event_decoder = msgspec.json.Decoder(_Event)
_object_decoder = msgspec.json.Decoder(_Object)
_requires_decoder = msgspec.json.Decoder(_Requires)
_address_decoder = msgspec.json.Decoder(_Address)


class Watch(Generic[S]):
    """One list+watch. `restarts` and `relists` count what a metric shows."""

    def __init__(
        self,
        client: ApiClient,
        path: str,
        spec: type[S],
        sink: Sink[S],
        *,
        field_selector: str = "",
        idle: float = IDLE_SECONDS,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._client = client
        self._path = path
        self._decoder = msgspec.json.Decoder(spec)
        self._sink = sink
        self._selection = {"fieldSelector": field_selector} if field_selector else {}
        self._idle = idle
        self._sleep = sleep
        self._version = ""
        self._failures = 0
        self.restarts = 0
        self.relists = 0

    async def run(self) -> None:
        """List and watch until cancelled."""
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._follow()
            except GoneError as error:
                log.info("%s: %s; listing again", self._path, error)
                self._version = ""
                self._failures = max(1, self._failures)  # a server that only ever says 410 is asked slowly
            except (NotFoundError, ForbiddenError) as error:
                # The kind is missing, or a right: that says nothing about the objects.
                self._version = ""
                self._failed(error)
            except ApiError as error:
                self._failed(error)
            except Exception as error:
                self._version = ""
                log.exception("%s: unexpected failure", self._path)
                self._failed(error)
            self.restarts += 1
            if self._failures:
                await self._sleep(backoff(self._failures))

    def _failed(self, error: Exception) -> None:
        self._failures += 1
        if self._failures in (1, 5):  # once when it starts, once more when it lasts
            log.warning("%s: %s; the last good state stays", self._path, error)
        self._sink.unknown(str(error))

    async def _list(self) -> None:
        """Read all pages and hand them over as one."""
        items: dict[str, Seen[S] | Unreadable] = {}
        params = {**self._selection, "limit": PAGE}
        while True:
            page = _list_decoder.decode(await self._client.get(self._path, params))
            for item in page.items:
                items[item.metadata.key] = self._read(item)
            if not page.metadata.continue_:
                break
            params["continue"] = page.metadata.continue_
        self._version = page.metadata.resource_version
        self.relists += 1
        self._failures = 0
        self._sink.replaced(items)

    async def _follow(self) -> None:
        """Watch from the version last seen until the server ends it."""
        began, before = asyncio.get_running_loop().time(), self._version
        params = {
            **self._selection,
            "watch": "true",
            "resourceVersion": self._version,
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS + random.randrange(WATCH_SECONDS)),
        }
        async with self._client.lines(self._path, params, idle=self._idle) as lines:
            async for line in lines:
                self._handle(line)
                self._failures = 0
        if self._version == before and asyncio.get_running_loop().time() - began < 1.0:
            self._failures += 1  # a server that closes at once must not be asked in a tight loop

    def _handle(self, line: bytes) -> None:
        event = _event_decoder.decode(line)
        if event.type == "ERROR":
            raise api_error(0, bytes(event.object))
        item = _object_decoder.decode(event.object) if event.type != "BOOKMARK" else None
        if item is None:
            self._version = _bookmark_decoder.decode(event.object).metadata.resource_version
            return
        if event.type == "DELETED":
            self._sink.deleted(item.metadata.key)
        else:
            self._sink.changed(self._read(item))
        self._version = item.metadata.resource_version

    def _read(self, item: _Object) -> Seen[S] | Unreadable:
        """Decode a spec, or say why it cannot be followed."""
        try:
            # First of all: an unknown feature may be why the rest looks wrong.
            unknown = set(_requires_decoder.decode(item.spec).requires) - KNOWN_FEATURES
            if unknown:
                what = ", ".join(sorted(unknown))
                text = f"needs a newer agent that knows: {what}"
                return Unreadable(item.metadata, Reason.UNSUPPORTED, text, _address(item.spec))
            spec = self._decoder.decode(item.spec)
        except msgspec.MsgspecError as error:
            return Unreadable(item.metadata, Reason.INVALID, f"cannot be read: {error}"[:500], _address(item.spec))
        return Seen(item.metadata, spec, bytes(item.status) not in (b"null", b"{}"))


def _address(spec: msgspec.Raw) -> str:
    try:
        return _address_decoder.decode(spec).address
    except msgspec.MsgspecError:
        return ""


class _BookmarkMetadata(msgspec.Struct, rename="camel"):
    resource_version: str


class _Bookmark(msgspec.Struct):
    metadata: _BookmarkMetadata


_bookmark_decoder = msgspec.json.Decoder(_Bookmark)


def backoff(failures: int) -> float:
    """Return how long to wait before the next try: doubling, bounded, spread so that agents do not march in step."""
    longest = min(LONGEST_BACKOFF_SECONDS, FIRST_BACKOFF_SECONDS * 2.0 ** (min(failures, 20) - 1))
    return longest * random.uniform(0.5, 1.0)
