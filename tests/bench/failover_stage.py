"""Two directors that both run our speaker and keepalived, each for a VIP of its own; what is done to them."""

import itertools
import json
import random
import re
import signal
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from lvs_dr.core.director_group import SyncMode
from lvs_dr.core.sync import largest_message
from lvs_dr.core.sync_modes import MODES
from lvs_lab import Lab, LabError, Node, NodeSpec
from lvs_lab.client import NodeProcess
from tests.bench.ipvs import guest as ipvs_guest
from tests.kernel.vrrp_player import VIP, VRID, Answers, Speaker, instance, keepalived, watching

ROOT = Path(__file__).parents[2]
GUEST = ROOT / "tests/bench/failover_guest.py"
PRIORITY = 245
"""What a Backup has by default: it decides how long that waits beyond three intervals."""
UNPRIVILEGED = ("setpriv", "--bounding-set", "-sys_nice,-ipc_lock")
"""As in the agent's pod without the real-time component; keepalived has no real-time priority by default either."""
DEFAULT_PORT, HASHED_PORT = 7000, 7001
PORTS = {DEFAULT_PORT: "wlc", HASHED_PORT: "mh"}
SYNC_GROUP = "224.0.0.81"
PERIOD_SECONDS = 0.005
"""Between connections to one VIP."""
WATCH_SECONDS = 7.0
ATTEMPTS = 8
NODES = tuple(
    NodeSpec(name=name, octet=octet, kubernetes=False, memory_mib=memory)
    for name, octet, memory in (
        ("director-1", 11, 384), ("director-2", 12, 384), ("storage-1", 21, 128), ("storage-2", 22, 128),
        ("client-1", 51, 192),
    )
)  # fmt: skip
_STATES = re.compile(r"-> (Active|Backup):|Entering (MASTER|BACKUP) STATE")


class TooBusy(LabError):
    """The machine cannot keep such an interval: adverts come too late all the time."""


class Side(NamedTuple):
    """Who is measured."""

    name: str
    vip: str
    vrid: int


OURS, THEIRS = Side("ours", VIP, VRID), Side("keepalived", "192.168.35.201", VRID + 1)
SIDES = (OURS, THEIRS)


class Event(NamedTuple):
    """What the client orders in the midst of its connections."""

    signal: int
    cut: bool = False
    schedulers: Sequence[int] = (DEFAULT_PORT,)
    whole: bool = True  # to all processes; otherwise to those that a service manager knows


DEATH = Event(signal.SIGKILL, cut=True)
CRASH = Event(signal.SIGKILL)
STOP = Event(signal.SIGTERM, schedulers=(DEFAULT_PORT, HASHED_PORT), whole=False)


class Director:
    """A director and its two speakers."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.speaker = Speaker(node, before=UNPRIVILEGED)
        self.processes: dict[Side, NodeProcess] = {}

    def start(self, milliseconds: int) -> None:
        """Start both with an advert interval, as Backups for now."""
        seconds = f"{milliseconds / 1000:g}"
        theirs = keepalived(
            self.node, PRIORITY, seconds=seconds, vip=THEIRS.vip, vrid=THEIRS.vrid, preempt=False
        )  # fmt: skip
        configured = instance(PRIORITY, milliseconds=milliseconds, degradedBelow=200)
        # A configuration is kept for the next start: asking takes longer than starting.
        self.speaker.start(*([] if OURS in self.processes else [configured]))
        assert self.speaker.process is not None
        self.processes = {OURS: self.speaker.process, THEIRS: theirs}

    def reaches(self, state: str, within: float) -> None:
        """Wait until both are Active, or Backup."""
        theirs = {"Active": "MASTER", "Backup": "BACKUP"}[state]
        self.processes[OURS].wait_for_output(f"-> {state}:", timeout=within)
        self.processes[THEIRS].wait_for_output(f"Entering {theirs} STATE", timeout=within)

    def states(self, side: Side) -> list[bool]:
        """Return the states a side went through: True for Active."""
        found = _STATES.findall(self.processes[side].output())
        return [ours == "Active" or theirs == "MASTER" for ours, theirs in found]

    def numbers(self, side: Side, *, whole: bool = True) -> list[int]:
        """Return the process ids of a side; the one that starts others anew is the last."""
        own = [self.processes[side].pid]
        if side is THEIRS and whole:
            return [int(self.node.read_file("/run/vrrp-test/kav.pid")), *own]
        return own

    def resident_mib(self, side: Side) -> float:
        """Return VmRSS of a side's processes in MiB."""
        files = [f"/proc/{pid}/status" for pid in self.numbers(side)]
        found = re.findall(r"^VmRSS:\s+(\d+)", self.node.run("cat", *files).stdout, re.MULTILINE)
        return sum(map(int, found)) / 1024

    def end(self, *, killed: bool) -> None:
        """Wait until all processes have ended, after a kill if need be, and leave the node without VIPs."""
        for process in self.processes.values():
            if killed:
                process.signal(signal.SIGKILL)
            process.wait(30)
        lines = ["ip link set eth0 up"]
        lines += [f"ip address del {side.vip}/32 dev eth0 2>/dev/null || true" for side in SIDES]
        self.node.run("sh", "-ec", "\n".join(lines))

    def forget(self) -> None:
        """Begin anew, with another configuration."""
        self.end(killed=True)
        self.processes = {}


