"""Section `failover`: for how long a client gets no answer when a director dies or stops; beside keepalived.

Two directors, two real servers and a client, each a kernel of its own, without Kubernetes. Both directors run our
speaker and keepalived, each for a VIP of its own, with the same IPVS services and the same sync daemons: what happens,
happens to both at once. The client opens connections to both VIPs all the time, and orders by a datagram what is to
happen, so that no other program's delay counts.
"""

import os
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lvs_lab import Lab
from tests.bench.failover_costs import costs
from tests.bench.failover_stage import DEATH, NODES, OURS, SIDES, STOP, THEIRS, Stage, TooBusy
from tests.bench.figures import Figure, figure

SECTION = "failover"
DEFAULT_MILLISECONDS = 100
Progress = Callable[[str], None]
Seen = dict[str, Any]


class Size(NamedTuple):
    """How much is measured."""

    intervals: tuple[int, ...]  # milliseconds
    deaths: int
    stops: int
    crashes: int
    seconds: float  # of adverts
    programmed: int  # tables while they are listened to


FULL = Size((DEFAULT_MILLISECONDS, 1000, 50), 10, 10, 10, 30.0, 20)
QUICK = Size((DEFAULT_MILLISECONDS,), 2, 2, 1, 5.0, 2)


def measure(quick: bool, progress: Progress) -> list[Figure]:  # noqa: FBT001
    """Start the nodes once and measure everything on them."""
    size = QUICK if quick else FULL
    figures: list[Figure] = []
    with Lab.start(nodes=NODES, kubernetes=False, progress=progress) as lab:
        stage = Stage(lab)
        stage.prepare()
        kernel = stage.client.run("uname", "-r").stdout.strip()
        version = stage.client.run("keepalived", "--version").stderr.split(" (")[0]
        progress(f"{datetime.now(UTC):%Y-%m-%d}, kernel {kernel} (User-Mode Linux), {version}, {_load()}")
        for milliseconds in size.intervals:
            stage.begin(milliseconds)
            figures += possible(lambda: deaths(stage, size.deaths, progress), progress)
            if milliseconds == DEFAULT_MILLISECONDS:
                figures += more(stage, size, progress)
        figures += [_figure(f"uncalled_takeovers_{side.name}", [stage.uncalled[side]], "takeovers") for side in SIDES]
        stage.clear()
        figures += costs(lab, quick=quick, progress=progress)
    progress(_load())
    return figures


def possible(measured: Callable[[], list[Figure]], progress: Progress) -> list[Figure]:
    """Return the figures, or none on a machine that is too busy for them; that is told."""
    try:
        return measured()
    except TooBusy as error:
        progress(f"not measured: {error}")
        return []


def more(stage: Stage, size: Size, progress: Progress) -> list[Figure]:
    """Measure what is measured at the default interval only."""
    return [
        *possible(lambda: stops(stage, size.stops, progress), progress),
        *possible(lambda: crashes(stage, size.crashes, progress), progress),
        *adverts(stage, size, progress),
        _figure("speaker_rss_mib", [stage.active.resident_mib(OURS)], "MiB", aim="<= 15"),
        _figure("keepalived_rss_mib", [stage.active.resident_mib(THEIRS)], "MiB"),
    ]


def deaths(stage: Stage, count: int, progress: Progress) -> list[Figure]:
    """Kill -9 of everything on the Active director, and its link down."""
    milliseconds = stage.milliseconds
    progress(f"{milliseconds} ms: the Active director dies, {count} times")
    rounds = [stage.round(DEATH) for _ in range(count)]
    ours, theirs = (_gaps(rounds, f"{side.name} wlc") for side in SIDES)
    # When a director dies between two adverts is chance, and another one for each side. So the ratio is of the gaps
    # there would have been if it had died midway: from the last advert until somebody answers, less half an interval.
    midway = [[each[f"{side.name} wlc"]["since advert"] * 1000 - milliseconds / 2 for each in rounds] for side in SIDES]
    ratios = [one / other for one, other in zip(*midway, strict=True)]
    quiet = [max(one["quiet"] for one in each.values()) * 1000 for each in rounds]
    progress(f"ours {_listed(ours)}; keepalived {_listed(theirs)}; undisturbed {_listed(quiet)} ms")
    progress(f"had it died midway: ours {_listed(midway[0])}; keepalived {_listed(midway[1])} ms")
    default = milliseconds == DEFAULT_MILLISECONDS
    return [
        _figure(
            "gap_default_ms" if default else f"gap_{milliseconds}ms_ms", ours, "ms", aim="< 350" if default else ""
        ),
        _figure(f"gap_keepalived_{milliseconds}ms_ms", theirs, "ms"),
        _figure(f"gap_undisturbed_{milliseconds}ms_ms", quiet, "ms"),
        _figure(f"gap_vs_keepalived_{milliseconds}ms_ratio", ratios, "x", aim="<= 1"),
    ]


