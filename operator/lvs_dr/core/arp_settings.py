"""The kernel settings that let a backend carry a VIP without answering ARP for it: one reason per row.

The kernel uses the larger of `all` and of the interface the packet came in on (IN_DEV_MAXCONF,
include/linux/inetdevice.h), so `all` decides. IPv6 needs none: a VIP on lo gets no neighbour advertisement.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from lvs_dr.core.kernel import SysctlKey, SysctlOp, Verb


class SysctlRule(NamedTuple):
    """A setting as we want it, the values that do as well, and why."""

    key: SysctlKey
    value: str
    also_good: frozenset[str]
    reason: str

    def accepts(self, value: str) -> bool:
        """Tell whether the kernel's value does."""
        return value == self.value or value in self.also_good


def _rule(interface: str, name: str, value: str, also_good: frozenset[str], reason: str) -> SysctlRule:
    return SysctlRule(SysctlKey(("ipv4", "conf", interface, name)), value, also_good, reason)


_STRICTER_IGNORE: Final = frozenset({"2", "8"})  # 2: same subnet too; 8: answer nothing

ARP_RULES: Final[tuple[SysctlRule, ...]] = (
    _rule(
        "all", "arp_ignore", "1", _STRICTER_IGNORE,
        "answer ARP only for addresses of the interface that was asked: a VIP on lo stays silent",
    ),
    _rule(
        "all", "arp_announce", "2", frozenset(),
        "never name the VIP as sender of an ARP request: peers would learn this node's MAC for it",
    ),
    _rule("lo", "arp_ignore", "1", _STRICTER_IGNORE, "the same for lo, where the VIP is, should `all` be reset"),
    _rule("lo", "arp_announce", "2", frozenset(), "the same for lo, where the VIP is, should `all` be reset"),
)  # fmt: skip

ARP_KEYS: Final[tuple[SysctlKey, ...]] = tuple(rule.key for rule in ARP_RULES)

ARP_NAMES: Final[frozenset[str]] = frozenset(key.path[-1] for key in ARP_KEYS)

DECISIVE: Final[frozenset[SysctlKey]] = frozenset(key for key in ARP_KEYS if "all" in key.path)
"""Without these a VIP must not be put on lo."""


def silent(sysctls: Mapping[SysctlKey, str]) -> bool:
    """Tell whether a VIP on lo would be silent: the settings that decide are as they must be."""
    return all(rule.accepts(sysctls.get(rule.key, "")) for rule in ARP_RULES if rule.key in DECISIVE)


def arp_repairs(wanted: Mapping[SysctlKey, SysctlRule], sysctls: Mapping[SysctlKey, str]) -> tuple[SysctlOp, ...]:
    """Return the writes that bring drifted settings back (for the poll between passes)."""
    return tuple(
        SysctlOp(Verb.SET, key, rule.value)
        for key, rule in wanted.items()
        if key in sysctls and not rule.accepts(sysctls[key])
    )
