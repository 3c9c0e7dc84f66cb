"""`lvs-agent cleanup`, `show` and `plan` on a fake kernel, and the command line's answers to mistakes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lvs_dr.agent.byhand import CleanUpError, clean_up, show, show_plan, show_status
from lvs_dr.agent.lastgood import LastGoodFile
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.speaker_byhand import SpeakerByHand
from lvs_dr.agent.speaker_client import KEPT_NAME
from lvs_dr.agent.words import command, service_words
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    AddressOp,
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    RouteKey,
    RouteOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.probes import ACCEPT_LOCAL, interface_key
from lvs_dr.vrrp import kept
from tests.unit.agent.bench import BACKEND, CHECK, DIRECTOR, NODE, TABLE, VIP, Bench
from tests.unit.agent.speaker_process import SpeakerProcess

SERVICE = ServiceKey(VIP, 80, 6)
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def served(bench: Bench) -> Bench:
    """A node that directs and serves, among entries of others, after its agent has stopped."""
    bench.kernel.services[ServiceKey("192.0.2.200", 53, 17)] = ServiceConfig("wlc")
    bench.kernel.addresses[AddressKey("lo", "192.0.2.77")] = AddressConfig(254)
    async with bench.running():
        await bench.node(DIRECTOR | BACKEND)
        await bench.table()
        await bench.until(lambda: bench.speaker.held == {VIP} and len(bench.destinations()) == 2)
        await bench.until(lambda: VIP in bench.on_lo())
    # The stand-in for the speaker keeps no configuration; the real one does.
    instance = {"vrid": 51, "priority": 250, "addresses": [VIP, "192.0.2.150"]}
    kept.save(str(bench.directory / "lib" / KEPT_NAME), {"interface": "eth0", "instances": [instance]})
    return bench


def hand(bench: Bench) -> SpeakerByHand:
    """Return the node's speaker, which does not run."""
    return SpeakerByHand(bench.directory / "run", bench.directory / "lib", bench.kernel)


def ledger(bench: Bench) -> LedgerFile:
    """Return the node's ledger as a new process reads it."""
    file = LedgerFile(bench.directory / "run", bench.kernel.boot)
    file.load()
    return file


def last_good(bench: Bench) -> LastGoodFile:
    """Return the node's last good state."""
    return LastGoodFile(bench.directory / "lib")


async def test_clean_up_leaves_what_is_not_ours(served: Bench) -> None:
    """Uninstalling gives the node back as it was, and prints every step."""
    lines: list[str] = []
    clean_up(served.kernel, ledger(served), last_good(served), hand(served), lines.append)
    assert set(served.kernel.services) == {ServiceKey("192.0.2.200", 53, 17)}
    assert set(served.kernel.addresses) == {AddressKey("lo", "192.0.2.77")}
    assert served.kernel.routes == set()
    assert set(served.kernel.sysctls.values()) == {"0"}
    assert not ledger(served).path.exists()
    assert not last_good(served).path.exists()
    assert lines[1] == f"ip address del {VIP}/32 dev eth0"
    assert not (served.directory / "lib" / KEPT_NAME).exists(), "a speaker that is started later would take the VIP"
    assert f"ipvsadm -D -t {VIP}:80" in lines
    assert lines[-1] == "nothing of lvs-operator is left on this node"


async def test_clean_up_twice_is_no_failure(served: Bench) -> None:
    """A DaemonSet that is restarted runs it again."""
    clean_up(served.kernel, ledger(served), last_good(served), hand(served), lambda _: None)
    lines: list[str] = []
    clean_up(served.kernel, ledger(served), last_good(served), hand(served), lines.append)
    assert lines == ["nothing of lvs-operator is left on this node"]