class Stage:
    """The nodes: one director is Active for both sides, the other one is Backup for both."""

    def __init__(self, lab: Lab) -> None:
        self.active, self.backup = (Director(lab.nodes[name]) for name in ("director-1", "director-2"))
        self.servers = [lab.nodes["storage-1"], lab.nodes["storage-2"]]
        self.client = lab.nodes["client-1"]
        self.milliseconds = 0
        self.uncalled = dict.fromkeys(SIDES, 0)
        """Takeovers that nothing of ours had caused: adverts that came too late on this machine."""

    def prepare(self) -> None:
        """Start the services, program both directors alike, arm the fuses."""
        quiet = ["sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"]
        quiet += [f"ip address add {side.vip}/32 dev lo scope host" for side in SIDES]
        for server in self.servers:
            server.run("sh", "-ec", "\n".join(quiet))
            server.spawn(sys.executable, str(GUEST), "serve", *map(str, PORTS)).wait_for_output("serving")
        asked = json.dumps(_table([server.lan_address for server in self.servers]))
        path = f"PYTHONPATH={ROOT / 'operator'}:{ROOT}"
        argv = ("env", path, sys.executable, "-B", str(GUEST), "director")

        def program(director: Director) -> None:
            node = director.node
            node.run(*argv, stdin=asked, timeout=60)
            node.spawn(sys.executable, str(GUEST), "fuse", node.lan_address).wait_for_output("armed")

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(program, (self.active, self.backup)))

    def begin(self, milliseconds: int) -> None:
        """Start everything with an advert interval; returns when one director is Active and the other one Backup."""
        self.clear()
        self.milliseconds = milliseconds
        self.active.start(milliseconds)
        self.active.reaches("Active", 30 + milliseconds / 100)
        self.backup.start(milliseconds)
        self._settle()

    def clear(self) -> None:
        """End all speakers."""
        for director in (self.active, self.backup):
            director.forget()

    def round(self, event: Event) -> dict[str, Any]:
        """Let an event happen to the Active director; what the client saw. The other one is Active then."""
        seen = self._undisturbed(lambda: self._happen(event))
        self._swap(killed=event.signal == signal.SIGKILL)
        return seen

    def crash(self) -> tuple[dict[str, Any], dict[Side, float]]:
        """Kill the Active's speakers and nothing else; also for how long two nodes answered, in milliseconds."""
        answers: dict[Side, Answers] = {}

        def watched() -> dict[str, Any] | None:
            with (
                watching(self.client, WATCH_SECONDS, OURS.vip) as answers[OURS],
                watching(self.client, WATCH_SECONDS, THEIRS.vip) as answers[THEIRS],
            ):
                return self._happen(CRASH)

        seen = self._undisturbed(watched)
        both = {side: answers[side].both(self.active.node, self.backup.node) * 1000 for side in SIDES}
        self._swap(killed=True)
        return seen, both

    def _undisturbed(self, happen: Callable[[], dict[str, Any] | None]) -> dict[str, Any]:
        """Try until no director changes its mind on its own account while it happens."""
        for _ in range(ATTEMPTS):
            if self._calm() and (seen := happen()) is not None:
                return seen
            self.begin(self.milliseconds)
        raise TooBusy(f"{ATTEMPTS} rounds, each with a takeover that nobody asked for")

    def jitter(self, seconds: float, rounds: int) -> dict[Side, list[float]]:
        """Return by how many milliseconds each pause between two adverts was off.

        With rounds the agent's pass programs 11,000 entries so many times beside the Active's speakers.
        """
        heard = self.backup.node.spawn(sys.executable, str(GUEST), "adverts", self.backup.node.lan_address)
        heard.wait_for_output("listening")
        began = time.monotonic()
        if rounds:
            ipvs_guest(self.active.node, "program", 1000, 10, rounds, "agent", timeout=180)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))
        heard.signal(signal.SIGTERM)
        heard.wait()
        arrived = [line.split() for line in heard.output().splitlines() if line[:1].isdigit()]
        return {
            side: [
                abs((later - sooner) * 1000 - self.milliseconds)
                for sooner, later in itertools.pairwise(float(when) for vrid, when in arrived if int(vrid) == side.vrid)
            ]
            for side in SIDES
        }

    def _happen(self, event: Event) -> dict[str, Any] | None:
        """Run the client; None when a director had changed its mind before, so that nothing was measured."""
        demoted = {side: self.active.states(side).count(False) for side in SIDES}
        own = [number for side in SIDES for number in self.active.numbers(side, whole=event.whole)]
        asked = {
            "targets": {
                f"{side.name} {PORTS[port]}": [side.vip, port, side.vrid] for side in SIDES for port in event.schedulers
            },
            "period": PERIOD_SECONDS * len(event.schedulers), "after": 0.5,
            # Where between two adverts it happens is left to chance.
            "before": 1.0 + random.uniform(0.0, self.milliseconds / 1000),
            "limit": 10 + self.milliseconds / 50, "fuse": self.active.node.lan_address,
            "address": self.client.lan_address,
            "order": {"pids": own, "signal": int(event.signal), "cut": event.cut}, "patient": not event.cut,
        }  # fmt: skip
        process = self.client.spawn(sys.executable, str(GUEST), "client", json.dumps(asked))
        if process.wait(60) != 0:
            raise LabError(f"the client failed: {process.output()[-2000:]}")
        seen: dict[str, Any] = json.loads(process.output().splitlines()[-1])
        for side in SIDES:
            advertised = all(one["advertised"] for name, one in seen.items() if name.startswith(side.name))
            if self.active.states(side).count(False) != demoted[side] or not advertised:
                self.uncalled[side] += 1
                return None
        if lost := [name for name, one in seen.items() if not one["back"]]:
            raise LabError(f"nobody answers for {', '.join(lost)}: {self.backup.processes[OURS].output()[-2000:]}")
        return seen

    def _swap(self, *, killed: bool) -> None:
        """Bring the director that was Active back as Backup."""
        self.active, self.backup = self.backup, self.active
        self.backup.end(killed=killed)
        self.backup.start(self.milliseconds)
        self._settle()

    def _settle(self) -> None:
        self.backup.reaches("Backup", 30)
        time.sleep(2 * self.milliseconds / 1000)

    def _calm(self) -> bool:
        """Whether the Active is Active for both sides and the Backup for none."""
        calm = True
        for side in SIDES:
            if not self.active.states(side)[-1] or any(self.backup.states(side)):
                self.uncalled[side] += 1
                calm = False
        return calm


def _table(servers: Sequence[str]) -> dict[str, Any]:
    """Return what both directors are told: the same for both sides, by the defaults of a DirectorGroup."""
    numbers = MODES[SyncMode.STANDARD]
    daemon = ["eth0", VRID, numbers.maximum_length, SYNC_GROUP, 8848, 1]
    return {
        "sysctls": {
            "sync_threshold": f"{numbers.threshold} {numbers.period}",
            "sync_refresh_period": str(numbers.refresh_seconds), "sync_retries": str(numbers.retries),
            "sloppy_tcp": str(int(numbers.sloppy)),
        },
        "services": [[side.vip, port, scheduler] for side in SIDES for port, scheduler in PORTS.items()],
        "servers": servers,
        "daemons": {"master": daemon, "backup": [*daemon[:2], largest_message(SYNC_GROUP), *daemon[3:]]},
    }  # fmt: skip
