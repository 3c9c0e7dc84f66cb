"""Settings that a whole network namespace shares: what is set, whose they are, and how they are put back."""

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.kernel import KernelState, SysctlOp, TimeoutKey, TimeoutOp, Verb
from lvs_dr.core.ledger import SysctlRecord, TimeoutRecord
from lvs_dr.core.node import DirectorSettings, IpvsSysctl
from lvs_dr.core.reasons import Reason
from lvs_dr.core.settings import (
    IPVS_SETTINGS,
    KUBE_PROXY,
    KUBE_PROXY_INTERFACE,
    TCP,
    TCP_FIN,
    UDP,
    in_words,
    is_shared,
    other_owner,
    plan_timeouts,
    settings,
    sysctl_key,
    unmet,
)

DEFAULTS = {TCP: 900, TCP_FIN: 120, UDP: 300}
REUSE = sysctl_key("conn_reuse_mode")

seconds = st.integers(min_value=1, max_value=2678400)
wishes = st.dictionaries(st.sampled_from([TCP, TCP_FIN, UDP]), seconds)


def test_a_wish_becomes_rules_with_their_reasons() -> None:
    """A group's timeouts and sysctls would not reach its directors."""
    wish = DirectorSettings(tcp_seconds=7200, sysctls=(IpvsSysctl("conn_reuse_mode", 2),))
    found = settings(wish)
    assert found.timeouts == {TCP: 7200}
    assert {key: rule.value for key, rule in found.sysctls.items()} == {REUSE: "2"}
    assert found.sysctls[REUSE].reason
    assert not found.problems


def test_only_known_settings_are_written() -> None:
    """A group could write any file below /proc/sys, or a value that means nothing."""
    wish = DirectorSettings(sysctls=(IpvsSysctl("../ip_forward", 1), IpvsSysctl("sloppy_tcp", 2)))
    found = settings(wish)
    assert not found.sysctls
    assert [reason for reason, _ in found.problems] == [Reason.UNSUPPORTED, Reason.UNSUPPORTED]


def test_every_setting_has_a_reason_and_a_name_of_its_own() -> None:
    """Nobody could tell why the agent touches it."""
    assert all(setting.reason and setting.largest >= 1 for setting in IPVS_SETTINGS)
    assert len({setting.name for setting in IPVS_SETTINGS}) == len(IPVS_SETTINGS)


def test_kube_proxy_in_ipvs_mode_owns_the_settings() -> None:
    """Two programs would fight over the timeouts of all of the cluster's Services."""
    assert other_owner({"lo", "eth0", KUBE_PROXY_INTERFACE}) == KUBE_PROXY
    assert other_owner({"lo", "eth0"}) == ""
    found = settings(DirectorSettings(tcp_seconds=7200), KUBE_PROXY)
    assert not found.timeouts
    assert found.owner == KUBE_PROXY


def test_a_conflict_is_only_one_where_values_differ() -> None:
    """A group that wishes what kube-proxy sets anyway would be in conflict for ever."""
    wish = DirectorSettings(tcp_seconds=7200, sysctls=(IpvsSysctl("conn_reuse_mode", 0),))
    same = KernelState(timeouts={**DEFAULTS, TCP: 7200}, sysctls={REUSE: "0"})
    other = KernelState(timeouts=DEFAULTS, sysctls={REUSE: "1"})
    assert unmet(wish, same) == ()
    assert unmet(wish, other) == ("timeout tcp is 900 s, not 7200", "net.ipv4.vs.conn_reuse_mode is 1, not 0")
    assert unmet(wish, KernelState()) == ()
    assert unmet(wish, KernelState(timeouts={TCP: 7200})) == ("this kernel has no net.ipv4.vs.conn_reuse_mode",)


@given(st.lists(wishes, min_size=1, max_size=6), st.tuples(seconds, seconds, seconds))
def test_timeouts_end_as_they_were_found(rounds: list[dict[TimeoutKey, int]], found: tuple[int, int, int]) -> None:
    """A site's own timeouts would be lost after a few edits of the DirectorGroup."""
    kernel = dict(zip((TCP, TCP_FIN, UDP), found, strict=True))
    before, records = dict(kernel), ()
    for wish in [*rounds, {}]:
        to_set, restore, records = plan_timeouts(wish, kernel, records)
        kernel.update({op.key: op.seconds for op in (*to_set, *restore)})
        assert kernel == {**before, **wish}
        assert plan_timeouts(wish, kernel, records)[:2] == ([], [])
    assert plan_timeouts({}, kernel, records)[2] == ()


def test_a_crash_between_ledger_and_kernel_loses_no_value() -> None:
    """The value of the wish before would stay for ever: it is neither what was found nor the newest of ours."""
    _, _, records = plan_timeouts({TCP: 7200}, DEFAULTS, ())
    ours = {**DEFAULTS, TCP: 7200}
    _, _, records = plan_timeouts({TCP: 3600}, ours, records)  # the ledger is written, the kernel is not
    _, restore, _ = plan_timeouts({}, ours, records)
    assert restore == [TimeoutOp(Verb.SET, TCP, 900)]


def test_somebody_elses_newer_value_stays() -> None:
    """What an administrator set meanwhile would be undone when we leave."""
    records = (TimeoutRecord(TCP, 900, 7200),)
    assert plan_timeouts({}, {**DEFAULTS, TCP: 1234}, records) == ([], [], ())


def test_records_outlive_a_pass_without_ipvs() -> None:
    """The values found would be forgotten while IPVS is not readable, and never put back."""
    records = (TimeoutRecord(TCP, 900, 7200),)
    assert plan_timeouts({}, {}, records) == ([], [], records)


def test_a_new_owner_takes_over_what_is_there() -> None:
    """kube-proxy sets its values once: put back to ours, they would be wrong until it restarts."""
    records = (TimeoutRecord(TCP, 900, 7200),)
    assert plan_timeouts({}, {**DEFAULTS, TCP: 7200}, records, owner=KUBE_PROXY) == ([], [], ())


def test_a_sysctl_remembers_what_it_was_set_to() -> None:
    """As for timeouts, for the settings below net.ipv4.vs."""
    record = SysctlRecord(REUSE, "1", "0").wanting("2")
    assert record.is_ours("2")
    assert record.is_ours("0")
    assert not record.is_ours("1")
    assert record.wanting("2") is record


def test_shared_settings_are_told_from_the_nodes_own() -> None:
    """ARP settings that somebody undoes would be given up like a shared timeout, and the VIP answered for twice."""
    assert is_shared(TCP)
    assert is_shared(REUSE)
    assert not is_shared(sysctl_key("x")._replace(path=("ipv4", "conf", "all", "arp_ignore")))
    assert in_words(SysctlOp(Verb.SET, REUSE, "1")) == "sysctl net.ipv4.vs.conn_reuse_mode"
    assert in_words(TimeoutOp(Verb.SET, UDP, 1)) == "IPVS timeout udp"
