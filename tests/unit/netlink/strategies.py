"""Hypothesis strategies for IPVS keys and configurations, over the whole range of the wire format."""

import socket

from hypothesis import strategies as st

from lvs_dr.netlink.ipvs import DestinationConfig, DestinationKey, ServiceConfig, ServiceKey

FAMILIES: tuple[int, ...] = (socket.AF_INET, socket.AF_INET6)
SIZES: dict[int, int] = {socket.AF_INET: 4, socket.AF_INET6: 16}
BITS: dict[int, int] = {socket.AF_INET: 32, socket.AF_INET6: 128}

u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFF_FFFF)
names = st.text("abcdefghijklmnopqrstuvwxyz_0123456789", min_size=1, max_size=15)


def addresses(family: int) -> st.SearchStrategy[str]:
    """Canonical text of any address of a family."""
    size = SIZES[family]
    return st.binary(min_size=size, max_size=size).map(lambda raw: socket.inet_ntop(family, raw))


@st.composite
def service_keys(draw: st.DrawFn) -> ServiceKey:
    """An addressed service or a firewall mark."""
    family = draw(st.sampled_from(FAMILIES))
    if draw(st.booleans()):
        return ServiceKey("", 0, 0, draw(st.integers(1, 0xFFFF_FFFF)), family)
    protocol = draw(st.sampled_from((6, 17, 132)))
    return ServiceKey(draw(addresses(family)), draw(u16), protocol, 0, family)


@st.composite
def services(draw: st.DrawFn) -> tuple[ServiceKey, ServiceConfig]:
    """A service with a configuration that fits its family."""
    key = draw(service_keys())
    config = ServiceConfig(
        scheduler=draw(names),
        flags=draw(st.integers(0, 0xF)) << 2,
        timeout_seconds=draw(u32),
        prefix_length=draw(st.integers(0, BITS[key.family])),
        engine=draw(st.just("") | names),
    )
    return key, config


@st.composite
def destination_keys(draw: st.DrawFn) -> DestinationKey:
    """A destination of either family."""
    family = draw(st.sampled_from(FAMILIES))
    return DestinationKey(draw(addresses(family)), draw(u16), family)


destination_configs = st.builds(
    DestinationConfig,
    weight=u32,
    forwarding=st.integers(0, 4),
    upper=u32,
    lower=u32,
    tunnel_type=st.integers(0, 255),
    tunnel_port=u16,
    tunnel_flags=u16,
)
