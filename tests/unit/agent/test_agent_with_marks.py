"""The whole agent with checks through a VIP: what they need in the kernel comes, goes, and harms nobody."""

import errno
import json
from typing import Any

import pytest

from lvs_dr.agent.health import prober
from lvs_dr.core.kernel import Op, ServiceConfig, ServiceKey, ServiceOp, SysctlOp
from lvs_dr.core.probes import ACCEPT_LOCAL, RP_FILTER, interface_key
from lvs_dr.core.table import FEATURE_VIRTUAL_CHECKS
from tests.unit.agent.bench import CHECK, DIRECTOR, TABLE, VIP, Bench

ACCEPTS = interface_key("eth0", ACCEPT_LOCAL)
FILTER = interface_key("eth0", RP_FILTER)
MARKED: dict[str, Any] = {
    "requires": [FEATURE_VIRTUAL_CHECKS],
    "healthCheck": CHECK | {"rise": 1, "fall": 1},
    "destinations": [each | {"checkMark": 4097 + n} for n, each in enumerate(TABLE["destinations"])],
}
GONE = {"decided": True}


def marks(bench: Bench) -> dict[int, str]:
    """Return where each firewall mark leads in the kernel."""
    return {key.service.mark: key.address for key in bench.kernel.destinations if key.service.mark}


def served(bench: Bench) -> set[str]:
    """Return the real servers that clients of the VIP reach."""
    found = bench.kernel.destinations.items()
    return {key.address for key, config in found if key.service.address == VIP and config.weight}


async def checking(bench: Bench) -> None:
    """Bring up a director that checks through the VIP, and wait until it serves."""
    await bench.table(**MARKED)
    await bench.node(DIRECTOR)
    await bench.until(lambda: served(bench) == {"192.0.2.11", "192.0.2.12"})
    assert marks(bench) == {4097: "192.0.2.11", 4098: "192.0.2.12"}
    assert bench.kernel.interface_sysctls[ACCEPTS] == "1"


async def clean(bench: Bench, before: object) -> None:
    """Wait until the node is as it was, and nothing is said to be ours."""
    await bench.until(lambda: bench.kernel.snapshot() == before)
    ledger = bench.directory / "run" / "ledger.json"
    await bench.until(lambda: json.loads(ledger.read_bytes())["ledger"] == {"boot_id": "boot-1"})


async def test_who_directs_no_more_has_nothing_of_checks_left(bench: Bench) -> None:
    """A node without its label would let in packets from its own addresses, and keep firewall marks, for ever."""
    before = bench.kernel.snapshot()
    async with bench.running():
        await checking(bench)
        await bench.node(GONE)
        await clean(bench, before)


async def test_what_ended_while_no_agent_ran_is_taken_down_by_the_next(bench: Bench) -> None:
    """An agent that starts after the label went knows of the checks by the ledger alone."""
    before = bench.kernel.snapshot()
    async with bench.running():
        await checking(bench)
    assert len(marks(bench)) == 2, "stopping takes nothing away"
    await bench.node(GONE)
    async with bench.running():
        await clean(bench, before)


async def test_a_restart_changes_nothing(bench: Bench) -> None:
    """Each restart would make the marks anew, and doubt all that is checked by them."""
    async with bench.running():
        await checking(bench)
    done = len(bench.kernel.journal)
    async with bench.running() as agent:
        await bench.until(lambda: agent.loop.ready() == "" and len(bench.checks) > 2)
        await bench.passes(3)
    assert bench.kernel.journal[done:] == []


async def test_settings_are_put_back_as_they_were_found(bench: Bench) -> None:
    """An administrator's strict filter would be gone for good on a director that was a real server, too."""
    bench.kernel.interface_sysctls |= {ACCEPTS: "0", FILTER: "1"}
    before = bench.kernel.snapshot()
    async with bench.running():
        await bench.node(DIRECTOR | {"backendAddresses": [VIP]})
        await bench.table(**MARKED)
        await bench.until(lambda: bench.kernel.interface_sysctls == {ACCEPTS: "1", FILTER: "2"})
        await bench.node(GONE)
        await clean(bench, before)


