"""Section `health`: what checks cost, whether thousands of them keep their times, and what they are good for.

Times are measured on this machine itself; CPU against keepalived in one lab node, one after the other, because
keepalived's checker needs a kernel with IPVS. What answers is a process of its own, whose CPU time does not count.
"""

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from lvs_lab import Lab, Node, NodeSpec, cache
from tests.bench import load_model, outages
from tests.bench.figures import Figure, figure

ROOT = Path(__file__).parents[2]
SECTION = "health"
GUEST = ROOT / "tests/bench/health_guest.py"
DIRECTOR = NodeSpec(name="director-1", octet=11, kubernetes=False, memory_mib=512)
KINDS = ("tcp", "http")
INTERVAL = 2  # seconds

Progress = Callable[[str], None]


class Size(NamedTuple):
    """How much is measured."""

    checks: int  # on this machine
    seconds: int
    lab_checks: int
    lab_seconds: int
    rounds: int


FULL = Size(5000, 20, 500, 12, 3)
QUICK = Size(100, 3, 20, 3, 1)


def measure(quick: bool, progress: Progress) -> list[Figure]:  # noqa: FBT001
    """Measure on this machine, then in a node, then in a cluster."""
    size = QUICK if quick else FULL
    figures: list[Figure] = []
    for kind in KINDS:
        progress(f"{size.checks} {kind} checks every {INTERVAL} s for {size.seconds} s, on this machine")
        found = [_here("agent", kind, size.checks, size.seconds) for _ in range(size.rounds)]
        due = [each["seconds"] * size.checks / INTERVAL for each in found]
        made = [100 * each["checks"] / wanted for each, wanted in zip(found, due, strict=True)]
        late = [100 * each["late"] / max(1, each["checks"]) for each in found]
        down = [each["down"] for each in found]
        figures.append(figure(SECTION, f"{kind}_checks_made_of_due", made, "%", aim="100"))
        figures.append(figure(SECTION, f"{kind}_checks_late", late, "%", aim="0"))
        figures.append(figure(SECTION, f"{kind}_checks_wrong", down, "of well", aim="0"))
        figures.append(figure(SECTION, f"{kind}_cpu_per_1000_checks_per_second", _costs(found), "% of a core"))
    figures += _load_aware(size, progress)
    figures += _in_node(size, progress)
    return figures + outages.measure(quick, progress)


def _in_node(size: Size, progress: Progress) -> list[Figure]:
    """Compare with keepalived where it is there."""
    if cache.find_command("keepalived") is None:
        progress("keepalived is not there (lab/ctl tools --with keepalived): no comparison")
        return []
    with Lab.start(nodes=[DIRECTOR], kubernetes=False, progress=progress) as lab:
        node = lab.nodes[DIRECTOR.name]
        progress(f"{datetime.now(UTC):%Y-%m-%d}, kernel {node.run('uname', '-r').stdout.strip()} (User-Mode Linux)")
        return [each for kind in KINDS for each in _compared(node, kind, size, progress)]


def _load_aware(size: Size, progress: Progress) -> list[Figure]:
    """Compare wlc with static weights and with such that follow load, in a model: nothing else is as repeatable."""
    progress("load feedback at three servers, one with a quarter of the power (a model: tests/bench/load_model.py)")
    static, aware = ([load_model.run(aware=each, seed=seed) for seed in range(size.rounds)] for each in (False, True))
    ratios = [one.p99 / other.p99 for one, other in zip(aware, static, strict=True)]
    return [
        figure(SECTION, "load_static_p99", [each.p99 for each in static], "ms"),
        figure(SECTION, "load_aware_p99", [each.p99 for each in aware], "ms"),
        figure(SECTION, "load_aware_p99_vs_static_ratio", ratios, "times", aim="< 1"),
        figure(SECTION, "load_static_weak_server_share", [100 * each.weak_share for each in static], "%"),
        figure(SECTION, "load_aware_weak_server_share", [100 * each.weak_share for each in aware], "%"),
    ]


def _compared(node: Node, kind: str, size: Size, progress: Progress) -> list[Figure]:
    """Measure agent and keepalived in turn."""
    progress(f"{size.lab_checks} {kind} checks every {INTERVAL} s by agent and keepalived in turn, in a lab node")
    ours, theirs = [], []
    for _ in range(size.rounds):
        ours.append(_there(node, "agent", kind, size.lab_checks, size.lab_seconds))
        theirs.append(_there(node, "keepalived", kind, size.lab_checks, size.lab_seconds))
    pairs = list(zip(_costs(ours), _costs(theirs), strict=True))
    return [
        figure(SECTION, f"lab_{kind}_cpu_per_1000_checks_per_second_agent", _costs(ours), "% of a core"),
        figure(SECTION, f"lab_{kind}_cpu_per_1000_checks_per_second_keepalived", _costs(theirs), "% of a core"),
        figure(
            SECTION,
            f"{kind}_checks_cpu_vs_keepalived_ratio",
            [one / other for one, other in pairs if other],
            "times",
        ),
    ]


def _costs(found: list[dict[str, float]]) -> list[float]:
    """Return CPU seconds for 1,000 checks, as percent of a core at 1,000 checks a second."""
    return [100 * each["cpu"] / max(1, each["checks"]) * 1000 for each in found]


def _here(who: str, kind: str, checks: int, seconds: int) -> dict[str, float]:
    path = f"{ROOT / 'operator'}:{ROOT}"
    argv = [sys.executable, str(GUEST), who, kind, str(checks), str(INTERVAL), str(seconds)]
    done = subprocess.run(
        argv, env={"PYTHONPATH": path, "PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=600, check=True
    )
    return _decoded(done.stdout)


def _there(node: Node, who: str, kind: str, checks: int, seconds: int) -> dict[str, float]:
    path = f"PYTHONPATH={ROOT / 'operator'}:{ROOT}"
    argv = ["env", path, sys.executable, "-B", str(GUEST), who, kind, str(checks), str(INTERVAL), str(seconds)]
    return _decoded(node.run(*argv, timeout=300 + 10 * seconds).stdout)


def _decoded(text: str) -> dict[str, float]:
    found: dict[str, float] = json.loads(text.splitlines()[-1])
    return found
