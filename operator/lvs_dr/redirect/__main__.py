"""`lvs-redirector`: the command line and the process."""

import argparse
import asyncio
import logging
import random
import resource
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from typing import Final

from lvs_dr.process import logs
from lvs_dr.process.metrics import Kind, Metrics
from lvs_dr.process.web import StatusServer, listen_address
from lvs_dr.redirect.link import Link
from lvs_dr.redirect.listeners import Listeners
from lvs_dr.redirect.service import Tally

log = logging.getLogger("lvs_dr.redirect")

DEFAULT_SOCKET: Final = Path("/run/lvs-redirector/agent.sock")
DESCRIPTORS_BESIDE: Final = 1200  # listeners and what else is open, apart from connections

METRICS: Final[Mapping[str, Kind]] = {
    "lvs_redirector_redirects_total": ("counter", "Requests redirected, by real server and status code."),
    "lvs_redirector_refused_total": ("counter", "Requests and connections refused, by reason."),
    "lvs_redirector_discarded_bytes_total": ("counter", "Bytes of bodies that were read after the answer, in vain."),
    "lvs_redirector_bypassed_bytes_total": ("counter", "Bytes that real servers report to have received directly."),
    "lvs_redirector_connections": ("gauge", "Client connections that are open."),
    "lvs_redirector_agent_connected": ("gauge", "1 while there is an agent."),
    "lvs_redirector_revision": ("gauge", "Number of the state that is carried out."),
    "lvs_redirector_refused_lines": ("gauge", "Lines of the agent that were no message."),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    top = argparse.ArgumentParser(
        prog="lvs-redirector",
        description="Answers HTTP requests on VIPs with the address of a real server, as the agent tells it to.",
    )
    top.add_argument("--socket", type=Path, default=DEFAULT_SOCKET, help="where the agent listens for us")
    top.add_argument("--listen", type=_listen, default="0.0.0.0:9443", help="address of /healthz, /readyz and /metrics")
    top.add_argument("--stop-wait", type=float, default=5.0, help="seconds for open connections to end when stopped")
    top.add_argument("--connections", type=int, default=10000, help="client connections at the same time, at most")
    top.add_argument("--log-level", choices=logs.LEVELS, default="info", help="least level that is logged")
    top.add_argument("--log-format", choices=logs.FORMATS, default="text", help="form of the log on standard error")
    return top


def _listen(text: str) -> str:
    try:
        listen_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def tally(metrics: Metrics) -> Tally:
    """Return what counts into the metrics."""
    return Tally(
        redirected=lambda service, target, code: metrics.count(
            "lvs_redirector_redirects_total", service=service, target=target, code=str(code)
        ),
        refused=lambda service, why: metrics.count("lvs_redirector_refused_total", service=service, reason=why.value),
        discarded=lambda service, size: metrics.count("lvs_redirector_discarded_bytes_total", size, service=service),
        bypassed=lambda service, target, size: metrics.count(
            "lvs_redirector_bypassed_bytes_total", size, service=service, target=target
        ),
    )


def connections_possible(wanted: int) -> int:
    """Raise the limit of open files as far as it goes, and return how many connections fit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = wanted + DESCRIPTORS_BESIDE
    if hard != resource.RLIM_INFINITY:
        limit = min(limit, hard)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    possible = max(1, min(wanted, soft - DESCRIPTORS_BESIDE))
    if possible < wanted:
        log.warning("%d connections at the same time, not %d: open files are limited to %d", possible, wanted, soft)
    return possible


async def run(options: argparse.Namespace) -> None:
    """Serve until SIGTERM or SIGINT. Raises OSError if the pages cannot be served."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    metrics = Metrics(METRICS)
    listeners = Listeners(
        tally=tally(metrics),
        uniform=random.random,
        wall=time.time,
        most_connections=connections_possible(options.connections),
    )
    link = Link(options.socket, listeners, version())
    metrics.gauge("lvs_redirector_connections", lambda: len(listeners.exchanges))
    metrics.gauge("lvs_redirector_agent_connected", lambda: float(link.connected))
    metrics.gauge("lvs_redirector_revision", lambda: listeners.revision)
    metrics.gauge("lvs_redirector_refused_lines", lambda: link.refused_lines)
    work: list[asyncio.Task[None]] = []
    web = StatusServer(
        options.listen,
        healthy=lambda: next((f"a task ended: {task}" for task in work if task.done()), ""),
        ready=link.ready,
        metrics=metrics,
    )
    async with web:
        log.info("lvs-redirector %s", version())
        work += [asyncio.create_task(link.run()), asyncio.create_task(listeners.look_after())]
        waiting = asyncio.create_task(stop.wait())
        await asyncio.wait([waiting, *work], return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        failed = [task for task in work if task.done()]
        for task in work:
            task.cancel()
        await listeners.drain(options.stop_wait)
        await asyncio.gather(*work, waiting, return_exceptions=True)
    listeners.close()
    log.info("stopped")
    for task in failed:
        task.result()  # a bug ends the process, with its traceback


def version() -> str:
    """Return the version of this redirector."""
    try:
        return metadata.version("lvs-operator")
    except metadata.PackageNotFoundError:
        return "0.0.0+source"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run; exit with 0, 1 when it cannot start, 2 for wrong usage."""
    options = parser().parse_args(arguments)
    logs.set_up(options.log_level, options.log_format, quiet=())
    try:
        asyncio.run(run(options))
    except OSError as error:
        sys.stderr.write(f"lvs-redirector: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
