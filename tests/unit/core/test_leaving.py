"""What leaves: after its connections, or after those that take its place can serve."""

from collections.abc import Mapping

import pytest
from msgspec import structs

from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import DestinationOp, ServiceKey, ServiceOp, Verb
from lvs_dr.core.leaving import HANDOVER_SECONDS, SETTLE_SECONDS
from lvs_dr.core.objects import ForwardingMethod
from lvs_dr.core.table import DirectorTableSpec
from tests.unit.core.plan_cases import CHECK, RIPS, VIPS, Node, destination, director, service, table

VIP = VIPS[0]
RIP, OTHER_RIP, _ = RIPS[4]


def follow(node: Node, spec: DirectorTableSpec | None, health: Mapping[CheckKey, Health] | None = None) -> None:
    """Make a pass on a director that holds the VIP."""
    node.follow(director(), {"a/web": spec} if spec else {}, health, held=(VIP,))


def up(*rips: str, port: int = 8443) -> dict[CheckKey, Health]:
    """Return a view in which these are well."""
    return {CheckKey(rip, port, CHECK): Health.UP for rip in rips}


@pytest.mark.parametrize("seconds", [0, 5, 600])
def test_how_long_connections_are_waited_for_is_the_users_choice(seconds: int) -> None:
    """Downloads would be cut earlier, or a real server kept longer, than the VirtualService says."""
    node = Node()
    follow(node, structs.replace(table(), quiesce_seconds=seconds))
    node.kernel.connections[destination(RIP)] = 1
    fewer = structs.replace(table(rips=(OTHER_RIP,)), quiesce_seconds=seconds)
    follow(node, fewer)
    assert (destination(RIP) in node.kernel.destinations) == (seconds > 0)
    node.now = seconds - 1.0
    follow(node, fewer)
    assert (destination(RIP) in node.kernel.destinations) == (seconds > 0)
    node.now = float(seconds)
    follow(node, fewer)
    assert destination(RIP) not in node.kernel.destinations


def test_a_deleted_table_drains_as_it_said() -> None:
    """What is in no table any more would drain by another rule than it was promised."""
    node = Node()
    follow(node, structs.replace(table(), quiesce_seconds=600))
    node.kernel.connections[destination(RIP)] = 1
    follow(node, None)
    node.now = 599.0
    follow(node, None)
    assert destination(RIP) in node.kernel.destinations
    node.now = 600.0
    follow(node, None)
    follow(node, None)
    assert not node.kernel.services
    assert node.ledger.holds_nothing


def test_connections_by_firewall_mark_are_waited_for_too() -> None:
    """The service has no address, so nobody would know that its VIP is held here."""
    node = Node()
    marked = structs.replace(table(), ports=(), firewall_mark=7)
    follow(node, marked)
    key = ServiceKey("", 0, 0, 7)
    (leaving,) = (one for one in node.kernel.destinations if one.address == RIP)
    node.kernel.connections[leaving] = 1
    follow(node, structs.replace(marked, destinations=marked.destinations[1:]))
    assert node.kernel.destinations[leaving].weight == 0
    follow(node, None)
    assert leaving in node.kernel.destinations
    node.follow(director(), {})  # the VIP is gone from here
    assert key not in node.kernel.services


def test_an_unchecked_successor_takes_over_after_its_check() -> None:
    """An exchanged real server would leave the service empty until the first check of the new one has ended."""
    node = Node()
    follow(node, table(rips=(RIP,), check=CHECK), up(RIP))
    after = table(rips=(OTHER_RIP,), check=CHECK)
    follow(node, after)
    assert node.kernel.destinations[destination(RIP)].weight == 100
    follow(node, after, up(OTHER_RIP))
    assert node.kernel.destinations[destination(RIP)].weight == 0
    node.now += SETTLE_SECONDS
    follow(node, after, up(OTHER_RIP))
    assert set(node.kernel.destinations) == {destination(OTHER_RIP)}
    node = Node()
    follow(node, table(rips=(RIP,), check=CHECK), up(RIP))
    follow(node, after)
    follow(node, after, {CheckKey(OTHER_RIP, 8443, CHECK): Health.DOWN})
    node.now += SETTLE_SECONDS
    follow(node, after, {CheckKey(OTHER_RIP, 8443, CHECK): Health.DOWN})
    assert not node.kernel.destinations, "what the user took out must go, also when its successor is dead"


