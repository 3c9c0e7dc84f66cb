"""The whole agent on a fake kernel: what is wanted comes about, and stays through everything that may happen."""

import asyncio
import json

import pytest

from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.core.arp_settings import ARP_KEYS
from lvs_dr.core.kernel import AddressConfig, AddressKey, ServiceConfig, ServiceKey
from tests.unit.agent.bench import BACKEND, CHECK, DIRECTOR, NODE, TABLE, VIP, Bench, vrrp

SERVICE = ServiceKey(VIP, 80, 6)


async def serving(bench: Bench) -> None:
    """Bring up a director with the example table, and wait until it serves."""
    await bench.node(DIRECTOR)
    await bench.table()
    await bench.until(lambda: len(bench.destinations()) == 2 and bench.speaker.held == {VIP})


async def carrying(bench: Bench) -> None:
    """Bring up a backend, and wait until it carries the VIP."""
    await bench.node(BACKEND)
    await bench.until(lambda: bench.on_lo() == {VIP})


async def test_a_director_gets_services_destinations_and_then_the_vip(bench: Bench) -> None:
    """A client that finds the VIP finds a service behind it."""
    async with bench.running():
        await serving(bench)
        assert bench.kernel.services == {SERVICE: ServiceConfig("rr")}
        assert bench.destinations() == {"192.0.2.11": 100, "192.0.2.12": 100}
        with_vip = [one for one in bench.speaker.assignments if one.addresses]
        assert with_vip[0].interface == "eth0"
        told = await bench.api.status_where(lambda status: status.get("heldAddresses") == [VIP])
        assert told["directorInterface"] == "eth0"
        assert told["observedGeneration"] == 1
        assert told["tables"] == [
            {"table": "web/webdav", "generation": 1, "healthy": 2, "total": 2, "uid": told["tables"][0]["uid"]}
        ]
        assert told["interfaces"] == [{"name": "eth0", "addresses": ["192.0.2.1/24"]}]
        assert told["nextHops"] == ["192.0.2.254"]


async def test_a_backend_gets_the_vip_on_lo_and_says_so(bench: Bench) -> None:
    """The controller lets traffic in once the backend has reported the VIP."""
    async with bench.running():
        await carrying(bench)
        told = await bench.api.status_where(lambda status: status.get("loopbackAddresses") == [VIP])
        assert told["observedGeneration"] == 1
        assert {route.address for route in bench.kernel.routes} == {VIP}
        assert set(bench.kernel.sysctls.values()) == {"1", "2"}


async def test_a_node_whose_listening_ports_cannot_be_read_serves_all_the_same(bench: Bench) -> None:
    """They only explain failures; a director that is a backend, too, would never be told to take its VIPs."""
    bench.kernel.view_error = KernelError(13, "listening sockets cannot be read")
    async with bench.running(resync=0.0) as agent:
        await bench.table()
        await bench.node(DIRECTOR | BACKEND | {"backendServices": [{"address": VIP, "port": 80, "protocol": "TCP"}]})
        await bench.until(lambda: VIP in agent.assigner.state.held and agent.loop.ready() == "")


async def test_changes_of_a_table_reach_the_kernel(bench: Bench) -> None:
    """A weight, a new real server and a removed one are followed."""
    async with bench.running():
        await serving(bench)
        one, two = TABLE["destinations"]
        three = {"realServer": "storage-3", "address": "192.0.2.13", "weight": 5}
        await bench.table(destinations=[{**one, "weight": 7}, three])
        await bench.until(lambda: bench.destinations() == {"192.0.2.11": 7, "192.0.2.13": 5})
        assert two["address"] not in bench.destinations()
        told = await bench.api.status_where(lambda status: status["tables"][0]["generation"] == 2)
        assert told["tables"][0]["total"] == 2


async def test_an_event_is_acted_on_at_once(bench: Bench) -> None:
    """From a watch event to the kernel there is no timer, whatever the resync period."""
    async with bench.running(resync=60.0):
        await serving(bench)
        one, two = TABLE["destinations"]
        await bench.table(destinations=[{**one, "weight": 7}, two])
        await bench.until(lambda: 7 in bench.destinations().values(), seconds=1.0)


