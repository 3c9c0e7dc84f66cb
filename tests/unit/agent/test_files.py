"""What the agent keeps on disk: the lock, the ledger and the last good state."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from lvs_dr.agent.hostlock import HostLock, HostLockedError
from lvs_dr.agent.lastgood import LastGood, LastGoodFile, StoredTable, TableVersion
from lvs_dr.agent.ledger import DamagedLedgerError, LedgerFile
from lvs_dr.core.kernel import ServiceKey
from lvs_dr.core.ledger import Ledger, OwnDestinations
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableHealthCheck, TablePort, TcpCheck

TABLE = DirectorTableSpec(
    director_group="default",
    service_generation=3,
    address="2001:db8::100",
    ports=(TablePort(443, Protocol.TCP),),
    scheduler="wlc",
    on_failure=OnFailure.QUIESCE,
    destinations=(TableDestination("one", "2001:db8::1", 7, "node-1"),),
    health_check=TableHealthCheck(TcpCheck(), 2, 1, 2, 3),
)
STATE = LastGood(
    "node-1",
    5,
    LVSNodeSpec(decided=True, director=DirectorRole(group="default"), backend_addresses=("192.0.2.100",)),
    {"web/one": StoredTable(TableVersion(2, "uid"), TABLE)},
)


def test_the_last_good_state_comes_back_as_it_was(tmp_path: Path) -> None:
    """A node that boots without the API server serves what it served."""
    assert LastGoodFile(tmp_path / "deep").save(STATE)
    assert LastGoodFile(tmp_path / "deep").load("node-1") == STATE


def test_an_unchanged_state_is_not_written(tmp_path: Path) -> None:
    """Disks of nodes at rest are left in peace."""
    file = LastGoodFile(tmp_path)
    assert file.save(STATE)
    assert not file.save(STATE)


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 1}', b'{"version": "x"}', b"\xff\xfe", b"[]"])
def test_a_damaged_last_good_state_is_put_aside(tmp_path: Path, data: bytes) -> None:
    """Half a file is no file, and is kept for whoever wants to know why."""
    file = LastGoodFile(tmp_path)
    file.path.write_bytes(data)
    assert file.load("node-1") is None
    assert file.path.with_suffix(".damaged").read_bytes() == data


def test_a_last_good_state_of_another_version_or_node_is_ignored(tmp_path: Path) -> None:
    """A disk that was moved to another machine does not make it somebody else."""
    file = LastGoodFile(tmp_path)
    file.save(STATE)
    assert file.load("node-2") is None
    file.path.write_bytes(file.path.read_bytes().replace(b'"version":1', b'"version":2'))
    assert file.load("node-1") is None


def test_a_large_ledger_comes_back_as_it_was(tmp_path: Path) -> None:
    """It is put together from pieces, most of which were made for the file before."""
    file = LedgerFile(tmp_path, "boot-1")
    keys = [ServiceKey("192.0.2.100", port, 6) for port in range(1, 601)]
    planned = Ledger("boot-1", destinations=tuple(OwnDestinations(key, (("192.0.2.21", 80),)) for key in keys))
    for count in (600, 257, 256, 1, 0):
        own = tuple(
            one._replace(places=(("192.0.2.22", 80),)) if one.service.port == count else one
            for one in planned.destinations
        )
        planned = replace(planned, services=(keys[0],), destinations=own[:count])
        assert file.save_plan(planned)
        assert LedgerFile(tmp_path, "boot-1").load() == planned


def test_the_ledger_is_of_one_boot(tmp_path: Path) -> None:
    """After a reboot nothing in the kernel is ours."""
    first = LedgerFile(tmp_path, "boot-1")
    planned = Ledger("boot-1", services=(ServiceKey("192.0.2.100", 80, 6),))
    assert first.save_plan(planned)
    assert not first.save_plan(planned)
    assert LedgerFile(tmp_path, "boot-1").load() == planned
    assert LedgerFile(tmp_path, "boot-2").load() == Ledger("boot-2")


def test_a_damaged_ledger_is_put_aside_and_told(tmp_path: Path) -> None:
    """Without it nothing may be removed; that must not go unnoticed."""
    file = LedgerFile(tmp_path, "boot-1")
    file.path.write_bytes(b"{")
    with pytest.raises(DamagedLedgerError, match=r"put aside as ledger\.damaged"):
        file.load()
    assert file.current == Ledger("boot-1")
    assert not file.path.exists()


def test_one_agent_per_node(tmp_path: Path) -> None:
    """Two agents would undo each other's work; the message names the other one."""
    with HostLock(tmp_path, purpose="lvs-agent run") as first, HostLock(tmp_path, purpose="second") as second:
        first.acquire()
        told: list[str] = []
        waits: list[float] = []
        with pytest.raises(HostLockedError, match=r"held by lvs-agent run \(pid \d+\)"):
            second.acquire(wait=1.0, sleep=waits.append, tell=told.append)
        assert sum(waits) == pytest.approx(1.0)
        assert len(told) == 1


def test_the_lock_is_taken_when_the_other_agent_leaves(tmp_path: Path) -> None:
    """A pod that is replaced leaves within its grace period; the new one waits for it."""
    with HostLock(tmp_path, purpose="old") as first, HostLock(tmp_path, purpose="new") as second:
        first.acquire()
        second.acquire(wait=5.0, sleep=lambda _: first.release())