def test_a_successor_is_not_waited_for_without_end() -> None:
    """A removed real server would stay for ever when checks do not run."""
    node = Node()
    follow(node, table(rips=(RIP,), check=CHECK), up(RIP))
    after = table(rips=(OTHER_RIP,), check=CHECK)
    follow(node, after)
    node.now = HANDOVER_SECONDS
    follow(node, after)
    node.now += SETTLE_SECONDS
    follow(node, after)
    assert not node.kernel.destinations


def test_a_changed_port_serves_before_the_old_one_goes() -> None:
    """Clients of neither port would be served between the two, or until the first check."""
    node = Node()
    follow(node, table(check=CHECK), up(RIP, OTHER_RIP))
    moved = table(ports=(9443,), check=CHECK)
    follow(node, moved)
    assert {key.service for key in node.kernel.destinations} == {service()}
    node.kernel.journal.clear()
    follow(node, moved, up(RIP, OTHER_RIP, port=9443))
    node.now += SETTLE_SECONDS
    follow(node, moved, up(RIP, OTHER_RIP, port=9443))
    order = [(type(op), op.verb) for op in node.kernel.journal]
    assert order.index((DestinationOp, Verb.ADD)) < order.index((ServiceOp, Verb.DELETE))
    assert set(node.kernel.services) == {service(port=9443)}


def test_who_came_in_at_the_last_moment_is_not_cut_off() -> None:
    """A connection between the count and the removal, or one not established yet, would be dropped without a word."""
    node = Node()
    follow(node, table(), up(RIP, OTHER_RIP))
    after = table(rips=(RIP,))
    follow(node, after)
    assert node.kernel.destinations[destination(OTHER_RIP)].weight == 0, "nobody new"
    node.kernel.connections[destination(OTHER_RIP)] = 1  # its handshake has ended
    node.now += SETTLE_SECONDS
    follow(node, after)
    assert destination(OTHER_RIP) in node.kernel.destinations
    node.kernel.connections.clear()
    follow(node, after)
    assert set(node.kernel.destinations) == {destination(RIP)}


def test_who_wants_no_quiescing_gets_none() -> None:
    """With quiesceSeconds 0 a removal is at once, as with ipvsadm."""
    node = Node()
    follow(node, structs.replace(table(), quiesce_seconds=0))
    follow(node, structs.replace(table(rips=(RIP,)), quiesce_seconds=0))
    assert set(node.kernel.destinations) == {destination(RIP)}


@pytest.mark.parametrize(
    "changes",
    [
        {"scheduler": "sh", "scheduler_flags": ("sh-port",)},
        {"one_packet": True},
    ],
)
def test_settings_of_a_service_change_in_place(changes: dict[str, object]) -> None:
    """A changed scheduler would cut all connections."""
    node = Node()
    follow(node, table())
    node.kernel.journal.clear()
    follow(node, structs.replace(table(), **changes))
    assert [(type(op), op.verb) for op in node.kernel.journal] == [(ServiceOp, Verb.SET)]


def test_a_changed_forwarding_method_touches_one_real_server() -> None:
    """The others would be taken out and put back, and lose their connections."""
    node = Node()
    follow(node, table())
    node.kernel.journal.clear()
    first, second = table().destinations
    changed = structs.replace(first, forwarding=ForwardingMethod.MASQUERADE)
    follow(node, structs.replace(table(), destinations=(changed, second)))
    (op,) = node.kernel.journal
    assert (op.verb, op.key) == (Verb.SET, destination(RIP))
