"""Runs inside a lab node, in a network namespace of its own: agents that are killed at every step of their work.

Arguments: what is done (`lives`: all is added and removed; `edits`: a running table is edited), the first step to be
killed at, and how many steps on the next one is.

Prints {"steps": {life: [step, ...], ...}, "wrong": [[life, step, part, expected, found], ...]}.
"""

import difflib
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

from lvs_dr.agent.byhand import clean_up
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.lastgood import LastGoodFile
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.speaker_byhand import SpeakerByHand
from lvs_dr.core import leaving
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.netlink import socket as netlink_socket
from tests.kernel import tracing
from tests.kernel.life import live

RUN_DIRECTORY = Path("/run/kill-points")
STATE_DIRECTORY = Path("/run/kill-points-state")
LIMIT = 400

# The node, and everything on it that is somebody else's; parts of it are what the agent wants, too.
BEFORE = """
set -e
ip link set lo up
ip link add eth0 type dummy
ip link set eth0 up
ip address add 192.0.2.1/24 dev eth0
ip address add 2001:db8::1/64 dev eth0 nodad
ip route add default via 192.0.2.254
sysctl -q -w net.ipv4.conf.all.arp_announce=1
ip address add 198.51.100.9/32 dev lo
ip address add 2001:db8:1::8/128 dev lo nodad
ip route add blackhole 198.51.100.10/32
ipvsadm -A -t 198.51.100.50:443 -s wlc -p 300
ipvsadm -a -t 198.51.100.50:443 -r 192.0.2.91:443 -g -w 7
ipvsadm -a -t 198.51.100.50:443 -r 192.0.2.92:443 -m -w 3 -x 10 -y 5
ipvsadm -A -u 198.51.100.50:53 -s rr -o
ipvsadm -A -f 77 -s sh -b sh-port
ipvsadm -a -f 77 -r 192.0.2.93 -i -w 1
ipvsadm -A -t 192.0.2.101:80 -s sed -p 120
ipvsadm -a -t 192.0.2.101:80 -r 192.0.2.21:80 -g -w 5
ipvsadm -a -t 192.0.2.101:80 -r 192.0.2.99:80 -g -w 9
"""

LOOK = {
    "addresses and routes": ["ip", "-batch", "-"],
    "IPv6 routes": ["ip", "-6", "route", "show", "table", "all"],
    "IPVS": ["ipvsadm", "-Sn"],
    "limits": ["ipvsadm", "-Ln", "--thresholds"],
}
SYSCTLS = ("ipv4/conf/all", "ipv4/conf/lo", "ipv4/conf/eth0", "ipv4/vs", "ipv6/conf/all", "ipv6/conf/lo")
UNREADABLE = ("stable_secret",)  # until it is set

SPEC = {
    "decided": True,
    "director": {
        "group": "default",
        "internalAddresses": ["192.0.2.1"],
        "tables": ["web/one", "web/two"],
        "vrrp": {
            "routers": [{"id": 51, "priority": 250, "addresses": ["192.0.2.100", "192.0.2.101", "2001:db8::100"]}]
        },
    },
    "backendAddresses": ["198.51.100.7", "2001:db8:1::7", "2001:db8:1::8"],
}


def table(
    address: str, ports: list[int], servers: list[str], *, scheduler: str = "wrr", first_weight: int = 100
) -> DirectorTableSpec:
    """Return a table; the first port is 80."""
    raw = {
        "directorGroup": "default",
        "serviceGeneration": 1,
        "address": address,
        "ports": [{"port": port, "protocol": "TCP"} for port in ports],
        "scheduler": scheduler,
        "onFailure": "Remove",
        "destinations": [
            {"realServer": f"s{each[-1]}", "address": each, "weight": 100 if number else first_weight}
            for number, each in enumerate(servers)
        ],
    }
    return msgspec.convert(raw, DirectorTableSpec)


TABLES = {
    "web/one": table("192.0.2.100", [80], ["192.0.2.21", "192.0.2.22"]),
    "web/two": table("192.0.2.101", [80], ["192.0.2.21", "192.0.2.22"]),  # exists already: adopted
    "web/six": table("2001:db8::100", [80], ["2001:db8::21"]),
}
# Everywhere another scheduler and another weight; one real server leaves, another one comes.
EDITED = {
    "web/one": table("192.0.2.100", [80], ["192.0.2.21", "192.0.2.23"], scheduler="wlc", first_weight=50),
    "web/two": table("192.0.2.101", [80], ["192.0.2.21", "192.0.2.23"], scheduler="wlc", first_weight=50),
    "web/six": table("2001:db8::100", [80], ["2001:db8::21"], scheduler="wlc", first_weight=50),
}


def look() -> dict[str, str]:
    """Return all of the node that we could have changed, as the usual tools print it."""
    found = {
        part: subprocess.run(
            argv, input="address\nroute show table all\n", capture_output=True, text=True, timeout=60, check=True
        ).stdout
        for part, argv in LOOK.items()
    }
    lines = []
    for directory in SYSCTLS:
        files = (file for file in sorted(Path("/proc/sys/net", directory).iterdir()) if file.is_file())
        lines += [f"{file} {file.read_text().strip()}" for file in files if file.name not in UNREADABLE]
    return {**found, "sysctls": "\n".join(lines)}


def add() -> None:
    """Do all that the objects say."""
    live(RUN_DIRECTORY, msgspec.convert(SPEC, LVSNodeSpec), TABLES)


def edit() -> None:
    """Follow the same objects after an edit."""
    live(RUN_DIRECTORY, msgspec.convert(SPEC, LVSNodeSpec), EDITED)


