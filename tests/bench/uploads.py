"""Section `uploads`: redirects a second and their latency against nginx and HAProxy, memory, and who is done last.

On loopback, each server on one core of its own and wrk on another, in turn, round by round; ratios are taken round by
round. What crosses a director is measured with real directors in the lab (`uploads_lab`).
"""

import asyncio
import contextlib
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from lvs_dr.core.redirect import Algorithm
from lvs_dr.redirect.handoff import Handoff
from lvs_dr.redirect.messages import Listener, Settings, Target
from lvs_lab import cache, debian
from tests.bench import uploads_lab
from tests.bench.figures import Figure, figure
from tests.unit.redirect.redirecting import free_port
from tests.unit.redirect.test_estimator import slowest

SECTION: Final = "uploads"
ROOT: Final = Path(__file__).parents[2]
PROGRAMS: Final = {"nginx-light": "nginx", "haproxy": "haproxy", "wrk": "wrk"}
CONNECTIONS: Final = 32
IDLE: Final = 3000
SERVERS: Final = 10
_START_SECONDS: Final = 30.0

_NGINX: Final = """
worker_processes 1; daemon off; pid {directory}/nginx.pid; error_log stderr crit; user root;
events {{ worker_connections 4096; }}
http {{
  access_log off; keepalive_requests 1000000000;
  client_body_temp_path {directory}/a; proxy_temp_path {directory}/b; fastcgi_temp_path {directory}/c;
  uwsgi_temp_path {directory}/d; scgi_temp_path {directory}/e;
  split_clients "$request_id" $server {{ {split} }}
  server {{ listen 127.0.0.1:{port}; location / {{ return 307 http://$server:8080$request_uri; }} }}
}}
"""
_HAPROXY: Final = """
global
  nbthread 1
  maxconn 8192
defaults
  mode http
  timeout client 60s
  timeout server 60s
  timeout connect 5s
frontend uploads
  bind 127.0.0.1:{port}
  http-request redirect code 307 location http://s%[rand(10)].example.org:8080%[capture.req.uri]
"""


def measure(quick: bool, progress: Callable[[str], None]) -> list[Figure]:  # noqa: FBT001
    """Measure everything."""
    with cache.locked(progress):
        debian.fetch([name for name in PROGRAMS if cache.find_command(PROGRAMS[name]) is None], progress)
    rounds, seconds = (1, 1) if quick else (7, 5)
    with tempfile.TemporaryDirectory() as name:
        figures = _rates(Path(name), rounds, seconds, progress)
        figures += asyncio.run(_memory(Path(name), 200 if quick else IDLE, progress))
    progress("simulated uploads to unequal servers")
    figures += _shares(range(2 if quick else 5))
    return figures + uploads_lab.measure(quick, progress)


def targets() -> tuple[Target, ...]:
    """Return as many real servers as the others are given."""
    return tuple(Target(name=f"s{n}", address=f"192.0.2.{n + 1}", hostname=f"s{n}.example.org") for n in range(SERVERS))


def _rates(directory: Path, rounds: int, seconds: int, progress: Callable[[str], None]) -> list[Figure]:
    cores = sorted(os.sched_getaffinity(0))
    serving, asking = cores[0], cores[-1]
    found: dict[str, list[Sample]] = {"ours": [], "nginx": [], "haproxy": []}
    ports = {name: free_port() for name in found}
    with (
        _nginx(directory, ports["nginx"], serving) as nginx,
        _haproxy(directory, ports["haproxy"], serving) as haproxy,
        _ours(directory, ports["ours"], serving) as ours,
    ):
        pids = {"ours": ours, "nginx": nginx, "haproxy": haproxy}
        for number in range(rounds):
            for name, port in ports.items():
                found[name].append(_asked(port, seconds, asking, pids[name]))
            best = ", ".join(f"{name} {samples[-1].per_cpu_second:.0f}" for name, samples in found.items())
            progress(f"round {number + 1} of {rounds}, redirects a CPU second: {best}")
    figures = []
    for name, samples in found.items():
        figures.append(
            figure(SECTION, f"redirects_per_cpu_second_{name}", [one.per_cpu_second for one in samples], "1/s")
        )
        figures.append(figure(SECTION, f"redirects_per_second_{name}", [one.rate for one in samples], "1/s"))
        figures.append(figure(SECTION, f"redirect_p99_{name}_ms", [one.p99 for one in samples], "ms"))
    for other, aim in (("nginx", "> 0.1"), ("haproxy", "")):
        pairs = zip(found["ours"], found[other], strict=True)
        ratios = [mine.per_cpu_second / theirs.per_cpu_second for mine, theirs in pairs]
        figures.append(figure(SECTION, f"redirect_rate_vs_{other}_ratio", ratios, "", aim=aim))
    return figures


class Sample(NamedTuple):
    """One run of wrk: redirects a second, the 99th percentile in milliseconds, redirects for a second of the core."""

    rate: float
    p99: float
    per_cpu_second: float


def _cpu_seconds(pid: int) -> float:
    """Return what a process and its children have used of their core."""
    pids = [pid, *map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split())]
    fields = [Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split() for one in pids]
    return sum(int(one[11]) + int(one[12]) for one in fields) / os.sysconf("SC_CLK_TCK")


