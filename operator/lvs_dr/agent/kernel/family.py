"""A generic netlink family that the kernel may not have: its socket, opened on first use."""

import errno
import time
from collections.abc import Callable
from typing import Final, TypeVar

from lvs_dr.agent.kernel.errors import KernelError
from lvs_dr.netlink.errors import FamilyMissing, NetlinkFailure, SocketUnusable
from lvs_dr.netlink.socket import GenericNetlinkSocket

T = TypeVar("T")

RETRY_SECONDS: Final = 30.0
"""How long a missing family is not asked for again: asking starts modprobe."""


class Family:
    """Opens the socket of one family when it is needed, and anew after it broke. One thread at a time.

    `missing` is called each time the kernel is found not to have the family.
    """

    def __init__(
        self,
        open_socket: Callable[[], GenericNetlinkSocket],
        clock: Callable[[], float] = time.monotonic,
        missing: Callable[[FamilyMissing], None] = lambda _: None,
    ) -> None:
        self._open_socket = open_socket
        self._clock = clock
        self._missing = missing
        self._socket: GenericNetlinkSocket | None = None
        self._missing_until = float("-inf")

    def socket(self) -> GenericNetlinkSocket | None:
        """Return the socket; None where the kernel does not have the family. Raises NetlinkFailure."""
        if self._socket is None and self._clock() >= self._missing_until:
            try:
                self._socket = self._open_socket()
            except FamilyMissing as error:
                self._missing_until = self._clock() + RETRY_SECONDS
                self._missing(error)
        return self._socket

    def ask(self, request: Callable[[GenericNetlinkSocket], T], what: str) -> T | None:
        """Return what the request gives; None where the kernel does not have the family. Raises KernelError.

        `what` says in the error what cannot be read.
        """
        try:
            socket = self.socket()
            return request(socket) if socket is not None else None
        except NetlinkFailure as error:
            self.failed(error)
            raise KernelError(errno.EIO, f"{what} cannot be read: {error}") from error

    def failed(self, error: NetlinkFailure) -> None:
        """Take notice of an error; a socket that it leaves unusable is closed."""
        if isinstance(error, SocketUnusable):
            self.close()

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None
