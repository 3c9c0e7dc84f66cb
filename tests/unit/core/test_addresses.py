"""Addresses as numbers: the same answers as the standard library, and garbage from a report harms nothing."""

import ipaddress

from hypothesis import given
from hypothesis import strategies as st

from lvs_dr.core.addresses import edges, number, order, subnet, version

ADDRESSES = st.ip_addresses()


@given(ADDRESSES, ADDRESSES, st.integers(0, 128))
def test_a_subnet_holds_what_the_standard_library_says(
    first: ipaddress.IPv4Address | ipaddress.IPv6Address,
    second: ipaddress.IPv4Address | ipaddress.IPv6Address,
    prefix: int,
) -> None:
    """Else a VIP outside the allowed ranges is accepted, or a good one refused."""
    cidr = f"{first}/{min(prefix, first.max_prefixlen)}"
    network = ipaddress.ip_network(cidr, strict=False)
    found = subnet(cidr)
    assert found is not None
    assert str(found) == str(network)
    assert found.holds(str(second)) == (second in network)
    assert found.holds(str(first))


def test_garbage_is_no_address() -> None:
    """An agent's report may hold anything; it must not stop the controller."""
    assert number("fish") is None
    assert subnet("192.0.2.1/99") is None
    assert edges("fish/8") == ()


def test_edges_of_a_subnet_are_no_hosts() -> None:
    """A VIP that is a broadcast address reaches everybody and nobody."""
    assert edges("192.0.2.7/24") == ("192.0.2.0", "192.0.2.255")
    assert edges("192.0.2.6/31") == ()
    assert edges("192.0.2.7/32") == ()
    assert edges("2001:db8::7/64") == ("2001:db8::",)


@given(st.lists(ADDRESSES))
def test_order_is_by_family_and_value(addresses: list[ipaddress.IPv4Address | ipaddress.IPv6Address]) -> None:
    """Else the same VIPs are written in another order each time, and every agent is woken for nothing."""
    texts = sorted((str(each) for each in addresses), key=order)
    assert [int(ipaddress.ip_address(each)) for each in texts if version(each) == 4] == sorted(
        int(each) for each in addresses if each.version == 4
    )
    assert texts == sorted(texts, key=version)
