"""What the plan remembers in the ledger: drains, values as found, and what is ours."""

from msgspec import json

from lvs_dr.core.kernel import (
    ServiceConfig,
    SysctlKey,
)
from lvs_dr.core.leaving import SETTLE_SECONDS
from lvs_dr.core.ledger import QUIESCE_SECONDS, Ledger, ledger_for
from lvs_dr.core.node import LVSNodeSpec
from tests.unit.core.plan_cases import EMPTY, RIPS, VIPS, Node, destination, director, service, table

VIP, OTHER_VIP, VIP6 = VIPS
RIP, OTHER_RIP, THIRD_RIP = RIPS[4]
ALL_IGNORE = SysctlKey(("ipv4", "conf", "all", "arp_ignore"))
BACKEND = LVSNodeSpec(decided=True, backend_addresses=(VIP,))


def test_a_leaving_destination_waits_for_its_connections() -> None:
    """Live downloads would be cut when a RealServer is deleted."""
    node = Node()
    node.follow(director(), {"a/web": table()}, held=(VIP,))
    node.kernel.connections[destination(RIP)] = 1
    fewer = {"a/web": table(rips=(OTHER_RIP,))}
    made = node.follow(director(), fewer, held=(VIP,))
    assert made.draining == {destination(RIP)}
    assert node.kernel.destinations[destination(RIP)].weight == 0
    node.now = QUIESCE_SECONDS - 1
    assert node.follow(director(), fewer, held=(VIP,)).draining
    node.kernel.connections.clear()
    assert not node.follow(director(), fewer, held=(VIP,)).draining
    assert set(node.kernel.destinations) == {destination(OTHER_RIP)}


def test_a_drain_ends_at_its_limit_also_across_a_restart() -> None:
    """A connection that never ends would keep a real server in the table for ever."""
    node = Node()
    node.follow(director(), {"a/web": table()}, held=(VIP,))
    node.kernel.connections[destination(RIP)] = 1
    fewer = {"a/web": table(rips=(OTHER_RIP,))}
    node.follow(director(), fewer, held=(VIP,))
    node.ledger = json.decode(json.encode(node.ledger), type=Ledger)
    node.now = QUIESCE_SECONDS
    node.follow(director(), fewer, held=(VIP,))
    assert set(node.kernel.destinations) == {destination(OTHER_RIP)}
    assert node.follow(director(), fewer, held=(VIP,)).ledger.draining == ()


def test_a_removed_port_drains_with_its_service() -> None:
    """Connections to a port that is taken out would be cut although the VIP stays."""
    node = Node()
    node.follow(director(), {"a/web": table(ports=(80, 8443))}, held=(VIP,))
    node.kernel.connections[destination(RIP, port=80)] = 1
    made = node.follow(director(), {"a/web": table()}, held=(VIP,))
    assert destination(RIP, port=80) in made.draining
    assert service(port=80) in node.kernel.services
    node.kernel.connections.clear()
    node.now += SETTLE_SECONDS
    node.follow(director(), {"a/web": table()}, held=(VIP,))
    assert set(node.kernel.services) == {service()}


def test_nothing_is_waited_for_where_the_vip_is_not_held() -> None:
    """A removed VirtualService would leave its IPVS entries behind after the VIP was released."""
    node = Node()
    node.follow(director(), {"a/web": table()}, held=(VIP,))
    node.kernel.connections[destination(RIP)] = 1
    node.follow(director(), {})
    assert not node.kernel.services


def test_a_reboot_voids_the_ledger() -> None:
    """After a reboot, entries that someone else added would be taken for ours and removed."""
    node = Node()
    node.follow(director(), {"a/web": table()})
    node.kernel.reboot()
    node.kernel.services[service()] = ServiceConfig("wlc")
    node.follow(EMPTY)
    assert node.kernel.services == {service(): ServiceConfig("wlc")}
    assert ledger_for("boot-2", Ledger("boot-1", services=(service(),))) == Ledger("boot-2")


def test_a_sysctl_that_someone_changed_after_us_is_not_restored() -> None:
    """Our restore would overwrite a newer decision of the administrator."""
    node = Node()
    node.follow(BACKEND)
    node.kernel.sysctls[ALL_IGNORE] = "8"
    node.follow(EMPTY)
    assert node.kernel.sysctls[ALL_IGNORE] == "8"
    assert node.kernel.sysctls[SysctlKey(("ipv4", "conf", "all", "arp_announce"))] == "0"


def test_the_first_value_found_is_the_one_restored() -> None:
    """A drift that was repaired would become the value that is restored in the end."""
    node = Node()
    node.kernel.sysctls[ALL_IGNORE] = "3"
    node.follow(BACKEND)
    node.kernel.sysctls[ALL_IGNORE] = "0"
    node.follow(BACKEND)
    node.follow(EMPTY)
    assert node.kernel.sysctls[ALL_IGNORE] == "3"


def test_the_ledger_survives_its_json() -> None:
    """After a restart the agent would not know what is ours."""
    node = Node()
    node.kernel.services[service()] = ServiceConfig("wlc", timeout_seconds=300)
    node.follow(director(backend=(VIP, VIP6)), {"a/web": table(), "b/six": table(VIP6, rips=RIPS[6])}, held=(VIP,))
    assert json.decode(json.encode(node.ledger), type=Ledger) == node.ledger
    assert not node.ledger.holds_nothing
