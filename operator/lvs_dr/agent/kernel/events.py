"""What the kernel tells about links and addresses: hints to look again, never the truth.

A hint says only what kind of thing changed. When events were lost (the buffer overflowed, the socket failed)
the socket is replaced and RESYNC is told. IPVS and ARP settings send no events at all.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Final

from lvs_dr.netlink.rtnetlink import drop_renewals

log = logging.getLogger(__name__)

_GROUPS: Final = 0x1 | 0x10 | 0x100  # RTMGRP_LINK, RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR
_HEADER: Final = struct.Struct("=IHHII")
_RECEIVE_BYTES: Final = 64 * 1024
_BURST: Final = 64  # datagrams read before other tasks get their turn
_REOPEN_SECONDS: Final = 1.0


class Hint(StrEnum):
    """What may have changed."""

    LINK = "link"
    ADDRESS_ADDED = "address added"
    ADDRESS_REMOVED = "address removed"
    RESYNC = "resync"  # events were lost: anything


_HINTS: Final = {16: Hint.LINK, 17: Hint.LINK, 20: Hint.ADDRESS_ADDED, 21: Hint.ADDRESS_REMOVED}  # RTM_*


class Events:
    """Calls `told` from the running event loop, with each kind at most once per wake-up."""

    def __init__(
        self,
        told: Callable[[Hint], None],
        open_socket: Callable[[], socket.socket] | None = None,
    ) -> None:
        self._told = told
        self._open_socket = open_socket or _open_socket
        self._loop = asyncio.get_running_loop()
        self._socket: socket.socket | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._closed = False
        self._open()

    def close(self) -> None:
        """Stop listening."""
        self._closed = True
        if self._retry is not None:
            self._retry.cancel()
        self._drop()

    def _open(self) -> None:
        self._retry = None
        if self._closed:
            return
        try:
            self._socket = self._open_socket()
        except OSError as error:
            log.warning("cannot listen for link and address events: %s; trying again", error)
            self._retry = self._loop.call_later(_REOPEN_SECONDS, self._open)
            return
        self._loop.add_reader(self._socket.fileno(), self._readable)
        self._told(Hint.RESYNC)

    def _drop(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None

    def _readable(self) -> None:
        hints: dict[Hint, None] = {}
        try:
            for _ in range(_BURST):
                if self._socket is None:
                    break
                hints.update(dict.fromkeys(parse_hints(self._socket.recv(_RECEIVE_BYTES))))
        except BlockingIOError:
            pass
        except OSError as error:
            log.warning("link and address events were lost: %s; reading everything afresh", error)
            self._drop()
            self._open()
        for hint in hints:
            self._told(hint)


def parse_hints(data: bytes) -> Iterator[Hint]:
    """Read the hints in one datagram; what is malformed is a reason to look at everything."""
    offset = 0
    while offset < len(data):
        if len(data) - offset < _HEADER.size:
            yield Hint.RESYNC
            return
        length, kind = _HEADER.unpack_from(data, offset)[:2]
        if length < _HEADER.size or length > len(data) - offset:
            yield Hint.RESYNC
            return
        if kind in _HINTS:
            yield _HINTS[kind]
        offset += (length + 3) & ~3


def _open_socket() -> socket.socket:
    opened = socket.socket(
        socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK, socket.NETLINK_ROUTE
    )
    try:
        drop_renewals(opened)  # of the VIPs that the speaker holds: several batches a second
        opened.bind((0, _GROUPS))
    except OSError:
        opened.close()
        raise
    return opened