def _asked(port: int, seconds: int, core: int, pid: int) -> Sample:
    """Ask without pause. Where others want the core as well, only the CPU time tells what a whole core would give."""
    before = _cpu_seconds(pid)
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", f"http://127.0.0.1:{port}/a/b?c=d"]
    done = subprocess.run(
        ["taskset", "-c", str(core), *command],
        env=cache.tool_environment(),
        capture_output=True,
        text=True,
        timeout=seconds + 60,
        check=True,
    )
    rate = re.search(r"Requests/sec:\s+([\d.]+)", done.stdout)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s)", done.stdout)
    errors = re.search(r"Socket errors.*|Non-2xx or 3xx.*", done.stdout)
    if rate is None or late is None or errors is not None:
        raise RuntimeError(f"wrk says: {done.stdout}")
    used = _cpu_seconds(pid) - before
    total = re.search(r"(\d+) requests in", done.stdout)
    if total is None or not used:
        raise RuntimeError(f"wrk says: {done.stdout}")
    return Sample(float(rate[1]), float(late[1]) * {"us": 0.001, "ms": 1.0, "s": 1000.0}[late[2]], int(total[1]) / used)


@contextlib.contextmanager
def _process(command: Sequence[str], core: int, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server on one core until the block ends."""
    with subprocess.Popen(
        ["taskset", "-c", str(core), *command], env=cache.tool_environment() | environment
    ) as process:
        try:
            end = time.monotonic() + _START_SECONDS
            while port:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                    break
                if process.poll() is not None or time.monotonic() > end:
                    raise RuntimeError(f"{command[0]} did not start")
                time.sleep(0.05)
            yield process
        finally:
            process.terminate()
            process.wait(30)


@contextlib.contextmanager
def _nginx(directory: Path, port: int, core: int) -> Iterator[int]:
    names = [f"s{number}.example.org" for number in range(SERVERS)]
    split = " ".join(f"{100 // SERVERS}% {name};" for name in names[:-1]) + f" * {names[-1]};"
    text = _NGINX.format(directory=directory, port=port, split=split)
    (directory / "nginx.conf").write_text(text)
    with _process(["nginx", "-p", str(directory), "-c", str(directory / "nginx.conf")], core, port) as server:
        yield server.pid


@contextlib.contextmanager
def _haproxy(directory: Path, port: int, core: int) -> Iterator[int]:
    (directory / "haproxy.cfg").write_text(_HAPROXY.format(port=port))
    with _process(["haproxy", "-q", "-db", "-f", str(directory / "haproxy.cfg")], core, port) as server:
        yield server.pid


def _redirector(directory: Path) -> list[str]:
    arguments = ["--socket", str(directory / "agent.sock"), "--listen", f"127.0.0.1:{free_port()}"]
    return [sys.executable, "-m", "lvs_dr.redirect", *arguments, "--log-level", "error"]


@contextlib.contextmanager
def _ours(directory: Path, port: int, core: int) -> Iterator[int]:
    """Run the redirector; the agent's side gives it a listener and leaves, as the agent may."""
    with _process(_redirector(directory), core, 0, PYTHONPATH=str(ROOT / "operator")) as server:
        asyncio.run(_hand_over(directory, port))
        yield server.pid


async def _hand_over(directory: Path, port: int) -> None:
    async with Handoff(directory / "agent.sock", uids=(os.getuid(),)) as handoff:
        settings = Settings(algorithm=Algorithm.LEAST_INBOUND_BYTES, port=8080)
        one = Listener(service="bench/uploads", address="127.0.0.1", port=port, settings=settings, targets=targets())
        revision = handoff.update([one])
        async with asyncio.timeout(_START_SECONDS):
            while handoff.report is None or handoff.report.revision != revision:  # noqa: ASYNC110
                await asyncio.sleep(0.02)


async def _memory(directory: Path, count: int, progress: Callable[[str], None]) -> list[Figure]:
    """Measure what clients cost that have begun a header and go on slowly."""
    progress(f"{count} slow clients")
    port = free_port()
    with _process(
        _redirector(directory), min(os.sched_getaffinity(0)), 0, PYTHONPATH=str(ROOT / "operator")
    ) as process:
        await _hand_over(directory, port)
        await _ask_slowly(port, 1)
        before = _resident_kib(process.pid)
        writers = await _ask_slowly(port, count)
        await asyncio.sleep(1)
        after = _resident_kib(process.pid)
        for writer in writers:
            writer.close()
    per_client = (after - before) / count
    return [
        figure(SECTION, "redirector_rss_mib", [before / 1024], "MiB"),
        figure(SECTION, "slow_client_kib", [per_client], "KiB"),
    ]


async def _ask_slowly(port: int, count: int) -> list[asyncio.StreamWriter]:
    writers = []
    for _ in range(count):
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"PUT /a HTTP/1.1\r\nHost: vip\r\n")
        writers.append(writer)
    return writers


def _resident_kib(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return float(text.partition("VmRSS:")[2].split()[0])


def _shares(seeds: range) -> list[Figure]:
    """Simulate, for each algorithm, when the last of 150 unequal uploads to ten unequal servers is done."""
    rr = {seed: slowest(Algorithm.RR, seed, SERVERS) for seed in seeds}
    best = {seed: slowest(None, seed, SERVERS) for seed in seeds}
    figures = [figure(SECTION, "slowest_upload_best_vs_rr_ratio", [best[seed] / rr[seed] for seed in seeds], "")]
    for algorithm in (Algorithm.LEAST_INBOUND_BYTES, Algorithm.WLC, Algorithm.POWER_OF_TWO_CHOICES):
        ratios = [slowest(algorithm, seed, SERVERS) / rr[seed] for seed in seeds]
        name = "" if algorithm is Algorithm.LEAST_INBOUND_BYTES else f"_{algorithm.value}"
        figures.append(figure(SECTION, f"slowest_upload{name}_vs_rr_ratio", ratios, "", aim="" if name else "< 1"))
    return figures
