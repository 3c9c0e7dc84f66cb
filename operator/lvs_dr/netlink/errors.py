"""Everything that can go wrong between this program and the kernel.

Only reasons that a caller treats differently have a class::

    NetlinkFailure
    ├── NetlinkError          the kernel answered with an errno, about one message
    ├── FamilyMissing         the kernel has no such generic netlink family (no ip_vs module)
    ├── NetlinkTimeout        no answer in time; what was sent may or may not have been applied
    ├── NetlinkOverflow       answers were lost (ENOBUFS); the state is unknown: read it again
    ├── DumpInterrupted       the table changed during every attempt to read it; try later
    ├── SocketUnusable        the socket itself failed or is closed: open a new one
    ├── InterfaceUnavailable  the interface of a packet socket is down, gone, or never existed
    ├── MalformedMessage      the bytes received are not what the protocol allows (also ValueError)
    └── UnencodableValue      a value does not fit its place on the wire (also ValueError)

`NetlinkError`, `FamilyMissing`, `NetlinkTimeout`, `NetlinkOverflow` and `DumpInterrupted` leave the socket
usable: late answers to an earlier request are recognised by their sequence number and dropped.
"""

import errno
import os


class NetlinkFailure(Exception):
    """Any failure of this package; catch it to treat them all alike."""


class NetlinkError(NetlinkFailure):
    """The kernel refused one message.

    `code` is the positive errno, `explanation` the kernel's own text (extended ack, may be empty) and
    `offset` where in the message the kernel saw the fault (None when it did not say).
    """

    def __init__(self, code: int, explanation: str = "", offset: int | None = None) -> None:
        self.code = code
        self.explanation = explanation
        self.offset = offset
        super().__init__(code, explanation, offset)

    def __str__(self) -> str:
        name = errno.errorcode.get(self.code, str(self.code))
        text = f"{name}: {os.strerror(self.code)}"
        return f"{text} ({self.explanation})" if self.explanation else text


class FamilyMissing(NetlinkFailure):
    """The kernel has no generic netlink family of this name and could not load one."""

    def __init__(self, family: str) -> None:
        self.family = family
        super().__init__(f"the kernel has no netlink family {family!r}; is the module available?")


class NetlinkTimeout(NetlinkFailure):
    """The kernel did not answer in time. The request may have been applied: read before repeating it."""


class NetlinkOverflow(NetlinkFailure):
    """The kernel dropped answers because the receive buffer was full. Read the state again."""


class DumpInterrupted(NetlinkFailure):
    """The table changed under every attempt to read it in one piece."""


class SocketUnusable(NetlinkFailure):
    """The socket cannot be opened or used (any more)."""


class InterfaceUnavailable(NetlinkFailure):
    """The network interface is down, was removed, or does not exist."""

    def __init__(self, interface: str, code: int) -> None:
        self.interface = interface
        self.code = code
        super().__init__(f"interface {interface}: {os.strerror(code)}")


class MalformedMessage(NetlinkFailure, ValueError):
    """Bytes from outside that break the rules of their protocol."""


class UnencodableValue(NetlinkFailure, ValueError):
    """A value of ours that the wire format cannot carry (wrong address, number out of range)."""
