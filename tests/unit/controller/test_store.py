"""The store: sources overtake each other, and nothing is lost or resurrected by it."""

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.controller import watched
from lvs_dr.controller.store import Store
from lvs_dr.core.objects import Key, VirtualService
from tests.unit.controller.bodies import node, real_server, virtual_service

WEB = Key("shop", "web")


def test_first_put_tells_of_an_addition() -> None:
    """A new object is a change from nothing, and decisions can see it."""
    store = Store()
    change = store.put(watched.VIRTUAL_SERVICE, virtual_service())
    assert change is not None
    assert (change.before, change.key) == (None, WEB)
    assert store.world.virtual_services[WEB] is change.after


def test_status_write_is_no_change() -> None:
    """The controller's own status writes wake nobody."""
    store = Store()
    store.put(watched.VIRTUAL_SERVICE, virtual_service())
    assert store.put(watched.VIRTUAL_SERVICE, virtual_service(version=2) | {"status": {"ports": "80"}}) is None


def test_node_heartbeat_is_no_change() -> None:
    """A kubelet that reports its conditions costs no compile."""
    store = Store()
    store.put(watched.NODE, node("one"))
    beat = node("one", version=2)
    beat["status"]["conditions"] = [{"type": "Ready", "status": "True", "lastHeartbeatTime": "2026-01-01T00:00:10Z"}]
    assert store.put(watched.NODE, beat) is None


def test_older_event_does_not_undo_a_newer_write() -> None:
    """An event that was overtaken by the answer to our own write is ignored."""
    store = Store()
    store.put(watched.VIRTUAL_SERVICE, virtual_service(address="192.0.2.11", version=5))
    assert store.put(watched.VIRTUAL_SERVICE, virtual_service(address="192.0.2.10", version=4)) is None
    service = store.world.virtual_services[WEB]
    assert isinstance(service, VirtualService)
    assert service.address == "192.0.2.11"


def test_list_drops_what_a_watch_missed() -> None:
    """A deletion that no event told is found by the next LIST."""
    store = Store()
    store.put(watched.REAL_SERVER, real_server("one"))
    store.put(watched.REAL_SERVER, real_server("two"))
    changes = store.replace(watched.REAL_SERVER, [real_server("one")], "9")
    assert [(change.key.name, change.after) for change in changes] == [("two", None)]
    assert set(store.world.real_servers) == {Key("shop", "one")}


def test_list_keeps_what_was_created_after_it() -> None:
    """An object that is newer than a slow LIST survives it."""
    store = Store()
    store.put(watched.REAL_SERVER, real_server("late", version=12))
    assert store.replace(watched.REAL_SERVER, [], "9") == []
    assert Key("shop", "late") in store.world.real_servers


def test_list_does_not_resurrect_what_was_deleted_after_it() -> None:
    """A slow LIST brings nobody back to life."""
    store = Store()
    store.put(watched.REAL_SERVER, real_server("one", version=3))
    store.drop(watched.REAL_SERVER, Key("shop", "one"), uid="uid-one", version=12)
    assert store.replace(watched.REAL_SERVER, [real_server("one", version=3)], "9") == []
    assert not store.world.real_servers


def test_late_deletion_leaves_a_namesake_alone() -> None:
    """Deleting and re-creating under one name: the late DELETED of the first does not hit the second."""
    store = Store()
    store.put(watched.REAL_SERVER, real_server("one", uid="first", version=3))
    store.put(watched.REAL_SERVER, real_server("one", uid="second", version=6))
    assert store.drop(watched.REAL_SERVER, Key("shop", "one"), uid="first", version=5) is None
    assert Key("shop", "one") in store.world.real_servers


def test_indexes_follow_a_changed_address() -> None:
    """Whoever asks who uses a VIP gets the truth after a change and after a deletion."""
    store = Store()
    store.put(watched.VIRTUAL_SERVICE, virtual_service())
    store.put(watched.VIRTUAL_SERVICE, virtual_service(address="192.0.2.11", version=2))
    assert dict(store.world.services_by_address) == {"192.0.2.11": {WEB}}
    store.drop(watched.VIRTUAL_SERVICE, WEB, uid="uid-web", version=3)
    assert not store.world.services_by_address
    assert not store.world.services_by_namespace


def test_complete_only_after_a_list_of_every_kind() -> None:
    """Nothing can be decided before everything was read once, whatever events say."""
    store = Store()
    for kind in watched.WATCHED:
        assert not store.complete
        store.replace(kind, [], "1")
    assert store.complete


def test_object_of_a_foreign_shape_is_kept_as_it_was() -> None:
    """A table that a newer version wrote in another form is not taken for a deleted VirtualService."""
    store = Store()
    store.put(watched.VIRTUAL_SERVICE, virtual_service())
    broken = virtual_service(version=2)
    broken["spec"] = {"address": 7}
    change = store.put(watched.VIRTUAL_SERVICE, broken)
    assert change is not None
    assert change.after.message
    assert WEB in store.world.virtual_services


@given(st.permutations(range(6)))
def test_any_order_of_events_ends_in_the_newest(order: list[int]) -> None:
    """Whatever order six versions and a LIST arrive in, the newest stays."""
    store = Store()
    for version in order:
        body = virtual_service(address=f"192.0.2.{version + 1}", version=version + 1)
        if version % 2:
            store.put(watched.VIRTUAL_SERVICE, body)
        else:
            store.replace(watched.VIRTUAL_SERVICE, [body], str(version + 1))
    service = store.world.virtual_services[WEB]
    assert isinstance(service, VirtualService)
    assert service.address == "192.0.2.6"
    assert dict(store.world.services_by_address) == {"192.0.2.6": {WEB}}
