"""Connection sync: what directors are told, what an agent starts and stops, and what the group says of it."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.conditions import ConditionStatus, Finding
from lvs_dr.core.desired import desired
from lvs_dr.core.director_group import IpvsSettings, SyncMode, SyncSettings, VrrpSettings
from lvs_dr.core.group_status import director_group_status
from lvs_dr.core.indexing import Kind
from lvs_dr.core.kernel import DaemonConfig, DaemonKey, DaemonOp, DestinationOp, KernelState, Verb
from lvs_dr.core.ledger import DaemonRecord, Ledger
from lvs_dr.core.node import DirectorRole, DirectorSettings, IpvsSysctl, LVSNodeSpec
from lvs_dr.core.node_status import IpvsReport, LVSNodeStatus, Problem
from lvs_dr.core.objects import Key, OnFailure, Protocol
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.settings import KUBE_PROXY, TCP, Link, Settings, settings, sysctl_key
from lvs_dr.core.sync import (
    BACKUP,
    MASTER,
    daemons,
    largest_message,
    plan_daemons,
    running,
    sysctl_rules,
    unmet_sync,
    with_sync,
)
from lvs_dr.core.sync_modes import group_sync
from lvs_dr.core.sync_spec import ConnectionSync, SyncReport
from lvs_dr.core.sync_status import COUNTED_FROM, synced
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TablePort
from tests.unit.core.worlds import NOW, Objects, group, node, service, status

SYNC = ConnectionSync(51)
ETH0 = Link("eth0", 2, "192.0.2.1")
IPVS = {TCP: 900}
GROUP = group("edge")

links = st.builds(Link, st.just("eth0"), st.integers(2, 4), st.sampled_from(["192.0.2.1", "192.0.2.7"]))
wishes = st.none() | st.builds(ConnectionSync, st.integers(50, 52), maximum_length=st.sampled_from([0, 1, 4000]))


class Machine:
    """A kernel's daemons, and the agent's ledger of them."""

    def __init__(self, **running: DaemonConfig) -> None:
        self.daemons = {DaemonKey(state): config for state, config in running.items()}
        self.records: tuple[DaemonRecord, ...] = ()
        self.foreign: tuple[DaemonKey, ...] = ()

    def follow(self, wish: ConnectionSync | None, link: Link | None = ETH0, crash_after: int = 99) -> list[DaemonOp]:
        """Make one pass, of which the kernel sees only the first operations."""
        shared = with_sync(Settings(), wish, link)
        made = plan_daemons(shared, KernelState(timeouts=IPVS, daemons=dict(self.daemons)), self.records)
        self.records, self.foreign = made.records, made.foreign
        for op in made.ops[:crash_after]:
            self.daemons.pop(op.key, None)
            if op.config is not None:
                self.daemons[op.key] = op.config
        return list(made.ops)


@given(st.lists(st.tuples(wishes, links, st.integers(0, 2)), max_size=8))
def test_passes_and_crashes_leave_no_daemon_behind(rounds: list[tuple[ConnectionSync | None, Link, int]]) -> None:
    """A daemon of a wish long gone would go on telling of connections, or keep the next one from running."""
    machine = Machine()
    for wish, link, crash_after in rounds:
        machine.follow(wish, link, crash_after)
        machine.follow(wish, link)
        assert machine.daemons == (daemons(wish, "eth0") if wish else {})
        assert not machine.foreign
        assert machine.follow(wish, link) == []
    machine.follow(None)
    machine.follow(None)
    assert not machine.daemons
    assert not machine.records


@given(st.lists(wishes, max_size=5))
def test_a_foreign_daemon_outlives_everything(rounds: list[ConnectionSync | None]) -> None:
    """keepalived's lvs_sync_daemon would be stopped under its hands."""
    theirs = DaemonConfig("eth1", 9, 1472, "224.0.0.81", 8848, 1)
    machine = Machine(backup=theirs)
    for wish in rounds:
        machine.follow(wish)
        assert machine.daemons[BACKUP] == theirs
        assert (machine.foreign == (BACKUP,)) == (wish is not None)


def test_a_daemon_that_somebody_replaced_is_theirs() -> None:
    """Two programs would replace each other's daemon every five seconds."""
    machine = Machine()
    machine.follow(SYNC)
    theirs = machine.daemons[MASTER]._replace(sync_id=9)
    machine.daemons[MASTER] = theirs
    assert machine.follow(SYNC) == []
    assert machine.foreign == (MASTER,)
    machine.follow(None)
    assert machine.daemons == {MASTER: theirs}


