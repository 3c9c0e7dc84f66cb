"""A speaker that holds VIPs on a fake kernel; what it is told to do can be made to wait or to fail."""

import asyncio

from lvs_dr.core.kernel import AddressConfig, AddressKey
from lvs_dr.vrrp.messages import AddressProblem, Assignment, Role, SpeakerState
from tests.contract.fake_kernel import FakeKernel


class FakeSpeaker:
    """Implements vrrp.messages.Speaker."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.assignments: list[Assignment] = []
        self.announcements = 0
        self.held: set[str] = set()
        self.interface = ""
        self.in_use: set[str] = set()  # VIPs that somebody else answers for
        self.probing = asyncio.Event()  # cleared: taking a new VIP waits
        self.probing.set()
        self.failure: Exception | None = None
        self.services_at_release: dict[str, int] = {}

    async def assign(self, assignment: Assignment) -> SpeakerState:
        """Release first, then take."""
        self.assignments.append(assignment)
        if self.failure is not None:
            raise self.failure
        if assignment.paused:
            return self.state()
        for address in sorted(self.held - set(assignment.addresses)):
            self.services_at_release[address] = sum(key.address == address for key in self.kernel.services)
            self.kernel.addresses.pop(AddressKey(self.interface, address), None)
            self.held.discard(address)
        self.interface = assignment.interface
        for address in assignment.addresses:
            if address not in self.held and address not in self.in_use:
                await self.probing.wait()
            if address not in self.in_use:
                self.kernel.addresses[AddressKey(self.interface, address)] = AddressConfig(0)
                self.held.add(address)
        return self.state()

    def state(self) -> SpeakerState:
        """Tell what is held."""
        problems = tuple(AddressProblem(one, "AddressInUse", f"{one} is answered for") for one in sorted(self.in_use))
        role = Role.ACTIVE if self.held else Role.BACKUP
        return SpeakerState(role, self.interface, tuple(sorted(self.held)), problems)

    async def announce(self) -> None:
        """Count it."""
        self.announcements += 1