def remove() -> None:
    """Follow an empty spec: nothing of ours is to be on the node."""
    live(RUN_DIRECTORY, LVSNodeSpec(decided=True), {})


def by_hand() -> None:
    """Run what `lvs-agent cleanup` runs."""
    kernel = NodeKernel()
    ledger = LedgerFile(RUN_DIRECTORY, kernel.boot_id())
    ledger.load(put_aside=False)
    speaker = SpeakerByHand(RUN_DIRECTORY, STATE_DIRECTORY, kernel)
    clean_up(kernel, ledger, LastGoodFile(STATE_DIRECTORY), speaker, lambda _: None)


class Campaign:
    """Kills at every step, and looks."""

    def __init__(self, first: dict[str, str]) -> None:
        self.clean = first
        self.full: dict[str, str] = {}
        self.steps: dict[str, list[str]] = {
            "add": [], "remove": [], "clean up by hand": [], "edit": [], "edit back": []
        }  # fmt: skip
        self.wrong: list[list[str]] = []

    def compare(self, what: str, step: str, expected: dict[str, str], *, sort: bool = False) -> None:
        """Note every part of the node that is not as expected."""
        seen = _sorted(look()) if sort else look()
        for part, found in seen.items():
            if found != expected[part]:
                lines = difflib.unified_diff(expected[part].splitlines(), found.splitlines(), lineterm="", n=0)
                self.wrong.append([what, step, part, "\n".join(lines)[:1500]])

    def kill(self, kind: str, life: Callable[[], None], number: int) -> str:
        """Kill a life at one step; returns the step."""
        step = tracing.killed_at(life, number)
        if step:
            self.steps[kind].append(step)
        return step

    def run(self, first: int, stride: int) -> None:
        """Kill while adding and while removing, at every `stride`-th step from `first`.

        After a kill, now and then all is wanted as before, before nothing is; and now and then it is the clean-up by
        hand that is killed: each life takes most of a second.
        """
        tracing.run(add)
        self.full = look()
        tracing.run(remove)
        self.compare("add and remove", "no kill", self.clean)
        left = {"add": add, "remove": remove, "clean up by hand": by_hand}
        for number in range(first, LIMIT, stride):
            turn = number // stride
            clear = remove if turn % 2 else by_hand
            for kind, life in list(left.items()):
                if life is by_hand and turn % 3 and len(left) > 1:
                    continue
                if life is not add:
                    tracing.run(add)
                step = self.kill(kind, life, number)
                if not step:
                    del left[kind]
                if life is add and step and turn % 3 == 1:
                    tracing.run(add)
                    self.compare("killed: add, then the same wanted", f"{number}: {step}", self.full)
                    tracing.run(remove)
                    tracing.killed_at(add, number)
                tracing.run(clear)
                self.compare(f"killed: {kind}, then nothing wanted", f"{number}: {step}", self.clean)
            if not left:
                return
        raise RuntimeError(f"not done after {LIMIT} steps")

    def edits(self, first: int, stride: int) -> None:
        """Kill while a running table is edited and while the edit is taken back, at every `stride`-th step in turn.

        So every step is one to be killed at in one of the two directions, which are each other's mirror: same
        messages, other values. After a kill the same is wanted again; after each third one, nothing.
        """
        tracing.run(add)
        tracing.run(edit)
        edited = _sorted(look())
        tracing.run(add)
        full = _sorted(look())
        tracing.run(edit)
        self.compare("edit, back, and edit", "no kill", edited, sort=True)
        tracing.run(add)
        ways = {"edit": (edit, edited), "edit back": (add, full)}
        left = set(ways)
        kind = "edit"
        for number in range(first, LIMIT, stride):
            life, expected = ways[kind]
            step = self.kill(kind, life, number)
            if not step:
                left.discard(kind)
            if step and number // stride % 3 == 2:
                tracing.run(remove)
                self.compare(f"killed: {kind}, then nothing wanted", f"{number}: {step}", self.clean)
                tracing.run(ways["edit back"][0])
                kind = "edit"
                continue
            if step:
                tracing.run(life)
            self.compare(f"killed: {kind}, then the same wanted", f"{number}: {step}", expected, sort=True)
            if not left:
                break
            kind = "edit back" if kind == "edit" else "edit"
        else:
            raise RuntimeError(f"not done after {LIMIT} steps")
        tracing.run(remove)
        self.compare("edited, then nothing wanted", "no kill", self.clean)


def _sorted(seen: dict[str, str]) -> dict[str, str]:
    """Return what was seen, lines sorted: a destination that went and came back is listed elsewhere."""
    return {part: "\n".join(sorted(text.splitlines())) for part, text in seen.items()}


def main() -> None:
    """Run the campaign with batches cut into single messages: a kill may come between any two of them."""
    netlink_socket.CHUNK_BYTES = 200  # type: ignore[misc]
    import pyroute2  # noqa: F401, PLC0415 - loaded once, and not in each of hundreds of children

    subprocess.run(["sh", "-c", BEFORE], check=True, timeout=60)
    campaign = Campaign(look())
    first, stride = int(sys.argv[2]), int(sys.argv[3])
    if sys.argv[1] == "edits":
        leaving.SETTLE_SECONDS = 0.05  # type: ignore[misc]  # a real server that leaves is quiesced first
        campaign.edits(first, stride)
    else:
        campaign.run(first, stride)
    json.dump({"steps": campaign.steps, "wrong": campaign.wrong, "full": campaign.full}, sys.stdout)


if __name__ == "__main__":
    main()
