"""The MAC addresses of peer directors: asked for, kept, told."""

import asyncio
from collections.abc import Collection

from lvs_dr.agent.peers import PeerMacs
from lvs_dr.agent.wire import WireError
from lvs_dr.core.node import PeerDirector

ONE, TWO = PeerDirector("one", ("192.0.2.1", "2001:db8::1")), PeerDirector("two", ("192.0.2.2",))
MAC, OTHER = "02:00:00:00:00:01", "02:00:00:00:00:02"


class Segment:
    """Machines on the wire, by address."""

    def __init__(self) -> None:
        self.macs: dict[str, str] = {}
        self.down = False
        self.asked: list[tuple[str, tuple[str, ...]]] = []
        self.answered = asyncio.Event()

    async def resolve(self, interface: str, addresses: Collection[str], sources: Collection[str]) -> dict[str, str]:
        """Answer for those that are there."""
        self.asked.append((interface, tuple(sources)))
        self.answered.set()
        if self.down:
            raise WireError("the interface is down")
        return {address: mac for address, mac in self.macs.items() if address in addresses}


class Watcher:
    """Runs a `PeerMacs` and waits for what it says."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.changes = 0
        self._change = asyncio.Event()
        self.peers = PeerMacs(segment, changed=self._changed, refresh=0.01, retry=0.01)
        self.task = asyncio.create_task(self.peers.run())

    def _changed(self) -> None:
        self.changes += 1
        self._change.set()

    async def change(self) -> None:
        """Wait until something has changed."""
        await asyncio.wait_for(self._change.wait(), 5)
        self._change.clear()

    async def rounds(self, count: int) -> None:
        """Wait until the segment was asked again, several times."""
        for _ in range(count):
            self.segment.answered.clear()
            await asyncio.wait_for(self.segment.answered.wait(), 5)

    async def end(self) -> None:
        """Stop."""
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


async def test_macs_are_learnt_followed_and_kept() -> None:
    """A peer that was replaced, or that is silent for a moment, would not be guarded against."""
    segment = Segment()
    watcher = Watcher(segment)
    peers = watcher.peers
    peers.follow("eth0", ["192.0.2.9"], [ONE, TWO])
    await watcher.rounds(2)
    assert peers.known == {}
    segment.macs = {"192.0.2.1": MAC, "2001:db8::1": MAC}
    await watcher.change()
    assert peers.known == {"one": (MAC,)}
    segment.macs["192.0.2.2"] = OTHER
    await watcher.change()
    assert peers.known == {"one": (MAC,), "two": (OTHER,)}
    segment.macs = {"192.0.2.1": OTHER}
    await watcher.change()
    assert peers.known == {"one": (OTHER,), "two": (OTHER,)}
    segment.macs = {}
    before = watcher.changes
    await watcher.rounds(3)
    assert peers.known == {"one": (OTHER,), "two": (OTHER,)}
    assert watcher.changes == before
    assert segment.asked[0] == ("eth0", ("192.0.2.9",))
    await watcher.end()


async def test_who_is_no_peer_any_more_is_forgotten() -> None:
    """Frames of a machine that left the group would be kept from being balanced."""
    segment = Segment()
    segment.macs = {"192.0.2.1": MAC, "192.0.2.2": OTHER}
    watcher = Watcher(segment)
    watcher.peers.follow("eth0", [], [ONE, TWO])
    await watcher.change()
    watcher.peers.follow("eth0", [], [ONE])
    assert watcher.peers.known == {"one": (MAC,)}
    watcher.peers.follow("eth1", [], [ONE])
    assert watcher.peers.known == {}, "another segment"
    await watcher.end()


async def test_a_dead_interface_is_told_and_survived() -> None:
    """The MACs would never be asked for again, and nobody would know why."""
    segment = Segment()
    segment.down = True
    watcher = Watcher(segment)
    watcher.peers.follow("eth0", [], [TWO])
    await watcher.rounds(2)
    assert watcher.peers.trouble == "the interface is down"
    segment.down = False
    segment.macs = {"192.0.2.2": OTHER}
    await watcher.change()
    assert watcher.peers.trouble == ""
    await watcher.end()
