"""A speaker that holds VIPs on a fake kernel; what it is told to do can be made to wait or to fail."""

import asyncio

from lvs_dr.core.kernel import AddressConfig, AddressKey
from lvs_dr.vrrp.messages import AddressProblem, Assignment, RouterState, SpeakerState
from tests.contract.fake_kernel import FakeKernel


class FakeSpeaker:
    """Implements vrrp.messages.Speaker; it is Active for all it is told, unless `standby`."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel = kernel
        self.assignments: list[Assignment] = []
        self.announcements = 0
        self.held: set[str] = set()
        self.interface = ""
        self.standby = False  # another director is Active
        self.in_use: set[str] = set()  # VIPs that somebody else answers for
        self.probing = asyncio.Event()  # cleared: taking a new VIP waits
        self.probing.set()
        self.failure: Exception | None = None
        self.services_at_release: dict[str, int] = {}
        self.last = Assignment("")

    async def assign(self, assignment: Assignment) -> SpeakerState:
        """Release first, then take."""
        self.assignments.append(assignment)
        if self.failure is not None:
            raise self.failure
        if assignment.paused:
            return self.state()
        faulty = {one for each in assignment.routers if each.fault for one in each.addresses}
        for address in sorted(self.held - (assignment.addresses - faulty)):
            self._release(address)
        self.interface = assignment.interface
        self.last = assignment
        if self.standby:
            return self.state()
        for address in sorted(assignment.addresses - faulty):
            if address not in self.held and address not in self.in_use:
                await self.probing.wait()
            if address not in self.in_use:
                self.kernel.addresses[AddressKey(self.interface, address)] = AddressConfig(0)
                self.held.add(address)
        return self.state()

    def lose(self) -> None:
        """Have another director take over."""
        self.standby = True
        for address in sorted(self.held):
            self._release(address)

    def _release(self, address: str) -> None:
        self.services_at_release[address] = sum(key.address == address for key in self.kernel.services)
        self.kernel.addresses.pop(AddressKey(self.interface, address), None)
        self.held.discard(address)

    def state(self) -> SpeakerState:
        """Tell what is held."""
        problems = tuple(AddressProblem(one, "AddressInUse", f"{one} is answered for") for one in sorted(self.in_use))
        routers = tuple(
            RouterState(
                each.key,
                "Initialize" if each.fault else "Backup" if self.standby else "Active",
                each.priority,
                each.priority,
                addresses=each.addresses,
                held=tuple(one for one in each.addresses if one in self.held),
                since=1_700_000_000,
                reason="as the test wishes",
                active_source="192.0.2.9" if self.standby else "",
                faults=(each.fault,) if each.fault else (),
            )
            for each in self.last.routers
        )
        return SpeakerState(
            self.interface, tuple(sorted(self.held)), problems, routers, configured=self.last.addresses - self.in_use
        )

    async def announce(self) -> None:
        """Count it."""
        self.announcements += 1