async def test_stopping_leaves_the_kernel_as_it_is(bench: Bench) -> None:
    """An agent that is replaced takes no traffic down."""
    async with bench.running():
        await serving(bench)
        before = bench.kernel.snapshot()
    assert bench.kernel.snapshot() == before
    assert bench.speaker.held == {VIP}


async def test_a_new_agent_changes_nothing_where_nothing_changed(bench: Bench) -> None:
    """A restart is not an event: not one operation."""
    async with bench.running():
        await serving(bench)
    bench.kernel.journal.clear()
    async with bench.running():
        await bench.passes(3)
        await bench.api.status_where(lambda status: status.get("observedGeneration") == 1)
        assert bench.kernel.journal == []


async def test_what_was_removed_while_no_agent_ran_is_removed(bench: Bench) -> None:
    """The ledger tells the next agent what is ours; what is not stays."""
    foreign = ServiceKey("192.0.2.200", 53, 17)
    bench.kernel.services[foreign] = ServiceConfig("wlc")
    async with bench.running():
        await serving(bench)
    await bench.api.delete("directortables", "web/webdav")
    director = DIRECTOR["director"] | {"tables": [], **vrrp()}
    await bench.node({"decided": True, "director": director})
    async with bench.running():
        await bench.until(lambda: set(bench.kernel.services) == {foreign})
        assert bench.speaker.held == set()
        await bench.api.status_where(lambda status: "tables" not in status and "heldAddresses" not in status)


async def test_the_vip_is_released_before_its_service_goes(bench: Bench) -> None:
    """No client is answered with a reset by a director that has the VIP and no service."""
    async with bench.running():
        await serving(bench)
        await bench.node({"decided": True})
        await bench.until(lambda: not bench.kernel.services)
        assert bench.speaker.services_at_release == {VIP: 1}


async def test_a_deleted_table_stays_while_it_is_listed(bench: Bench) -> None:
    """A table deleted by mistake is the controller's to write again; the traffic does not wait for it."""
    async with bench.running():
        await serving(bench)
        await bench.api.delete("directortables", "web/webdav")
        await bench.passes(3)
        assert len(bench.destinations()) == 2
        director = DIRECTOR["director"] | {"tables": [], **vrrp()}
        await bench.node({"decided": True, "director": director})
        await bench.until(lambda: not bench.kernel.services)


async def test_the_agent_works_without_the_api_server(bench: Bench) -> None:
    """A node that boots while the API server is away serves what it last knew, and checks its real servers."""
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(healthCheck=CHECK)
        await bench.until(lambda: len(bench.destinations()) == 2)
        await bench.until((bench.directory / "lib" / "last-good.json").exists)
        await bench.until(lambda: b"storage-1" in (bench.directory / "lib" / "last-good.json").read_bytes())
    await bench.api.stop()
    bench.kernel.flush_ipvs()
    bench.down.add(("192.0.2.12", 80))
    async with bench.running(server="http://127.0.0.1:9"):
        await bench.until(lambda: bench.destinations() == {"192.0.2.11": 100})
        assert bench.agent.loop.ready() == ""
    await bench.api.start()


async def test_a_damaged_last_good_file_is_put_aside(bench: Bench) -> None:
    """A disk fault must not keep the agent from starting."""
    path = bench.directory / "lib" / "last-good.json"
    path.parent.mkdir()
    path.write_bytes(b'{"version": 1, "node": tru')
    async with bench.running():
        await carrying(bench)
    assert path.with_suffix(".damaged").exists()


async def test_a_deleted_lvsnode_tears_nothing_down(bench: Bench) -> None:
    """Deleting an LVSNode by mistake, and the undecided one that takes its place, cost no packet."""
    async with bench.running():
        await serving(bench)
        before = bench.kernel.snapshot()
        await bench.api.delete("lvsnodes", NODE)
        await bench.passes(2)
        await bench.node({})
        told = await bench.api.status_where(lambda status: status.get("observedGeneration", 0) == 0)
        assert told["heldAddresses"] == [VIP]
        assert [report["table"] for report in told["tables"]] == ["web/webdav"]
        assert [problem["reason"] for problem in told["problems"]] == ["Undecided"]
        assert bench.kernel.snapshot() == before
        await bench.node(DIRECTOR)
        await bench.api.status_where(lambda status: status.get("observedGeneration", 0) == 2)
        assert bench.kernel.snapshot() == before


