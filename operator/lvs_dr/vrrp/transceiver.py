"""Adverts in and out: one raw socket a family, what is refused and why, and what is sent ready-made."""

import logging
import socket
from collections.abc import Callable
from typing import Final

from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.netlink.vrrp_socket import VrrpSocket
from lvs_dr.vrrp.configuration import FAMILIES, InstanceKey, InstanceSettings
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.packet import GROUP4, GROUP6, Advertisement, ChecksumForm, PacketRefusal, RefusedPacket, decode, encode

log = logging.getLogger(__name__)

_PACKETS_AT_ONCE: Final = 64
_RETRY: Final = 0.5
_MOST_FOREIGN: Final = 64
_MOST_ENCODED: Final = 256

Heard = Callable[[InstanceKey, str, Advertisement, float], bool]
"""Takes a valid advert; False when the VRID is nobody's here."""


class Transceiver:
    """Sends and receives on one interface; sockets are opened when needed, and again after a failure."""

    def __init__(self, loop: EventLoop, interface: str, heard: Heard) -> None:
        self.interface = interface
        self.refused: dict[PacketRefusal, int] = dict.fromkeys(PacketRefusal, 0)
        self.forms: dict[ChecksumForm, int] = dict.fromkeys(ChecksumForm, 0)
        self.not_ours = 0
        self.foreign: dict[InstanceKey, str] = {}
        """VRIDs that others use on the segment, and who was heard first with each."""
        self.not_sent = 0
        self.problem = ""
        self._loop = loop
        self._heard = heard
        self._sockets: dict[int, VrrpSocket] = {}
        self._multicast: dict[int, bool] = {}
        self._not_before = 0.0
        self._encoded: dict[tuple[Advertisement, str, str, ChecksumForm], bytes] = {}

    def use(self, family: int, source: str, *, multicast: bool, now: float) -> None:
        """Be ready for a family with this source; another source than before needs another socket."""
        known = self._sockets.get(family)
        if known is not None and known.source == source and self._multicast[family] == multicast:
            return
        self.close(family)
        if not source or now < self._not_before:
            return
        try:
            opened = VrrpSocket(self.interface, FAMILIES[family], source, multicast=multicast)
        except NetlinkFailure as error:
            self._fail(str(error), now)
            return
        self.problem = ""
        self._sockets[family], self._multicast[family] = opened, multicast
        self._encoded.clear()
        self._loop.read(opened.fileno(), lambda at: self._read(family, at))

    def close(self, family: int) -> None:
        """Close a family's socket."""
        gone = self._sockets.pop(family, None)
        if gone is not None:
            self._loop.forget(gone.fileno())
            gone.close()

    def send(self, settings: InstanceSettings, advert: Advertisement, now: float) -> None:
        """Send to the group or to each peer; what cannot be sent is counted."""
        family = settings.key.family
        own = self._sockets.get(family)
        if own is None:
            self.not_sent += 1
            return
        group = GROUP6 if family == 6 else GROUP4  # noqa: PLR2004 - the family
        try:
            for to in settings.unicast or (group,):
                message = self._bytes(advert, own.source, to, settings.checksum)
                if not own.send(message, to):
                    self.not_sent += 1
        except NetlinkFailure as error:
            self.not_sent += 1
            self.close(family)
            self._fail(str(error), now)

    def _bytes(self, advert: Advertisement, source: str, to: str, form: ChecksumForm) -> bytes:
        key = (advert, source, to, form)
        found = self._encoded.get(key)
        if found is None:
            if len(self._encoded) >= _MOST_ENCODED:
                self._encoded.clear()
            found = self._encoded[key] = encode(advert, source, to, form)
        return found

    def _read(self, family: int, now: float) -> None:
        own = self._sockets[family]
        try:
            for _ in range(_PACKETS_AT_ONCE):
                packet = own.receive()
                if packet is None:
                    return
                try:
                    received = decode(*packet)
                except RefusedPacket as refused:
                    self.refused[refused.reason] += 1
                    continue
                self.forms[received.form] += 1
                advert = received.advertisement
                source = socket.inet_ntop(own.family, packet.source)
                if not self._heard(InstanceKey(advert.vrid, family), source, advert, now):
                    self.not_ours += 1
                    if len(self.foreign) < _MOST_FOREIGN:
                        self.foreign.setdefault(InstanceKey(advert.vrid, family), source)
        except NetlinkFailure as error:
            self.close(family)
            self._fail(str(error), now)

    def _fail(self, text: str, now: float) -> None:
        if text != self.problem:
            log.warning("VRRP on %s: %s", self.interface, text)
        self.problem = text
        self._not_before = now + _RETRY
