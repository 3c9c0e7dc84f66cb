"""Random IPVS tables, wanted and found, of every kind that a DirectorTable can ask for.

Whatever is drawn here a kernel takes: combinations that it refuses are refused at apply time, long before.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from hypothesis import strategies as st

from lvs_dr.core.desired import Desired
from lvs_dr.core.destinations import Destinations as Grouped
from lvs_dr.core.destinations import DestinationSet
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationKey,
    Forwarding,
    ServiceConfig,
    ServiceFlag,
    ServiceKey,
    TunnelFlag,
    TunnelNumber,
)
from lvs_dr.core.ledger import ServiceNote

VIPS = ("192.0.2.100", "192.0.2.101", "2001:db8::100")
RIPS = {4: ("192.0.2.21", "192.0.2.22", "192.0.2.23"), 6: ("2001:db8::21", "2001:db8::22")}
TCP, UDP, SCTP = 6, 17, 132
SIX = 10

Services = dict[ServiceKey, ServiceConfig]
Destinations = dict[DestinationKey, DestinationConfig]

_COMMON = (
    ServiceKey(VIPS[0], 80, TCP, 0, 2),
    ServiceKey(VIPS[0], 443, TCP, 0, 2),
    ServiceKey("", 0, 0, 7, 2),
    ServiceKey(VIPS[2], 80, UDP, 0, SIX),
)
_MARKS = {7: VIPS[0], 8: VIPS[1]}  # whose packets a user marks so


def vip_of(key: ServiceKey) -> str:
    """Return the VIP of a service; marks of IPv6 services are of the IPv6 VIP."""
    if not key.mark:
        return key.address
    return VIPS[2] if key.family == SIX else _MARKS[key.mark]


def _family(address: str) -> int:
    return SIX if ":" in address else 2


@st.composite
def service_keys(draw: st.DrawFn) -> ServiceKey:
    """Return a service by port, of any port, or by firewall mark."""
    kind = draw(st.integers(0, 9))
    if kind < 4:  # often the same few, so that wishes change one another's entries
        return draw(st.sampled_from(_COMMON))
    if kind == 4:
        return ServiceKey("", 0, 0, draw(st.sampled_from(sorted(_MARKS))), draw(st.sampled_from((2, SIX))))
    vip = draw(st.sampled_from(VIPS))
    return ServiceKey(
        vip, draw(st.sampled_from((0, 80, 443))), draw(st.sampled_from((TCP, TCP, UDP, SCTP))), 0, _family(vip)
    )


@st.composite
def service_configs(draw: st.DrawFn, key: ServiceKey) -> ServiceConfig:
    """Return any setting that makes sense for a service."""
    sched1, sched2 = int(ServiceFlag.SCHEDULER_1), int(ServiceFlag.SCHEDULER_2)
    scheduler, flags = draw(
        st.sampled_from(
            (("rr", 0), ("wlc", 0), ("fo", 0), ("sh", 0), ("sh", sched2), ("mh", sched1), ("mh", sched1 | sched2))
        )
    )
    bits = 128 if key.family == SIX else 32
    any_port = not key.mark and key.port == 0
    if any_port or draw(st.booleans()):
        engine = "sip" if key.protocol == UDP and not any_port and draw(st.booleans()) else ""
        prefix = draw(st.sampled_from((bits, bits // 2, 24)))
        return ServiceConfig(scheduler, flags, draw(st.sampled_from((1, 360, 86400))), prefix, engine)
    if key.protocol == UDP and draw(st.booleans()):
        flags |= int(ServiceFlag.ONE_PACKET)
    return ServiceConfig(scheduler, flags, prefix_length=bits)


@st.composite
def destination_configs(draw: st.DrawFn, *, forwarding: int) -> DestinationConfig:
    """Return any setting of a destination with one forwarding method."""
    upper = draw(st.sampled_from((0, 0, 5, 4294967295)))
    lower = draw(st.sampled_from((0, upper // 2)))
    weight = draw(st.sampled_from((0, 1, 100, 65535)))
    if forwarding != Forwarding.TUNNEL:
        return DestinationConfig(weight, forwarding, upper, lower)
    kind = draw(st.sampled_from(list(TunnelNumber)))
    flags = [TunnelFlag.NO_CHECKSUM]
    if kind is not TunnelNumber.IPIP:
        flags.append(TunnelFlag.CHECKSUM)
    if kind is TunnelNumber.GUE:
        flags.append(TunnelFlag.REMOTE_CHECKSUM)
    port = 6080 if kind is TunnelNumber.GUE else 0
    return DestinationConfig(weight, forwarding, upper, lower, int(kind), port, int(draw(st.sampled_from(flags))))


@st.composite
def _inside(draw: st.DrawFn, service: ServiceKey) -> Destinations:
    """Return the destinations of one service."""
    found: Destinations = {}
    of_family = RIPS[6 if service.family == SIX else 4]
    for rip in draw(st.lists(st.sampled_from(of_family), unique=True, max_size=3)):
        forwarding = draw(st.sampled_from((Forwarding.DIRECT_ROUTING, Forwarding.TUNNEL, Forwarding.MASQUERADE)))
        port = service.port
        if forwarding is Forwarding.MASQUERADE and port and draw(st.booleans()):
            port = 8000 + port
        found[DestinationKey(service, rip, port)] = draw(destination_configs(forwarding=int(forwarding)))
    if service.family != SIX and draw(st.integers(0, 5)) == 0:
        key = DestinationKey(service, RIPS[6][0], service.port)
        found[key] = draw(destination_configs(forwarding=int(Forwarding.TUNNEL)))
    return found


@st.composite
def tables(draw: st.DrawFn, *, most: int = 5) -> tuple[Services, Destinations]:
    """Return services and their destinations, as we or others may have them."""
    services: Services = {}
    destinations: Destinations = {}
    for key in draw(st.lists(service_keys(), unique=True, max_size=most)):
        services[key] = draw(service_configs(key))
        destinations |= draw(_inside(key))
    return services, destinations


class Found(NamedTuple):
    """What others have in the kernel before us."""

    services: Mapping[ServiceKey, ServiceConfig]
    destinations: Mapping[DestinationKey, DestinationConfig]


@st.composite
def found(draw: st.DrawFn) -> Found:
    """Return tables of others."""
    return Found(*draw(tables(most=3)))


@st.composite
def wishes(draw: st.DrawFn) -> Desired:
    """Return what the agent may want of IPVS: with checks outstanding, failures, VIPs held and left alone."""
    services, destinations = draw(tables())
    keys = sorted(destinations)
    failed = frozenset(draw(_some(keys)))
    fresh = draw(st.integers(0, 3)) == 0  # nothing has been checked yet
    uncertain = frozenset(keys if fresh else draw(_some(keys))) - failed
    return Desired(
        services=services,
        destinations=Grouped.of((key, config) for key, config in destinations.items() if key not in failed),
        notes={key: ServiceNote(vip_of(key), draw(st.sampled_from((0, 60)))) for key in services},
        uncertain=DestinationSet.of(uncertain),
        awaited=DestinationSet.of(uncertain if fresh else uncertain & frozenset(draw(_some(keys)))),
        failed=DestinationSet.of(failed),
        held=frozenset(draw(_some(VIPS))),
    )


def _some(values: Sequence[object]) -> st.SearchStrategy[set[object]]:
    """Return some of the values, often none."""
    if not values:
        return st.just(set())
    return st.one_of(st.just(set()), st.sets(st.sampled_from(values)))