async def test_an_undecided_lvsnode_is_reported_and_nothing_is_changed(bench: Bench) -> None:
    """At first contact the agent tells what the node has, and waits."""
    async with bench.running():
        await bench.node({"director": DIRECTOR["director"], "backendAddresses": [VIP]})
        await bench.table()
        await bench.api.status_where(lambda status: bool(status.get("interfaces")))
        await bench.passes(3)
        assert bench.kernel.journal == []
        assert all(one.paused for one in bench.speaker.assignments)


async def test_deleted_kinds_tear_nothing_down(bench: Bench) -> None:
    """Deleting the CRDs deletes every object first; the node serves on."""
    async with bench.running():
        await serving(bench)
        before = bench.kernel.snapshot()
        await bench.api.delete("directortables", "web/webdav")
        await bench.api.delete("lvsnodes", NODE)
        bench.api.missing.update(bench.api.objects)
        await bench.api.break_watches()
        await bench.until(lambda: len(bench.agent.source.unknown) == 2)
        await bench.passes(2)
        assert bench.kernel.snapshot() == before


async def test_most_vips_vanishing_at_once_are_held(bench: Bench) -> None:
    """A restored backup of the API server is not believed at once; a person can say that it is meant."""
    vips = [f"192.0.2.{n}" for n in range(100, 104)]
    async with bench.running():
        await bench.node({"decided": True, "backendAddresses": vips})
        await bench.until(lambda: bench.on_lo() == set(vips))
        await bench.api.stop()
        await bench.node({"decided": True, "backendAddresses": vips[:1]})
        await bench.api.compact()
        await bench.api.start()
        told = await bench.api.status_where(
            lambda status: any(one["reason"] == "MassRemovalHeld" for one in status.get("problems", ()))
        )
        assert told["loopbackAddresses"] == vips
        assert told["observedGeneration"] == 1
        await bench.node(
            {"decided": True, "backendAddresses": vips[:1]},
            annotations={"lvs-operator.io/release-mass-removal": "true"},
        )
        await bench.until(lambda: bench.on_lo() == set(vips[:1]))


async def test_drift_is_repaired_and_counted(bench: Bench) -> None:
    """`ipvsadm -C` by hand costs one resync period."""
    async with bench.running():
        await serving(bench)
        bench.kernel.flush_ipvs()
        await bench.until(lambda: len(bench.destinations()) == 2)
        told = await bench.api.status_where(lambda status: status.get("repairs", 0) > 0)
        assert told["repairs"] == 3


async def test_arp_settings_are_polled_and_the_active_announces_again(bench: Bench) -> None:
    """A setting that lets lo answer ARP is back within a second, and clients learn the right MAC again."""
    async with bench.running(resync=60.0):
        await bench.node(DIRECTOR | BACKEND)
        await bench.table()
        await bench.until(lambda: bench.speaker.held == {VIP} and bench.on_lo() == {VIP} and bench.destinations())
        bench.kernel.sysctls[ARP_KEYS[0]] = "0"
        await bench.until(lambda: bench.kernel.sysctls[ARP_KEYS[0]] == "1", seconds=1.0)
        await bench.until(lambda: bench.speaker.announcements == 1)


async def test_a_fight_with_another_writer_is_named_and_slowed_down(bench: Bench) -> None:
    """Two programs that undo each other must not do so a hundred times a second, and a person must hear of it."""
    async with bench.running(resync=0.05):
        await carrying(bench)

        async def other() -> None:
            while True:
                bench.kernel.addresses.pop(AddressKey("lo", VIP), None)
                await asyncio.sleep(0.01)

        enemy = asyncio.create_task(other())
        told = await bench.api.status_where(
            lambda status: any(one["reason"] == "Contested" for one in status.get("problems", ()))
        )
        text = next(one["message"] for one in told["problems"] if one["reason"] == "Contested")
        assert f"address {VIP} on lo" in text
        repairs = bench.agent.node_pass.drift.repairs
        await bench.passes(5)
        assert bench.agent.node_pass.drift.repairs == repairs
        enemy.cancel()


