"""Section `ipvs`: how fast tables get into the kernel, and what a pass costs when they are there.

One lab node without Kubernetes; all ways of programming run on its kernel in turn, in one run. The agent's way is
its real pass (`NodePass`) with its real kernel door, from tables as a watch delivers them to the kernel.
"""

import json
import re
import statistics
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from lvs_lab import Lab, Node, NodeSpec, cache
from tests.bench.figures import Figure, columns, figure

ROOT = Path(__file__).parents[2]
SECTION = "ipvs"
GUEST = ROOT / "tests/bench/ipvs_guest.py"
DIRECTOR = NodeSpec(name="director-1", octet=11, kubernetes=False, memory_mib=768)
WAYS = ("agent", "bare", "ipvsadm", "pyroute2")
COUNTED_SERVICES = (20, 120)
_COUNT_LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$", re.MULTILINE)
_SENDS = frozenset({"sendto", "sendmsg", "sendmmsg"})

Progress = Callable[[str], None]


class Size(NamedTuple):
    """How much is measured."""

    services: int
    destinations: int
    rounds: int  # of programming
    passes: int  # without change, and with one
    many: int  # in one service, or services with one
    growth: tuple[tuple[int, int], ...]


FULL = Size(1000, 10, 7, 15, 10_000, ((10, 9), (100, 9), (1000, 9)))
QUICK = Size(20, 10, 2, 3, 100, ((2, 9), (10, 9)))


def measure(quick: bool, progress: Progress) -> list[Figure]:  # noqa: FBT001
    """Start a node and measure everything in one run."""
    size = QUICK if quick else FULL
    with Lab.start(nodes=[DIRECTOR], kubernetes=False, progress=progress) as lab:
        node = lab.nodes[DIRECTOR.name]
        progress(f"{datetime.now(UTC):%Y-%m-%d}, kernel {node.run('uname', '-r').stdout.strip()} (User-Mode Linux)")
        figures = programming(node, size, progress)
        figures += steady(node, size, progress)
        figures += holds(node, size, progress)
        figures += shapes(node, size, progress)
        if quick:
            return figures
        if cache.find_command("strace") is None:
            progress("system calls are not counted: strace is not installed")
            return figures
        return figures + counts(node, progress)


def guest(node: Node, *arguments: object, timeout: float = 600, before: Sequence[str] = ()) -> Any:
    """Run the guest script on the node and decode what it prints."""
    path = f"PYTHONPATH={ROOT / 'operator'}:{ROOT}"
    argv = ["unshare", "--net", "env", path, *before, sys.executable, "-B", str(GUEST), *map(str, arguments)]
    return json.loads(node.run(*argv, timeout=timeout).stdout.splitlines()[-1])


