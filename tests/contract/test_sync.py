"""What every `Kernel` does with sync daemons, the fake one and the real one alike."""

from collections.abc import Iterator

import pytest

from lvs_dr.agent.interface import sync_link
from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.core.desired import desired
from lvs_dr.core.kernel import DaemonConfig, DaemonOp, KernelState, Op, SysctlOp, Verb
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import DirectorRole, DirectorSettings, IpvsSysctl, LVSNodeSpec
from lvs_dr.core.plan import plan
from lvs_dr.core.reasons import Reason
from lvs_dr.core.scope import IPVS, LO_ALONE, Scope
from lvs_dr.core.settings import SETTING_KEYS, sysctl_key
from lvs_dr.core.sync import BACKUP, DAEMONS, MASTER
from lvs_dr.core.sync_spec import ConnectionSync

SYNC = ConnectionSync(51, threshold=2, period=0, refresh_seconds=10, retries=1, sloppy=True)
THRESHOLD = sysctl_key("sync_threshold")
THEIRS = DaemonConfig("eth0", 9, 1472, "224.0.0.81", 8848, 1)


def read(kernel: Kernel) -> KernelState:
    """Read what belongs to IPVS."""
    return kernel.read(frozenset(), IPVS)


@pytest.fixture
def cleaned(kernel: Kernel) -> Iterator[Kernel]:
    """A kernel that keeps no daemons, and gets its settings back."""
    before = read(kernel)
    yield kernel
    ops: list[Op] = [DaemonOp(Verb.DELETE, key) for key in DAEMONS]
    ops += [SysctlOp(Verb.SET, key, before.sysctls[key]) for key in SETTING_KEYS if key in before.sysctls]
    assert kernel.apply(ops) == ()


class Node:
    """What the agent does with this kernel, pass by pass."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel = kernel
        self.ledger = Ledger("boot")

    def follow(self, sync: ConnectionSync | None, *sysctls: IpvsSysctl) -> tuple[Op, ...]:
        """Make one pass and return what it did."""
        role = DirectorRole("default", settings=DirectorSettings(sysctls=sysctls) if sysctls else None, sync=sync)
        link = sync_link(role, "eth0", self.kernel.interfaces(), frozenset())
        spec = LVSNodeSpec(decided=True, director=role)
        goal = desired(spec, {}, {}, self.ledger, held=frozenset(), reserved={}, link=link)
        made = plan(goal, read(self.kernel), self.ledger)
        self.ledger = made.ledger
        assert self.kernel.apply(made.ops) == ()
        return made.ops


def test_both_daemons_run_with_what_belongs_to_them_and_end_without_a_trace(cleaned: Kernel) -> None:
    """Connections would die with their director, or the site's own settings with the wish."""
    node, before = Node(cleaned), read(cleaned)
    node.follow(SYNC)
    now = read(cleaned)
    assert now.daemons == {
        MASTER: DaemonConfig("eth0", 51, 1472, "224.0.0.81", 8848, 1),
        BACKUP: DaemonConfig("eth0", 51, 1472, "224.0.0.81", 8848, 1),
    }
    assert now.sysctls[THRESHOLD] == "2\t0"
    assert now.sysctls[sysctl_key("sync_refresh_period")] == "10"
    assert now.sysctls[sysctl_key("sync_retries")] == "1"
    assert now.sysctls[sysctl_key("sloppy_tcp")] == "1"
    assert node.follow(SYNC) == ()
    node.follow(None)
    node.follow(None)
    assert read(cleaned) == before
    assert node.ledger == Ledger("boot")


def test_only_the_edited_daemon_is_started_anew(cleaned: Kernel) -> None:
    """An edit of the messages' length would make directors deaf for a moment."""
    node = Node(cleaned)
    node.follow(SYNC)
    short = ConnectionSync(51, threshold=2, period=0, refresh_seconds=10, retries=1, sloppy=True, maximum_length=1)
    assert [op.key for op in node.follow(short)] == [MASTER]
    assert read(cleaned).daemons[MASTER].maximum_length == 1
    assert read(cleaned).daemons[BACKUP].maximum_length == 1472
    other = ConnectionSync(52, threshold=2, period=0, refresh_seconds=10, retries=1, sloppy=True, maximum_length=1)
    assert [op.key for op in node.follow(other)] == [MASTER, BACKUP]
    assert {config.sync_id for config in read(cleaned).daemons.values()} == {52}
    node.follow(None)
    assert not read(cleaned).daemons


