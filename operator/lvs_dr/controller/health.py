"""/healthz, /readyz and /metrics.

Health is that the event loop answers; readiness that everything that should run does and nothing is stuck. A replica
that waits for the Lease is ready.
"""

import logging
from collections.abc import Callable

from aiohttp import web

from lvs_dr.controller.errors import BadConfiguration
from lvs_dr.controller.metrics import Metrics

log = logging.getLogger(__name__)


class Readiness:
    """Named problems; none means ready."""

    def __init__(self) -> None:
        self._problems: dict[str, str] = {}
        self._checks: list[Callable[[], str]] = []

    def report(self, name: str, problem: str) -> None:
        """Set or clear ("") what is wrong with a part."""
        if problem:
            self._problems[name] = problem
        else:
            self._problems.pop(name, None)

    def check(self, question: Callable[[], str]) -> None:
        """Register a question that is asked whenever somebody looks."""
        self._checks.append(question)

    def problems(self) -> list[str]:
        """Return everything that is wrong."""
        answers = [f"{name}: {problem}" for name, problem in sorted(self._problems.items())]
        return answers + [answer for check in self._checks if (answer := check())]


class HealthServer:
    """The HTTP server of one process."""

    def __init__(self, readiness: Readiness, metrics: Metrics) -> None:
        self._readiness = readiness
        self._metrics = metrics
        application = web.Application()
        application.add_routes(
            [
                web.get("/healthz", self._healthz),
                web.get("/readyz", self._readyz),
                web.get("/metrics", self._render),
            ]
        )
        self._runner = web.AppRunner(application, access_log=None, keepalive_timeout=5.0, shutdown_timeout=1.0)

    async def start(self, host: str, port: int) -> None:
        """Listen. Raises BadConfiguration when that is not possible."""
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, host, port).start()
        except OSError as error:
            raise BadConfiguration(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
        log.debug("listening on %s", self._runner.addresses)

    async def stop(self) -> None:
        """Stop listening."""
        await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def _readyz(self, _: web.Request) -> web.Response:
        problems = self._readiness.problems()
        return web.Response(text="\n".join(problems or ["ok"]) + "\n", status=503 if problems else 200)

    async def _render(self, _: web.Request) -> web.Response:
        return web.Response(text=self._metrics.render(), content_type="text/plain")