async def test_a_backend_that_directs_balances_only_what_it_holds(bench: Bench) -> None:
    """Two directors that are real servers too would send a packet back and forth until its TTL ends."""
    backup = DIRECTOR["director"] | vrrp()
    async with bench.running():
        await bench.node({"decided": True, "director": backup, "backendAddresses": [VIP]})
        await bench.table()
        await bench.api.status_where(lambda status: status.get("tables", [{}])[0].get("generation") == 1)
        assert bench.kernel.services == {}
        await bench.node(DIRECTOR | BACKEND)
        await bench.until(lambda: bench.speaker.held == {VIP} and len(bench.destinations()) == 2)


async def test_a_vip_that_the_speaker_may_still_take_counts_as_held(bench: Bench) -> None:
    """Another director gets the VIP only when this one cannot come up with it any more."""
    async with bench.running():
        bench.speaker.probing.clear()
        await bench.node(DIRECTOR)
        await bench.table()
        await bench.until(lambda: bench.speaker.assignments and bench.speaker.assignments[-1].addresses)
        await bench.node({"decided": True, "director": DIRECTOR["director"] | vrrp()})
        told = await bench.api.status_where(lambda status: status.get("observedGeneration") == 2, seconds=10)
        assert told["heldAddresses"] == [VIP]
        bench.speaker.probing.set()
        await bench.api.status_where(lambda status: not status.get("heldAddresses"))
        assert bench.speaker.held == set()


async def test_health_takes_a_real_server_out_and_back(bench: Bench) -> None:
    """A real server that is down gets no connection, and the report says why."""
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(healthCheck=CHECK | {"fall": 1, "rise": 1})
        await bench.until(lambda: len(bench.destinations()) == 2)
        bench.down.add(("192.0.2.12", 80))
        await bench.until(lambda: bench.destinations() == {"192.0.2.11": 100})
        told = await bench.api.status_where(lambda status: status["tables"][0]["healthy"] == 1)
        (exception,) = told["tables"][0]["exceptions"]
        assert (exception["realServer"], exception["reason"]) == ("storage-2", "CheckFailed")
        assert "port 80: connection refused" in exception["message"]
        bench.down.clear()
        await bench.until(lambda: len(bench.destinations()) == 2)


async def test_maintenance_is_checked_but_counts_as_not_healthy(bench: Bench) -> None:
    """A real server under maintenance keeps its connections, gets no new ones, and is still looked at."""
    one, two = TABLE["destinations"]
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table(healthCheck=CHECK, destinations=[one, two | {"weight": 0}])
        await bench.until(lambda: bench.destinations() == {"192.0.2.11": 100, "192.0.2.12": 0})
        told = await bench.api.status_where(lambda status: status["tables"][0]["healthy"] == 1)
        assert told["tables"][0]["total"] == 2
        assert ("192.0.2.12", 80) in bench.checks


async def test_a_refused_entry_is_reported_and_harms_no_other(bench: Bench) -> None:
    """A scheduler that the kernel lacks is a reason at its table; the other table serves."""
    async with bench.running():
        await bench.node(DIRECTOR)
        await bench.table()
        await bench.table("exotic", scheduler="twos", ports=[{"port": 81, "protocol": "TCP"}])
        await bench.until(lambda: len(bench.destinations()) == 2)
        told = await bench.api.status_where(lambda status: len(status.get("tables", ())) == 2)
        reports = {one["table"]: one for one in told["tables"]}
        assert [one["reason"] for one in reports["web/exotic"]["exceptions"]] == ["SchedulerUnavailable"]
        assert "exceptions" not in reports["web/webdav"]


async def test_a_table_for_a_newer_agent_keeps_its_last_good_state(bench: Bench) -> None:
    """An old agent says Unsupported and serves what it understood last."""
    async with bench.running():
        await serving(bench)
        await bench.table(requires=["quantum"], destinations=[])
        told = await bench.api.status_where(lambda status: bool(status["tables"][0].get("exceptions")))
        assert told["tables"][0]["exceptions"][0]["reason"] == "Unsupported"
        assert told["tables"][0]["generation"] == 1
        assert len(bench.destinations()) == 2


