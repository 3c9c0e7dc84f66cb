"""The lab's pure parts: addresses, network commands, packet files, versions."""

import struct
import time
from pathlib import Path

import pytest

from lvs_lab import cache, capture, network, progress, rundir
from lvs_lab.errors import ToolsMissing
from lvs_lab.gobuild import parse_go_version
from lvs_lab.spec import DEFAULT_NODES, NodeSpec


def test_addresses_follow_from_the_octet() -> None:
    """People know a node's addresses by heart: the same digits everywhere."""
    node = NodeSpec(name="n", octet=21)
    assert node.lan_address == "192.168.35.21"
    assert node.lan_address6 == "fd35::21"
    assert node.management_address == "172.30.0.21"


def test_hardware_addresses_are_all_different() -> None:
    """Two ports with one hardware address would steal each other's frames."""
    macs = [node.mac(segment) for node in DEFAULT_NODES for segment in network.DEVICES]
    assert len(set(macs)) == len(DEFAULT_NODES) * 3


def test_octet_has_a_range() -> None:
    """Octet 1 is the API server's."""
    with pytest.raises(ValueError, match="octet"):
        NodeSpec(name="n", octet=1)


def test_device_names_fit_the_kernel() -> None:
    """Names of network devices have at most 15 characters, and no two ports share one."""
    ports = [
        name(node, segment)
        for node in DEFAULT_NODES
        for segment in network.DEVICES
        for name in (network.port_on_bridge, network.port_in_node)
    ]
    assert max(map(len, ports)) <= 15
    assert len(set(ports)) == len(ports)


def test_sandbox_has_no_address_on_the_lan() -> None:
    """The host side must not answer or speak on the LAN that the tests watch."""
    commands = network.build_commands(DEFAULT_NODES)
    assert [line for line in commands if line.startswith("addr add")] == [
        "addr add 172.30.0.1/24 dev management",
        "addr add 172.31.0.1/24 dev control",
    ]
    assert all("addrgenmode none" in line for line in commands if line.startswith("link set") and "set lo" not in line)


def test_packet_file_being_written_is_read_up_to_the_last_whole_packet() -> None:
    """A count taken during a capture never trips over half a packet."""
    header = bytes(24)
    packets = b"".join(struct.pack("=IIII", 10, 500000, 3, 60) + b"abc" for _ in range(2))
    assert capture.records(header + packets) == [(10.5, b"abc"), (10.5, b"abc")]
    assert len(capture.records(header + packets[:-1])) == 1
    assert capture.records(header[:10]) == []


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26)),
        ("go version go1.19.8 linux/amd64", (1, 19)),
        ("go version devel go1.27-abc", (1, 27)),
        ("", None),
    ],
)
def test_go_version(text: str, version: tuple[int, int] | None) -> None:
    """Old Go is recognised before a build fails on it."""
    assert parse_go_version(text) == version


def test_built_binaries_are_keyed_by_what_they_are_made_of(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A change of the pinned version or of any module leads to another directory, so to a build."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    modules = tmp_path / "go"
    (modules / "etcd").mkdir(parents=True)
    monkeypatch.setattr(cache, "GO_MODULES", modules)
    seen = set()
    for version, sums in (("v3.6.16", "a"), ("v3.6.17", "a"), ("v3.6.17", "b")):
        (modules / "etcd" / "go.mod").write_text(f"require (\n\tgo.etcd.io/etcd/server/v3 {version} // indirect\n)\n")
        (modules / "etcd" / "go.sum").write_text(sums)
        seen.add(cache.binary_directory("etcd"))
    assert len(seen) == 3


def test_binaries_given_by_the_environment_come_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """KUBEBUILDER_ASSETS saves the build."""
    monkeypatch.setenv("KUBEBUILDER_ASSETS", str(tmp_path))
    (tmp_path / "etcd").touch(mode=0o755)
    assert cache.find_binary("etcd") == tmp_path / "etcd"


def test_missing_tools_name_the_command_that_gets_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A newcomer's first failure says what to type."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    with pytest.raises(ToolsMissing, match=r"kube-apiserver.*make tools"):
        cache.tools()


def test_run_directories_of_dead_labs_are_swept(tmp_path: Path) -> None:
    """What a killed lab left on disk goes when the next one starts; one being started stays."""
    dead, starting = tmp_path / "lvs-lab-dead", tmp_path / "lvs-lab-starting"
    dead.mkdir()
    (dead / "lock").touch()
    starting.mkdir()
    rundir.sweep(tmp_path)
    assert not dead.exists()
    assert starting.exists()


def test_short_work_is_silent_and_long_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """Work that takes its time says so, again and again, and when it is done."""
    lines: list[str] = []
    with progress.running(lines.append, "quick"):
        pass
    assert lines == []
    monkeypatch.setattr(progress, "_FIRST", 0.01)
    monkeypatch.setattr(progress, "_EVERY", 0.01)
    with progress.running(lines.append, "long"):
        deadline = time.monotonic() + 5
        while len(lines) < 2 and time.monotonic() < deadline:
            time.sleep(0.005)
    assert lines[0].startswith("long: 0 s")
    assert lines[-1].startswith("long: done in")


def test_say_keeps_output_usable(capsys: pytest.CaptureFixture[str]) -> None:
    """Messages for people go to the error stream."""
    progress.say("hello")
    assert capsys.readouterr() == ("", "hello\n")