async def test_one_vip_less_leaves_the_marks_of_the_other(bench: Bench) -> None:
    """They share the marks of their real servers: its checks would say nothing any more."""
    second = DIRECTOR["director"] | {"tables": ["web/other", "web/webdav"]}
    async with bench.running():
        await bench.table("other", address="192.0.2.101", **MARKED)
        await bench.table(**MARKED)
        await bench.node(DIRECTOR | {"director": second})
        await bench.until(lambda: {key.address for key in bench.kernel.services} == {VIP, "192.0.2.101", ""})
        await bench.api.delete("directortables", "web/other")
        await bench.node(DIRECTOR)
        await bench.until(lambda: {key.address for key in bench.kernel.services} == {VIP, ""})
        assert marks(bench) == {4097: "192.0.2.11", 4098: "192.0.2.12"}
        await bench.table()
        await bench.until(lambda: not marks(bench) and bench.kernel.interface_sysctls[ACCEPTS] == "0")
        assert served(bench) == {"192.0.2.11", "192.0.2.12"}


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Checks whose mark cannot be used say so at once."""
    monkeypatch.setattr(prober, "HELD_SECONDS", 0.0)
    monkeypatch.setattr(prober, "HELD_PAUSE_SECONDS", 0.01)


def no_marks(op: Op) -> int:
    """Refuse services by firewall mark."""
    return errno.EPERM if isinstance(op, ServiceOp) and op.key.mark else 0


def no_settings(op: Op) -> int:
    """Refuse all settings of interfaces."""
    return errno.EROFS if isinstance(op, SysctlOp) else 0


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("refuse", [no_marks, no_settings])
async def test_an_upgrade_on_a_kernel_that_refuses_what_checks_need_takes_nobody_out(bench: Bench, refuse: Any) -> None:
    """All clusters whose tables get marks would lose all their real servers at once."""
    bench.kernel.refuse = refuse
    async with bench.running():
        await bench.table()  # of a controller that knows no marks
        await bench.node(DIRECTOR)
        await bench.until(lambda: len(served(bench)) == 2)
        bench.down |= {("192.0.2.11", 80), ("192.0.2.12", 80)}
        await bench.table(**MARKED)
        told = await bench.api.status_where(lambda status: len(status["tables"][0].get("exceptions", ())) == 2)
        assert {each["reason"] for each in told["tables"][0]["exceptions"]} == {"CheckBroken"}
        await bench.passes(5)
        assert served(bench) == {"192.0.2.11", "192.0.2.12"}
        assert bench.checks == [], "and nobody was asked, who would have answered for another one"
        bench.kernel.refuse = lambda _: 0
        bench.down.clear()
        await bench.api.status_where(lambda status: status["tables"][0]["healthy"] == 2)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("refuse", [no_marks, no_settings])
async def test_a_director_that_has_just_booted_serves_although_marks_are_refused(bench: Bench, refuse: Any) -> None:
    """Directors that reboot one after the other would in the end leave nobody who serves."""
    bench.kernel.refuse = refuse
    bench.down.add(("192.0.2.12", 80))
    async with bench.running():
        await bench.table(**MARKED)
        await bench.node(DIRECTOR)
        await bench.until(lambda: served(bench) == {"192.0.2.11"})
        told = await bench.api.status_where(lambda status: status["tables"][0].get("healthy") == 1)
        assert {each["reason"] for each in told["tables"][0]["exceptions"]} == {"CheckBroken"}
        bench.down.clear()
        await bench.until(lambda: served(bench) == {"192.0.2.11", "192.0.2.12"})


@pytest.mark.usefixtures("impatient")
async def test_somebody_elses_mark_is_left_alone(bench: Bench) -> None:
    """Its owner would lose packets, and checks would reach its real servers."""
    theirs = ServiceKey("", 0, 0, 4097, 2)
    bench.kernel.services[theirs] = foreign = ServiceConfig("wlc")
    async with bench.running():
        await bench.table(**MARKED)
        await bench.node(DIRECTOR)
        await bench.until(lambda: served(bench) == {"192.0.2.11", "192.0.2.12"})
        told = await bench.api.status_where(lambda status: len(status["tables"][0].get("exceptions", ())) == 1)
        (exception,) = told["tables"][0]["exceptions"]
        assert (exception["realServer"], exception["reason"]) == ("storage-1", "CheckBroken")
        await bench.node(GONE)
        await bench.until(lambda: list(bench.kernel.services) == [theirs])
    assert bench.kernel.services[theirs] == foreign
