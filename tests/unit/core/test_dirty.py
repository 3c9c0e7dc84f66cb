"""What a change affects: enough (see test_order_between_nodes), and not everything."""

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.compile_table import compile_table
from lvs_dr.core.decisions import Action, Dirty
from lvs_dr.core.dirty import affected, members_changed, silence_changed
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node_status import TableException
from lvs_dr.core.objects import Key, Namespace, Port, Selector
from lvs_dr.core.world import Cluster
from tests.unit.core.clusters import D1, D2, S1, S2, agent, nodes, serving
from tests.unit.core.worlds import Objects, group, names, real_server, service

MANY = 20


def many() -> Objects:
    """Return twenty services, each with two real servers of its own on the same two nodes."""
    given: list[object] = []
    for at in range(MANY):
        pool = {"labels": {"pool": f"p{at}"}}
        given.append(service(f"v{at}", address=f"192.0.2.{100 + at}", selector=Selector((("pool", f"p{at}"),))))
        given += [real_server(f"{name}-{at}", node_name=name, meta_=pool) for name in (S1, S2)]
    return serving(*given)


def test_a_changed_weight_compiles_one_table() -> None:
    """Else a rollout of weights over a site keeps the controller busy for nothing."""
    objects = many()
    dirty = objects.put(replace(objects.world.real_servers[Key("shop", "s1-7")], weight=7))  # type: ignore[type-var]
    assert dirty == Dirty(services=frozenset({Key("shop", "v7")}), real_servers=frozenset({Key("shop", "s1-7")}))


def test_a_heartbeat_compiles_nothing() -> None:
    """Nodes and reports change all the time; most of it decides nothing."""
    objects = many()
    record = objects.world.nodes[S1]
    labels = (*record.meta.labels, ("zone", "b"))
    assert objects.put(replace(record, meta=replace(record.meta, generation=9, labels=labels))) == Dirty()
    status = objects.world.lvs_nodes[S1].status
    assert status is not None
    assert objects.report(S1, replace(status, repairs=3, agent_version="2", boot_id="x")) == Dirty()
    assert affected(objects.world, "Node", record, record) == Dirty()


def test_a_report_about_one_table_concerns_its_service_and_the_real_servers_named() -> None:
    """A failed check is told once a second at most; it must be cheap."""
    objects = many()
    status = objects.world.lvs_nodes[D1].status
    assert status is not None
    at = next(at for at, each in enumerate(status.tables) if each.table == "shop/v3")
    unwell = replace(status.tables[at], healthy=1, exceptions=(TableException("CheckFailed", "refused", "s2-3"),))
    tables = (*status.tables[:at], unwell, *status.tables[at + 1 :])
    dirty = objects.report(D1, replace(status, tables=tables))
    assert dirty == Dirty(services=frozenset({Key("shop", "v3")}), real_servers=frozenset({Key("shop", "s2-3")}))


def test_a_vip_that_left_lo_concerns_its_services() -> None:
    """The RealServer's status says so; the other services have nothing to do with it."""
    objects = many()
    status = objects.world.lvs_nodes[S1].status
    assert status is not None
    left = tuple(each for each in status.loopback_addresses if each != "192.0.2.105")
    dirty = objects.report(S1, replace(status, loopback_addresses=left))
    assert dirty.services == {Key("shop", "v5")}
    assert Key("shop", "s1-5") in dirty.real_servers
    assert dirty.nodes == set()


def test_a_new_service_compiles_itself_and_then_directors_and_backends() -> None:
    """The other nineteen are not touched."""
    objects = many()
    dirty = objects.put(service("new", address="192.0.2.200", selector=Selector((("pool", "p0"),))))
    assert dirty.services == {Key("shop", "new")}
    objects.services.clear()
    objects.nodes.clear()
    objects.compile_service(Key("shop", "new"))
    assert objects.services == {Key("shop", "new")}
    assert objects.nodes == {D1, D2, S1, S2}


