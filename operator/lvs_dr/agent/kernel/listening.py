"""What this node's own services listen on, from /proc/net: listening sockets come first there, so little is read."""

import socket
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from lvs_dr.core.suspicions import Listener

TCP: Final = 6
UDP: Final = 17
ROOT: Final = Path("/proc/net")
_LISTEN: Final = "0A"  # net/tcp_states.h
_FIELDS: Final = 4
_FILES: Final = (("tcp", TCP), ("tcp6", TCP), ("udp", UDP), ("udp6", UDP))


def listeners(root: Path = ROOT) -> frozenset[Listener]:
    """Return the TCP and UDP ports that something listens on; address "" is any. Raises OSError."""
    found: set[Listener] = set()
    for name, protocol in _FILES:
        try:
            with (root / name).open("r", encoding="ascii") as file:
                found.update(parsed(file, protocol))
        except FileNotFoundError:  # IPv6 is switched off
            continue
    return frozenset(found)


def parsed(lines: Iterable[str], protocol: int) -> Iterator[Listener]:
    """Read one of the files. Of TCP no more than the listening sockets (net/ipv4/tcp_ipv4.c, tcp_get_idx)."""
    for number, line in enumerate(lines):
        fields = line.split()
        if number == 0 or len(fields) < _FIELDS:
            continue
        if protocol == TCP and fields[3] != _LISTEN:
            return
        address, _, port = fields[1].partition(":")
        yield Listener(protocol, _text(address), int(port, 16))


def _text(digits: str) -> str:
    """Return an address: words of 32 bits, each in the order of this machine."""
    raw = b"".join(
        int(digits[at : at + 8], 16).to_bytes(4, "little" if _little() else "big") for at in range(0, len(digits), 8)
    )
    if not any(raw):
        return ""
    return socket.inet_ntop(socket.AF_INET if len(raw) == 4 else socket.AF_INET6, raw)  # noqa: PLR2004


def _little() -> bool:
    return socket.htons(1) != 1