def test_daemons_that_vanished_are_started_again(cleaned: Kernel) -> None:
    """One `ipvsadm --stop-daemon`, and the next takeover loses everything."""
    node = Node(cleaned)
    node.follow(SYNC)
    assert cleaned.apply([DaemonOp(Verb.DELETE, key) for key in DAEMONS]) == ()
    assert {op.key for op in node.follow(SYNC)} == {MASTER, BACKUP}
    assert set(read(cleaned).daemons) == {MASTER, BACKUP}
    assert node.follow(SYNC) == ()


def test_what_a_user_set_by_hand_wins(cleaned: Kernel) -> None:
    """kernelSettings would be words only."""
    node = Node(cleaned)
    node.follow(SYNC, IpvsSysctl("sloppy_tcp", 0))
    now = read(cleaned)
    assert now.sysctls[sysctl_key("sloppy_tcp")] == "0"
    assert now.sysctls[THRESHOLD] == "2\t0"


def test_a_daemon_of_somebody_else_is_left_alone(cleaned: Kernel) -> None:
    """Two programs would stop each other's daemons for ever."""
    assert cleaned.apply([DaemonOp(Verb.ADD, MASTER, THEIRS)]) == ()
    node = Node(cleaned)
    node.follow(SYNC)
    assert read(cleaned).daemons[MASTER] == THEIRS
    assert read(cleaned).daemons[BACKUP].sync_id == 51
    assert node.follow(SYNC) == ()
    node.follow(None)
    assert read(cleaned).daemons == {MASTER: THEIRS}


def test_a_daemon_that_was_there_as_wished_stays_when_we_leave(cleaned: Kernel) -> None:
    """A site that starts its daemons by itself would lose them with the DirectorGroup."""
    mine = DaemonConfig("eth0", 51, 1472, "224.0.0.81", 8848, 1)
    assert cleaned.apply([DaemonOp(Verb.ADD, MASTER, mine)]) == ()
    node = Node(cleaned)
    assert MASTER not in [op.key for op in node.follow(SYNC)]
    node.follow(None)
    node.follow(None)
    assert read(cleaned).daemons == {MASTER: mine}
    assert node.ledger == Ledger("boot")


def test_an_ipv6_group_carries_too(cleaned: Kernel) -> None:
    """A segment without IPv4 would have no sync."""
    node = Node(cleaned)
    node.follow(ConnectionSync(51, group="ff02::81"))
    assert read(cleaned).daemons[MASTER] == DaemonConfig("eth0", 51, 1452, "ff02::81", 8848, 1)
    assert node.follow(ConnectionSync(51, group="ff02::81")) == ()


def test_a_missing_interface_is_named(cleaned: Kernel) -> None:
    """The user would not learn why connections are not carried."""
    failures = cleaned.apply([DaemonOp(Verb.ADD, MASTER, THEIRS._replace(interface="eth7"))])
    assert [failure.reason for failure in failures] == [Reason.SYNC_INTERFACE_MISSING]
    node = Node(cleaned)
    node.follow(ConnectionSync(51, interface="eth7"))
    assert not read(cleaned).daemons


def test_starting_twice_and_stopping_twice_is_no_failure(cleaned: Kernel) -> None:
    """Two writers that agree would make every pass fail."""
    start: list[Op] = [DaemonOp(Verb.ADD, key, THEIRS) for key in DAEMONS]
    again: list[Op] = [DaemonOp(Verb.SET, key, THEIRS) for key in DAEMONS]
    stop: list[Op] = [DaemonOp(Verb.DELETE, key) for key in DAEMONS]
    for ops in (stop, again, start, start, again, stop):
        assert cleaned.apply(ops) == ()


def test_daemons_are_read_only_where_somebody_wishes_them(cleaned: Kernel) -> None:
    """Every pass would read them."""
    assert cleaned.apply([DaemonOp(Verb.ADD, MASTER, THEIRS)]) == ()
    assert not cleaned.read(frozenset(), Scope(ipvs=True)).daemons
    assert not cleaned.read(frozenset(), LO_ALONE).daemons
