"""Two directors that report to be Active: a split brain, or one that can no longer say that it was replaced."""

from msgspec.structs import replace

from lvs_dr.controller.silence import UNDER_WAY_SECONDS, Silence
from lvs_dr.controller.takeovers import Takeovers
from lvs_dr.core.active import active_of
from lvs_dr.core.addresses import version
from lvs_dr.core.indexing import Kind
from lvs_dr.core.node_status import LVSNodeStatus
from lvs_dr.core.objects import Key
from lvs_dr.core.reasons import Reason
from lvs_dr.core.virtual_routers import Place
from lvs_dr.core.world import NodeRecord
from tests.unit.controller.bodies import Clock
from tests.unit.core.clusters import D1, D2, serving
from tests.unit.core.worlds import LATER, VIP

PLACE = Place("default", 51)


class Site:
    """A group of two directors, the first of them Active, and what the controller makes of their reports."""

    def __init__(self) -> None:
        self.objects = serving()
        self.clock = Clock()
        self.silence = Silence(self.clock)
        self.takeovers = Takeovers(self.silence, self.clock)
        for name in (D1, D2):
            self.silence.heard(name)

    def record(self, name: str) -> NodeRecord:
        """Return a director's LVSNode."""
        return self.objects.world.lvs_nodes[name]

    def report(self, name: str, state: str, since: str = LATER) -> None:
        """Let a director say what it is now."""
        before = self.record(name)
        assert before.status is not None
        routers = tuple(replace(each, state=state, since=since) for each in before.status.virtual_routers)
        self.objects.report(name, replace(before.status, virtual_routers=routers))
        self.silence.heard(name)
        self.takeovers.changed(self.objects.world, before, self.record(name))
        self.look()

    def look(self) -> None:
        """Bring the world up to date."""
        self.objects.unconfirmed.clear()
        self.objects.unconfirmed.update(self.takeovers.unconfirmed())

    @property
    def active(self) -> tuple[str, Reason]:
        """Who is Active, and what is said of it."""
        found = active_of(self.objects.world, PLACE, version(VIP))
        return found.node, found.verdict.reason


def test_a_director_that_lost_power_was_taken_over_from() -> None:
    """Each failover would be reported as a split brain until the Lease is 40 s old."""
    site = Site()
    assert site.active == (D1, Reason.ELECTED)
    site.report(D2, "Active")
    assert site.active == (D2, Reason.ELECTED)
    site.clock.advance(30)
    site.look()
    assert site.active == (D2, Reason.ELECTED)


def test_one_that_is_heard_of_later_and_still_says_so_is_a_split_brain() -> None:
    """Two machines answer for the VIP in turn: nothing else shows that adverts are filtered."""
    site = Site()
    site.report(D2, "Active")
    site.clock.advance(UNDER_WAY_SECONDS - 0.5)
    site.silence.heard(D1)
    site.look()
    assert site.active == (D2, Reason.ELECTED), "the report may have been made before the takeover"
    site.clock.advance(1)
    site.silence.heard(D1)
    site.look()
    assert site.active == (D2, Reason.SPLIT_BRAIN)
    site.report(D1, "Backup")
    assert site.active == (D2, Reason.ELECTED)


def test_a_renewal_counts_from_the_look_before_it() -> None:
    """A Lease that was renewed just before the power was lost would make a split brain of each failover."""
    site = Site()
    site.silence.observe({D1: "a", D2: "a"})
    site.clock.advance(4)
    site.report(D2, "Active")
    site.clock.advance(1)
    site.silence.observe({D1: "b", D2: "a"})
    site.look()
    assert site.active == (D2, Reason.ELECTED), "renewed within the last 5 s: perhaps before the takeover"
    site.clock.advance(1)
    site.silence.observe({D1: "b", D2: "a"})
    site.look()
    assert site.active == (D2, Reason.ELECTED)
    site.clock.advance(1)
    site.silence.observe({D1: "c", D2: "a"}, site.clock.now - 0.5)
    site.look()
    assert site.active == (D2, Reason.SPLIT_BRAIN)


def test_taking_back_puts_the_other_in_doubt() -> None:
    """A planned hand-over there and back is no split brain either."""
    site = Site()
    site.report(D2, "Active")
    site.report(D1, "Backup")
    site.report(D1, "Active", "2026-01-01T00:01:00Z")
    assert site.active == (D1, Reason.ELECTED)


def test_a_controller_that_starts_goes_by_the_directors_clocks() -> None:
    """It has seen neither of the reports being made."""
    site = Site()
    site.report(D2, "Active")
    for names in ((D1, D2), (D2, D1)):
        site.takeovers = Takeovers(site.silence, site.clock)
        for name in names:
            site.takeovers.changed(site.objects.world, None, site.record(name))
        site.look()
        assert site.active == (D2, Reason.ELECTED)


def test_a_director_that_is_gone_is_forgotten() -> None:
    """One of the same name starts without doubt."""
    site = Site()
    site.report(D2, "Active")
    before = site.record(D1)
    site.objects.change(Kind.LVS_NODE, Key("", D1), None)
    site.takeovers.changed(site.objects.world, before, None)
    assert site.takeovers.unconfirmed() == frozenset()
    assert isinstance(before.status, LVSNodeStatus)
