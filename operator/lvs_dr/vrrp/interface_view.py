"""The interface as the kernel tells of it: whether frames pass, the own source addresses, and what was removed."""

import logging
import socket
from collections.abc import Callable
from math import inf
from typing import Final

from lvs_dr.netlink import address as addresses
from lvs_dr.netlink import link_state
from lvs_dr.netlink.address import IFA_F_TENTATIVE, RTM_DELADDR, RTM_NEWADDR, InterfaceAddress
from lvs_dr.netlink.errors import NetlinkFailure, NetlinkOverflow
from lvs_dr.netlink.link_state import RTM_DELLINK, RTM_NEWLINK, Link
from lvs_dr.netlink.rtnetlink import RouteMonitor, RouteSocket
from lvs_dr.vrrp.event_loop import EventLoop

log = logging.getLogger(__name__)

_TIMEOUT: Final = 2.0
_RETRY: Final = 1.0
_SETTLE: Final = 0.02
_SCOPE_GLOBAL: Final = 0


class InterfaceView:
    """Watches one interface. `changed` is called after link or sources changed, `lost` for a removed host address."""

    def __init__(
        self, loop: EventLoop, name: str, changed: Callable[[float], None], lost: Callable[[str, float], None]
    ) -> None:
        self.name = name
        self.link: Link | None = None
        self.sources: dict[int, str] = {}
        """Own address by family (4: the first one of the subnet, 6: link-local, as RFC 9568 wants)."""
        self.hosts: tuple[str, ...] = ()
        """Host addresses found when last read."""
        self.macs: frozenset[bytes] = frozenset()
        """Of all interfaces of the node: a second one on the same segment answers for any address of the node."""
        self._loop = loop
        self._changed = changed
        self._lost = lost
        self._monitor: RouteMonitor | None = None
        self._again = loop.timer(self._read_again)

    @property
    def up(self) -> bool:
        """Whether frames pass."""
        return self.link is not None and self.link.up

    @property
    def index(self) -> int:
        """The interface's number; 0 when it is not there."""
        return self.link.number if self.link is not None else 0

    def open(self) -> None:
        """Listen, then read: nothing that changes between is missed. Raises NetlinkFailure."""
        self._monitor = RouteMonitor()
        self._loop.read(self._monitor.fileno(), self._news)
        self._again.when = self._loop.clock() + _RETRY  # unless what follows works
        self.read()
        self._again.when = inf

    def close(self) -> None:
        """End watching."""
        if self._monitor is not None:
            self._loop.forget(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None
        self._loop.drop(self._again)

    def read(self) -> None:
        """Read links and addresses. Raises NetlinkFailure."""
        own = RouteSocket(timeout=_TIMEOUT)
        try:
            links = [link_state.decode(each) for each in own.dump(link_state.dump())]
            self.macs = frozenset(each.mac for each in links if each.mac)
            self.link = next((each for each in links if each.name == self.name), None)
            found = addresses.on_interface(own.dump(addresses.dump()), self.index) if self.link is not None else []
        finally:
            own.close()
        self.hosts = tuple(each.address for each in found if each.is_host)
        self.sources = _sources(found)

    def _news(self, now: float) -> None:
        if self._monitor is None:
            return
        try:
            for kind, message in self._monitor.receive():
                self._hear(kind, message, now)
        except NetlinkOverflow:
            self._again.when = now
        except NetlinkFailure as error:
            log.warning("the kernel's news cannot be heard: %s; opening anew", error)
            self._loop.forget(self._monitor.fileno())
            self._monitor.close()
            self._monitor = None
            self._again.when = now + _RETRY

    def _hear(self, kind: int, message: bytes, now: float) -> None:
        if kind in (RTM_NEWLINK, RTM_DELLINK):
            if not link_state.is_plain(message):
                return
            link = link_state.decode(message)
            if link.number == self.index or link.name == self.name:
                gone = kind == RTM_DELLINK or link.name != self.name
                known, self.link = self.link, None if gone else link
                if known != self.link:
                    self._again.when = min(self._again.when, now + _SETTLE)
                    self._changed(now)
        elif kind in (RTM_NEWADDR, RTM_DELADDR):
            told = addresses.decode(message)
            if told is None or told.link != self.index:
                return
            if told.is_host and kind == RTM_DELADDR:
                self._lost(told.address, now)
            elif not told.is_host:
                self._again.when = min(self._again.when, now + _SETTLE)

    def _read_again(self, now: float) -> None:
        before = self.link, self.sources
        try:
            if self._monitor is None:
                self.open()
            else:
                self.read()
        except NetlinkFailure as error:
            log.warning("interface %s cannot be read: %s", self.name, error)
            self._again.when = now + _RETRY
            return
        if before != (self.link, self.sources):
            self._changed(now)


def _sources(found: list[InterfaceAddress]) -> dict[int, str]:
    sources: dict[int, str] = {}
    for each in found:
        if each.is_host:
            continue
        if ":" not in each.address:
            if each.scope == _SCOPE_GLOBAL:
                sources.setdefault(4, each.address)
        elif _is_link_local(each.address) and not each.flags & IFA_F_TENTATIVE:
            sources.setdefault(6, each.address)
    return sources


def _is_link_local(text: str) -> bool:
    packed = socket.inet_pton(socket.AF_INET6, text)
    return packed[0] == 0xFE and packed[1] & 0xC0 == 0x80  # noqa: PLR2004 - fe80::/10