async def test_clean_up_has_a_running_speaker_let_go(served: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The speaker would put back what the clean-up removes."""
    process = SpeakerProcess(served.kernel, served.directory).patched(monkeypatch)
    process.start()
    try:
        await served.until(lambda: hand(served).held() == (AddressKey("eth0", VIP),))
        lines: list[str] = []
        show(served.kernel, ledger(served), hand(served), lines.append)
        assert f"ip address add {VIP}/32 dev eth0  # by lvs-speaker" in lines
        lines.clear()
        show_status(last_good(served), NODE, hand(served), lines.append)
        assert lines[0].startswith(f"{NODE}: director of group default, 1 tables; 1 VIPs on lo")
        assert "memory locked: no" in lines[1]
        assert any(line.startswith("VRID 51 IPv4: ") and "2 VIPs" in line for line in lines)
        clean_up(served.kernel, ledger(served), last_good(served), hand(served), lambda _: None)
        assert set(served.kernel.addresses) == {AddressKey("lo", "192.0.2.77")}
        assert process.configurations()[-1]["instances"] == []
    finally:
        process.kill()


async def test_clean_up_does_not_pretend_where_the_speaker_hangs(
    served: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would say that nothing is left, and the speaker would come back with its VIPs."""
    monkeypatch.setattr("lvs_dr.agent.speaker_byhand.ANSWER_SECONDS", 0.2)
    process = SpeakerProcess(served.kernel, served.directory).patched(monkeypatch)
    process.start()
    process.freeze()
    try:
        with pytest.raises(CleanUpError, match="does not answer"):
            clean_up(served.kernel, ledger(served), last_good(served), hand(served), lambda _: None)
        assert AddressKey("eth0", VIP) in served.kernel.addresses
    finally:
        process.thaw()
        process.kill()


async def test_a_clean_up_that_fails_says_what_is_left(served: Bench) -> None:
    """Nobody is told that a node is clean when it is not, and a second run can finish."""
    served.kernel.refuse = lambda op: 1 if isinstance(op, ServiceOp) else 0
    lines: list[str] = []
    with pytest.raises(CleanUpError, match="could not be removed"):
        clean_up(served.kernel, ledger(served), last_good(served), hand(served), lines.append)
    assert any(f"ipvsadm -D -t {VIP}:80  # FAILED" in line for line in lines)
    served.kernel.refuse = lambda _: 0
    clean_up(served.kernel, ledger(served), last_good(served), hand(served), lines.append)
    assert SERVICE not in served.kernel.services


async def test_show_prints_what_is_ours_as_ipvsadm_does(served: Bench) -> None:
    """`lvs-agent show` can be compared with `ipvsadm -Sn` line by line."""
    lines: list[str] = []
    show(served.kernel, ledger(served), hand(served), lines.append)
    assert lines[:3] == [
        f"-A -t {VIP}:80 -s rr",
        f"-a -t {VIP}:80 -r 192.0.2.11:80 -g -w 100",
        f"-a -t {VIP}:80 -r 192.0.2.12:80 -g -w 100",
    ]
    assert f"ip address add {VIP}/32 dev lo scope host" in lines
    assert f"ip address add {VIP}/32 dev eth0  # by lvs-speaker" in lines
    assert f"ip route add blackhole {VIP}/32" in lines
    assert "sysctl -w net.ipv4.conf.all.arp_ignore=1  # was 0" in lines
    assert not any("192.0.2.200" in line or "192.0.2.77" in line for line in lines)


async def test_plan_says_what_the_next_pass_would_do(served: Bench) -> None:
    """A person can look before an agent acts; nothing is changed by looking."""
    lines: list[str] = []
    assert show_plan(served.kernel, ledger(served), last_good(served), NODE, lines.append, speaker=hand(served))
    assert lines == ["# nothing to do"]
    served.kernel.flush_ipvs()
    before = served.kernel.snapshot()
    lines.clear()
    assert show_plan(served.kernel, ledger(served), last_good(served), "", lines.append, speaker=hand(served))
    assert lines[0] == f"ipvsadm -A -t {VIP}:80 -s rr"
    assert len(lines) == 3
    assert served.kernel.snapshot() == before


async def test_status_tells_what_is_redirected(bench: Bench) -> None:
    """A redirected port is in no kernel table: whoever looks with `show` alone would not find it."""
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(forwardingMethod="Redirect", redirect={"statusCode": 308, "port": 9443})
        await bench.until(lambda: bench.directory.joinpath("lib").exists() and last_good(bench).path.exists())
    lines: list[str] = []
    show_status(last_good(bench), NODE, hand(bench), lines.append)
    assert f"http://{VIP}:80 redirected (308, wlc) to port 9443 of 2 real servers, as far as they are healthy" in lines


async def test_plan_leaves_weights_that_follow_load_alone(bench: Bench) -> None:
    """It would announce to undo what the agent decided a second ago."""
    feedback = {"source": "RunQueue", "target": 100}
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(scheduler="wlc", loadFeedback=feedback, requires=["changing-weights"])
        await bench.until(lambda: len(bench.destinations()) == 2 and bench.speaker.held == {VIP})
        await bench.until(last_good(bench).path.exists)
    key = next(iter(bench.kernel.destinations))
    for weight, expected in ((62, ["# nothing to do"]), (0, None)):
        bench.kernel.destinations[key] = bench.kernel.destinations[key]._replace(weight=weight)
        lines: list[str] = []
        assert show_plan(bench.kernel, ledger(bench), last_good(bench), NODE, lines.append, speaker=hand(bench))
        assert lines == (expected or [f"ipvsadm -e -t {VIP}:80 -r {key.address}:80 -g -w 100"])


async def test_plan_keeps_what_checks_through_the_vip_need(bench: Bench) -> None:
    """It would announce to put back a setting that the agent has set a second ago."""
    entry = TABLE["destinations"][0] | {"checkMark": 4097}
    admits = interface_key("eth0", ACCEPT_LOCAL)
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(destinations=[entry], healthCheck=CHECK, requires=["virtual-address-checks"])
        await bench.until(lambda: bench.kernel.interface_sysctls.get(admits) == "1")
        await bench.until(lambda: {key.mark for key in bench.kernel.services} == {0, 4097})
        await bench.until(lambda: bench.speaker.held == {VIP})
        await bench.until(last_good(bench).path.exists)
    lines: list[str] = []
    assert show_plan(bench.kernel, ledger(bench), last_good(bench), NODE, lines.append, speaker=hand(bench))
    assert lines == ["# nothing to do"]


def test_operations_read_as_commands() -> None:
    """What a person would type to do the same."""
    six = ServiceKey("2001:db8::100", 53, 17, 0, 10)
    entry = DestinationKey(six, "2001:db8::1", 53)
    words = {
        command(ServiceOp(Verb.SET, six, ServiceConfig("mh", 0x8, 300, 128))): (
            "ipvsadm -E -u [2001:db8::100]:53 -s mh -p 300 -b mh-fallback"
        ),
        command(DestinationOp(Verb.SET, entry, DestinationConfig(0, 3, 20, 10))): (
            "ipvsadm -e -u [2001:db8::100]:53 -r [2001:db8::1]:53 -g -w 0 -x 20 -y 10"
        ),
        command(DestinationOp(Verb.DELETE, entry)): "ipvsadm -d -u [2001:db8::100]:53 -r [2001:db8::1]:53",
        command(AddressOp(Verb.ADD, AddressKey("lo", "2001:db8::100"), AddressConfig(0, deprecated=True))): (
            "ip address add 2001:db8::100/128 dev lo nodad preferred_lft 0"
        ),
        command(RouteOp(Verb.DELETE, RouteKey(VIP))): f"ip route del blackhole {VIP}/32",
        command(SysctlOp(Verb.SET, SysctlKey(("ipv4", "conf", "lo", "arp_ignore")), "1")): (
            "sysctl -w net.ipv4.conf.lo.arp_ignore=1"
        ),
        service_words(ServiceKey(VIP, 80, 6), ServiceConfig("wrr", 0, 60, 24)): (
            f"-t {VIP}:80 -s wrr -p 60 -M 255.255.255.0"
        ),
        service_words(ServiceKey("", 0, 0, 7), ServiceConfig("rr")): "-f 7 -s rr",
    }
    assert list(words) == list(words.values())


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run `lvs-agent` as a process, with no environment of a pod."""
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT / "operator")}
    return subprocess.run(
        [sys.executable, "-m", "lvs_dr.agent.main", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_mistakes_are_answered_in_words(tmp_path: Path) -> None:
    """Who starts it by hand is told what is missing, without a traceback."""
    files = ("--run-directory", str(tmp_path / "run"), "--state-directory", str(tmp_path / "lib"))
    cases = [
        (run(*files), 1, "set NODE_NAME or --node-name"),
        (run("run", "--node-name", "n", *files), 1, "name the server with --api-server"),
        (run("plan", *files), 1, "has an agent run here?"),
        (run("run", "--listen", "9441"), 2, "expected ADDRESS:PORT"),
    ]
    for done, code, text in cases:
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr
        assert "Traceback" not in done.stderr
