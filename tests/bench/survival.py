"""Section `survival`: which connections live on when a director dies, by how connection sync is set; and its price.

Two directors, two real servers and a client, each a kernel of its own, without Kubernetes. A client opens connections
some time before the Active director's interface goes down (from then on nothing leaves it, as when it lost its power;
the client says when, by a datagram); the other director takes the VIP and says so; then each connection must still
carry both ways. Settings go through the agent's own kernel door. Each row has a VIP, a sync id and fresh client ports
of its own.
"""

import json
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from lvs_dr.core.director_group import SyncMode
from lvs_dr.core.sync import largest_message
from lvs_dr.core.sync_modes import MODES
from lvs_lab import Lab, Node, NodeProcess, NodeSpec
from tests.bench.figures import Figure, columns, figure

ROOT = Path(__file__).parents[2]
SECTION = "survival"
USUAL_GROUP = "224.0.0.81"
GUEST = ROOT / "tests/bench/survival_guest.py"
PORT = 7000
AGES = (5.0, 1.6, 1.0, 0.5, 0.2)
"""Seconds. The kernel sends a buffer that is not full after 2 s: one that was begun 1.8 s before dies with it."""
RETURN_SECONDS = 14
"""How long a director that came back listens before it takes over: a refresh period and a little more."""
MARGIN_SECONDS = 0.2
"""How long it takes to open all connections of one age: they are that much older at most."""
SPARSE_AGES = (3.5, 3.0, 2.5, 2.0, 1.5, 1.0, 0.6, 0.3)
SOURCES = [f"192.168.35.{octet}" for octet in range(160, 254)]
"""Addresses of the client for what depends on them: persistence."""
NODES = tuple(
    NodeSpec(name=name, octet=octet, kubernetes=False, memory_mib=memory)
    for name, octet, memory in (
        ("director-1", 11, 192), ("director-2", 12, 192), ("storage-1", 21, 160), ("storage-2", 22, 160),
        ("client-1", 51, 192),
    )
)  # fmt: skip

Progress = Callable[[str], None]


class Row(NamedTuple):
    """One setting. `threshold` "" = no sync daemons."""

    name: str
    threshold: str = "2 0"
    refresh: int = 10
    retries: int = 1
    length: int = 1472  # of the master's messages
    sloppy: int = 0
    scheduler: str = "rr"
    kind: str = ""  # "" = TCP of all three kinds
    six: bool = False
    persistence: int = 0
    sparse: bool = False


def _mode(mode: SyncMode) -> Row:
    numbers = MODES[mode]
    threshold = f"{numbers.threshold} {numbers.period}"
    length = numbers.maximum_length or largest_message(USUAL_GROUP)
    return Row(mode.lower(), threshold, numbers.refresh_seconds, numbers.retries, length, int(numbers.sloppy))


STANDARD, STRICT = _mode(SyncMode.STANDARD), _mode(SyncMode.STRICT)
ROWS = (
    Row("no sync, rr", ""),
    Row("3 50, rr: the kernel's defaults", "3 50", 0, 0),
    Row("2 50, rr", "2 50", 0, 0),
    Row("2 0, refresh 10 s, retry 1, rr"),
    Row("2 0, refresh 10 s, retry 1, maxlen 160, rr", length=160),
    Row("2 0, refresh 10 s, retry 1, maxlen 1, rr", length=1),
    Row("0 1, maxlen 1, rr", "0 1", 0, 0, 1),
    STANDARD._replace(name="standard, rr"),
    STANDARD._replace(name="standard, wlc", scheduler="wlc"),
    STANDARD._replace(name="standard, mh", scheduler="mh"),
    Row("no sync, mh, sloppy 1", "", sloppy=1, scheduler="mh"),
    STANDARD._replace(name="standard, rr, IPv6", six=True),
    STANDARD._replace(name="standard, rr, UDP", kind="udp"),
    STANDARD._replace(name="standard, rr, persistence", kind="client", persistence=300),
    STRICT._replace(name="strict, rr"),
    Row("3 50, rr, sparse", "3 50", 0, 0, sparse=True),
    STANDARD._replace(name="standard, rr, sparse", sparse=True),
    STANDARD._replace(name="standard, mh, sparse", scheduler="mh", sparse=True),
    STRICT._replace(name="strict, rr, sparse", sparse=True),
)
QUICK = ("3 50, rr: the kernel's defaults", "standard, rr", "standard, mh")
RETURNS = (Row("back after a reboot: 3 50", "3 50", 0, 0), STANDARD._replace(name="back after a reboot: standard"))


class Outcome(NamedTuple):
    """What became of the connections of one row, and what sync sent for it before the failure."""

    counts: Counter[str]
    packets: int
    bytes: int

    def kept(self, *, least: float = 0.0, most: float = 99.0, kind: str = "") -> tuple[int, int]:
        """Return how many survived, of how many, by age in seconds and by kind."""
        good = total = 0
        for name, count in self.counts.items():
            age, what, how = name.split()
            if least <= float(age) <= most and kind in ("", what):
                total += count
                good += count if how == "kept" else 0
        return good, total


