"""`make demo`: the whole story on one machine, with nothing left running afterwards.

What it prints is what happened: every table comes from kubectl, every number from a client's connections.
"""

import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress

from lvs_lab import install
from lvs_lab.lab import Lab
from lvs_lab.workload import Answers, connect, serve

VIP = "192.168.35.100"
PORT = 8443
SERVERS = ("storage-1", "storage-2")
CONNECTIONS = 40


class DemoFailed(Exception):
    """The demo showed something else than it should."""


def main() -> None:
    """Run the demo; exit 1 with one line when something is not as it should be."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        run()
    except DemoFailed as failure:
        sys.exit(f"demo: {failure}")
    except KeyboardInterrupt:
        sys.exit("demo: interrupted; everything it started is gone")


def run() -> None:
    """Show it all."""
    say("A cluster on this machine: an API server, and one kernel per node on one L2 segment")
    with Lab.start(progress=progress) as lab:
        install.install(lab, progress)
        kubectl(lab, "get", "nodes", "-o", "wide")
        say(f"A service on port {PORT} of {' and '.join(SERVERS)}; each answers with its name")
        servers = {name: serve(lab.nodes[name], PORT) for name in SERVERS}
        say("The example: one VirtualService, two RealServers")
        kubectl(lab, "apply", "-f", str(install.EXAMPLE))
        kubectl(lab, "wait", "--for=condition=Ready", "virtualservice/webdav", "--timeout=60s")
        until(lambda: summary(lab) == "2/2", "both real servers healthy", within=30)
        show(lab)
        balanced(lab)
        say("storage-1's service stops: its check fails, new connections go to storage-2")
        servers["storage-1"].signal(signal.SIGKILL)
        until(lambda: summary(lab) == "1/2", "storage-1 is taken out", within=30)
        show(lab)
        expect(connections(lab), {"storage-2": CONNECTIONS})
        say("It comes back")
        serve(lab.nodes["storage-1"], PORT)
        until(lambda: summary(lab) == "2/2", "storage-1 is back", within=30)
        show(lab)
        expect(connections(lab), dict.fromkeys(SERVERS, CONNECTIONS // 2))
        say("The VirtualService is deleted: every node is left as it was")
        kubectl(lab, "delete", "-f", str(install.EXAMPLE))
        until(lambda: not holders(lab), "no node has the VIP any more", within=30)
        say("Done. Taking the lab down")
    progress("nothing is left running. `make lab` brings a cluster up that stays.")


def balanced(lab: Lab) -> None:
    """Connect, and show on the director's wire that no answer came by."""
    director = lab.nodes[
        lab.kubectl("get", "virtualservice", "webdav", "-o", "jsonpath={.status.activeDirector}").stdout
    ]
    say(f"{CONNECTIONS} connections from client-1, with tcpdump on {director.name}, the Active director")
    client = lab.nodes["client-1"].lan_address  # the directors' own checks get answers, too
    with director.capture("eth0", f"tcp port {PORT} and host {VIP} and host {client}") as capture:
        expect(connections(lab), dict.fromkeys(SERVERS, CONNECTIONS // 2))
        time.sleep(1)  # tcpdump prints with a delay
    answers = [line for line in capture.lines if f"{VIP}.{PORT} > " in line]
    print(f"  packets on the director's wire: {len(capture.lines)} from the client, {len(answers)} answers")
    if answers:
        raise DemoFailed("answers crossed the director")
    print("\n  its IPVS table:")
    print(indented(director.run("ipvsadm", "-Ln").stdout))


def connections(lab: Lab) -> Answers:
    """Connect from the client and print who answered."""
    got = connect(lab, VIP, PORT, CONNECTIONS)
    shares = ", ".join(f"{name} {count}" for name, count in sorted(got.answers.items()))
    print(f"  {got.total} of {CONNECTIONS} connections answered: {shares}" + (f"; {got.errors}" if got.errors else ""))
    return got


def expect(got: Answers, answers: dict[str, int]) -> None:
    """Raise DemoFailed unless exactly these answered."""
    if got.answers != answers or got.errors:
        raise DemoFailed(f"expected {answers}, got {got.answers} and errors {got.errors}")


def show(lab: Lab) -> None:
    """Print what a user sees."""
    kubectl(lab, "get", "virtualservices,realservers")


def kubectl(lab: Lab, *argv: str) -> None:
    """Run kubectl and print the command and what it printed."""
    print(f"\n  $ kubectl {' '.join(argv)}".replace(str(install.ROOT) + "/", ""))
    print(indented(lab.kubectl(*argv).stdout))


def summary(lab: Lab) -> str:
    """Return healthy/total of the example."""
    path = "jsonpath={.status.realServers.summary}"
    return lab.kubectl("get", "virtualservice", "webdav", "-o", path, check=False).stdout


def holders(lab: Lab) -> list[str]:
    """Return the nodes that have the VIP."""
    return [name for name, node in lab.nodes.items() if VIP in node.run("ip", "-o", "address", "show").stdout]


def until(check: Callable[[], object], what: str, *, within: float) -> None:
    """Wait for a condition and say how long it took."""
    began = time.monotonic()
    while time.monotonic() - began < within:
        with suppress(OSError):
            if check():
                print(f"  ({what}: after {time.monotonic() - began:.1f} s)")
                return
        time.sleep(0.2)
    raise DemoFailed(f"not within {within:g} s: {what}")


def say(text: str) -> None:
    """Print a headline."""
    print(f"\n== {text}", flush=True)


def progress(text: str) -> None:
    """Print a step that takes time."""
    print(f"   {text}", flush=True)


def indented(text: str) -> str:
    """Return text shifted to the right."""
    return "\n".join(f"    {line}" for line in text.rstrip().splitlines())


if __name__ == "__main__":
    main()
