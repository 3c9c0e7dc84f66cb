"""The speaker's whole configuration, as the agent sends it and as it is kept on disk: JSON in, checked tuples out.

```json
{"generation": "7", "interface": "eth0", "agentTimeoutSeconds": 10, "agentSilentLowersBy": 50,
 "instances": [{"vrid": 51, "family": 4, "priority": 200, "addresses": ["192.0.2.100"], "peers": ["192.0.2.12"]}]}
```
Keys that are not known are ignored, so that agent and speaker can be upgraded one after the other.
"""

import math
import socket
from collections.abc import Mapping
from typing import Any, Final, NamedTuple, TypeVar

from lvs_dr.vrrp.instance import DEFAULT_STOP_HOLD, RENEWED_PER_SECOND, InstanceConfig, refusal_of
from lvs_dr.vrrp.packet import ChecksumForm

MOST_INSTANCES: Final = 64
FAMILIES: Final = {4: socket.AF_INET, 6: socket.AF_INET6}
_MILLISECONDS_PER_CENTISECOND = 10
_LONGEST_INTERFACE_NAME = 15

T = TypeVar("T")


class ConfigurationRefused(ValueError):
    """A configuration that cannot be used; the one before stays in force."""


class InstanceKey(NamedTuple):
    """What tells instances apart on a segment: VRID and family (4 or 6)."""

    vrid: int
    family: int


class InstanceSettings(NamedTuple):
    """One instance: what its machine needs, and what only sending does."""

    key: InstanceKey
    machine: InstanceConfig
    checksum: ChecksumForm = ChecksumForm.PSEUDO_HEADER
    unicast: tuple[str, ...] = ()
    """Peers to send to instead of the multicast group."""
    fault: str = ""
    """Why the node must not be Active now; "" for no reason."""
    source: str = ""
    """Address that adverts carry; "": the interface's own."""


class SpeakerConfiguration(NamedTuple):
    """Everything the speaker does."""

    generation: str = ""
    """The sender's name for it, told back in the state."""
    interface: str = ""
    agent_timeout: float = 0.0
    """Seconds without a word of the agent after which priorities fall; 0: never."""
    lowered_by: int = 0
    instances: tuple[InstanceSettings, ...] = ()


def parse(data: object) -> SpeakerConfiguration:
    """Read a configuration. Raises ConfigurationRefused, which names the place."""
    if not isinstance(data, Mapping):
        raise ConfigurationRefused("the configuration is not an object")
    if "instances" not in data:
        raise ConfigurationRefused("instances: missing is not empty")
    raw = _get(data, "instances", list, [])
    if len(raw) > MOST_INSTANCES:
        raise ConfigurationRefused(f"{len(raw)} instances; {MOST_INSTANCES} are possible")
    instances = tuple(_instance(each, f"instances[{number}]") for number, each in enumerate(raw))
    if len({each.key for each in instances}) != len(instances):
        raise ConfigurationRefused("an instance is there twice (VRID and family)")
    every = [address for each in instances for address in each.machine.addresses]
    if len(set(every)) != len(every):
        raise ConfigurationRefused("an address is in two instances")
    if len(every) > RENEWED_PER_SECOND:
        instances = tuple(each._replace(machine=each.machine._replace(together=len(every))) for each in instances)
    interface = _get(data, "interface", str, "")
    if len(interface) > _LONGEST_INTERFACE_NAME or "/" in interface:
        raise ConfigurationRefused("interface: not the name of one")
    if instances and not interface:
        raise ConfigurationRefused("interface: none is named")
    return SpeakerConfiguration(
        generation=_get(data, "generation", str, ""),
        interface=interface,
        agent_timeout=_seconds(data, "agentTimeoutSeconds", 0.0),
        lowered_by=_get(data, "agentSilentLowersBy", int, 0),
        instances=instances,
    )


def _instance(data: object, where: str) -> InstanceSettings:
    if not isinstance(data, Mapping):
        raise ConfigurationRefused(f"{where} is not an object")
    try:
        return _read_instance(data)
    except ConfigurationRefused as error:
        raise ConfigurationRefused(f"{where}: {error}") from error


def _read_instance(data: Mapping[str, Any]) -> InstanceSettings:
    family = _get(data, "family", int, 4)
    if family not in FAMILIES:
        raise ConfigurationRefused("family is 4 or 6")
    milliseconds = _get(data, "intervalMilliseconds", int, 100)
    if milliseconds % _MILLISECONDS_PER_CENTISECOND:
        raise ConfigurationRefused("intervalMilliseconds is a multiple of 10")
    peers = _addresses(data, "peers", family)
    machine = InstanceConfig(
        vrid=_get(data, "vrid", int, 0),
        priority=_get(data, "priority", int, 100),
        addresses=tuple(sorted(set(_addresses(data, "addresses", family)))),
        interval=milliseconds // _MILLISECONDS_PER_CENTISECOND,
        preempt=_get(data, "preempt", bool, False),
        preempt_delay=_seconds(data, "preemptDelaySeconds", 0.0),
        degraded_below=_get(data, "degradedBelow", int, 0),
        alone=_get(data, "alone", bool, False),
        peers=frozenset(peers),
        lifetime=_get(data, "lifetimeSeconds", int, 0),
        start_delay=_seconds(data, "startDelaySeconds", 1.0),
        stop_hold=_seconds(data, "stopHoldSeconds", DEFAULT_STOP_HOLD),
    )
    if wrong := refusal_of(machine):
        raise ConfigurationRefused(wrong)
    form = _get(data, "checksum", str, ChecksumForm.PSEUDO_HEADER.value)
    if form not in set(ChecksumForm):
        raise ConfigurationRefused(f"checksum is one of {', '.join(ChecksumForm)}")
    unicast = _get(data, "unicast", bool, False)
    if unicast and not peers:
        raise ConfigurationRefused("unicast needs peers")
    source = _get(data, "source", str, "")
    return InstanceSettings(
        key=InstanceKey(machine.vrid, family),
        machine=machine,
        checksum=ChecksumForm(form),
        unicast=tuple(peers) if unicast else (),
        fault=_get(data, "fault", str, ""),
        source=_canonical(source, family) if source else "",
    )


def _get(data: Mapping[str, Any], name: str, kind: type[T], default: T) -> T:
    value = data.get(name, default)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigurationRefused(f"{name} is not of type {kind.__name__}")
    return value


def _seconds(data: Mapping[str, Any], name: str, default: float) -> float:
    value = data.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value) or value < 0:
        raise ConfigurationRefused(f"{name} is not a number of seconds")
    return float(value)


def _addresses(data: Mapping[str, Any], name: str, family: int) -> list[str]:
    return [_canonical(each, family) for each in _get(data, name, list, [])]


def _canonical(text: object, family: int) -> str:
    """Return an address as the kernel writes it: one spelling for each."""
    number = FAMILIES[family]
    try:
        return socket.inet_ntop(number, socket.inet_pton(number, text))  # type: ignore[arg-type]
    except (OSError, ValueError, TypeError) as error:
        raise ConfigurationRefused(f"not an IPv{family} address: {text!r}") from error
