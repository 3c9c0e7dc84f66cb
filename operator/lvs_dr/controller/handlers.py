"""The watches: kopf, used for its list+watch alone.

`on.event` handlers write no annotations and no finalizers. kopf never tells about objects that were deleted while a
watch was broken and then listed again, so each LIST that it makes after the first one asks for a LIST of ours.
"""

import itertools
import logging
from collections.abc import Callable, Iterator
from http import HTTPStatus
from typing import Any

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
    chosen.queueing.exit_timeout = 0.5
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

    `relisted` is told when a watch had to start anew, `vanished` when a kind is no longer served: kopf's watches then
    end for good, though not always its operator.
    """
    chosen = kopf.OperatorRegistry()
    by_path = {kind.collection: kind for kind in watched.WATCHED}
    listed_once: set[str] = set()

    async def notice(request: ClientRequest, handler: ClientHandlerType) -> ClientResponse:
        response = await handler(request)
        kind = by_path.get(request.url.path)
        if kind is not None and response.status == HTTPStatus.NOT_FOUND:
            vanished(kind)
        elif kind is not None and "watch" not in request.url.query and response.status == HTTPStatus.OK:
            if kind.kind in listed_once:
                log.info("the watch of %s had to start anew", kind.kind)
                relisted(kind)
            listed_once.add(kind.kind)
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
