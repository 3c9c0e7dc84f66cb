"""The lab's nodes: what every test of the tiers above relies on. Two nodes, no Kubernetes."""

import json
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lvs_lab import CommandFailed, CommandTimeout, Lab, LabError, Node, NodeSpec, NodeUnreachable, cache
from tests.conftest import lab_obstacles

SPECS = (NodeSpec(name="left", octet=11), NodeSpec(name="right", octet=12, kubernetes=False))
LAB = Path(__file__).parents[2] / "lab"


@pytest.fixture(scope="module", autouse=True)
def _possible() -> None:
    """Skip where no lab can start (the control plane's binaries are not needed here)."""
    if obstacles := lab_obstacles(kubernetes=False):
        pytest.skip(obstacles)


@pytest.fixture(scope="module")
def pair(_possible: None) -> Iterator[Lab]:
    """A lab of two nodes."""
    with Lab.start(nodes=SPECS, kubernetes=False) as lab:
        yield lab


@pytest.fixture
def left(pair: Lab) -> Node:
    """The node that is never harmed."""
    return pair.nodes["left"]


@pytest.fixture
def right(pair: Lab) -> Node:
    """The node that is."""
    return pair.nodes["right"]


def answers(source: Node, address: str) -> bool:
    """Whether a ping is answered within two seconds."""
    return source.run("ping", "-c", "1", "-W", "2", address, check=False).returncode == 0


def kernels_of(run_dir: Path) -> list[int]:
    """The process numbers of all kernels of a lab, by their command lines."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                command = (entry / "cmdline").read_bytes()
            except OSError:
                continue  # it has just ended
            if b"linux.uml" in command and str(run_dir).encode() in command:
                found.append(int(entry.name))
    return found


def wait_until_gone(run_dir: Path, within: float = 10) -> None:
    """Wait until no kernel of a lab is left."""
    deadline = time.monotonic() + within
    while kernels_of(run_dir):
        assert time.monotonic() < deadline, f"still running: {kernels_of(run_dir)}"
        time.sleep(0.05)


def test_nodes_reach_each_other(left: Node, right: Node) -> None:
    """Both address families work on the LAN, and addresses are those of the specification."""
    assert answers(left, right.lan_address)
    assert answers(left, right.lan_address6)
    assert answers(right, left.management_address)
    link = json.loads(right.run("ip", "-json", "addr", "show", "dev", "eth0").stdout)[0]
    assert link["address"] == right.mac
    assert right.lan_address in [entry["local"] for entry in link["addr_info"]]


def test_only_kubernetes_nodes_forward(left: Node, right: Node) -> None:
    """Nodes of a cluster route packets, clients do not."""
    assert left.read_file("/proc/sys/net/ipv4/ip_forward") == "1\n"
    assert right.read_file("/proc/sys/net/ipv4/ip_forward") == "0\n"


def test_control_network_is_invisible(left: Node) -> None:
    """Programs on a node see the LAN and the management network, and not the lab's own channel."""
    links = [link["ifname"] for link in json.loads(left.run("ip", "-json", "link").stdout)]
    assert {"lo", "eth0", "eth1"} <= set(links)
    assert not [name for name in links if name.startswith(("vec", "control"))]
    assert "172.31." not in left.run("ip", "addr").stdout


def test_ipvs_loads_by_itself(left: Node) -> None:
    """Asking for IPVS is enough: the kernel loads ip_vs and the scheduler's module."""
    left.run("ipvsadm", "-A", "-t", "192.168.35.100:80", "-s", "mh")
    try:
        assert "TCP  192.168.35.100:80 mh" in left.run("ipvsadm", "-Ln").stdout
        assert "ip_vs_mh" in left.read_file("/proc/modules")
    finally:
        left.run("ipvsadm", "-C")


def test_output_input_and_code_are_kept_apart(left: Node) -> None:
    """A command's streams, input and return code come through unchanged."""
    done = left.run("sh", "-c", "cat; echo häßlich >&2; exit 7", stdin="in\n", check=False)
    assert (done.stdout, done.stderr, done.returncode) == ("in\n", "häßlich\n", 7)
    with pytest.raises(CommandFailed, match="ended with 7"):
        left.run("sh", "-c", "exit 7")
    with pytest.raises(LabError, match="no-such-program"):
        left.run("no-such-program")
    assert len(left.run("seq", "1", "200000").stdout.split()) == 200000