def test_a_freed_vip_is_offered_to_those_who_wanted_it() -> None:
    """Else a refused service stays refused until somebody touches it."""
    objects = serving()
    late = service("late")
    objects.put(late)
    objects.settle()
    objects.remove(Kind.VIRTUAL_SERVICE, "web", "shop")
    dirty = objects.remove(Kind.DIRECTOR_TABLE, "web", "shop")
    assert late.meta.key in dirty.services


def test_another_port_of_a_vip_concerns_nobody_else() -> None:
    """With hundreds of services on one VIP each new one would compile all of them."""
    objects = serving(*(service(f"v{port}", ports=(Port(port),)) for port in range(1, MANY + 1)))
    objects.services.clear()
    assert objects.put(service("new", ports=(Port(99),))).services == {Key("shop", "new")}
    objects.compile_service(Key("shop", "new"))
    assert objects.services == {Key("shop", "new")}


CLAIMS = st.tuples(
    st.integers(0, 7),
    st.sampled_from(["shop"] * 9 + ["bank"]),
    st.sampled_from(["192.0.2.100"] * 9 + ["192.0.2.101"]),
    st.sets(st.integers(1, 6), min_size=1, max_size=2),
    st.sampled_from([True, False, False]),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(CLAIMS, min_size=10, max_size=30))
def test_who_contests_a_vip_is_asked_again(changes: list[tuple[int, str, str, set[int], bool]]) -> None:
    """A refused service would stay refused after the one in its way has gone, or serve beside it."""
    objects = nodes(D1)
    for at, namespace, address, ports, removed in changes:
        if removed:
            objects.remove(Kind.VIRTUAL_SERVICE, f"v{at}", namespace)
        else:
            wanted = tuple(Port(port) for port in sorted(ports))
            objects.put(service(f"v{at}", namespace, address=address, ports=wanted))
        objects.settle()
        for key in objects.world.virtual_services:
            again = compile_table(objects.world, key)
            assert (again.action, again.accepted) == (Action.KEEP, objects.decisions[key].accepted)


def test_silence_concerns_the_nodes_services_and_group() -> None:
    """AgentSilent must appear where the node plays a part."""
    objects = serving()
    objects.silent.add(S1)
    dirty = silence_changed(objects.world, S1)
    assert (names(dirty.services), names(dirty.real_servers)) == (["web"], [S1])
    objects.silent.add(D1)
    assert names(silence_changed(objects.world, D1).services) == ["web"]


def test_a_groups_change_concerns_its_services_and_nodes() -> None:
    """Its interface and its allowed addresses decide about all of them."""
    objects = serving()
    dirty = objects.put(group("default", node_selector=Selector((("lvs-operator.io/director", ""),))))
    assert names(dirty.services) == ["web"]
    assert dirty.nodes >= {D1, D2}
    assert dirty.groups == {"default"}


def test_a_namespaces_labels_concern_services_of_groups_that_ask_for_them() -> None:
    """Most clusters ask for none."""
    objects = nodes(D1)
    objects.put(service())
    assert objects.put(Namespace("shop", (("a", "b"),))) == Dirty()
    objects.put(group("default", allowed_namespaces=Selector((("a", "c"),))))
    assert names(objects.put(Namespace("shop", (("a", "c"),))).services) == ["web"]


def test_the_clusters_own_addresses_concern_every_service() -> None:
    """They are known a moment after the start."""
    objects = serving()
    assert names(affected(objects.world, "Cluster", Cluster(), Cluster(("10.0.0.0/8",))).services) == ["web"]


def test_members_whose_part_changed_are_told() -> None:
    """Their status depends on the service's compile."""
    objects = nodes(D1)
    objects.put(service(), real_server(S1), real_server(S2))
    objects.settle()
    before = objects.decisions[Key("shop", "web")]
    agent(objects, S1)
    objects.settle()
    after = objects.decisions[Key("shop", "web")]
    assert members_changed(before, after) == {Key("shop", S1)}
    assert members_changed(None, after) == {Key("shop", S1), Key("shop", S2)}
    assert members_changed(after, after) == frozenset()
