"""What may go wrong on a simulated segment, by name; each fault takes two node numbers."""

from collections.abc import Callable

from tests.unit.vrrp.segment import Segment


def partition(segment: Segment, one: int, _: int) -> None:
    """Cut the segment behind a node."""
    count = range(len(segment.nodes))
    segment.blocked |= {(a, b) for a in count for b in count if (a <= one) != (b <= one)}
    segment.rewire()


def one_way(segment: Segment, one: int, other: int) -> None:
    """Lose all frames from one node to another."""
    segment.blocked.add((one, other))
    segment.rewire()


def lossy(segment: Segment, one: int, other: int) -> None:
    """Lose half of the frames from one node to another."""
    segment.loss[one, other] = 0.5
    segment.rewire()


def slow(segment: Segment, one: int, other: int) -> None:
    """Delay frames, which may overtake each other."""
    segment.delay[one, other] = 0.3
    segment.rewire()


def heal(segment: Segment, *_: int) -> None:
    """Mend all wires."""
    segment.blocked.clear()
    segment.loss.clear()
    segment.delay.clear()
    segment.rewire()


def vips(segment: Segment, one: int, other: int) -> None:
    """Let a node have heard of some of the VIPs only: lists differ, or have nothing in common."""
    node = segment.nodes[one]
    every = segment.vips
    configure(segment, one, tuple(each for number, each in enumerate(every) if (other + 1) >> number & 1))
    assert set(node.config.addresses) <= set(every)


def configure(segment: Segment, one: int, addresses: tuple[str, ...]) -> None:
    """Give a node a list of VIPs."""
    node = segment.nodes[one]
    node.config = node.config._replace(addresses=addresses)
    if node.machine is not None and not node.frozen:
        segment.carry_out(node, node.machine.configure(segment.now, node.config, node.source))


def priority(segment: Segment, one: int, other: int) -> None:
    """Give a node another priority."""
    node = segment.nodes[one]
    node.config = node.config._replace(priority=1 + (node.config.priority * 7 + other) % 254)
    if node.machine is not None and not node.frozen:
        segment.carry_out(node, node.machine.configure(segment.now, node.config, node.source))


def hand_over(segment: Segment, one: int, _: int) -> None:
    """Ask a node to let another take over."""
    node = segment.nodes[one]
    if node.machine is not None and not node.frozen:
        segment.carry_out(node, node.machine.hand_over(segment.now))


FAULTS: dict[str, Callable[[Segment, int, int], None]] = {
    "partition": partition,
    "one_way": one_way,
    "lossy": lossy,
    "slow": slow,
    "heal": heal,
    "priority": priority,
    "vips": vips,
    "hand_over": hand_over,
    "crash": lambda segment, one, _: segment.crash(one),
    "start": lambda segment, one, _: segment.start(one),
    "stop": lambda segment, one, _: segment.stop(one),
    "freeze": lambda segment, one, _: segment.freeze(one),
    "thaw": lambda segment, one, _: segment.thaw(one),
    "link_down": lambda segment, one, _: segment.set_link(one, up=False),
    "link_up": lambda segment, one, _: segment.set_link(one, up=True),
}


def befall(segment: Segment, fault: str, one: int, other: int) -> None:
    """Let a fault happen, or end."""
    count = len(segment.nodes)
    FAULTS[fault](segment, one % count, other % count)