def test_command_that_does_not_end_is_killed(left: Node) -> None:
    """A timeout ends the command on the node too."""
    with pytest.raises(CommandTimeout):
        left.run("sleep", "4711", timeout=0.3)
    assert left.run("pgrep", "-f", "sleep 4711", check=False).stdout == ""


def test_command_may_leave_a_daemon(left: Node) -> None:
    """A command that ends returns, although what it started still holds its output."""
    began = time.monotonic()
    left.run("sh", "-c", "sleep 20 & echo started")
    assert time.monotonic() - began < 10


def test_process_can_be_signalled_and_awaited(left: Node) -> None:
    """A spawned process has output, gets signals, and its end is told."""
    process = left.spawn("sh", "-c", "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done")
    process.wait_for_output("ready")
    assert process.signal(signal.SIGTERM)
    assert process.wait(10) == 5
    assert "bye" in process.output()
    assert not process.signal(signal.SIGTERM)


def test_nodes_cannot_write_the_hosts_files(left: Node, right: Node, tmp_path: Path) -> None:
    """What a node writes to /etc, /var and /tmp is its own; all else of the host is read-only."""
    left.put_file("/etc/lvs-lab-test", "left")
    assert left.read_file("/etc/lvs-lab-test") == "left"
    assert not Path("/etc/lvs-lab-test").exists()
    assert right.run("cat", "/etc/lvs-lab-test", check=False).returncode != 0
    left.run("touch", str(tmp_path / "x"), check=False)
    assert not (tmp_path / "x").exists()
    assert left.run("touch", "/usr/lvs-lab-test", check=False).returncode != 0


def test_capture_sees_every_packet(left: Node, right: Node) -> None:
    """A capture is complete from its first moment to its last."""
    with left.capture("eth0", f"icmp and host {right.lan_address}") as capture:
        right.run("ping", "-c", "20", "-i", "0.01", left.lan_address)
    assert capture.count() == 40
    assert len([line for line in capture.lines if "echo request" in line and right.mac in line]) == 20


def test_node_can_be_cut_off(left: Node, right: Node) -> None:
    """A node without its LAN loses packets, and can still be told what to do; the other network is untouched."""
    right.cut_off("lan")
    try:
        assert not answers(left, right.lan_address)
        assert answers(left, right.management_address)
        right.cut_off("management")
        assert not answers(left, right.management_address)
        assert right.run("hostname").stdout == "right\n"
    finally:
        right.reconnect("lan")
        right.reconnect("management")
    assert answers(left, right.lan_address)
    assert answers(left, right.management_address)


def test_delay(left: Node, right: Node) -> None:
    """Delayed packets come late; then no more."""
    right.netem("lan", delay_ms=300)
    try:
        late = left.run("ping", "-c", "1", "-W", "3", right.lan_address).stdout
    finally:
        right.clear_netem("lan")
    assert float(late.split("time=")[1].split()[0]) >= 300
    assert float(left.run("ping", "-c", "1", right.lan_address).stdout.split("time=")[1].split()[0]) < 300


def test_killed_node_comes_back_empty_but_for_its_disk(left: Node, right: Node) -> None:
    """Power failure: calls under way fail, memory is lost, the disk and the hardware address are not."""
    right.put_file("/run/lost", "x")
    right.put_file("/var/lib/lvs-operator/kept", "x")
    process = right.spawn("sleep", "1000")
    threading.Timer(0.3, right.kill).start()
    with pytest.raises(NodeUnreachable):
        process.wait(30)
    assert not right.alive()
    with pytest.raises(NodeUnreachable):
        right.run("true")
    right.boot()
    assert right.read_file("/var/lib/lvs-operator/kept") == "x"
    with pytest.raises(LabError):
        right.read_file("/run/lost")
    assert answers(left, right.lan_address)


