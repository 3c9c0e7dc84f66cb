"""The real speaker in a thread of its own, behind its real control socket; only what is below it is faked.

Its kernel is the fake one, its wire is silent unless a test lets a peer be heard. It can be killed, frozen and stopped.
"""

import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from lvs_dr.core.kernel import AddressConfig, AddressKey, AddressOp, Verb
from lvs_dr.netlink import address
from lvs_dr.netlink.address import RTM_NEWADDR
from lvs_dr.netlink.errors import NetlinkError
from lvs_dr.netlink.message import HEADER
from lvs_dr.netlink.rtnetlink import RouteSocket
from lvs_dr.vrrp import speaker as speaker_module
from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.address_writer import AddressWriter
from lvs_dr.vrrp.configuration import InstanceKey, InstanceSettings
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.packet import Advertisement
from lvs_dr.vrrp.speaker import Speaker
from lvs_dr.vrrp.transceiver import Transceiver
from tests.contract.fake_kernel import FakeKernel

SECONDS = 5.0


class _Rtnetlink(RouteSocket):
    """Writes addresses into the fake kernel."""

    def __init__(self, kernel: FakeKernel) -> None:
        self._kernel = kernel

    def transact(self, messages: list[bytes] | tuple[bytes, ...]) -> dict[int, NetlinkError]:  # type: ignore[override]
        """Apply a batch."""
        errors = {}
        names = {link.index: name for name, link in self._kernel.links.items()}
        for at, message in enumerate(messages):
            found = address.decode(message)
            assert found is not None
            key = AddressKey(names[found.link], found.address)
            adds = HEADER.unpack_from(message)[1] == RTM_NEWADDR
            if adds and key in self._kernel.addresses:
                continue  # renewed
            config = AddressConfig(0, deprecated=":" in key.address)
            op = AddressOp(Verb.ADD, key, config) if adds else AddressOp(Verb.DELETE, key)
            for failure in self._kernel.apply((op,)):
                errors[at] = NetlinkError(failure.errno)
        return errors

    def close(self) -> None:
        """Nothing is open."""


class _View:
    """An interface of the fake kernel."""

    def __init__(self, kernel: FakeKernel, name: str) -> None:
        self._kernel = kernel
        self._name = name
        self.sources = {4: "192.0.2.1", 6: "fe80::1"}
        self.macs: frozenset[bytes] = frozenset()

    def open(self) -> None:
        """Nothing to open."""

    def close(self) -> None:
        """Nothing to close."""

    @property
    def index(self) -> int:
        """The interface's number."""
        return self._kernel.links[self._name].index if self._name in self._kernel.links else 0

    @property
    def up(self) -> bool:
        """Whether it is there."""
        return self.index != 0

    @property
    def hosts(self) -> tuple[str, ...]:
        """Host addresses on it."""
        return tuple(key.address for key in tuple(self._kernel.addresses) if key.interface == self._name)


class _SilentTransceiver(Transceiver):
    """Sends nothing."""

    def use(self, family: int, source: str, *, multicast: bool, now: float) -> None:
        """Need no socket."""

    def send(self, settings: InstanceSettings, advert: Advertisement, now: float) -> None:
        """Nobody hears it."""


class SpeakerProcess:
    """`lvs-speaker` of one node; `patched` must have been called."""

    def __init__(self, kernel: FakeKernel, directory: Path) -> None:
        self.kernel = kernel
        self.directory = directory
        self.requests: list[Mapping[str, Any]] = []
        self.speaker: Speaker | None = None
        self.started = 0.0
        self._thread: threading.Thread | None = None
        self._loop = EventLoop()
        self._todo: list[Callable[[], None]] = []
        self._frozen = threading.Event()

    def patched(self, monkeypatch: pytest.MonkeyPatch) -> "SpeakerProcess":
        """Have the speaker use the fake kernel."""
        kernel = self.kernel

        class Segment:
            def __init__(self, speaker: Speaker, interface: str) -> None:
                self.view = _View(kernel, interface)
                self.transceiver = _SilentTransceiver(speaker.loop, interface, speaker.heard)
                self.keeper = AddressKeeper(speaker.loop, speaker.writer, interface, speaker.changed)

            def close(self) -> None:
                self.keeper.close()

        monkeypatch.setattr(speaker_module, "Segment", Segment)
        return self

    def start(self) -> None:
        """Start it."""
        self._loop = EventLoop()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._loop.read(self._wake, self._work)
        started = self.speaker = Speaker(
            self._loop,
            AddressWriter(lambda: _Rtnetlink(self.kernel)),
            control=str(self.directory / "run" / "speaker.sock"),
            kept_at=str(self.directory / "lib" / "speaker.json"),
            stop_wait=1.0,
        )
        handle = started._control._handle

        def noted(request: Mapping[str, Any], now: float) -> Mapping[str, Any]:
            self.requests.append(request)
            return handle(request, now)

        started._control._handle = noted
        self.started = started._agent_heard
        started.open()
        self._thread = threading.Thread(target=self._loop.run, name="speaker", daemon=True)
        self._thread.start()

    def kill(self) -> None:
        """Kill -9: nothing is told or taken back."""
        if self.speaker is None:
            return
        speaker, self.speaker = self.speaker, None
        self._do(self._loop.stop)
        assert self._thread is not None
        self._thread.join(SECONDS)
        speaker._control.close()
        speaker._saver.finish(SECONDS)
        speaker.writer.close(SECONDS)
        if speaker._segment is not None:
            speaker._segment.close()
        for descriptor in (self._wake, speaker.writer.fileno()):
            os.close(descriptor)

    def freeze(self) -> None:
        """SIGSTOP."""
        self._frozen.clear()
        self._do(self._frozen.wait, wait=False)

    def thaw(self) -> None:
        """SIGCONT."""
        self._frozen.set()

    def hear(self, source: str, priority: int, *addresses: str, vrid: int = 51) -> None:
        """Have it hear one advert."""
        family = 6 if ":" in addresses[0] else 4

        def deliver() -> None:
            assert self.speaker is not None
            advert = Advertisement(vrid, priority, 10, tuple(sorted(addresses)))
            self.speaker.heard(InstanceKey(vrid, family), source, advert, self._loop.clock())

        self._do(deliver)

    def kinds(self) -> list[str]:
        """Return the kinds of what it was asked, in order."""
        return [each["kind"] for each in tuple(self.requests)]

    def configurations(self) -> list[Any]:
        """Return what it was told to be, in order."""
        return [each["configuration"] for each in tuple(self.requests) if each["kind"] == "configure"]

    def _do(self, what: Callable[[], object], *, wait: bool = True) -> None:
        """Have its thread do something."""
        done = threading.Event()

        def carry_out() -> None:
            if not wait:
                done.set()
            what()
            done.set()

        self._todo.append(carry_out)
        os.eventfd_write(self._wake, 1)
        assert done.wait(SECONDS)

    def _work(self, _: float) -> None:
        os.eventfd_read(self._wake)
        while self._todo:
            self._todo.pop(0)()
