"""The door to the kernel where no real kernel is needed: missing IPVS, sysctl files, events."""

import asyncio
import socket
import struct
from pathlib import Path

import pytest

from lvs_dr.agent.kernel import errors
from lvs_dr.agent.kernel.events import Events, Hint, parse_hints
from lvs_dr.agent.kernel.ipvs import Ipvs
from lvs_dr.agent.kernel.sysctl import Sysctls
from lvs_dr.core.kernel import (
    DestinationConfig,
    DestinationKey,
    DestinationOp,
    ServiceConfig,
    ServiceKey,
    ServiceOp,
    SysctlKey,
    SysctlOp,
    Verb,
)
from lvs_dr.core.reasons import Reason
from lvs_dr.netlink.errors import FamilyMissing, NetlinkTimeout
from lvs_dr.netlink.socket import GenericNetlinkSocket

SERVICE = ServiceKey("192.0.2.100", 443, 6)
ADD = ServiceOp(Verb.ADD, SERVICE, ServiceConfig("rr"))


def test_a_kernel_without_ipvs_reads_as_empty_and_names_what_is_missing() -> None:
    """A backend without ip_vs would fail, or a director would not say why it serves nothing."""
    asked: list[float] = []
    now = 0.0

    def missing() -> GenericNetlinkSocket:
        asked.append(now)
        raise FamilyMissing("IPVS")

    ipvs = Ipvs(missing, clock=lambda: now)
    assert ipvs.read().services == {}
    failures = ipvs.apply([ADD, ServiceOp(Verb.DELETE, SERVICE)])
    assert [(failure.op, failure.reason) for failure in failures] == [(ADD, Reason.IPVS_UNAVAILABLE)]
    assert asked == [0.0], "modprobe would run in every pass"
    now = 60.0
    ipvs.read()
    assert asked == [0.0, 60.0]


def test_a_kernel_that_does_not_answer_fails_the_batch_not_the_agent() -> None:
    """An unknown part was applied: all must be told as failed, and read again."""

    class Silent:
        def transact(self, _messages: list[bytes]) -> dict[int, Exception]:
            raise NetlinkTimeout("no answer")

        def close(self) -> None: ...

    ipvs = Ipvs(Silent)  # type: ignore[arg-type]
    failures = ipvs.apply(
        [ADD, DestinationOp(Verb.ADD, DestinationKey(SERVICE, "192.0.2.21", 443), DestinationConfig(1))]
    )
    assert [failure.reason for failure in failures] == [Reason.KERNEL_REFUSED] * 2


def test_a_value_that_does_not_fit_fails_alone() -> None:
    """One impossible entry would stop the whole batch."""
    sent: list[bytes] = []

    class Accepting:
        def transact(self, messages: list[bytes]) -> dict[int, Exception]:
            sent.extend(messages)
            return {}

    ipvs = Ipvs(Accepting)  # type: ignore[arg-type]
    bad = ServiceOp(Verb.ADD, SERVICE._replace(address="not an address"), ServiceConfig("rr"))
    assert [failure.op for failure in ipvs.apply([bad, ADD])] == [bad]
    assert len(sent) == 1


@pytest.mark.parametrize(
    ("verb", "code", "reason"),
    [
        (Verb.ADD, 17, None),
        (Verb.ADD, 2, Reason.SCHEDULER_UNAVAILABLE),
        (Verb.SET, 2, Reason.SCHEDULER_UNAVAILABLE),
        (Verb.SET, 3, Reason.KERNEL_REFUSED),
        (Verb.ADD, 22, Reason.KERNEL_REFUSED),
        (Verb.DELETE, 3, None),
        (Verb.DELETE, 1, Reason.KERNEL_REFUSED),
    ],
)
def test_errnos_of_services(verb: Verb, code: int, reason: Reason | None) -> None:
    """A condition would carry the wrong reason, or a success would be reported as a failure."""
    failure = errors.ipvs_failure(ServiceOp(verb, SERVICE, ServiceConfig("twos")), code)
    assert (failure.reason if failure else None) == reason


def test_sysctls_are_files_below_a_root(tmp_path: Path) -> None:
    """In a pod the host's settings are mounted elsewhere."""
    key = SysctlKey(("ipv4", "conf", "all", "arp_ignore"))
    file = tmp_path / "ipv4" / "conf" / "all" / "arp_ignore"
    file.parent.mkdir(parents=True)
    file.write_text("0\n")
    sysctls = Sysctls(tmp_path)
    missing = SysctlKey(("ipv4", "conf", "gone", "arp_ignore"))
    assert sysctls.read([key, missing]) == {key: "0"}
    assert sysctls.apply(SysctlOp(Verb.SET, key, "1")) is None
    assert sysctls.read([key]) == {key: "1"}
    failure = sysctls.apply(SysctlOp(Verb.SET, missing, "1"))
    assert failure is not None
    assert not (tmp_path / "ipv4" / "conf" / "gone").exists()


def message(kind: int, payload: bytes = b"1234") -> bytes:
    """Return a netlink message."""
    return struct.pack("=IHHII", 16 + len(payload), kind, 0, 0, 0) + payload


def test_events_are_hints() -> None:
    """A removed VIP would be noticed only by the next resync."""
    data = message(20) + message(21) + message(16, b"12345\0\0\0") + message(99)
    assert list(parse_hints(data)) == [Hint.ADDRESS_ADDED, Hint.ADDRESS_REMOVED, Hint.LINK]
    for broken in (data[:30], b"abc", struct.pack("=IHHII", 4, 20, 0, 0, 0)):
        assert list(parse_hints(broken))[-1] is Hint.RESYNC


async def test_lost_events_bring_a_new_socket_and_a_resync() -> None:
    """After an overflow the agent would hear nothing more, and not know it."""
    told: asyncio.Queue[Hint] = asyncio.Queue()
    kernel_ends: list[socket.socket] = []
    opened: list[socket.socket] = []

    class Overflowing(socket.socket):
        broken = False

        def recv(self, size: int, flags: int = 0, /) -> bytes:
            if self.broken:
                raise OSError(105, "No buffer space available")
            return super().recv(size, flags)

    def open_pair() -> socket.socket:
        theirs, ours = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        kernel_ends.append(theirs)
        wrapped = Overflowing(fileno=ours.detach())
        wrapped.setblocking(False)
        opened.append(wrapped)
        return wrapped

    events = Events(told.put_nowait, open_pair)
    async with asyncio.timeout(5):
        assert await told.get() is Hint.RESYNC
        kernel_ends[0].send(message(21))
        assert await told.get() is Hint.ADDRESS_REMOVED
        opened[0].broken = True  # type: ignore[attr-defined]
        kernel_ends[0].send(message(21))
        assert await told.get() is Hint.RESYNC
        kernel_ends[1].send(message(16))
        assert await told.get() is Hint.LINK
    events.close()
    assert all(one.fileno() == -1 for one in opened)
    for one in kernel_ends:
        one.close()
