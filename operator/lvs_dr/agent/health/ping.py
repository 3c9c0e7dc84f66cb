"""The ping check: ICMP and ICMPv6 echo (RFC 792, RFC 4443). All checks of a family share one raw socket."""

import asyncio
import random
import socket
import struct
from dataclasses import dataclass
from typing import Final

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError, explained
from lvs_dr.core.checks import PingCheck

ECHO: Final = struct.Struct("!BBHHH")  # type, code, checksum, identifier, sequence number
_REQUEST: Final = {socket.AF_INET: 8, socket.AF_INET6: 128}
_REPLY: Final = {socket.AF_INET: 0, socket.AF_INET6: 129}
_PROTOCOL: Final = {socket.AF_INET: socket.IPPROTO_ICMP, socket.AF_INET6: socket.IPPROTO_ICMPV6}
_SOL_RAW: Final = 255  # include/linux/socket.h, include/uapi/linux/icmp.h
_ICMP_FILTER: Final = 1
_ICMP6_FILTER: Final = 1  # include/uapi/linux/icmpv6.h
_TOKEN: Final = 8  # random bytes that tell our answers from others
_MOST: Final = 512
_AT_ONCE: Final = 64

Waiting = dict[tuple[int, bytes], tuple[str, "asyncio.Future[None]"]]


class Pinger:
    """Sends echo requests and hands the answers to those who wait."""

    def __init__(self) -> None:
        self._lines: dict[tuple[int, str], _Line] = {}

    async def check(self, attempt: Attempt, probe: PingCheck) -> str:  # noqa: ARG002 - it has no settings
        """Return "" when the answer comes, "" being success. Raises OSError, CannotCheckError."""
        family = socket.AF_INET6 if ":" in attempt.address else socket.AF_INET
        line = self._lines.get((family, attempt.source))
        if line is None:
            line = self._lines[(family, attempt.source)] = _Line(_opened(family, attempt.source), family, {})
            asyncio.get_running_loop().add_reader(line.connection, line.read)
        await line.ask(attempt.address)
        return ""

    def close(self) -> None:
        """Close the sockets."""
        for line in self._lines.values():
            asyncio.get_running_loop().remove_reader(line.connection)
            line.connection.close()
        self._lines.clear()


@dataclass(slots=True)
class _Line:
    connection: socket.socket
    family: int
    waiting: Waiting
    sequence: int = 0

    async def ask(self, address: str) -> None:
        """Send a request and wait for its answer. Raises OSError."""
        self.sequence = (self.sequence + 1) & 0xFFFF
        token = random.randbytes(_TOKEN)
        answered = asyncio.get_running_loop().create_future()
        key = (self.sequence, token)
        self.waiting[key] = (address, answered)
        try:
            self.connection.sendto(request(self.family, self.sequence, token), (address, 0))
            await answered
        finally:
            del self.waiting[key]

    def read(self) -> None:
        """Take answers; what is not one of ours is left alone."""
        for _ in range(_AT_ONCE):
            try:
                heard, source = self.connection.recvfrom(_MOST)
            except OSError:  # nothing more, or an error that its sender's timeout tells
                return
            key = reply(self.family, heard)
            address, answered = self.waiting.get(key, ("", None)) if key is not None else ("", None)
            if answered is not None and source[0] == address and not answered.done():
                answered.set_result(None)


def request(family: int, sequence: int, token: bytes) -> bytes:
    """Return an echo request; the kernel fills in the checksum of ICMPv6."""
    bare = ECHO.pack(_REQUEST[socket.AddressFamily(family)], 0, 0, 0, sequence) + token
    if family == socket.AF_INET6:
        return bare
    return bare[:2] + checksum(bare).to_bytes(2, "big") + bare[4:]


def reply(family: int, heard: bytes) -> tuple[int, bytes] | None:
    """Return sequence number and token of an echo reply; None for anything else."""
    start = (heard[0] & 0x0F) * 4 if family == socket.AF_INET and heard else 0  # a raw IPv4 socket shows its header
    if len(heard) != start + ECHO.size + _TOKEN:
        return None
    kind, code, _, _, sequence = ECHO.unpack_from(heard, start)
    if kind != _REPLY[socket.AddressFamily(family)] or code:
        return None
    return sequence, heard[start + ECHO.size :]


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071) of an even number of bytes."""
    total: int = sum(word for (word,) in struct.iter_unpack("!H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _opened(family: socket.AddressFamily, source: str) -> socket.socket:
    try:
        made = socket.socket(family, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, _PROTOCOL[family])
        try:
            if family == socket.AF_INET:  # a set bit is a type that is not shown
                made.setsockopt(_SOL_RAW, _ICMP_FILTER, struct.pack("=I", 0xFFFFFFFF & ~(1 << _REPLY[family])))
            else:
                words = [0xFFFFFFFF] * 8
                words[_REPLY[family] >> 5] &= ~(1 << (_REPLY[family] & 31))
                made.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("=8I", *words))
            if source:
                made.bind((source, 0))
        except OSError:
            made.close()
            raise
    except OSError as error:
        raise CannotCheckError(explained(error)) from error
    return made