@pytest.mark.parametrize("link", [Link("eth0", 3, "192.0.2.1"), Link("eth0", 2, "192.0.2.9")])
def test_an_interface_of_the_same_name_is_another_one(link: Link) -> None:
    """The daemons would run on and carry nothing: they are bound to the interface that is gone, or to its address."""
    machine = Machine()
    machine.follow(SYNC)
    assert [(op.verb, op.key) for op in machine.follow(SYNC, link)] == [(Verb.SET, MASTER), (Verb.SET, BACKUP)]
    assert machine.follow(SYNC, link) == []


def test_an_interface_that_is_away_ends_nothing() -> None:
    """A link that flaps would stop the daemons, and its address coming late would keep them from starting."""
    machine = Machine()
    machine.follow(SYNC)
    assert machine.follow(SYNC, None) == []
    assert machine.follow(SYNC, ETH0._replace(source="")) == []
    assert machine.follow(SYNC) == []
    problems = with_sync(Settings(), SYNC, None).problems
    assert [reason for reason, _ in problems] == [Reason.SYNC_INTERFACE_MISSING]


def test_a_vanished_daemon_is_a_repair() -> None:
    """Somebody who stops the daemon again and again would never be told of."""
    machine = Machine()
    machine.follow(SYNC)
    del machine.daemons[MASTER]
    shared = with_sync(Settings(), SYNC, ETH0)
    made = plan_daemons(shared, KernelState(timeouts=IPVS, daemons=machine.daemons), machine.records)
    assert made.repairs == {DaemonOp(Verb.ADD, MASTER, shared.daemons[MASTER])}


def test_nothing_is_concluded_without_ipvs() -> None:
    """The ledger would forget its daemons while IPVS cannot be read."""
    records = (DaemonRecord(MASTER, daemons(SYNC, "eth0")[MASTER]),)
    assert plan_daemons(Settings(), KernelState(), records).records == records


def test_a_backup_understands_the_longest_message() -> None:
    """A director with short messages could not read those of one with long ones."""
    for length in (1, 160, 1472, 8952):
        made = daemons(ConnectionSync(1, maximum_length=length), "eth0")
        assert made[MASTER].maximum_length == length
        assert made[BACKUP].maximum_length == max(1472, length)
    assert daemons(ConnectionSync(1), "eth0")[MASTER].maximum_length == largest_message("224.0.0.81") == 1472
    assert daemons(ConnectionSync(1, group="ff02::81"), "eth0")[MASTER].maximum_length == 1452


def test_serving_comes_before_sync() -> None:
    """The kernel refuses a real server of the other address family while a sync daemon runs."""
    backwards = TableDestination(real_server="six", address="2001:db8::9", weight=1)
    table = DirectorTableSpec(
        director_group="edge",
        service_generation=1,
        address="192.0.2.100",
        ports=(TablePort(80, Protocol.TCP),),
        scheduler="rr",
        on_failure=OnFailure.REMOVE,
        destinations=(backwards,),
    )
    spec = LVSNodeSpec(decided=True, director=DirectorRole("edge", sync=SYNC))
    goal = desired(spec, {"shop/web": table}, {}, Ledger("boot"), held=frozenset(), reserved={}, link=ETH0)
    assert not goal.shared.daemons
    assert [(one.reason, "shop/web" in one.message) for one in goal.refusals] == [(Reason.SYNC_DAEMON_MISSING, True)]
    machine = Machine()
    machine.follow(SYNC)
    state = KernelState(timeouts=IPVS, daemons=machine.daemons)
    made = plan(goal, state, Ledger("boot", daemons=machine.records))
    verbs = [(type(op), op.verb) for op in made.ops]
    last = max(verbs.index((DaemonOp, Verb.DELETE)), 1)
    assert last < verbs.index((DestinationOp, Verb.ADD)), "the daemons must be gone before"