def stops(stage: Stage, count: int, progress: Progress) -> list[Figure]:
    """SIGTERM to the speaker and to keepalived on the Active director."""
    progress(f"{stage.milliseconds} ms: the Active director is stopped in good order, {count} times")
    rounds = [stage.round(STOP) for _ in range(count)]
    figures = []
    for side in SIDES:
        suffix = "" if side is OURS else f"_{side.name}"
        both = {scheduler: f"{side.name} {scheduler}" for scheduler in ("wlc", "mh")}
        failed = {scheduler: [each[name]["failed"] for each in rounds] for scheduler, name in both.items()}
        slow = [sum(each[name]["slow"] for name in both.values()) for each in rounds]
        opened = sum(each[name]["opened"] for each in rounds for name in both.values())
        gaps = [max(each[name]["gap"] for name in both.values()) * 1000 for each in rounds]
        progress(f"{side.name}: {opened} connections; failed {failed}, slow {slow}; gaps {_listed(gaps)} ms")
        figures += [
            _figure(
                f"graceful_failed_connections{suffix}", _total(failed["wlc"], failed["mh"]), "connections",
                aim="0" if side is OURS else "",
            ),
            _figure(f"graceful_slow_connections{suffix}", _total(slow), "connections"),
            _figure(f"graceful_gap{suffix}_ms", gaps, "ms"),
        ]  # fmt: skip
    return figures


def crashes(stage: Stage, count: int, progress: Progress) -> list[Figure]:
    """Kill -9 of the speakers alone: the VIPs are left behind on a director that nobody steers any more."""
    progress(f"{stage.milliseconds} ms: kill -9 of the Active's speakers, {count} times")
    rounds = [stage.crash() for _ in range(count)]
    ours, theirs = ([both[side] for _, both in rounds] for side in SIDES)
    gaps = _gaps([seen for seen, _ in rounds], "ours wlc")
    progress(f"two nodes answer: ours {_listed(ours)}, keepalived {_listed(theirs)} ms until the watch ended")
    return [
        _figure("duplicate_vip_max_ms", ours, "ms", aim="<= 1500", part=1.0),
        _figure("duplicate_vip_watched_keepalived_ms", theirs, "ms", part=1.0),
        _figure("crash_gap_ms", gaps, "ms"),
        _figure("crash_failed_connections", [sum(seen["ours wlc"]["failed"] for seen, _ in rounds)], "connections"),
    ]


def adverts(stage: Stage, size: Size, progress: Progress) -> list[Figure]:
    """How evenly adverts come, with nothing else on the director and while the agent programs it."""
    figures = []
    for what, rounds in (("idle_", 0), ("", size.programmed)):
        progress(
            f"{size.seconds:g} s of adverts" + (f" while 11,000 entries are programmed {rounds} times" * bool(rounds))
        )
        found = stage.jitter(size.seconds, rounds)
        for side in SIDES:
            name = f"advert_jitter_{what}{'' if side is OURS else f'{side.name}_'}p99_ms"
            figures.append(_figure(name, found[side], "ms", part=0.99))
    return figures


def _gaps(rounds: Sequence[Seen], name: str) -> list[float]:
    return [each[name]["gap"] * 1000 for each in rounds]


def _total(*counts: Sequence[int]) -> list[int]:
    return [sum(map(sum, counts))]


def _listed(samples: Sequence[float]) -> str:
    return " ".join(f"{one:.0f}" for one in samples)


def _load() -> str:
    return "load average " + " ".join(f"{one:.1f}" for one in os.getloadavg())


def _figure(name: str, samples: Sequence[float], unit: str, *, aim: str = "", part: float = 0.5) -> Figure:
    return figure(SECTION, name, samples, unit, aim=aim, part=part)
