"""The speaker: brings a configuration into force on one interface, watches the agent, tells its state, stops well."""

import logging
from collections.abc import Mapping
from math import inf
from typing import Any, Final

from lvs_dr.netlink.errors import NetlinkFailure
from lvs_dr.vrrp import kept, state_message
from lvs_dr.vrrp.address_keeper import AddressKeeper
from lvs_dr.vrrp.address_writer import AddressWriter
from lvs_dr.vrrp.configuration import (
    ConfigurationRefused,
    InstanceKey,
    InstanceSettings,
    SpeakerConfiguration,
    parse,
)
from lvs_dr.vrrp.control import ControlRefused, ControlSocket
from lvs_dr.vrrp.event_loop import EventLoop
from lvs_dr.vrrp.instance import InstanceConfig
from lvs_dr.vrrp.obstacles import INTERFACE_DOWN
from lvs_dr.vrrp.packet import Advertisement
from lvs_dr.vrrp.segment import Segment
from lvs_dr.vrrp.undisturbed import Undisturbed
from lvs_dr.vrrp.virtual_router import VirtualRouter

log = logging.getLogger(__name__)

_TELL_AFTER: Final = 0.02
"""Seconds in which changes are gathered into one message."""
_CHECK: Final = 0.5


class Speaker:
    """All instances of a node. Call `open`, run the loop, and `stop` on SIGTERM; the loop ends when it is done."""

    def __init__(self, loop: EventLoop, writer: AddressWriter, *, control: str, kept_at: str, stop_wait: float) -> None:
        self.loop = loop
        self.writer = writer
        self.granted = Undisturbed(memory_locked=False, real_time=False)
        self._configuration = SpeakerConfiguration()
        self._raw: object = None
        self._routers: dict[InstanceKey, VirtualRouter] = {}
        self._leaving: list[VirtualRouter] = []
        self._segment: Segment | None = None
        self._parting: list[AddressKeeper] = []
        """Of segments that were left, until their addresses are gone."""
        self._control = ControlSocket(loop, control, self._request)
        self._kept_at = kept_at
        self._saver = kept.Saver(kept_at)
        self._stop_wait = stop_wait
        self._stopping = False
        self._agent_silent = False
        self._agent_heard = loop.clock()
        self._tell_timer = loop.timer(self._tell)
        self._check_timer = loop.timer(self._check)
        self._stop_timer = loop.timer(self._stop_waiting)

    def open(self) -> None:
        """Bring the last configuration into force and listen to the agent. Raises OSError."""
        self.loop.read(self.writer.fileno(), self._written)
        self.writer.start()
        # Listening first: who finds nobody may take the kept configuration away, and nobody follows it then.
        self._control.open()
        found = kept.load(self._kept_at)
        if found is not None:
            self._configure(found, self.loop.clock())
        self._check_timer.when = self.loop.clock() + _CHECK

    def stop(self, now: float) -> None:
        """Hand over what can be, and end the loop then."""
        if self._stopping:
            return
        self._stopping = True
        self._stop_timer.when = now + self._stop_wait
        for router in self._routers.values():
            router.do(router.machine.stop(now))
        self._end_when_done()

    def close(self) -> None:
        """End what is still under way."""
        self._control.close()
        self._saver.finish(2.0)
        self.writer.close(timeout=5.0)

    # --- events ---

    def heard(self, key: InstanceKey, source: str, advert: Advertisement, now: float) -> bool:
        """Pass an advert to its instance; False when there is none."""
        router = self._routers.get(key)
        if router is None:
            return False
        router.heard(source, advert, now)
        return True

    def interface_changed(self, now: float) -> None:
        """Link or own addresses changed."""
        segment = self._segment
        if segment is None:
            return
        if segment.keeper.index != segment.view.index:
            segment.keeper.index = segment.view.index
            for family in (4, 6):
                segment.transceiver.close(family)
        self._apply(now)
        if segment.view.up:
            segment.keeper.announce_all()
        self.changed()

    def address_lost(self, address: str, now: float) -> None:
        """A host address was removed from the interface."""
        if self._segment is not None:
            self._segment.keeper.lost(address, now)
            self.changed()

    def changed(self) -> None:
        """Tell the agent soon."""
        self._tell_timer.when = min(self._tell_timer.when, self.loop.clock() + _TELL_AFTER)
        if self._stopping:
            self._end_when_done()

    def state(self, now: float, *, whole: bool = False) -> Mapping[str, Any]:
        """Return the state message; `whole` with the addresses that are configured, which may be thousands."""
        segment = self._segment
        told: dict[str, Any] = {
            "kind": "state",
            "generation": self._configuration.generation,
            "interface": self._configuration.interface,
            "interfaceUp": segment is not None and segment.view.up,
            "agentSilent": self._agent_silent,
            "stopping": self._stopping,
            "notKept": self._saver.problem,
            "leaving": self._addresses_leaving(),
            "instances": [state_message.instance(router, now, whole=whole) for router in self._routers.values()],
            "process": state_message.process(self.loop, **self.granted._asdict()),
        }
        if segment is not None:
            told["addresses"] = state_message.addresses(segment.keeper, now)
            told["packets"] = state_message.packets(segment.transceiver)
        return told

    def _addresses_leaving(self) -> list[str]:
        """Return the addresses that are given up and may still be on an interface."""
        self._parting = [each for each in self._parting if each.leaving]
        current = [self._segment.keeper] if self._segment is not None else []
        return [address for keeper in (*self._parting, *current) for address in keeper.leaving]

    # --- the agent ---

    def _request(self, request: Mapping[str, Any], now: float) -> Mapping[str, Any]:
        kind = request.get("kind")
        if kind == "ping":  # a probe: no sign of life of the agent
            return {"kind": "pong"}
        self._agent_heard = now
        if self._agent_silent:
            self._agent_silent = False
            log.info("the agent is heard again")
            self._apply(now)
        if kind == "configure":
            self._take_configuration(request.get("configuration"), now)
        elif kind == "announce":
            if self._segment is not None:
                self._segment.keeper.announce_all()
        elif kind == "handOver":
            router = self._routers.get(InstanceKey(request.get("vrid", 0), request.get("family", 4)))
            if router is None:
                raise ControlRefused("no such instance")
            router.do(router.machine.hand_over(now))
        elif kind not in ("alive", "state"):
            raise ControlRefused(f"unknown kind {kind!r}")
        return self.state(now, whole=kind in ("configure", "state"))

    def _take_configuration(self, raw: object, now: float) -> None:
        if self._stopping:
            raise ControlRefused("the speaker is stopping")
        try:
            found = parse(raw)
        except ConfigurationRefused as error:
            raise ControlRefused(str(error)) from error
        if raw != self._raw or self._saver.problem:
            self._raw = raw
            self._saver.save(raw)
        self._configure(found, now)

    def _configure(self, configuration: SpeakerConfiguration, now: float) -> None:
        if configuration.interface != self._configuration.interface or self._segment is None:
            self._leave_segment(now)
            if configuration.interface:
                self._enter_segment(configuration.interface)
        self._configuration = configuration
        wanted = {each.key: each for each in configuration.instances}
        for key in [key for key in self._routers if key not in wanted]:
            router = self._routers.pop(key)
            router.do(router.machine.withdraw(now))
            router.close()
        self._apply(now)
        self.changed()

    def _enter_segment(self, interface: str) -> None:
        self._segment = Segment(self, interface)
        try:
            self._segment.view.open()
        except NetlinkFailure as error:
            log.error("interface %s cannot be watched: %s", interface, error)  # noqa: TRY400 - no trace
        self._segment.keeper.index = self._segment.view.index

    def _leave_segment(self, now: float) -> None:
        for router in self._routers.values():
            router.do(router.machine.withdraw(now))
            router.close()
        self._routers.clear()
        if self._segment is not None:
            self._segment.close()
            self._parting.append(self._segment.keeper)
            self._segment = None

    # --- bringing into force ---

    def _apply(self, now: float) -> None:
        """Give every instance what holds for it now: sockets, source, priority, faults."""
        segment = self._segment
        if segment is None:
            return
        segment.keeper.watch.own_macs = segment.view.macs
        for settings in self._configuration.instances:
            family = settings.key.family
            source = (settings.source or segment.view.sources.get(family, "")) if segment.view.index else ""
            multicast = any(not each.unicast for each in self._configuration.instances if each.key.family == family)
            segment.transceiver.use(family, source if segment.view.up else "", multicast=multicast, now=now)
            router = self._routers.get(settings.key)
            if router is None:
                router = self._routers[settings.key] = VirtualRouter(
                    self.loop,
                    settings=settings._replace(fault=""),
                    source=source,
                    transceiver=segment.transceiver,
                    keeper=segment.keeper,
                    changed=self.changed,
                )
                self._set_faults(router, settings, now)
                router.start(now, segment.view.hosts)
            self._set_faults(router, settings, now)
            router.configure(now, settings, self._effective(settings.machine), source)

    def _set_faults(self, router: VirtualRouter, settings: InstanceSettings, now: float) -> None:
        assert self._segment is not None  # noqa: S101 - the callers have looked
        router.set_fault(now, INTERFACE_DOWN, present=not self._segment.view.up)
        for old in router.machine.obstacles.faults - {INTERFACE_DOWN, settings.fault}:
            router.set_fault(now, old, present=False)
        if settings.fault:
            router.set_fault(now, settings.fault, present=True)

    def _effective(self, config: InstanceConfig) -> InstanceConfig:
        if not self._agent_silent:
            return config
        return config._replace(priority=max(1, config.priority - self._configuration.lowered_by))

    def _check(self, now: float) -> None:
        """Look at what no event tells: a silent agent, a socket to be opened again."""
        self._check_timer.when = now + _CHECK
        limit = self._configuration.agent_timeout
        silent = bool(limit) and now - self._agent_heard > limit
        if silent and not self._agent_silent:
            log.warning(
                "the agent has been silent for %.0f s: priorities are lower by %d",
                limit,
                self._configuration.lowered_by,
            )
            self._agent_silent = True
            self.changed()
        if not self._stopping:
            self._apply(now)

    # --- the end ---

    def _written(self, _: float) -> None:
        self.writer.finish()
        if self._stopping:
            self._end_when_done()

    def _stop_waiting(self, _: float) -> None:
        for router in self._routers.values():
            if not router.stopped and router.machine.deadline < inf:
                router.do(router.machine.tick(router.machine.deadline))
        self._end_when_done()

    def _end_when_done(self) -> None:
        stopped = all(router.stopped for router in self._routers.values())
        if stopped and not self.writer.pending and not self._addresses_leaving():
            self.loop.stop()

    def _tell(self, now: float) -> None:
        self._control.push(self.state(now))
