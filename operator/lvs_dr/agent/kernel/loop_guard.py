"""The loop guard in the kernel: clsact on an interface, and flower filters in it (`core.loop_guard` says why).

Ours are the filters with these priorities and with handles that follow from VIP and MAC. The priorities are the
first there are: a filter of somebody else before them could let a packet pass that must be guarded against, and then
the kernel refuses ours.
"""

import errno
import socket
import zlib
from collections.abc import Collection, Sequence
from typing import Final

from lvs_dr.agent.kernel.errors import KernelError, guard_failure
from lvs_dr.core.kernel import Failure, GuardConfig, GuardKey, GuardOp, GuardPart, Verb
from lvs_dr.netlink import tc
from lvs_dr.netlink.errors import NetlinkFailure, UnencodableValue
from lvs_dr.netlink.rtnetlink import RouteSocket

HOPS: Final = 2
"""IPVS takes one when it forwards, so that what it wants to send on is told by the one that is left."""

_PRIORITIES: Final = {
    (tc.EGRESS, GuardPart.TURN_BACK, False): 1, (tc.EGRESS, GuardPart.TURN_BACK, True): 2,
    (tc.INGRESS, GuardPart.SPENT, False): 1, (tc.INGRESS, GuardPart.PEER, False): 2,
    (tc.INGRESS, GuardPart.SPENT, True): 3, (tc.INGRESS, GuardPart.PEER, True): 4,
}  # fmt: skip
_PARTS: Final = {(parent, priority): part for (parent, part, _), priority in _PRIORITIES.items()}
_GONE: Final = frozenset({errno.ENOENT, errno.EINVAL, errno.ENODEV})  # the filter, its priority or qdisc, the device


class LoopGuard:
    """Qdisc and filters of this network namespace. One thread at a time."""

    def __init__(self) -> None:
        self._opened: RouteSocket | None = None

    def read(self, interfaces: Collection[str]) -> dict[GuardKey, GuardConfig]:
        """Return what is there of the guard on these interfaces, whoever made it. Raises KernelError."""
        numbers = {_number(name): name for name in interfaces} if interfaces else {}
        numbers.pop(0, None)
        if not numbers:
            return {}
        try:
            found: dict[GuardKey, GuardConfig] = {}
            for interface in sorted(self._clsacts() & numbers.keys()):
                found[GuardKey(numbers[interface], GuardPart.QDISC)] = GuardConfig()
                for one in self._filters(interface):
                    key = _key(one, numbers[interface])
                    if key is not None:
                        found[key] = GuardConfig(one == _filter(key, interface))
        except NetlinkFailure as error:
            self.close()
            raise KernelError(errno.EIO, f"the filters of the loop guard cannot be read: {error}") from error
        return found

    def apply(self, op: GuardOp) -> Failure | None:
        """Add, put right or remove one part."""
        number = _number(op.key.interface)
        if not number:
            return None if op.verb is Verb.DELETE else guard_failure(op, errno.ENODEV)
        try:
            code = self._qdisc(op, number) if op.key.part is GuardPart.QDISC else self._change(op, number)
        except UnencodableValue as error:
            return guard_failure(op, errno.EINVAL, str(error))
        except NetlinkFailure as error:
            self.close()
            return guard_failure(op, errno.EIO, str(error))
        return guard_failure(op, code) if code else None

    def close(self) -> None:
        """Close the socket."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    def _change(self, op: GuardOp, number: int) -> int:
        """Change a filter and return 0 or the errno."""
        one = _filter(op.key, number)
        if op.verb is not Verb.ADD:
            code = self._send([tc.delete_filter(one)])
            if op.verb is Verb.DELETE or code not in (0, *_GONE):
                return 0 if code in _GONE else code
        code = self._send([tc.new_filter(one)])
        return 0 if code == errno.EEXIST else code

    def _qdisc(self, op: GuardOp, number: int) -> int:
        """Add clsact; remove it when nobody else has put a filter there meanwhile."""
        if op.verb is Verb.DELETE:
            if self._filters(number):
                return 0
            code = self._send([tc.delete_clsact(number)])
            return 0 if code in _GONE else code
        code = self._send([tc.new_clsact(number)])
        return 0 if code == errno.EEXIST and number in self._clsacts() else code

    def _clsacts(self) -> set[int]:
        parsed = map(tc.parse_qdisc, self._socket().dump(tc.get_qdiscs()))
        return {one.interface for one in parsed if one.kind == tc.CLSACT}

    def _filters(self, interface: int) -> list[tc.Filter]:
        messages = [
            message
            for parent in (tc.INGRESS, tc.EGRESS)
            for message in self._socket().dump(tc.get_filters(interface, parent))
        ]
        return [one for one in map(tc.parse_filter, messages) if one is not None]

    def _send(self, messages: Sequence[bytes]) -> int:
        refused = self._socket().transact(messages)
        return refused[0].code if refused else 0

    def _socket(self) -> RouteSocket:
        if self._opened is None:
            self._opened = RouteSocket()
        return self._opened


def _filter(key: GuardKey, interface: int) -> tc.Filter:
    """Return the filter of a part."""
    parent = tc.EGRESS if key.part is GuardPart.TURN_BACK else tc.INGRESS
    actions = {
        GuardPart.TURN_BACK: tc.turn_back(interface),
        GuardPart.SPENT: tc.let_pass(),
        GuardPart.PEER: tc.set_hops(key.address, HOPS),
    }[key.part]
    hops = None if key.part is GuardPart.PEER else 1
    priority = _PRIORITIES[parent, key.part, ":" in key.address]
    return tc.Filter(interface, parent, priority, _handle(key), tc.Match(key.address, key.mac, hops), actions)


def _key(one: tc.Filter, interface: str) -> GuardKey | None:
    """Return what part a filter is; None for those of others."""
    part = _PARTS.get((one.parent, one.priority))
    if part is None or one.match is None:
        return None
    key = GuardKey(interface, part, one.match.destination, one.match.source_mac)
    return key if one.handle == _handle(key) else None


def _handle(key: GuardKey) -> int:
    return zlib.crc32(f"{key.mac} {key.address}".encode()) or 1


def _number(interface: str) -> int:
    """Return an interface's index, 0 when there is none."""
    try:
        return socket.if_nametoindex(interface)
    except OSError:
        return 0
