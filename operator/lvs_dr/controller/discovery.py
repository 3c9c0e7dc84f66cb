"""Waiting until all our kinds are served: kopf never picks up a kind that comes later."""

import asyncio
import logging
from collections.abc import Callable

from lvs_dr.api import kinds
from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api
from lvs_dr.controller.errors import ApiError, ControllerError, KindsMissing, NotFound
from lvs_dr.controller.guard import Guard

log = logging.getLogger(__name__)

PAUSE_SECONDS = 1.0
REMIND_SECONDS = 60.0


async def check_kinds(api: Api, guard: Guard) -> None:
    """Raise KindsMissing unless all our kinds are served and none is being deleted (or ApiError, Unreachable)."""
    try:
        served = await api.get(f"/apis/{kinds.API_VERSION}")
    except NotFound:
        served = {}
    names = {each["name"] for each in served.get("resources") or ()}
    missing = [kind.plural for kind in watched.OUR_KINDS if kind.plural not in names]
    missing += [f"{kind.plural}/status" for kind in watched.USER_KINDS if f"{kind.plural}/status" not in names]
    if missing:
        raise KindsMissing(f"the API server does not serve {', '.join(missing)} of {kinds.API_VERSION}: apply crds/")
    await guard.learn()


async def wait_for_kinds(api: Api, guard: Guard, clock: Callable[[], float], report: Callable[[str], None]) -> None:
    """Return once all kinds are there; until then `report` says what is awaited."""
    said, said_at = "", float("-inf")
    while True:
        try:
            await check_kinds(api, guard)
        except ControllerError as error:
            text = f"waiting: {error}"
            if text != said or clock() - said_at >= REMIND_SECONDS:
                log.log(logging.ERROR if isinstance(error, ApiError) else logging.WARNING, "%s", text)
                said, said_at = text, clock()
            report(text)
            await asyncio.sleep(PAUSE_SECONDS)
        else:
            report("")
            return
