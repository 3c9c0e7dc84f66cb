"""A socket for whole frames on one interface (AF_PACKET); needs CAP_NET_RAW and nothing else.

Non-blocking: give `fileno()` to an event loop's `add_reader` and call `receive` until it returns None. A filter in
the kernel lets only ARP, or only neighbour solicitations and advertisements, through: a director's interface
carries all its clients' packets, and none of them must wake this program.
"""

import ctypes
import errno
import socket
import struct
from types import TracebackType
from typing import Final, Self

from lvs_dr.netlink.errors import InterfaceUnavailable, SocketUnusable
from lvs_dr.netlink.ethernet import ETH_P_ARP, ETH_P_IPV6, MAC_SIZE
from lvs_dr.netlink.ndp import ADVERTISEMENT, SOLICITATION

LONGEST_FRAME: Final = 2048
"""Bytes read of one frame; ARP and neighbour discovery need a tenth of it."""

_SO_ATTACH_FILTER: Final = 26
_SOL_PACKET: Final = 263
_PACKET_ADD_MEMBERSHIP: Final = 1
_PACKET_IGNORE_OUTGOING: Final = 23
_MR_MULTICAST: Final = 0
_MEMBERSHIP: Final = struct.Struct("=iHH8s")
_INSTRUCTION: Final = struct.Struct("=HBBI")
_LOAD_BYTE, _LOAD_HALF, _JUMP_EQUAL, _RETURN = 0x30, 0x28, 0x15, 0x06

_LINK_DOWN: Final = frozenset((errno.ENETDOWN, errno.ENXIO, errno.ENODEV, errno.ENETUNREACH))

# Classic BPF (linux/filter.h): operation, jump if true, jump if false, operand.
_ARP_ONLY: Final = (
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 1, ETH_P_ARP),
    (_RETURN, 0, 0, LONGEST_FRAME),
    (_RETURN, 0, 0, 0),
)
_NEIGHBOUR_DISCOVERY_ONLY: Final = (
    (_LOAD_HALF, 0, 0, 12),
    (_JUMP_EQUAL, 0, 6, ETH_P_IPV6),
    (_LOAD_BYTE, 0, 0, 20),  # next header
    (_JUMP_EQUAL, 0, 4, socket.IPPROTO_ICMPV6),
    (_LOAD_BYTE, 0, 0, 54),  # ICMPv6 type
    (_JUMP_EQUAL, 1, 0, SOLICITATION),
    (_JUMP_EQUAL, 0, 1, ADVERTISEMENT),
    (_RETURN, 0, 0, LONGEST_FRAME),
    (_RETURN, 0, 0, 0),
)


class PacketSocket:
    """Frames of one protocol (ETH_P_ARP or ETH_P_IPV6) on one interface; own frames are not heard back.

    Raises InterfaceUnavailable when there is no such interface, SocketUnusable without the capability. After
    InterfaceUnavailable from `send` or `receive` open a new one: a re-created interface has another index.
    """

    def __init__(self, interface: str, protocol: int) -> None:
        self.interface = interface
        program = _ARP_ONLY if protocol == ETH_P_ARP else _NEIGHBOUR_DISCOVERY_ONLY
        # Protocol 0 hears nothing until bind: no frame of another interface gets in between.
        try:
            self._socket = socket.socket(
                socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0
            )
        except OSError as error:
            raise SocketUnusable(f"cannot open a packet socket: {error}") from error
        try:
            self._attach(program)
            self._socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self._socket.bind((interface, protocol))
            self.mac: bytes = self._socket.getsockname()[4]
        except OSError as error:
            self._socket.close()
            raise self._failure(error) from error
        if len(self.mac) != MAC_SIZE:
            self._socket.close()
            raise InterfaceUnavailable(interface, errno.EAFNOSUPPORT)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; remove it from the event loop first."""
        self._socket.close()

    def fileno(self) -> int:
        """Return the descriptor, for an event loop; -1 once closed."""
        return self._socket.fileno()

    def join(self, group: bytes) -> None:
        """Hear frames to a multicast MAC (`ndp.multicast_mac`) that no address of this host asks for."""
        index = socket.if_nametoindex(self.interface)
        request = _MEMBERSHIP.pack(index, _MR_MULTICAST, len(group), group)
        try:
            self._socket.setsockopt(_SOL_PACKET, _PACKET_ADD_MEMBERSHIP, request)
        except OSError as error:
            raise self._failure(error) from error

    def send(self, frame: bytes) -> bool:
        """Send a frame; False when the device's queue is full just now (try again later)."""
        try:
            self._socket.send(frame)
        except OSError as error:
            if error.errno in (errno.EAGAIN, errno.ENOBUFS):
                return False
            raise self._failure(error) from error
        return True

    def receive(self) -> bytes | None:
        """Return one received frame, or None when there is none now."""
        try:
            return self._socket.recv(LONGEST_FRAME)
        except BlockingIOError:
            return None
        except OSError as error:
            raise self._failure(error) from error

    def _attach(self, program: tuple[tuple[int, int, int, int], ...]) -> None:
        code = ctypes.create_string_buffer(b"".join(_INSTRUCTION.pack(*each) for each in program))
        # struct sock_fprog: the number of instructions and a pointer to them
        described = struct.pack("@HP", len(program), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, described)

    def _failure(self, error: OSError) -> InterfaceUnavailable | SocketUnusable:
        code = error.errno or 0
        if code in _LINK_DOWN:
            return InterfaceUnavailable(self.interface, code)
        return SocketUnusable(f"packet socket on {self.interface}: {error}")
