"""Addresses kept for several instances, on a kernel that is a dictionary with expiry."""

import errno
import os
from collections.abc import Iterator

import pytest

from lvs_dr.netlink import address
from lvs_dr.netlink.address import FOREVER, RTM_NEWADDR
from lvs_dr.netlink.errors import NetlinkError, NetlinkTimeout
from lvs_dr.netlink.message import HEADER
from lvs_dr.netlink.rtnetlink import RouteSocket
from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.address_writer import AddressWriter
from lvs_dr.vrrp.event_loop import EventLoop

VIP, OTHER = "192.0.2.100", "192.0.2.101"
INTERFACE = "nowhere0"


class KernelAddresses(RouteSocket):
    """Holds addresses of one interface; applies batches as rtnetlink does."""

    def __init__(self) -> None:
        self.present: dict[str, int] = {}
        self.batches: list[int] = []
        self.refuse: dict[str, int] = {}
        self.silent = False

    def transact(self, messages: list[bytes] | tuple[bytes, ...]) -> dict[int, NetlinkError]:  # type: ignore[override]
        """Apply a batch."""
        if self.silent:
            raise NetlinkTimeout("no answer")
        errors = {}
        self.batches.append(len(messages))
        for at, message in enumerate(messages):
            found = address.decode(message)
            assert found is not None
            adds = HEADER.unpack_from(message)[1] == RTM_NEWADDR
            if found.address in self.refuse:
                errors[at] = NetlinkError(self.refuse[found.address])
            elif adds:
                self.present[found.address] = found.valid
            elif self.present.pop(found.address, None) is None:
                errors[at] = NetlinkError(errno.EADDRNOTAVAIL)
        return errors

    def close(self) -> None:
        """Nothing is open."""


class Kept:
    """A keeper with its loop, writer and kernel."""

    def __init__(self) -> None:
        self.kernel = KernelAddresses()
        self.loop = EventLoop()
        self.writer = AddressWriter(lambda: self.kernel)
        self.loop.read(self.writer.fileno(), lambda _: self.writer.finish())
        self.writer.start()
        self.keeper = AddressKeeper(self.loop, self.writer, INTERFACE)
        self.keeper.index = 3

    def settle(self) -> None:
        """Let the loop work until the kernel has answered everything."""
        while self.writer.pending:
            self.loop.turn()

    def remove(self, each: str) -> None:
        """Somebody removes an address, and the kernel tells."""
        self.kernel.present.pop(each, None)
        self.keeper.lost(each, self.loop.clock())


@pytest.fixture
def kept() -> Iterator[Kept]:
    """A keeper at work."""
    one = Kept()
    yield one
    one.keeper.close()
    one.writer.close(5)
    os.close(one.writer.fileno())


def test_taken_and_released(kept: Kept) -> None:
    """VIPs would stay behind, or with another lifetime than was meant."""
    kept.keeper.take("a", (VIP, OTHER), 3, (VIP, OTHER))
    kept.settle()
    assert kept.kernel.present == {VIP: 3, OTHER: 3}
    assert kept.kernel.batches[0] == 2, "one batch"
    kept.keeper.take("a", (VIP,), 0, ())
    kept.settle()
    assert kept.kernel.present[VIP] == FOREVER
    kept.keeper.release("a", (VIP, OTHER, "192.0.2.99"))
    kept.settle()
    assert kept.kernel.present == {}
    assert kept.keeper.problems == {}


def test_an_address_that_moved_is_not_released_by_its_former_owner(kept: Kept) -> None:
    """A VIP that moves between two instances of the same director would vanish."""
    kept.keeper.take("a", (VIP,), 1, (VIP,))
    kept.keeper.take("b", (VIP,), 1, (VIP,))
    kept.keeper.release("a", (VIP,))
    kept.settle()
    assert VIP in kept.kernel.present


def test_what_is_released_later_answers_until_then(kept: Kept) -> None:
    """What clients send to the old Active, before they are told of the new one, would be lost."""
    kept.keeper.take("a", (VIP, OTHER), 0, ())
    kept.settle()
    kept.keeper.release("a", (VIP, OTHER), 0.05)
    kept.settle()
    assert set(kept.kernel.present) == {VIP, OTHER}
    assert set(kept.keeper.leaving) == {VIP, OTHER}, "a speaker that stops waits for it"
    kept.keeper.take("a", (OTHER,), 0, ())  # Active again meanwhile
    while kept.keeper.leaving:
        kept.loop.turn()
    assert set(kept.kernel.present) == {OTHER}


def test_lifetimes_are_renewed_and_what_is_left_is_not(kept: Kept) -> None:
    """VIPs would expire under a healthy Active; or a process in doubt would keep what its successor has."""
    kept.keeper.take("a", (VIP, OTHER), 1, ())
    kept.settle()
    kept.keeper.leave("a", (OTHER,), 0)
    kept.kernel.present.clear()  # as if expired: a renewal adds again
    while VIP not in kept.kernel.present:
        kept.loop.turn()
    assert OTHER not in kept.kernel.present
    kept.keeper.release("a", (OTHER,))
    kept.settle()


def test_left_for_a_while(kept: Kept) -> None:
    """The last director's VIPs would expire with its speaker."""
    kept.keeper.take("a", (VIP,), 1, ())
    kept.keeper.leave("a", (VIP,), 300)
    kept.settle()
    assert kept.kernel.present == {VIP: 300}


def test_what_others_remove_comes_back_and_what_we_remove_does_not(kept: Kept) -> None:
    """A VIP would be away for ever; or a released one would come back and have two holders."""
    kept.keeper.take("a", (VIP,), 0, ())
    kept.settle()
    kept.remove(VIP)
    while VIP not in kept.kernel.present:
        kept.loop.turn()
    assert kept.keeper.restoring.restored == 1
    kept.keeper.release("a", (VIP,))
    kept.settle()
    kept.keeper.take("a", (VIP,), 0, ())
    kept.keeper.lost(VIP, kept.loop.clock())  # the news of our own removal, late
    kept.settle()
    assert kept.keeper.restoring.restored == 1


def test_a_refused_address_is_named_and_tried_again(kept: Kept) -> None:
    """One bad address would hide, or harm the others."""
    kept.kernel.refuse = {OTHER: errno.EINVAL}
    kept.keeper.take("a", (VIP, OTHER), 0, (VIP, OTHER))
    kept.settle()
    assert list(kept.keeper.problems) == [OTHER]
    assert VIP in kept.kernel.present
    kept.kernel.refuse = {}
    while kept.keeper.problems:
        kept.loop.turn()
    assert OTHER in kept.kernel.present


def test_a_kernel_that_does_not_answer_is_told_and_survived(kept: Kept) -> None:
    """The thread would end, and with it all renewals."""
    kept.kernel.silent = True
    kept.keeper.take("a", (VIP,), 1, ())
    kept.settle()
    assert "no answer" in kept.keeper.problems[VIP]
    kept.kernel.silent = False
    while VIP not in kept.kernel.present:
        kept.loop.turn()
