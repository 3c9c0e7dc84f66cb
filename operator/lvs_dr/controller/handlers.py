"""The watches: kopf, used for its list+watch alone.

`on.event` handlers write no annotations and no finalizers. kopf never tells about objects that were deleted while a
watch was broken and then listed again, nor of those that were deleted between our first LIST and its own. So each
LIST that it makes asks for one of ours.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any, cast

import kopf
from aiohttp import ClientHandlerType, ClientRequest, ClientResponse

from lvs_dr.controller import watched
from lvs_dr.controller.credentials import Credentials
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.watched import Watched

log = logging.getLogger(__name__)

FIRST_BACKOFFS = (0.2, 0.5, 1.0, 1.0, 2.0)
LAST_BACKOFF_SECONDS = 3.0
INACTIVITY_SECONDS = 70.0


class Backoffs:
    """Pauses between tries without end: the API server may be away for as long as it likes."""

    def __iter__(self) -> Iterator[float]:
        return itertools.chain(FIRST_BACKOFFS, itertools.repeat(LAST_BACKOFF_SECONDS))


class NoDiff(kopf.DiffBaseStorage):
    """kopf compares each object with its last state for handlers we have not; that copies every body twice."""

    def build(self, *, body: kopf.Body, extra_fields: object = None) -> kopf.BodyEssence:
        """Return nothing to compare."""
        del body, extra_fields
        return cast(kopf.BodyEssence, {})

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        """Return that nothing was ever stored."""
        del body
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None:
        """Store nothing."""


class NoProgress(kopf.ProgressStorage):
    """`on.event` handlers make no progress that would have to be kept in annotations."""

    def fetch(self, *, key: str, body: kopf.Body) -> Any:  # noqa: ANN401 - kopf's type is not public
        """Return that there is none."""

    def store(self, *, key: str, record: object, body: kopf.Body, patch: kopf.Patch) -> None:
        """Store nothing."""

    def purge(self, *, key: str, body: kopf.Body, patch: kopf.Patch) -> None:
        """Purge nothing."""

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None:
        """Touch nothing."""

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        """Leave it as it is."""
        return essence


def settings() -> kopf.OperatorSettings:
    """Return kopf's settings: no posting, no scanning, quick to come back."""
    chosen = kopf.OperatorSettings()
    chosen.posting.enabled = False
    chosen.scanning.disabled = True
    chosen.networking.error_backoffs = Backoffs()
    chosen.networking.connect_timeout = 5.0
    chosen.networking.request_timeout = 30.0
    chosen.watching.inactivity_timeout = INACTIVITY_SECONDS
    chosen.watching.server_timeout = 300  # an int: it goes into the URL as it is
    chosen.watching.reconnect_backoff = 0.1
    chosen.watching.chunk_size = 250
    chosen.queueing.exit_timeout = 0.5
    chosen.persistence.diffbase_storage = NoDiff()
    chosen.persistence.progress_storage = NoProgress()
    logging.getLogger("kopf.objects").setLevel(logging.WARNING)
    return chosen


def registry(
    intake: Intake,
    credentials: Credentials,
    *,
    relisted: Callable[[Watched], None],
    vanished: Callable[[Watched], None],
) -> kopf.OperatorRegistry:
    """Return the handlers: one login, one on.event for each watched kind.

    `relisted` is told when a watch starts, for the first time or anew; `vanished` when a kind is no longer served:
    kopf's watches then end for good, though not always its operator.
    """
    chosen = kopf.OperatorRegistry()
    by_path = {kind.collection: kind for kind in watched.WATCHED}

    async def notice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        kind = by_path.get(request.url.path)
        if kind is not None and response.status == HTTPStatus.NOT_FOUND:
            vanished(kind)
        elif kind is not None and "watch" not in request.url.query and response.status == HTTPStatus.OK:
            log.debug("the watch of %s starts", kind.kind)
            relisted(kind)
        return response

    @kopf.on.login(registry=chosen)
    async def login(**_: Any) -> kopf.AiohttpSession:  # noqa: ANN401 - kopf passes what it likes
        identity = await credentials.identity()
        return kopf.AiohttpSession(server=identity.server, aiohttp_session=await credentials.session(notice))

    for kind in watched.WATCHED:
        _watch(chosen, intake, kind)
    return chosen


def _watch(chosen: kopf.OperatorRegistry, intake: Intake, kind: Watched) -> None:
    @kopf.on.event(kind.group, kind.version, kind.plural, registry=chosen, id=f"watch-{kind.plural}")
    async def on_event(event: Any, **_: Any) -> None:  # noqa: ANN401 - kopf's RawEvent is not public
        try:
            await intake.event(kind, event["type"], event["object"])
        except Exception:  # kopf would log it as the object's own failure and go on
            log.exception("cannot take in an event of %s", kind.kind)
