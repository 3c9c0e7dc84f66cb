"""Connection sync as the agent does and reports it."""

from typing import Any

from lvs_dr.agent.interface import sync_link
from lvs_dr.agent.kernel.protocol import Interface
from lvs_dr.core.kernel import DaemonConfig
from lvs_dr.core.node import DirectorRole
from lvs_dr.core.settings import Link, sysctl_key
from lvs_dr.core.sync import BACKUP, DAEMONS, MASTER
from lvs_dr.core.sync_spec import ConnectionSync
from tests.unit.agent.bench import DIRECTOR, Bench

SYNC = {"id": 51, "threshold": 2, "period": 0, "refreshSeconds": 10}
OURS = DaemonConfig("eth0", 51, 1472, "224.0.0.81", 8848, 1)
THRESHOLD = sysctl_key("sync_threshold")


def director(**sync: Any) -> dict[str, Any]:
    """Return the spec of a director with connection sync."""
    return {**DIRECTOR, "director": {**DIRECTOR["director"], "sync": {**SYNC, **sync}}}


def daemons(status: dict[str, Any]) -> list[str]:
    """Return the daemons that a status names."""
    return list(status.get("sync", {}).get("daemons", []))


async def test_daemons_start_are_reported_and_end(bench: Bench) -> None:
    """Connections would die with the director while the group says that all is well."""
    async with bench.running():
        await bench.node(director())
        await bench.table()
        told = await bench.api.status_where(lambda status: len(daemons(status)) == 2)
        assert told["sync"] == {"daemons": ["backup", "master"], "interface": "eth0"}
        assert bench.kernel.daemons == {MASTER: OURS, BACKUP: OURS}
        assert bench.kernel.settings[THRESHOLD] == "2\t0"
        del bench.kernel.daemons[MASTER]
        await bench.until(lambda: MASTER in bench.kernel.daemons)
        await bench.node(DIRECTOR)
        await bench.until(lambda: not bench.kernel.daemons and bench.kernel.settings[THRESHOLD] == "3\t50")
        await bench.api.status_where(lambda status: "sync" not in status)


async def test_a_foreign_daemon_is_reported_not_fought(bench: Bench) -> None:
    """The agent would stop keepalived's daemon, or say that sync works."""
    theirs = OURS._replace(sync_id=9)
    bench.kernel.daemons[MASTER] = theirs
    async with bench.running():
        await bench.node(director())
        told = await bench.api.status_where(lambda status: "conflict" in status.get("sync", {}))
        assert "sync daemon master on eth0 with sync id 9" in told["sync"]["conflict"]
        assert daemons(told) == ["backup"]
        assert "SharedSettingConflict" in [one["reason"] for one in told["problems"]]
        assert bench.kernel.daemons[MASTER] == theirs
        del bench.kernel.daemons[MASTER]
        await bench.api.status_where(lambda status: len(daemons(status)) == 2 and "conflict" not in status["sync"])


async def test_daemons_follow_their_interface(bench: Bench) -> None:
    """A bond that was made anew would leave daemons behind that carry nothing."""
    async with bench.running():
        await bench.node(director(interface="sync0"))
        told = await bench.api.status_where(lambda status: "sync" in status)
        assert "interface" not in told["sync"]
        assert "SyncInterfaceMissing" in [one["reason"] for one in told["problems"]]
        for number in (7, 8):
            link = Interface(number, "sync0", "02:00:00:00:01:01", True, ("198.51.100.1/24",))
            bench.kernel.links["sync0"] = link
            await bench.until(lambda: all(bench.kernel.daemons.carries(key, bench.kernel.links) for key in DAEMONS))
            await bench.api.status_where(lambda status: len(daemons(status)) == 2)
            del bench.kernel.links["sync0"]
            await bench.api.status_where(lambda status: "interface" not in status["sync"])


async def test_a_refusal_of_the_kernel_is_told(bench: Bench) -> None:
    """The user would see a daemon missing, and no reason."""
    bench.kernel.links["eth0"] = Interface(2, "eth0", "02:00:00:00:00:01", True, ("2001:db8::1/64",))
    async with bench.running():
        await bench.node(director(interface="eth0"))
        told = await bench.api.status_where(lambda status: bool(status.get("problems")))
        assert "has no address of the multicast group's family" in str(told["problems"])
        assert daemons(told) == []


async def test_a_fight_over_a_daemon_ends(bench: Bench) -> None:
    """Somebody who stops the daemon at every turn would meet one who starts it at every turn."""
    async with bench.running():
        await bench.node(director())

        def undo() -> bool:
            bench.kernel.daemons.pop(MASTER, None)
            return bool(bench.agent.node_pass.drift.conflicts())

        await bench.until(undo, seconds=15)
        told = await bench.api.status_where(lambda status: daemons(status) == ["backup"])
        assert "IPVS sync daemon master" in str(told["problems"])
        await bench.passes(3)
        assert MASTER not in bench.kernel.daemons


def test_the_link_is_the_interface_with_the_address_that_is_sent_from() -> None:
    """The daemons would be started anew whenever a VIP comes or goes."""
    interfaces = [Interface(2, "eth0", "", True, ("192.0.2.100/32", "192.0.2.1/24", "2001:db8::1/64"))]
    role = DirectorRole("edge", sync=ConnectionSync(51))
    assert sync_link(role, "eth0", interfaces, {"192.0.2.100"}) == Link("eth0", 2, "192.0.2.1")
    assert sync_link(role, "eth1", interfaces, frozenset()) is None
    assert sync_link(DirectorRole("edge"), "eth0", interfaces, frozenset()) is None
    assert sync_link(None, "eth0", interfaces, frozenset()) is None
    six = DirectorRole("edge", sync=ConnectionSync(51, interface="eth0", group="ff02::81"))
    assert sync_link(six, "", interfaces, frozenset()) == Link("eth0", 2)
