"""The UDP check: a datagram is answered, as expected where that is set."""

import socket

from lvs_dr.agent.health.attempt import Attempt, shown
from lvs_dr.agent.health.connection import Plain, connect, open_socket
from lvs_dr.agent.health.tcp import MOST_BYTES
from lvs_dr.core.checks import UdpCheck


async def check(attempt: Attempt, probe: UdpCheck) -> str:
    """Return "" on success, else what went wrong. Raises OSError, CannotCheckError.

    Silence is a failure: a dead machine is silent too.
    """
    expected = bytes.fromhex(probe.expect)
    with open_socket(attempt, socket.SOCK_DGRAM) as connection:
        await connect(connection, attempt)
        peer = Plain(connection)
        await peer.send(bytes.fromhex(probe.send))
        heard = await peer.receive(MOST_BYTES)
    if expected and expected not in heard:
        return f"answered {shown(heard)}, without the expected {shown(expected)}"
    return ""
