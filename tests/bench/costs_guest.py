"""What speaker and agent cost, measured where they run. Prints JSON.

costs_guest.py native JSON      in network namespaces of its own (`unshare -Urn`): two speakers, one Active, with ever
                                more VIPs
costs_guest.py idle JSON        on a director of the lab: agent and speaker, beside a stand-in for the API server
"""

import asyncio
import contextlib
import json
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

VRID = 51
ETH_P_ALL = 3
IPV4, ARP, VRRP, ARP_SENDER = b"\x08\x00", b"\x08\x06", 112, slice(28, 32)
SETTLE_SECONDS = 8.0
"""From an election to peace: VIPs are announced for four seconds, and once more when a lifetime is over."""
LONGEST_WAIT_SECONDS = 60.0


class Process:
    """A program under measurement."""

    def __init__(self, argv: Sequence[str]) -> None:
        self._process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads so far: the scheduler's own account, in nanoseconds."""
        tasks = Path(f"/proc/{self._process.pid}/task")
        return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks.iterdir()) / 1e9

    def resident_mib(self) -> float:
        """Return VmRSS in MiB."""
        status = Path(f"/proc/{self._process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def end(self) -> None:
        """Kill it."""
        self._process.kill()
        self._process.wait(10)


class Speaker(Process):
    """A speaker with directories of its own."""

    def __init__(self, directory: Path, *before: str) -> None:
        self._socket = directory / "speaker.sock"
        own = ("--run-directory", str(directory), "--state-directory", str(directory), "--log-level", "warning")
        super().__init__([*before, sys.executable, "-B", "-m", "lvs_dr.vrrp", *own])

    def ask(self, **request: object) -> Any:
        """Send a request and return the answer; the speaker may just be starting."""
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        while True:
            with socket.socket(socket.AF_UNIX) as client:
                client.settimeout(LONGEST_WAIT_SECONDS)
                try:
                    client.connect(str(self._socket))
                    client.sendall(json.dumps(request).encode() + b"\n")
                    return json.loads(client.makefile().readline())
                except (FileNotFoundError, ConnectionRefusedError):
                    if time.monotonic() > end:
                        raise
            time.sleep(0.05)

    def configure(self, priority: int, addresses: Sequence[str]) -> None:
        """Take part with these VIPs."""
        one = {"vrid": VRID, "family": 4, "priority": priority, "addresses": addresses, "degradedBelow": 200}
        self.ask(kind="configure", configuration={"interface": "eth0", "instances": [one]})

    def reaches(self, state: str) -> None:
        """Wait for a state."""
        end = time.monotonic() + LONGEST_WAIT_SECONDS
        while [each["state"] for each in self.ask(kind="state")["instances"]] != [state]:
            if time.monotonic() > end:
                raise SystemExit(f"not {state}: {self.ask(kind='state')}")
            time.sleep(0.1)


def ip(*argv: str, inside: Sequence[str] = ()) -> None:
    """Run `ip`."""
    subprocess.run([*inside, "ip", *argv], check=True, timeout=20)


@contextlib.contextmanager
def two_namespaces() -> Iterator[tuple[str, ...]]:
    """Join this network namespace with another one by eth0; yields what runs a program in the other."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as other:
        try:
            own = Path("/proc/self/ns/net").readlink()
            while Path(f"/proc/{other.pid}/ns/net").readlink() == own:
                time.sleep(0.01)
            inside = ("nsenter", "--target", str(other.pid), "--net")
            ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth0", "netns", str(other.pid))
            for number, where in ((1, ()), (2, inside)):
                ip("address", "add", f"192.0.2.{number}/24", "dev", "eth0", inside=where)
                ip("link", "set", "eth0", "up", inside=where)
            yield inside
        finally:
            other.kill()


def native(asked: dict[str, Any]) -> dict[str, Any]:
    """Measure an Active and a Backup with ever more VIPs."""
    found: dict[str, Any] = {}
    with two_namespaces() as inside, tempfile.TemporaryDirectory() as directory:
        for count in asked["counts"]:
            here = Path(directory) / str(count)
            vips = [f"10.35.{number // 250}.{number % 250 + 1}" for number in range(count)]
            active, backup = Speaker(here / "active"), Speaker(here / "backup", *inside)
            try:
                active.configure(250, vips)
                active.reaches("Active")
                backup.configure(245, vips)
                backup.reaches("Backup")
                time.sleep(SETTLE_SECONDS)
                found[str(count)] = measured(active, backup, asked["seconds"]) | taken_over(active, vips)
            finally:
                active.end()
                backup.end()
    return found


def taken_over(active: Speaker, vips: Sequence[str]) -> dict[str, Any]:
    """Kill the Active; what its successor does from its first advert on, and how long the VIPs stay where they were."""
    left = {socket.inet_aton(each) for each in vips}
    advert, first = 0.0, 0.0
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL)) as wire:
        wire.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 24)
        wire.bind(("eth0", ETH_P_ALL))
        wire.settimeout(LONGEST_WAIT_SECONDS)
        active.end()
        killed = time.monotonic()
        while left:
            frame, (_, _, kind, _, _) = wire.recvfrom(2048)
            now = time.monotonic()
            if kind == socket.PACKET_OUTGOING:
                continue
            if frame[12:14] == IPV4 and frame[23] == VRRP:
                advert = advert or now
            elif frame[12:14] == ARP and frame[ARP_SENDER] in left:
                first = first or now
                left.discard(frame[ARP_SENDER])
    while _shown("10.35.0.0/16"):
        time.sleep(0.01)
    gone = (time.monotonic() - killed) * 1000
    return {"taken_ms": (first - advert) * 1000, "announced_ms": (now - advert) * 1000, "left_behind_ms": gone}


def _shown(network: str) -> str:
    """Return what `ip` shows of a network's addresses on the interface."""
    argv = ["ip", "-o", "address", "show", "dev", "eth0", "to", network]
    return subprocess.run(argv, check=True, timeout=20, capture_output=True, text=True).stdout


def measured(active: Speaker, backup: Speaker, seconds: float) -> dict[str, Any]:
    """Return processor time in percent of a core, and what renewing took."""
    before = [each.cpu_seconds() for each in (active, backup)]
    begun, first = time.monotonic(), active.ask(kind="state")["addresses"]["renewals"]
    took = []
    while time.monotonic() < begun + seconds:
        time.sleep(2.0)  # as often as an agent says that it lives
        took.append(active.ask(kind="alive")["addresses"]["lastRenewalSeconds"] * 1000)
    passed = time.monotonic() - begun
    after = [each.cpu_seconds() for each in (active, backup)]
    last = active.ask(kind="state")
    return {
        "active": 100 * (after[0] - before[0]) / passed,
        "backup": 100 * (after[1] - before[1]) / passed,
        "states": [each.ask(kind="state")["instances"][0]["state"] for each in (active, backup)],
        "renewal_ms": took,
        "period_s": passed / max(1, last["addresses"]["renewals"] - first),
        "rss_mib": active.resident_mib(),
    }


async def idle(asked: dict[str, Any]) -> dict[str, Any]:
    """Measure agent and speaker of a director that has a few services and nothing to do."""
    from tests.unit.agent.fake_api import FakeApi  # noqa: PLC0415 - needs what the other measurement does without

    async with FakeApi() as api:
        await api.put("lvsnodes", "director-1", asked["node"])
        for name, spec in asked["tables"].items():
            await api.put("directortables", name, spec, namespace="default")
        with tempfile.TemporaryDirectory() as directory:
            run = ("--run-directory", directory, "--state-directory", directory)
            speaker = Speaker(Path(directory))
            agent = Process(
                [sys.executable, "-B", "-m", "lvs_dr.agent.main", "run", "--node-name=director-1", *run,
                 f"--api-server={api.url}", "--listen=127.0.0.1:9441", "--log-level=warning"]
            )  # fmt: skip
            try:
                return await _idle(api, speaker, agent, asked)
            finally:
                agent.end()
                speaker.end()


async def _idle(api: Any, speaker: Speaker, agent: Process, asked: dict[str, Any]) -> dict[str, Any]:
    def healthy() -> int:
        tables = api.objects["lvsnodes"]["director-1"].get("status", {}).get("tables", [])
        return sum(1 for each in tables if each.get("healthy", 0) == each.get("total") == 2)

    async with asyncio.timeout(LONGEST_WAIT_SECONDS):
        while healthy() < len(asked["tables"]):  # noqa: ASYNC110 - the stand-in tells nobody
            await asyncio.sleep(0.2)
    await asyncio.to_thread(speaker.reaches, "Active")
    await asyncio.sleep(SETTLE_SECONDS)
    before, begun = [each.cpu_seconds() for each in (agent, speaker)], time.monotonic()
    await asyncio.sleep(asked["seconds"])
    passed = time.monotonic() - begun
    after = [each.cpu_seconds() for each in (agent, speaker)]
    return {
        "agent": 100 * (after[0] - before[0]) / passed,
        "speaker": 100 * (after[1] - before[1]) / passed,
        "rss_mib": agent.resident_mib(),
        "status": api.objects["lvsnodes"]["director-1"]["status"],
    }


def main() -> None:
    """Do what the arguments say."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    what, asked = sys.argv[1], json.loads(sys.argv[2])
    print(json.dumps(native(asked) if what == "native" else asyncio.run(idle(asked))))


if __name__ == "__main__":
    main()
