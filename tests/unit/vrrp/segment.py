"""A simulated segment: speakers (machines with a kernel's addresses), a lossy network, faults, and one clock."""

import heapq
import itertools
import random
from collections.abc import Callable
from math import inf

from lvs_dr.vrrp.instance import (
    CENTISECOND,
    Action,
    Hold,
    InstanceConfig,
    Release,
    Send,
    State,
    Take,
    lifetime_of,
)
from lvs_dr.vrrp.machine import Machine
from lvs_dr.vrrp.obstacles import INTERFACE_DOWN
from lvs_dr.vrrp.packet import Advertisement

DELAY = 0.0005


class Simulated:
    """One node: the speaker's process, and the kernel's addresses, which outlive it."""

    def __init__(self, number: int, config: InstanceConfig) -> None:
        self.number = number
        self.source = f"192.0.2.{number + 1}"
        self.config = config
        self.machine: Machine | None = None
        self.frozen = False
        self.link = True
        self.inbox: list[tuple[str, Advertisement]] = []
        self.expiry: dict[str, float] = {}
        self.lifetime = 0
        self.renew_at = inf

    def holds(self, now: float) -> bool:
        """Whether the kernel answers for a VIP."""
        return any(end > now for end in self.expiry.values())

    @property
    def active(self) -> bool:
        """Whether the speaker runs and is Active."""
        return self.machine is not None and not self.frozen and self.machine.state is State.ACTIVE


