"""What the speaker is told: routers by family, VIPs that are ready, priorities by what the director sees."""

from typing import Any

import msgspec

from lvs_dr.agent.routers import Fitness, assignment
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.node import DirectorRole, PeerDirector, VirtualRouter, Vrrp
from lvs_dr.core.table import DirectorTableSpec
from lvs_dr.vrrp.messages import Assignment, RouterAssignment, RouterKey, RouterState, SpeakerState
from tests.unit.agent.bench import CHECK, TABLE, VIP

VIP6, OTHER = "2001:db8::100", "192.0.2.101"
NOBODY = SpeakerState("eth0", ())
ROLE = DirectorRole(
    "default",
    vrrp=Vrrp(
        routers=(VirtualRouter(51, 250, (VIP, VIP6)), VirtualRouter(52, 245, (OTHER,))),
        peers=(PeerDirector("node-2", ("192.0.2.2", "2001:db8::2")),),
    ),
)
SPEC = msgspec.convert(TABLE | {"healthCheck": CHECK}, DirectorTableSpec)
TABLES = {"web/webdav": SPEC}


def made(role: DirectorRole = ROLE, **changes: Any) -> Assignment:
    """Return an assignment; everything is ready and well unless told otherwise."""
    given: dict[str, Any] = {
        "may": {VIP, VIP6, OTHER},
        "keep": frozenset(),
        "fitness": Fitness(),
        "fault": "",
        "source6": "",
        "state": NOBODY,
    }
    return assignment("eth0", role, **{**given, **changes})


def down(*addresses: str) -> dict[CheckKey, Health]:
    """Return verdicts: these real servers fail their checks."""
    assert SPEC.health_check is not None
    return {CheckKey(address, 80, SPEC.health_check): Health.DOWN for address in addresses}


def state(priority: int, name: str = "Active") -> SpeakerState:
    """Return a speaker that has router 51."""
    return SpeakerState("eth0", (), routers=(RouterState(RouterKey(51, 4), name, priority, priority, (VIP,)),))


def test_a_router_of_both_families_is_two() -> None:
    """IPv4 and IPv6 have each their own election."""
    assert made().routers == (
        RouterAssignment(RouterKey(51, 4), 250, (VIP,)),
        RouterAssignment(RouterKey(51, 6), 250, (VIP6,)),
        RouterAssignment(RouterKey(52, 4), 245, (OTHER,)),
    )
    assert [each.fault for each in made(fault="no IPVS").routers] == ["no IPVS"] * 3


def test_only_what_is_ready_is_handed_over() -> None:
    """A client would find a VIP without service; a router without any VIP must not be Active."""
    assert [each.addresses for each in made(may={VIP}).routers] == [(VIP,)]
    assert made(may=set()).routers == ()


def test_what_is_kept_stays_in_its_router() -> None:
    """A VIP that is held on would change its VRID, and have two holders."""
    known = SpeakerState(
        "eth0", ("192.0.2.150",), routers=(RouterState(RouterKey(52, 4), "Active", 200, 245, ("192.0.2.150", OTHER)),)
    )
    kept = made(keep={"192.0.2.150", OTHER}, may={VIP}, state=known)
    assert kept.routers[-1] == RouterAssignment(RouterKey(52, 4), 245, ("192.0.2.150", OTHER))
    assert kept.addresses == {VIP, OTHER, "192.0.2.150"}


def test_strangers_are_known_only_where_all_peers_are() -> None:
    """The adverts of a director that has not reported its address yet would be called a conflict."""
    assert made().strangers
    assert made().peers == ("192.0.2.2", "2001:db8::2")
    assert not made().alone
    vrrp = Vrrp(routers=ROLE.vrrp.routers, peers=(*ROLE.vrrp.peers, PeerDirector("node-3", ("2001:db8::3",))))
    assert not made(DirectorRole("default", vrrp=vrrp)).strangers
    assert made(DirectorRole("default", vrrp=Vrrp(routers=ROLE.vrrp.routers))).alone


def test_a_director_that_sees_few_real_servers_is_lowered_after_a_while() -> None:
    """It would go on sending clients to real servers that it does not reach."""
    fitness = Fitness()
    health = down("192.0.2.11", "192.0.2.12")
    fitness.look(ROLE, TABLES, health, state(250), 100.0)
    assert fitness.due == 112.0
    assert made(fitness=fitness).routers[0].priority == 250
    fitness.look(ROLE, TABLES, health, state(250), 112.0)
    assert [each.priority for each in made(fitness=fitness).routers] == [190, 190, 245]
    assert fitness.words(51) == "0 of 2 real servers are healthy as seen from here"


def test_one_of_two_is_enough_and_who_is_backup_is_lowered_sooner() -> None:
    """A VIP would move while all directors see the same."""
    fitness = Fitness()
    fitness.look(ROLE, TABLES, down("192.0.2.11"), state(250), 100.0)
    assert fitness.due == float("inf")
    fitness.look(ROLE, TABLES, down("192.0.2.11", "192.0.2.12"), state(250, "Backup"), 100.0)
    assert fitness.due == 104.0


def test_a_new_agent_goes_on_with_a_lowered_priority() -> None:
    """A restart of an agent would move VIPs to it while nobody sees a real server."""
    fitness = Fitness()
    health = down("192.0.2.11", "192.0.2.12")
    fitness.look(ROLE, TABLES, health, state(190, "Backup"), 100.0)
    assert made(fitness=fitness).routers[0].priority == 190
    fitness.look(ROLE, TABLES, {}, state(190, "Backup"), 200.0)
    fitness.look(ROLE, TABLES, {}, state(190, "Backup"), 212.0)
    assert made(fitness=fitness).routers[0].priority == 250