def test_kernel_settings_win_and_an_owner_keeps_its_values() -> None:
    """A user's explicit value, or kube-proxy's, would be overwritten."""
    explicit = settings(DirectorSettings(sysctls=(IpvsSysctl("sloppy_tcp", 0),)))
    found = with_sync(explicit, replace(SYNC, sloppy=True), ETH0)
    assert found.sysctls[sysctl_key("sloppy_tcp")].value == "0"
    assert found.sysctls[sysctl_key("sync_threshold")].value == "3\t50"
    owned = with_sync(settings(None, KUBE_PROXY), SYNC, ETH0)
    assert not owned.sysctls
    assert set(owned.daemons) == {MASTER, BACKUP}
    there = {key: rule.value for key, rule in sysctl_rules(SYNC).items()}
    assert unmet_sync(owned, SYNC, KernelState(timeouts=IPVS, sysctls=there)) == ()
    other = {**there, sysctl_key("sync_threshold"): "2\t0"}
    wrong = unmet_sync(owned, SYNC, KernelState(timeouts=IPVS, sysctls=other))
    assert wrong == ("net.ipv4.vs.sync_threshold is 2 0, not 3 50",)


def test_what_runs_is_counted_after_the_pass() -> None:
    """Status would be a pass behind: daemons missing that have just been started."""
    wanted = daemons(SYNC, "eth0")
    ops = [DaemonOp(Verb.ADD, MASTER, wanted[MASTER])]
    assert running(wanted, KernelState(), ops) == ("master",)
    assert running(wanted, KernelState(daemons={BACKUP: wanted[BACKUP]}), ops) == ("backup", "master")
    assert running(wanted, KernelState(daemons=wanted), [DaemonOp(Verb.DELETE, MASTER)]) == ("backup",)


def test_modes_become_numbers() -> None:
    """Standard and Strict would be the same, or Off would sync."""
    standard = group_sync(GROUP, 2)
    assert standard is not None
    assert (standard.id, standard.period, standard.sloppy) == (51, 0, True)
    assert standard.refresh_seconds > 0, "a director that came back would never learn of old connections"
    strict = group_sync(replace(GROUP, sync=SyncSettings(SyncMode.STRICT)), 2)
    assert strict is not None
    assert strict.maximum_length == 1, "a connection would wait for others"
    assert strict.retries > standard.retries
    assert group_sync(replace(GROUP, sync=SyncSettings(SyncMode.OFF)), 2) is None
    assert group_sync(GROUP, 1) is None
    given_ = SyncSettings(interface="eth1", sync_id=7, group="ff02::81", port=9000, hop_limit=2, maximum_length=900)
    told = group_sync(replace(GROUP, sync=given_), 2)
    assert told is not None
    assert (told.id, told.interface, told.group, told.port, told.ttl, told.maximum_length) == (
        7, "eth1", "ff02::81", 9000, 2, 900,
    )  # fmt: skip
    moved = group_sync(replace(GROUP, vrrp=VrrpSettings(first_virtual_router_id=99)), 2)
    assert moved is not None
    assert moved.id == 99


# What the controller tells the directors, and says of them

ALL_WELL = SyncReport(("backup", "master"), "eth0")


def directed(count: int = 2, **given_: Any) -> Objects:
    """Return a group with so many directors that have reported."""
    nodes = [node(f"d{i}", f"192.0.2.{i}", labels={"group": "edge"}) for i in range(1, count + 1)]
    objects = Objects(group("edge", **given_), service(director_group="edge"), *nodes)
    objects.everything()
    objects.settle()
    for i in range(1, count + 1):
        objects.report(f"d{i}", status(f"192.0.2.{i}"))
    objects.settle()
    return objects


def told(objects: Objects, name: str) -> ConnectionSync | None:
    """Return what a director is told of connection sync."""
    role = objects.world.lvs_nodes[name].spec.director
    assert role is not None
    return role.sync


def report(objects: Objects, name: str, sync: SyncReport | None, connections: int = 0, *problems: Problem) -> None:
    """Have a director report of the generation it was last told."""
    record = objects.world.lvs_nodes[name]
    ipvs = IpvsReport(connections=connections)
    given_: LVSNodeStatus = status(observed_generation=record.generation, sync=sync, ipvs=ipvs, problems=problems)
    objects.report(name, given_)


def finding(objects: Objects) -> Finding:
    """Return what the group says of connection sync."""
    return synced(objects.world, ("d1", "d2"))


