"""What an instance is in an election: its own adverts, ready-made, and by whose it is beaten. Pure."""

import socket
from typing import Final

from lvs_dr.vrrp.instance import Action, InstanceConfig, Send, lifetime_of, listed
from lvs_dr.vrrp.packet import RELEASING, Advertisement


class Candidate:
    """A configuration and the address that adverts carry. Never changed: another configuration is another candidate."""

    __slots__ = ("_key", "_priority", "addresses", "farewell", "lifetime", "say", "speaks")

    def __init__(self, config: InstanceConfig, source: str) -> None:
        advert = Advertisement(config.vrid, config.priority, config.interval, listed(config.addresses))
        self.addresses: Final = frozenset(config.addresses)
        self.lifetime: Final = lifetime_of(config)
        """Of its addresses in the kernel, in seconds; 0: permanent."""
        self.say: Final[tuple[Action, ...]] = (Send(advert),)
        self.farewell: Final[Action] = Send(advert._replace(priority=RELEASING))
        self.speaks: Final = bool(config.addresses) and bool(source)
        """Whether it has something to say, and an address to say it from."""
        self._priority: Final = config.priority
        self._key: Final = _key(source)

    def shares(self, advert: Advertisement) -> bool:
        """Whether an advert is about any of the own addresses."""
        return not self.addresses.isdisjoint(advert.addresses)

    def yields_to(self, source: str, advert: Advertisement) -> bool:
        """Whether another Active wins: by priority, in a tie by the greater address (RFC 9568, 6.4.3)."""
        if advert.priority != self._priority:
            return advert.priority > self._priority
        return _key(source) > self._key


def _key(source: str) -> bytes:
    """Return an address as it is compared in a tie: as an unsigned number, most significant byte first."""
    if not source:
        return b""
    return socket.inet_pton(socket.AF_INET6 if ":" in source else socket.AF_INET, source)