class Segment:
    """All nodes and the wires between them; `run` lets time pass."""

    def __init__(self, configs: list[InstanceConfig], seed: int) -> None:
        self.now = 1000.0
        self.random = random.Random(seed)
        self.nodes = [Simulated(number, config) for number, config in enumerate(configs)]
        self.vips = configs[0].addresses
        self.blocked: set[tuple[int, int]] = set()
        self.loss: dict[tuple[int, int], float] = {}
        self.delay: dict[tuple[int, int], float] = {}
        self.changed_at = self.now
        self.longest_double = 0.0
        """How long two nodes held the same VIP at once while nothing was wrong between them."""
        self._double_since: dict[tuple[str, int, int], float] = {}
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self.sent: list[tuple[float, int, Advertisement]] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        end = self.now + seconds
        while self._queue and self._queue[0][0] <= end:
            self.now, _, event = heapq.heappop(self._queue)
            event()
            self._look()
        self.now = end
        self._look()

    def start(self, number: int) -> None:
        """Start a speaker, as after a crash: it finds what the kernel still has."""
        node = self.nodes[number]
        if node.machine is None:
            node.machine, node.frozen, node.inbox = Machine(node.config, node.source), False, []
            leftover = tuple(each for each, end in node.expiry.items() if end > self.now)
            self.carry_out(node, node.machine.start(self.now, leftover))
            if not node.link:
                self.carry_out(node, node.machine.fault(self.now, INTERFACE_DOWN))

    def crash(self, number: int) -> None:
        """Kill -9 of the speaker: the addresses stay until they expire."""
        node = self.nodes[number]
        node.machine, node.frozen, node.inbox, node.renew_at = None, False, [], inf

    def stop(self, number: int) -> None:
        """SIGTERM."""
        node = self.nodes[number]
        if node.machine is not None and not node.frozen:
            self.carry_out(node, node.machine.stop(self.now))

    def freeze(self, number: int) -> None:
        """SIGSTOP."""
        self.nodes[number].frozen = self.nodes[number].machine is not None

    def thaw(self, number: int) -> None:
        """SIGCONT: what was received meanwhile is read before timers are looked at."""
        node = self.nodes[number]
        if not node.frozen:
            return
        node.frozen = False
        waiting, node.inbox = node.inbox[:50], []
        self._tell_link(node)  # the kernel's news waited as well
        for source, advert in waiting:
            self._deliver(node, source, advert)
        self._wake(node)
        self._renew(node)

    def set_link(self, number: int, up: bool) -> None:  # noqa: FBT001 - the value is the datum
        """Pull the cable, or put it in."""
        node = self.nodes[number]
        node.link = up
        self.changed_at = self.now
        self._tell_link(node)

    def rewire(self) -> None:
        """Note that the wires were changed."""
        self.changed_at = self.now

    def clean(self, one: int, other: int) -> bool:
        """Whether two nodes hear all of each other's frames at once."""
        pairs = ((one, other), (other, one))
        links = self.nodes[one].link and self.nodes[other].link
        return links and not any(pair in self.blocked or self.loss.get(pair) or self.delay.get(pair) for pair in pairs)

    # --- inside ---

    def _tell_link(self, node: Simulated) -> None:
        if node.machine is not None and not node.frozen:
            event = node.machine.cleared if node.link else node.machine.fault
            self.carry_out(node, event(self.now, INTERFACE_DOWN))

    def _at(self, when: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._queue, (when, next(self._order), event))

    def _look(self) -> None:
        held = [(each, node.number) for node in self.nodes for each, end in node.expiry.items() if end > self.now]
        pairs = {
            (each, one, other)
            for (each, one), (same, other) in itertools.combinations(held, 2)
            if each == same and self.clean(one, other)
        }
        for gone in self._double_since.keys() - pairs:
            del self._double_since[gone]
        for pair in pairs:
            begun = self._double_since.setdefault(pair, self.now)
            begun = max(begun, self.changed_at)
            self.longest_double = max(self.longest_double, self.now - begun)

    def carry_out(self, node: Simulated, actions: tuple[Action, ...]) -> None:
        """Do what a machine asks for."""
        for action in actions:
            if isinstance(action, Send):
                self.sent.append((self.now, node.number, action.advert))
                self._broadcast(node, action.advert)
            elif isinstance(action, Take):
                node.lifetime = action.lifetime
                self._set(node, action.addresses, action.lifetime or inf)
                node.renew_at = self.now + action.lifetime / 3 if action.lifetime else inf
                self._at(node.renew_at, lambda: self._renew(node))
            elif isinstance(action, Release):
                for each in action.addresses:
                    node.expiry[each] = min(node.expiry.get(each, 0.0), self.now + action.after)
                self._at(self.now + action.after, lambda: None)
            elif isinstance(action, Hold):
                self._set(node, action.addresses, action.seconds)
        machine = node.machine
        if machine is None:
            return
        if machine.deadline < inf:
            self._at(max(machine.deadline, self.now), lambda: self._wake(node))
        if not machine._running:
            node.machine = None

    def _set(self, node: Simulated, addresses: tuple[str, ...], seconds: float) -> None:
        for each in addresses:
            node.expiry[each] = self.now + seconds
            if seconds < inf:
                self._at(self.now + seconds, lambda: None)  # looked at then

    def _renew(self, node: Simulated) -> None:
        machine = node.machine
        if machine is None or node.frozen or self.now < node.renew_at:
            return
        if machine.state in (State.ACTIVE, State.RELEASING) and node.lifetime:
            self._set(node, machine.held, node.lifetime)
            node.renew_at = self.now + node.lifetime / 3
            self._at(node.renew_at, lambda: self._renew(node))

    def _wake(self, node: Simulated) -> None:
        if node.machine is not None and not node.frozen and node.machine.deadline <= self.now:
            self.carry_out(node, node.machine.tick(self.now))

    def _broadcast(self, node: Simulated, advert: Advertisement) -> None:
        for other in self.nodes:
            pair = (node.number, other.number)
            if other is node or pair in self.blocked or not (node.link and other.link):
                continue
            if self.random.random() < self.loss.get(pair, 0.0):
                continue
            delay = DELAY + self.random.random() * self.delay.get(pair, 0.0)
            self._at(self.now + delay, lambda to=other: self._deliver(to, node.source, advert))  # type: ignore[misc]

    def _deliver(self, node: Simulated, source: str, advert: Advertisement) -> None:
        if node.machine is None or not node.link:
            return
        if node.frozen:
            node.inbox.append((source, advert))
            return
        self.carry_out(node, node.machine.advert(self.now, source, advert))


def bound(configs: list[InstanceConfig]) -> float:
    """Return the protocol's own bound in seconds: four intervals (three and the skew) of the slowest, and delays."""
    return 4 * max(config.interval for config in configs) * CENTISECOND + 4 * DELAY + 0.01


def longest_lifetime(configs: list[InstanceConfig]) -> float:
    """Return how long an address of a dead speaker may stay, in seconds."""
    return max(max(lifetime_of(config), config.stop_hold) for config in configs)