def test_a_second_director_starts_sync_on_the_first() -> None:
    """The first director would keep its connections to itself."""
    objects = directed(1)
    assert told(objects, "d1") is None
    objects.put(node("d2", "192.0.2.2", labels={"group": "edge"}))
    objects.settle()
    objects.report("d2", status("192.0.2.2"))
    objects.settle()
    assert told(objects, "d1") == told(objects, "d2") == group_sync(GROUP, 2)
    assert "connection-sync" in objects.world.lvs_nodes["d1"].spec.requires
    objects.put(group("edge", sync=SyncSettings(SyncMode.OFF)))
    objects.settle()
    assert told(objects, "d1") is None


def test_a_group_without_services_leaves_its_nodes_as_they_are() -> None:
    """Daemons and sysctls would stay on every director after the last VirtualService is gone."""
    objects = directed()
    assert told(objects, "d1") is not None
    objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
    objects.services.add(Key("shop", "web"))
    objects.settle()
    assert told(objects, "d1") is None
    assert told(objects, "d2") is None


def test_sync_is_true_when_both_daemons_run_everywhere() -> None:
    """A takeover that loses everything would come as a surprise."""
    objects = directed()
    assert finding(objects).reason == Reason.WAITING_FOR_DIRECTOR
    report(objects, "d1", ALL_WELL)
    report(objects, "d2", ALL_WELL)
    assert finding(objects).reason == Reason.SYNCED
    report(objects, "d2", SyncReport(("backup",), "eth0"), 0, Problem(Reason.KERNEL_REFUSED, "no memory"))
    assert (finding(objects).reason, finding(objects).status) == (Reason.SYNC_DAEMON_MISSING, ConditionStatus.FALSE)
    assert "d2" in finding(objects).message
    assert "no memory" in finding(objects).message
    report(objects, "d2", SyncReport(("backup",), "eth0", "keepalived's"))
    assert finding(objects).reason == Reason.SHARED_SETTING_CONFLICT
    report(objects, "d2", SyncReport(), 0, Problem(Reason.SYNC_INTERFACE_MISSING, "no eth1"))
    assert finding(objects).reason == Reason.SYNC_INTERFACE_MISSING
    report(objects, "d2", None)
    assert finding(objects).reason == Reason.SYNC_DAEMON_MISSING


def test_connections_are_counted_not_assumed() -> None:
    """Daemons run, a switch drops the multicast, and nobody knows."""
    objects = directed()
    report(objects, "d1", ALL_WELL, COUNTED_FROM)
    report(objects, "d2", ALL_WELL, COUNTED_FROM // 2 - 1)
    assert finding(objects).reason == Reason.CONNECTIONS_BEHIND
    report(objects, "d2", ALL_WELL, COUNTED_FROM // 2)
    assert finding(objects).reason == Reason.SYNCED
    report(objects, "d1", ALL_WELL, COUNTED_FROM - 1)
    report(objects, "d2", ALL_WELL)
    assert finding(objects).reason == Reason.SYNCED


def test_the_condition_is_there_where_sync_is_wanted() -> None:
    """A group of one, or one that wants no sync, would never be ready."""

    def conditions(objects: Objects) -> set[str]:
        return {each.type for each in director_group_status(objects.world, "edge", None, NOW).conditions}

    assert "ConnectionsSynced" in conditions(directed())
    assert "ConnectionsSynced" not in conditions(directed(1))
    assert "ConnectionsSynced" not in conditions(directed(sync=SyncSettings(SyncMode.OFF)))


def test_a_report_of_sync_renews_the_groups_status() -> None:
    """The condition would stay as it was until something else changes."""
    objects = directed()
    report(objects, "d1", ALL_WELL)
    record = objects.world.lvs_nodes["d1"]
    assert record.status is not None
    assert "edge" in objects.report("d1", replace(record.status, sync=SyncReport())).groups
    assert "edge" in objects.report("d1", replace(record.status, ipvs=IpvsReport(connections=1000))).groups


def test_a_conflict_of_sync_is_not_one_of_the_settings() -> None:
    """SettingsApplied would be False although the timeouts are set."""
    objects = directed(ipvs=IpvsSettings(tcp_seconds=7200))
    text = "somebody else runs sync daemon master"
    report(objects, "d1", SyncReport(("backup",), "eth0", text), 0, Problem(Reason.SHARED_SETTING_CONFLICT, text))
    report(objects, "d2", ALL_WELL)
    found = {each.type: each for each in director_group_status(objects.world, "edge", None, NOW).conditions}
    assert found["SettingsApplied"].reason == Reason.CONFIGURED
    assert found["ConnectionsSynced"].reason == Reason.SHARED_SETTING_CONFLICT
