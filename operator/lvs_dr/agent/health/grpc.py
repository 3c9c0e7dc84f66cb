"""The gRPC check: the standard health protocol, grpc.health.v1.Health/Check, answers SERVING.

https://github.com/grpc/grpc/blob/master/doc/health-checking.md
"""

from typing import Final

from lvs_dr.agent.health.attempt import Attempt
from lvs_dr.agent.health.connection import connected
from lvs_dr.agent.health.http2 import Answer, Http2Error, call
from lvs_dr.core.checks import GrpcCheck

PATH: Final = "/grpc.health.v1.Health/Check"
SERVING: Final = 1
_STATES: Final = ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")
_PREFIX: Final = 5  # bytes before a message: compressed or not, length
_MOST: Final = 16384
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5  # wire types of protocol buffers


async def check(attempt: Attempt, probe: GrpcCheck) -> str:
    """Return "" on success, else what went wrong. Raises OSError, CannotCheckError, CheckFailedError."""
    host = f"[{attempt.address}]" if ":" in attempt.address else attempt.address
    name = probe.tls.server_name if probe.tls is not None else ""
    asked = call(
        authority=f"{name or host}:{attempt.port}",
        path=PATH,
        https=probe.tls is not None,
        message=request(probe.service),
    )
    async with connected(attempt, probe.tls, alpn="h2" if probe.tls is not None else "") as peer:
        await peer.send(asked)
        answer = Answer()
        try:
            while True:
                heard = await peer.receive(_MOST)
                if not heard:
                    return "it closes the connection without an answer"
                told = answer.feed(heard)
                if told.reply:
                    await peer.send(told.reply)
                if told.ended:
                    return _judged(answer.data)
        except Http2Error as error:
            return str(error)


def _judged(data: bytes) -> str:
    if not data:
        return "answered without a health status: it does not know the service, or not the health protocol"
    try:
        state = status(data)
    except (ValueError, IndexError):
        return "the answer is no message of the health protocol"
    if state == SERVING:
        return ""
    return f"answered {_STATES[state] if state < len(_STATES) else state}"


def request(service: str) -> bytes:
    """Return a HealthCheckRequest: field 1 is the service."""
    data = service.encode()
    return b"\x0a" + _varint(len(data)) + data if data else b""


def status(data: bytes) -> int:
    """Return the status in a HealthCheckResponse with its prefix: field 1. Raises ValueError, IndexError."""
    if data[0] or int.from_bytes(data[1:_PREFIX], "big") != len(data) - _PREFIX:
        raise ValueError("it is compressed, or has another length")
    at, found = _PREFIX, 0
    while at < len(data):
        tag, at = _number(data, at)
        kind = tag & 7
        if kind == _VARINT:
            value, at = _number(data, at)
            found = value if tag >> 3 == 1 else found
        elif kind == _BYTES:
            size, at = _number(data, at)
            at += size
        elif kind in (_FIXED32, _FIXED64):
            at += 4 if kind == _FIXED32 else 8
        else:
            raise ValueError("a field has a type that nobody uses")
    if at != len(data):
        raise ValueError("a field is longer than the message")
    return found


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:  # noqa: PLR2004 - seven bits in each byte
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return a varint and where what follows it begins."""
    value = 0
    for place in range(10):
        byte = data[at + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:  # noqa: PLR2004 - the last one
            return value, at + place + 1
    raise ValueError("a number is too long")