async def test_a_paused_node_is_checked_and_reported_but_not_written(bench: Bench) -> None:
    """An operator who works on a node by hand is not worked against."""
    async with bench.running():
        await serving(bench)
        await bench.node(DIRECTOR | {"paused": True})
        told = await bench.api.status_where(
            lambda status: [one["reason"] for one in status.get("problems", ())] == ["Paused"]
        )
        assert told["observedGeneration"] == 2
        bench.kernel.flush_ipvs()
        await bench.passes(3)
        assert bench.kernel.services == {}
        await bench.node(DIRECTOR)
        await bench.until(lambda: len(bench.destinations()) == 2)


async def test_a_failing_pass_is_seen_and_the_next_one_made(bench: Bench) -> None:
    """An agent that cannot read the kernel is not ready, says so, and recovers by itself."""
    async with bench.running() as agent:
        await serving(bench)
        bench.kernel.read_error = RuntimeError("boom")
        await bench.until(lambda: "boom" in agent.loop.ready())
        told = await bench.api.status_where(lambda status: bool(status.get("problems")))
        assert "boom" in told["problems"][0]["message"]
        bench.kernel.read_error = None
        await bench.until(lambda: agent.loop.ready() == "")
        await bench.api.status_where(lambda status: not status.get("problems"))


async def test_a_reboot_makes_the_ledger_void(bench: Bench) -> None:
    """After a reboot nothing is ours: everything is made again, and nothing foreign is taken for ours."""
    async with bench.running():
        await carrying(bench)
    links = bench.kernel.links
    bench.kernel.reboot()
    bench.kernel.links = links
    bench.kernel.addresses[AddressKey("lo", "192.0.2.77")] = AddressConfig(254)
    async with bench.running():
        await bench.until(lambda: bench.on_lo() == {VIP, "192.0.2.77"})
        told = await bench.api.status_where(lambda status: status.get("bootId") == "boot-2")
        assert told["loopbackAddresses"] == [VIP]
        assert any("192.0.2.77" in one["message"] for one in told["problems"])


async def test_the_last_vip_leaves_the_node_as_it_was(bench: Bench) -> None:
    """No address, route or sysctl of ours stays behind."""
    before = bench.kernel.snapshot()
    async with bench.running():
        await carrying(bench)
        await bench.node({"decided": True})
        await bench.until(lambda: bench.kernel.snapshot() == before)
        await bench.until(
            lambda: (
                json.loads((bench.directory / "run" / "ledger.json").read_bytes())["ledger"] == {"boot_id": "boot-1"}
            )
        )


@pytest.mark.parametrize("address", ["192.0.2.1", "192.0.2.254", "192.0.2.0", "192.0.2.255"])
async def test_the_nodes_own_addresses_are_never_taken_for_a_vip(bench: Bench, address: str) -> None:
    """A VIP that is the node's own address or its gateway would cut the node off."""
    async with bench.running():
        await bench.node({"decided": True, "backendAddresses": [address]})
        told = await bench.api.status_where(lambda status: bool(status.get("problems")))
        assert told["problems"][0]["reason"] == "ReservedAddress"
        assert bench.kernel.journal == []


async def test_a_stale_last_good_state_takes_nothing_away(bench: Bench) -> None:
    """An agent that was killed before it could write down what it did must not undo it when it starts again."""
    async with bench.running():
        await bench.node({"decided": True})
        await bench.until((bench.directory / "lib" / "last-good.json").exists)
        stale = (bench.directory / "lib" / "last-good.json").read_bytes()
        await serving(bench)
    (bench.directory / "lib" / "last-good.json").write_bytes(stale)
    await bench.api.stop()
    bench.kernel.journal.clear()
    async with bench.running(server="http://127.0.0.1:9"):
        await bench.passes(3)
        assert bench.kernel.journal == []
        assert bench.speaker.held == {VIP}
    await bench.api.start()
