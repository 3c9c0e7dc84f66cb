"""/healthz, /readyz and /metrics."""

from collections.abc import Callable
from contextlib import AsyncExitStack
from typing import Self

from aiohttp import web

from lvs_dr.agent.metrics import Metrics

Check = Callable[[], str]  # "" = all is well, else what is not


class StatusServer:
    """Answers probes while the process runs. Use as `async with`; raises OSError if the address is taken."""

    def __init__(self, listen: str, *, healthy: Check, ready: Check, metrics: Metrics) -> None:
        host, _, port = listen.rpartition(":")
        self._host = host.strip("[]")
        self._port = int(port)
        self._healthy = healthy
        self._ready = ready
        self._metrics = metrics
        self._stack = AsyncExitStack()
        self.port = 0

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/healthz", lambda _: _answer(self._healthy()))
        application.router.add_get("/readyz", lambda _: _answer(self._ready()))
        application.router.add_get("/metrics", self._text)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1.0)
        await runner.setup()
        self._stack.push_async_callback(runner.cleanup)
        site = web.TCPSite(runner, self._host, self._port)
        try:
            await site.start()
        except OSError:
            await self._stack.aclose()
            raise
        self.port = runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def _text(self, _: web.Request) -> web.Response:
        return web.Response(text=self._metrics.text(), headers={"Content-Type": "text/plain; version=0.0.4"})


async def _answer(trouble: str) -> web.Response:
    return web.Response(status=503 if trouble else 200, text=(trouble or "ok") + "\n")
