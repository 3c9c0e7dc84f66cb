"""Speakers and keepalived on lab nodes, for tests: started, asked, killed, and what a client sees of it."""

import itertools
import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lvs_lab import Node
from lvs_lab.client import NodeProcess

REPOSITORY = Path(__file__).parents[2]
VIP, VIP6 = "192.168.35.200", "fd35::200"
VRID = 51
_ENVIRONMENT = ["env", f"PYTHONPATH={REPOSITORY / 'operator'}", sys.executable, "-B"]


def guest(node: Node, *command: Any, timeout: float = 60) -> Any:
    """Run a command of vrrp_guest.py."""
    argv = [*_ENVIRONMENT, str(REPOSITORY / "tests" / "kernel" / "vrrp_guest.py")]
    return json.loads(node.run(*argv, stdin=json.dumps(command), timeout=timeout).stdout)


def addresses(node: Node) -> str:
    """Return what `ip` says of the interface."""
    return node.run("ip", "-o", "address", "show", "dev", "eth0").stdout


def holds(node: Node, vip: str = VIP) -> bool:
    """Whether the node's kernel has the VIP."""
    return f" {vip}/" in addresses(node)


def instance(priority: int, *, milliseconds: int = 100, **more: Any) -> dict[str, Any]:
    """Return an instance's configuration."""
    return {
        "vrid": VRID,
        "family": 4,
        "priority": priority,
        "addresses": [VIP],
        "intervalMilliseconds": milliseconds,
        "startDelaySeconds": 0.2,
        **more,
    }


class Speaker:
    """Our speaker on a node."""

    def __init__(self, node: Node, *, before: Sequence[str] = ()) -> None:
        self.node = node
        self.before = before  # a command that runs it
        self.process: NodeProcess | None = None

    def start(self, *instances: dict[str, Any], **more: Any) -> None:
        """Start it, and configure it unless it is to use what it had before."""
        argv = [*self.before, *_ENVIRONMENT, "-m", "lvs_dr.vrrp", "--run-directory", "/run/vrrp-test"]
        self.process = self.node.spawn(*argv, "--state-directory", "/run/vrrp-test/state", "--stop-wait", "8")
        if instances:
            self.configure(*instances, **more)

    def configure(self, *instances: dict[str, Any], **more: Any) -> Any:
        """Send a configuration; the answer."""
        return self.ask(kind="configure", configuration={"interface": "eth0", "instances": [*instances], **more})

    def ask(self, **request: Any) -> Any:
        """Send a request; the answer."""
        return guest(self.node, "ask", request)

    def reaches(self, *states: str, within: float = 20) -> Any:
        """Wait until the instances are in these states; the state message."""
        state = guest(self.node, "await", states, within, timeout=within + 20)
        found = [each["state"] for each in state.get("instances", [])]
        assert found == [*states], f"{self.node.name}: {found}\n{self.log()}"
        return state

    def await_settled(self) -> None:
        """Wait until no instance has changed its state for a second."""
        for _ in range(20):
            instances = self.ask(kind="state")["instances"]
            if instances and all(each["sinceSeconds"] > 1 for each in instances):
                return
            time.sleep(0.3)

    def signal(self, number: int) -> None:
        """Send a signal."""
        assert self.process is not None
        self.process.signal(number)

    def log(self) -> str:
        """Return its log."""
        return self.process.output() if self.process is not None else ""

    def clear(self) -> None:
        """Kill it, and leave the node as it was."""
        if self.process is not None:
            self.process.signal(9)
        clear(self.node)


def clear(node: Node) -> None:
    """Remove what a test may have left."""
    for address in (f"{VIP}/32", f"{VIP6}/128"):
        node.run("ip", "address", "del", address, "dev", "eth0", check=False)
    node.run("rm", "-rf", "/run/vrrp-test")


def keepalived(
    node: Node,
    priority: int,
    *,
    seconds: str,
    vip: str = VIP,
    family: str = "",
    vrid: int = VRID,
    preempt: bool = True,
) -> NodeProcess:
    """Start keepalived with one VRRPv3 instance."""
    text = f"""
global_defs {{
    router_id {node.name}
    vrrp_version 3
    vrrp_garp_master_delay 1
}}
vrrp_instance test {{
    state BACKUP
    interface eth0
    virtual_router_id {vrid}
    priority {priority}
    advert_int {seconds}
    {family}
    {"" if preempt else "nopreempt"}
    virtual_ipaddress {{
        {vip}
    }}
}}
"""
    node.run("mkdir", "-p", "/run/vrrp-test")
    node.run("rm", "-f", "/run/vrrp-test/ka.pid", "/run/vrrp-test/kav.pid")  # of one that was killed
    node.put_file("/run/vrrp-test/keepalived.conf", text)
    argv = [
        "keepalived",
        "--dont-fork",
        "--log-console",
        "--log-detail",
        "--vrrp",
        "-f",
        "/run/vrrp-test/keepalived.conf",
    ]
    return node.spawn(*argv, "-p", "/run/vrrp-test/ka.pid", "-r", "/run/vrrp-test/kav.pid")


class Answers:
    """Who answered for the VIP, as a client saw it."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str]] = []

    def gap(self) -> float:
        """Return the longest time without an answer, in seconds."""
        times = [when for when, _ in self.seen]
        return max((later - sooner for sooner, later in itertools.pairwise(times)), default=float("inf"))

    def both(self, old: Node, new: Node) -> float:
        """Return for how long the old holder went on answering after the new one did, in seconds."""
        first = min((when for when, mac in self.seen if mac == new.mac), default=float("inf"))
        last = max((when for when, mac in self.seen if mac == old.mac), default=0.0)
        return max(0.0, last - first)

    def macs(self) -> set[str]:
        """Return who answered."""
        return {mac for _, mac in self.seen}


@contextmanager
def watching(client: Node, seconds: float, vip: str = VIP) -> Iterator[Answers]:
    """Ask for the VIP's MAC from a client for so many seconds, while the block runs and until they are over.

    The block begins when somebody has answered.
    """
    answers = Answers()
    command = json.dumps(["watch", "eth0", client.lan_address, vip, seconds])
    process = client.spawn(*_ENVIRONMENT, str(REPOSITORY / "tests" / "kernel" / "vrrp_guest.py"), command)
    process.wait_for_output("watching", timeout=60)
    try:
        yield answers
    finally:
        process.wait(seconds + 60)
        answers.seen = [(when, mac) for when, mac in json.loads(process.output().splitlines()[-1])]
