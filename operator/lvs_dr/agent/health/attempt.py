"""One try of a check: whom to ask, how far it came, and what its errors mean."""

import errno
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple

from lvs_dr.agent.health.source_ports import SourcePorts

NO_ANSWER: Final = "no answer"

_TEXTS: Final = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host, or it does not answer ARP",
    errno.ENETUNREACH: "no route to the network",
    errno.ECONNRESET: "connection reset",
    errno.EPIPE: "connection closed",
}
# Our own trouble: it says nothing about who is asked.
_OURS: Final = {
    errno.EMFILE: "the agent has too many files open",
    errno.ENFILE: "the node has too many files open",
    errno.ENOBUFS: "the node is short of network buffers",
    errno.ENOMEM: "the node is short of memory",
    errno.EADDRNOTAVAIL: "the director does not have the source address, or no free port",
    errno.EACCES: "the director may not send there",
    errno.EPERM: "a rule of the director's own firewall, or a missing capability, forbids it",
    errno.EAFNOSUPPORT: "the director's kernel does not have this address family",
}


class CannotCheckError(Exception):
    """The check could not be made, so it says nothing about the real server. The text is for people."""


class Identity(NamedTuple):
    """What a Secret gives a check over TLS: PEM texts, "" where it has none."""

    secret: str = ""
    certificate: str = ""
    key: str = ""
    authorities: str = ""


NO_IDENTITY: Final = Identity()


def _nothing() -> None:
    pass


@dataclass(slots=True)
class Attempt:
    """Whom to ask. `reached` says how far it came, for the text of a timeout."""

    address: str
    port: int
    timeout: float  # seconds for all of it
    source: str = ""  # own address to ask from; empty: any
    identity: Identity = NO_IDENTITY
    reached: str = NO_ANSWER
    mark: int = 0  # firewall mark of its packets; 0: none
    hops: int = 0  # that its packets may take; 0: as many as usual
    ports: SourcePorts | None = None  # which source ports a marked connection may use
    sent: Callable[[], None] = _nothing  # called when the first packet leaves

    @property
    def too_slow(self) -> str:
        """What to say when the time is over."""
        return f"{self.reached} within {self.timeout:g} s"


def explained(error: OSError) -> str:
    """Return what an error of a socket means for people. Raises CannotCheckError when it is our own trouble."""
    code = error.errno or 0
    if code in _OURS:
        raise CannotCheckError(_OURS[code]) from error
    return _TEXTS.get(code) or (os.strerror(code) if code else str(error))


def shown(data: bytes, most: int = 40) -> str:
    """Return bytes from the wire as a short printable text in quotes."""
    text = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in data[:most])  # noqa: PLR2004 - printable ASCII
    return f"'{text}{'…' if len(data) > most else ''}'"