def programming(node: Node, size: Size, progress: Progress) -> list[Figure]:
    """A whole table from empty, by each way in turn."""
    services, destinations, rounds = size.services, size.destinations, size.rounds
    entries = services * (1 + destinations)
    progress(f"{services} services of {destinations} destinations from empty, {rounds} times by {', '.join(WAYS)}")
    found = guest(node, "program", services, destinations, rounds, *WAYS, timeout=120 + 60 * rounds)
    tenth = max(1, services // 10) * (1 + destinations)
    # The first time the agent's heap grows, which User-Mode Linux makes several hundred times dearer: told apart.
    first, agent = found["agent"][:1], found["agent"][1:]
    bare, restored = found["bare"][1:], found["ipvsadm"][1:]
    scaled = [seconds * entries / tenth for seconds in found["pyroute2"]]
    return [
        _figure("program_11000_agent_ms", _milliseconds(agent), "ms"),
        _figure("program_11000_agent_first_ms", _milliseconds(first), "ms"),
        _figure("program_11000_bare_ms", _milliseconds(bare), "ms"),
        _figure("program_11000_ipvsadm_ms", _milliseconds(restored), "ms"),
        _figure("program_11000_pyroute2_scaled_ms", _milliseconds(scaled), "ms"),
        _figure("program_11000_vs_ipvsadm_ratio", _ratios(restored, agent), "x faster", aim=">= 20"),
        _figure("program_11000_vs_bare_ratio", _ratios(agent, bare), "x slower", aim="<= 2"),
        _figure("program_11000_vs_pyroute2_ratio", [scaled[0] / statistics.median(agent)], "x faster"),
    ]


def steady(node: Node, size: Size, progress: Progress) -> list[Figure]:
    """Passes over a table that is in the kernel."""
    progress(f"{size.passes} passes without a change, and {size.passes} with one")
    found = guest(node, "steady", size.services, size.destinations, size.passes)
    return [
        _figure("noop_pass_ms", _milliseconds(found["noop"]), "ms"),
        _figure("bare_dump_ms", _milliseconds(found["dump"]), "ms"),
        _figure("noop_pass_vs_dump_ratio", _ratios(found["noop"], found["dump"]), "x", aim="<= 3"),
        _figure("noop_pass_writes", [found["noop writes"]], "writes", aim="0"),
        _figure("one_change_ms", _milliseconds(found["change"]), "ms"),
        _figure("one_change_messages", [found["change messages"]], "messages", aim="1"),
        _figure("one_change_decide_ms", _milliseconds(found["decide"]), "ms"),
        _figure("one_change_decide_vs_read_ratio", _ratios(found["decide"], found["read"]), "x", aim="< 1"),
    ]


def holds(node: Node, size: Size, progress: Progress) -> list[Figure]:
    """How long other tasks of the agent's event loop wait, at worst."""
    times = 2 if size is QUICK else 5
    progress(f"the longest hold of the event loop, {times} times")
    found = [guest(node, "hold", size.services, size.destinations, 5) for _ in range(times)]
    passes = [max(one["resync"]) for one in found]
    programs = [one["program"] for one in found]
    return [
        _figure("longest_hold_ms", _milliseconds(map(max, passes, programs)), "ms", aim="<= 20"),
        _figure("longest_hold_programming_ms", _milliseconds(programs), "ms"),
        _figure("longest_hold_resync_ms", _milliseconds(passes), "ms"),
        _figure("longest_hold_idle_ms", _milliseconds(max(one["idle"]) for one in found), "ms"),
    ]


def shapes(node: Node, size: Size, progress: Progress) -> list[Figure]:
    """Other shapes of table, and how the cost grows."""
    figures: list[Figure] = []
    named = [("one_service", 1, size.many), ("many_services", size.many, 1)]
    named += [(f"entries_{services * (1 + each)}", services, each) for services, each in size.growth]
    rows: list[tuple[str, ...]] = [
        ("services", "destinations", "entries", "from empty", "nothing to do", "decide", "bare dump: us per entry")
    ]
    for name, services, destinations in named:
        progress(f"{services} services of {destinations} destinations")
        found = guest(node, "steady", services, destinations, 5)
        found["program"] = guest(node, "program", services, destinations, 3, "agent")["agent"][1:]
        entries = services * (1 + destinations)
        row = [str(services), str(destinations), str(entries)]
        for what in ("program", "noop", "decide", "dump"):
            each = _figure(f"{name}_{what}_per_entry_us", [one / entries * 1e6 for one in found[what]], "us")
            figures.append(each)
            row.append(f"{each.value:.1f}")
        rows.append(tuple(row))
    progress("cost per entry by size and shape:\n" + columns(rows))
    return figures


def counts(node: Node, progress: Progress) -> list[Figure]:
    """Count system calls and sent datagrams per entry: the difference between two sizes, so that starting drops out."""
    progress("counting system calls with strace")
    destinations = 10
    more = (COUNTED_SERVICES[1] - COUNTED_SERVICES[0]) * (1 + destinations)
    figures: list[Figure] = []
    for way in WAYS:
        calls: list[int] = []
        sends: list[int] = []
        for services in COUNTED_SERVICES:
            strace = ("strace", "-f", "-q", "-c", "-o", "/run/calls")
            guest(node, "once", services, destinations, 1, way, before=strace)
            counted = [(int(count), name) for count, name in _COUNT_LINE.findall(node.read_file("/run/calls"))]
            calls.append(sum(count for count, name in counted if name != "total"))
            sends.append(sum(count for count, name in counted if name in _SENDS))
        figures.append(_figure(f"{way}_system_calls_per_entry", [(calls[1] - calls[0]) / more], "calls"))
        figures.append(_figure(f"{way}_datagrams_per_entry", [(sends[1] - sends[0]) / more], "sends"))
    return figures


def _figure(name: str, samples: Sequence[float], unit: str, *, aim: str = "") -> Figure:
    return figure(SECTION, name, samples, unit, aim=aim)


def _milliseconds(seconds: Any) -> list[float]:
    return [one * 1000 for one in seconds]


def _ratios(one: Sequence[float], other: Sequence[float]) -> list[float]:
    """Return the ratios round by round: what disturbed a round disturbed both."""
    return [first / second for first, second in zip(one, other, strict=True)]
