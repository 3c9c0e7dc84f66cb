"""What the agent may send, how it is refused, and that it is found again after a restart."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.vrrp import kept
from lvs_dr.vrrp.configuration import ConfigurationRefused, InstanceKey, parse
from lvs_dr.vrrp.instance import lifetime_of
from lvs_dr.vrrp.packet import ChecksumForm

INSTANCE: dict[str, Any] = {"vrid": 51, "family": 4, "priority": 200, "addresses": ["192.0.2.101", "192.0.2.100"]}
WHOLE: dict[str, Any] = {"generation": "7", "interface": "eth0", "instances": [INSTANCE]}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=10,
)
names = st.sampled_from(
    [
        "vrid",
        "family",
        "priority",
        "addresses",
        "intervalMilliseconds",
        "preempt",
        "peers",
        "unicast",
        "checksum",
        "preemptDelaySeconds",
        "stopHoldSeconds",
        "lifetimeSeconds",
        "fault",
        "source",
        "alone",
    ]
)


def test_a_configuration_is_read_with_its_defaults() -> None:
    """The agent would have to send what nobody asked for."""
    found = parse({**WHOLE, "unknownKey": 1})
    [one] = found.instances
    assert found.generation == "7"
    assert one.key == InstanceKey(51, 4)
    assert one.machine.addresses == ("192.0.2.100", "192.0.2.101")
    assert one.machine.interval == 10
    assert not one.machine.preempt
    assert not one.machine.alone, "the safe side: finite lifetimes"
    assert one.checksum is ChecksumForm.PSEUDO_HEADER, "what keepalived understands"


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"vrid": 0}, "VRID"),
        ({"vrid": "51"}, "vrid"),
        ({"vrid": True}, "vrid"),
        ({"priority": 256}, "priority"),
        ({"intervalMilliseconds": 105}, "multiple of 10"),
        ({"intervalMilliseconds": 0}, "interval"),
        ({"intervalMilliseconds": 40960}, "interval"),
        ({"addresses": ["fd35::1"]}, "not an IPv4 address"),
        ({"addresses": ["192.0.2.1\0"]}, "not an IPv4 address"),
        ({"addresses": [f"192.0.{n // 200}.{n % 200}" for n in range(4097)]}, "4096"),
        ({"unicast": True}, "peers"),
        ({"checksum": "None"}, "checksum"),
        ({"stopHoldSeconds": float("inf")}, "stopHoldSeconds"),
        ({"stopHoldSeconds": -1}, "stopHoldSeconds"),
        ({"lifetimeSeconds": -1}, "negative"),
    ],
)
def test_what_is_impossible_is_refused_with_the_place(changes: dict[str, Any], text: str) -> None:
    """A bad configuration would be half in force, and nobody would know why."""
    with pytest.raises(ConfigurationRefused, match=text) as caught:
        parse({**WHOLE, "instances": [INSTANCE | changes]})
    assert "instances[0]" in str(caught.value)


@pytest.mark.parametrize(
    "instances",
    [
        [INSTANCE, INSTANCE | {"addresses": []}],
        [INSTANCE, INSTANCE | {"vrid": 52}],
    ],
)
def test_two_instances_share_neither_name_nor_address(instances: list[dict[str, Any]]) -> None:
    """Two machines would take and release the same address."""
    with pytest.raises(ConfigurationRefused):
        parse({**WHOLE, "instances": instances})


@given(anything, st.dictionaries(names, anything, max_size=5))
def test_nothing_raises_anything_else(whole: Any, changes: dict[str, Any]) -> None:
    """A broken file or agent would end the speaker."""
    for attempt in (whole, {**WHOLE, "instances": whole}, {**WHOLE, "instances": [INSTANCE | changes]}):
        try:
            parse(attempt)
        except ConfigurationRefused as refused:
            assert str(refused)  # noqa: PT017 - either is right


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    """A restart without the agent would forget the VIPs."""
    path = tmp_path / "state" / "speaker.json"
    assert kept.load(str(path)) is None
    kept.save(str(path), WHOLE)
    assert kept.load(str(path)) == parse(WHOLE)


def test_saving_does_not_hold_up_the_speaker_and_the_last_wins(tmp_path: Path) -> None:
    """A busy disk would stop adverts; an older configuration would be in force after a restart."""
    path = tmp_path / "speaker.json"
    saver = kept.Saver(str(path))
    for generation in range(20):
        saver.save({**WHOLE, "generation": str(generation)})
    saver.finish(10)
    found = kept.load(str(path))
    assert found is not None
    assert found.generation == "19"
    broken = kept.Saver(str(path / "below-a-file.json"))
    broken.save(WHOLE)
    broken.finish(10)
    assert broken.problem


def test_lifetimes_follow_the_number_of_all_addresses() -> None:
    """A director that is left alone with thousands would do nothing but renew, and then lose them."""
    one = INSTANCE | {"addresses": [f"192.0.2.{n}" for n in range(200)]}
    other = INSTANCE | {"vrid": 52, "addresses": [f"192.0.3.{n}" for n in range(200)]}
    assert [lifetime_of(each.machine) for each in parse({**WHOLE, "instances": [one]}).instances] == [1]
    assert [lifetime_of(each.machine) for each in parse({**WHOLE, "instances": [one, other]}).instances] == [2, 2]


def test_missing_is_not_empty() -> None:
    """A truncated message would take all VIPs away."""
    with pytest.raises(ConfigurationRefused, match="missing"):
        parse({"interface": "eth0"})
    assert parse({"interface": "", "instances": []}).instances == ()


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"configuration": 1}', json.dumps({"configuration": {"instances": 1}})]
)
def test_a_damaged_file_is_as_good_as_none(tmp_path: Path, content: str) -> None:
    """The speaker would not start, and the agent could not help it."""
    path = tmp_path / "speaker.json"
    path.write_text(content)
    assert kept.load(str(path)) is None
