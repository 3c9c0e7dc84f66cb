"""The TCP check: a connection is accepted in time and, where that is set, answered as expected."""

import socket
from typing import Final

from lvs_dr.agent.health.attempt import Attempt, shown
from lvs_dr.agent.health.connection import Peer, Plain, connect, open_socket
from lvs_dr.core.checks import TcpCheck

MOST_BYTES: Final = 4096
"""Of an answer that are looked at."""


async def check(attempt: Attempt, probe: TcpCheck) -> str:
    """Return "" on success, else what went wrong, for people. Raises OSError, CannotCheckError."""
    with open_socket(attempt, socket.SOCK_STREAM) as connection:
        await connect(connection, attempt)
        if not probe.send and not probe.expect:
            return ""
        peer = Plain(connection)
        if probe.send:
            await peer.send(bytes.fromhex(probe.send))
        if not probe.expect:
            return ""
        attempt.reached = "it accepts the connection, but the expected answer does not come"
        return await _listen(peer, bytes.fromhex(probe.expect))


async def _listen(peer: Peer, expected: bytes) -> str:
    heard = bytearray()
    while len(heard) < MOST_BYTES:
        more = await peer.receive(MOST_BYTES - len(heard))
        start = max(0, len(heard) - len(expected) + 1)
        heard += more
        if heard.find(expected, start) >= 0:
            return ""
        if not more:
            break
    if not heard:
        return "it closes the connection without an answer"
    return f"answered {shown(bytes(heard))}, without the expected {shown(expected)}"
