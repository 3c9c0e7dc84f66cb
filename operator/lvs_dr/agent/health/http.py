"""The HTTP check: an expected status and, where that is set, a text in the body."""

from typing import Final

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError, shown
from lvs_dr.agent.health.connection import Peer, connected
from lvs_dr.agent.health.http_message import MOST_HEAD, Body, Head, HttpFormatError, expected, head, request
from lvs_dr.core.checks import HttpCheck

MOST_BODY: Final = 65536  # bytes that are looked at
_FIRST_FINAL: Final = 200  # a lower status announces another answer (RFC 9110, 15.2)
_MOST_ANNOUNCED: Final = 8


async def check(attempt: Attempt, probe: HttpCheck) -> str:
    """Return "" on success, else what went wrong. Raises OSError, CannotCheckError, CheckFailedError."""
    try:
        asked = request(probe, attempt.address, attempt.port)
    except ValueError as error:
        raise CannotCheckError(str(error)) from error
    async with connected(attempt, probe.tls, host=probe.host.partition(":")[0]) as peer:
        await peer.send(asked)
        heard = b""
        try:
            for _ in range(_MOST_ANNOUNCED):
                found, heard = await _head(peer, heard)
                if found is None:
                    return _no_head(heard)
                if found.status >= _FIRST_FINAL:
                    attempt.reached = f"answered {found.status}, but the body does not end"
                    return await _judged(peer, probe, found, heard)
        except HttpFormatError as error:
            return str(error)
    return "it announces an answer again and again, and none comes"


async def _head(peer: Peer, heard: bytes) -> tuple[Head | None, bytes]:
    """Return the next head (None: the end came first) and what was heard after it, or instead."""
    seen = 0
    while True:
        try:
            found = head(heard, seen)
        except HttpFormatError as error:
            raise HttpFormatError(f"{error}: {shown(heard)}") from error
        if found is not None:
            return found, heard[found.size :]
        more = await peer.receive(MOST_HEAD)
        if not more:
            return None, heard
        seen = len(heard)
        heard += more


def _no_head(heard: bytes) -> str:
    if not heard:
        return "it closes the connection without an answer"
    return f"it closes the connection in the middle of the answer: {shown(heard)}"


async def _judged(peer: Peer, probe: HttpCheck, about: Head, heard: bytes) -> str:
    if about.status not in expected(probe.expected_statuses):
        return f"answered {about.status}, expected {', '.join(probe.expected_statuses)}"
    if not probe.body_contains:
        return ""
    wanted = probe.body_contains.encode()
    body, read = Body(about), bytearray()
    while True:
        start = max(0, len(read) - len(wanted) + 1)
        read += body.feed(heard)[: MOST_BODY - len(read)]
        if read.find(wanted, start) >= 0:
            return ""
        if body.complete or len(read) >= MOST_BODY:
            break
        heard = await peer.receive(MOST_HEAD)
        if not heard:
            break
    return f"answered {about.status}, but the body does not contain {shown(wanted, 80)}"