def measure(quick: bool, progress: Progress) -> list[Figure]:  # noqa: FBT001
    """Start the nodes once and measure all rows on them."""
    rows = [row for row in ROWS if row.name in QUICK] if quick else list(ROWS)
    with Lab.start(nodes=NODES, kubernetes=False, progress=progress) as lab:
        stage = Stage(lab, 4 if quick else 14)
        stage.prepare(len(rows) + len(RETURNS) + 1)
        found: dict[str, Outcome] = {}
        for number, row in enumerate(rows, 1):
            found[row.name] = stage.fail(row, number)
            progress(f"{row.name}: {_text(found[row.name], row)}")
        if not quick:
            for number, row in enumerate(RETURNS, len(rows) + 1):
                found[row.name] = stage.come_back(row, number)
                progress(f"{row.name}: {_text(found[row.name], row)}")
    dense = {name: outcome for name, outcome in found.items() if "sparse" not in name}
    progress("survivors by age in seconds:\n" + _table(dense, AGES, "idle"))
    if sparse := {name: outcome for name, outcome in found.items() if "sparse" in name}:
        progress("one idle connection of each age, and nothing else:\n" + _table(sparse, SPARSE_AGES))
    return _figures(found)


class Stage:
    """The nodes, and what is done on them for each row."""

    def __init__(self, lab: Lab, count: int) -> None:
        self.lab = lab
        self.count = count  # connections of one kind and age
        self.active, self.backup = lab.nodes["director-1"], lab.nodes["director-2"]
        self.servers = [lab.nodes["storage-1"], lab.nodes["storage-2"]]
        self.client = lab.nodes["client-1"]
        self.pool = ThreadPoolExecutor(4)

    def prepare(self, rows: int) -> None:
        """Start the services, and give the real servers all VIPs."""
        vips = [f"address add {_vip(number, six=False)}/32 dev lo scope host" for number in range(1, rows + 1)]
        vips += [f"address add {_vip(number, six=True)}/128 dev lo nodad" for number in range(1, rows + 1)]
        quiet = "sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2"
        for server in self.servers:
            server.run("sh", "-ec", f"{quiet}\nip -batch -", stdin="\n".join(vips))
            server.spawn(sys.executable, str(GUEST), "serve", str(PORT)).wait_for_output("serving")
        aliases = "\n".join(f"address add {source}/24 dev eth0" for source in SOURCES)
        self.client.run("ip", "-batch", "-", stdin=aliases)
        for director in (self.active, self.backup):
            _count(director)
        self.active.spawn(sys.executable, str(GUEST), "fuse", self.active.lan_address).wait_for_output("armed")

    def fail(self, row: Row, number: int) -> Outcome:
        """Open connections through the Active, which then dies; let the Backup take the VIP, see what is left."""
        self.programmed(row, number, self.active, self.backup)
        _sent(self.active)
        client, file = self.opened(row, number)
        return self.taken(row, _vip(number, six=row.six), client, file)

    def come_back(self, row: Row, number: int) -> Outcome:
        """Reboot the Backup under connections in use, wait as long as a refresh takes, and let it take over."""
        self.programmed(row, number, self.active)
        _sent(self.active)
        hold = f"/run/hold-{number}"
        client, file = self.opened(row, number, hold)
        self.backup.kill()
        self.backup.boot()
        _count(self.backup)
        self.programmed(row, number, self.backup)
        time.sleep(RETURN_SECONDS)
        self.client.put_file(hold, "")
        return self.taken(row, _vip(number, six=False), client, file)

    def opened(self, row: Row, number: int, hold: str = "") -> tuple[NodeProcess, str]:
        """Start the client and wait until it has opened everything; with `hold` nothing dies before that file."""
        file = f"/run/failed-{number}"
        kinds = (row.kind,) if row.kind else ("idle",) if row.sparse else ("idle", "echo", "bulk")
        ages = SPARSE_AGES if row.sparse else AGES
        count = 1 if row.sparse else self.count
        asked = {
            "bursts": [[age, kind, count] for age in ages for kind in kinds],
            "address": _vip(number, six=row.six), "port": PORT, "file": file, "hold": hold,
            "fuse": self.active.lan_address, "margin": 0.0 if row.sparse else MARGIN_SECONDS,
            "sources": SOURCES if row.kind == "client" else [],
        }  # fmt: skip
        process = self.client.spawn(sys.executable, str(GUEST), "client", json.dumps(asked))
        process.wait_for_output("opened", timeout=60)
        return process, file

    def taken(self, row: Row, vip: str, client: NodeProcess, file: str) -> Outcome:
        """Once the Active is dead let the Backup take the VIP, and count; then bring the Active back."""
        client.wait_for_output("dead", timeout=60)
        packets, size = _sent(self.active)
        _guest(self.backup, "move", vip)
        self.client.put_file(file, "")
        client.wait(timeout=60)
        back = f"ip link set eth0 up\nip -6 address replace {self.active.lan_address6}/64 dev eth0 nodad"
        self.active.run("sh", "-ec", back)
        for director in (self.active, self.backup):
            director.run("ip", "address", "del", f"{vip}/{128 if row.six else 32}", "dev", "eth0", check=False)
        return Outcome(Counter(json.loads(client.output().splitlines()[-1])), packets, size)

    def programmed(self, row: Row, number: int, *directors: Node) -> None:
        """Make directors what the row says, side by side; the Active takes the VIP."""
        asked = _asked(row, number, self.servers)

        def make(node: Node) -> None:
            mine = asked | ({"vip": _vip(number, six=row.six)} if node is self.active else {})
            _guest(node, "director", stdin=json.dumps(mine))

        list(self.pool.map(make, directors))


