"""One network segment as the speaker is attached to it: the interface, the wire, and the VIPs on it."""

from typing import Protocol

from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.address_writer import AddressWriter
from lvs_dr.vrrp.configuration import InstanceKey
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.interface_view import InterfaceView
from lvs_dr.vrrp.packet import Advertisement
from lvs_dr.vrrp.transceiver import Transceiver


class Listener(Protocol):
    """Whoever is told what happens on a segment, and works on it with this loop and this writer."""

    loop: EventLoop
    writer: AddressWriter

    def interface_changed(self, now: float) -> None:
        """Link or own addresses changed."""
        ...

    def address_lost(self, address: str, now: float) -> None:
        """A host address was removed from the interface."""
        ...

    def heard(self, key: InstanceKey, source: str, advert: Advertisement, now: float) -> bool:
        """Take a valid advert; False when there is no such instance."""
        ...

    def changed(self) -> None:
        """Something is to be told."""
        ...


class Segment:
    """The interface and all that is bound to it."""

    def __init__(self, listener: Listener, interface: str) -> None:
        loop = listener.loop
        self.view = InterfaceView(loop, interface, listener.interface_changed, listener.address_lost)
        self.transceiver = Transceiver(loop, interface, listener.heard)
        self.keeper = AddressKeeper(loop, listener.writer, interface, listener.changed)

    def close(self) -> None:
        """Close sockets; addresses that were left stay."""
        self.view.close()
        self.keeper.close()
        for family in (4, 6):
            self.transceiver.close(family)