def test_frozen_node_goes_on_where_it_was(left: Node, right: Node) -> None:
    """A frozen node is silent and loses nothing."""
    process = right.spawn("sleep", "1000")
    right.freeze()
    try:
        assert not right.alive()
        assert not answers(left, right.lan_address)
    finally:
        right.thaw()
    assert answers(left, right.lan_address)
    assert process.signal(signal.SIGKILL)
    assert process.wait(10) == -signal.SIGKILL


def test_reboot_terminates_first(right: Node) -> None:
    """A reboot gives processes their SIGTERM, unlike a power failure."""
    process = right.spawn("sh", "-c", "trap 'echo ended in order; exit' TERM; echo ready; while :; do sleep 0.1; done")
    process.wait_for_output("ready")
    right.reboot()
    assert "ended in order" in process.output()
    assert right.alive()


@pytest.mark.usefixtures("pair")
def test_host_network_is_untouched() -> None:
    """A running lab adds no link and no address to the host."""
    everything = subprocess.run(
        [str(cache.find_command("ip")), "addr"], capture_output=True, text=True, check=True
    ).stdout
    for trace in ("172.30.0.", "172.31.0.", "192.168.35.", "lan", "l11-port"):
        assert trace not in everything


OWNER = """
import signal, sys, time
from lvs_lab import Lab, NodeSpec
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
lab = Lab.start(nodes=[NodeSpec(name="left", octet=11), NodeSpec(name="right", octet=12)], kubernetes=False)
answer = lab.nodes["left"].run("ping", "-c", "1", lab.nodes["right"].lan_address).stdout
print(lab.run_dir, "1 received" in answer, flush=True)
if "stay" in sys.argv:
    time.sleep(600)
lab.stop()
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_lab_ends_with_its_owner(number: signal.Signals) -> None:
    """However the process that started a lab ends, nothing of the lab is left."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, "stay"],
        env={**os.environ, "PYTHONPATH": str(LAB)},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with owner:
        assert owner.stdout is not None
        run_dir = Path(owner.stdout.readline().split()[0])
        assert len(kernels_of(run_dir)) >= 2
        owner.send_signal(number)
        try:
            owner.wait(20)
        finally:
            owner.kill()
        wait_until_gone(run_dir)


def test_lab_outlives_the_thread_that_started_it() -> None:
    """The kernel's parent-death signal is about threads; a lab's life is not."""
    labs: list[Lab] = []
    starter = threading.Thread(target=lambda: labs.append(Lab.start(nodes=SPECS[:1], kubernetes=False)))
    starter.start()
    starter.join()
    with labs[0] as lab:
        assert lab.nodes["left"].run("hostname").stdout == "left\n"
    wait_until_gone(lab.run_dir)
    assert not lab.run_dir.exists()


@pytest.fixture
def home() -> Iterator[Path]:
    """A home directory that an ordinary user can reach (pytest keeps its own temporary directories private)."""
    with tempfile.TemporaryDirectory(prefix="lvs-home-") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def test_lab_works_for_an_ordinary_user(home: Path) -> None:
    """No root is needed: an unprivileged user, with the system's Python and a cache of its own, boots two nodes."""
    shutil.copytree(LAB, home / "lab", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(cache.debian_root(), home / "cache" / "lvs-operator" / "deb" / "root", symlinks=True)
    as_user: list[str] = []
    if os.getuid() == 0:
        uid = unused_uid()
        subprocess.run(["chown", "-R", f"{uid}:{uid}", str(home)], check=True)
        as_user = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--inh-caps=-all"]
    environment = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": str(home),
        "TMPDIR": str(home),
        "XDG_CACHE_HOME": str(home / "cache"),
        "PYTHONPATH": str(home / "lab"),
    }
    done = subprocess.run(
        [*as_user, cache.node_python(), "-c", OWNER],
        env=environment,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split()[1] == "True"


def unused_uid() -> int:
    """A user number that nobody has."""
    taken = {entry.pw_uid for entry in pwd.getpwall()}
    return next(uid for uid in range(61000, 64000) if uid not in taken)