def _asked(row: Row, number: int, servers: Sequence[Node]) -> dict[str, Any]:
    vip, family = _vip(number, six=row.six), 10 if row.six else 2
    daemon = ["eth0", number, row.length, USUAL_GROUP, 8848, 1]
    hearing = [*daemon[:2], largest_message(USUAL_GROUP), *daemon[3:]]
    return {
        "sysctls": {
            "sync_threshold": row.threshold or "3 50", "sync_refresh_period": str(row.refresh),
            "sync_retries": str(row.retries), "sloppy_tcp": str(row.sloppy),
        },
        "service": [vip, PORT, 17 if row.kind == "udp" else 6, 0, family],
        "config": [row.scheduler, 0, row.persistence, 128 if row.six else 32, ""],
        "servers": [node.lan_address6 if row.six else node.lan_address for node in servers],
        "daemons": {"master": daemon, "backup": hearing} if row.threshold else {},
    }  # fmt: skip


def _vip(number: int, *, six: bool) -> str:
    return f"fd35::1:{number:x}" if six else f"192.168.35.{100 + number}"


def _guest(node: Node, *arguments: str, stdin: str = "") -> None:
    path = f"PYTHONPATH={ROOT / 'operator'}:{ROOT}"
    node.run("env", path, sys.executable, "-B", str(GUEST), *arguments, stdin=stdin, timeout=60)


def _count(director: Node) -> None:
    """Count what leaves a director for connection sync."""
    director.run("iptables-legacy", "-I", "OUTPUT", "-p", "udp", "--dport", "8848")


def _sent(director: Node) -> tuple[int, int]:
    """Return packets and bytes since the last call."""
    text = director.run("iptables-legacy", "-nvx", "-L", "OUTPUT", "-Z").stdout
    line = next(line for line in text.splitlines() if "dpt:8848" in line)
    packets, size = line.split()[:2]
    return int(packets), int(size)


def _text(outcome: Outcome, row: Row) -> str:
    good, total = outcome.kept()
    per = outcome.packets / total if total else 0
    return (
        f"{good}/{total} survive; {per:.2f} sync packets a connection" if row.threshold else f"{good}/{total} survive"
    )


def _table(found: dict[str, Outcome], ages: Sequence[float], *more: str) -> str:
    lines = [["setting", *(f"{age:g}" for age in ages), *more, "all", "packets each", "bytes each"]]
    for name, outcome in found.items():
        total = outcome.kept()[1] or 1
        cells = [_share(outcome.kept(least=age, most=age)) for age in ages]
        cells += [_share(outcome.kept(kind=kind)) for kind in more]
        cells += [_share(outcome.kept()), f"{outcome.packets / total:.2f}", f"{outcome.bytes / total:.0f}"]
        lines.append([name, *cells])
    return columns(lines)


def _share(pair: tuple[int, int]) -> str:
    return f"{pair[0]}/{pair[1]}" if pair[1] else ""


def _figures(found: dict[str, Outcome]) -> list[Figure]:
    figures = []
    for name, outcome in found.items():
        good, total = outcome.kept()
        short = "".join(letter if letter.isalnum() else "_" for letter in name).replace("__", "_").strip("_").lower()
        figures.append(figure(SECTION, f"survive_{short}_percent", [100 * good / total], "%"))
    for name, label, least in (
        ("standard, mh", "survive_mh_percent", 0.0),
        ("standard, rr", "survive_rr_older_1s_percent", 1.0),
    ):
        if name in found:
            good, total = found[name].kept(least=least)
            figures.append(figure(SECTION, label, [100 * good / total], "%", aim="100"))
            figures.append(
                figure(
                    SECTION,
                    f"{label.split('_')[1]}_sync_packets_per_connection",
                    [found[name].packets / total],
                    "packets",
                )
            )
    return figures
