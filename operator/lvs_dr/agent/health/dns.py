"""The DNS check: a name server answers a question, with an expected record where that is set."""

import ipaddress
import random
import socket
from typing import Final

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError
from lvs_dr.agent.health.connection import Peer, Plain, connect, connected, open_socket
from lvs_dr.agent.health.dns_message import Answer, DnsFormatError, answer, query
from lvs_dr.core.checks import DnsCheck, DnsProtocol, DnsType

_MOST: Final = 65535  # bytes of a message
_SHOWN: Final = 3


async def check(attempt: Attempt, probe: DnsCheck) -> str:
    """Return "" on success, else what went wrong. Raises OSError, CannotCheckError, CheckFailedError."""
    number = random.getrandbits(16)
    try:
        asked = query(number, probe.name, probe.type)
    except ValueError as error:
        raise CannotCheckError(str(error)) from error
    if probe.protocol is DnsProtocol.TCP:
        async with connected(attempt) as peer:
            return await _by_tcp(peer, probe, asked, number)
    with open_socket(attempt, socket.SOCK_DGRAM) as connection:
        await connect(connection, attempt)
        peer = Plain(connection)
        await peer.send(asked)
        while True:  # to the timeout: what does not answer this question may be late, or forged
            heard = await peer.receive(_MOST)
            try:
                found = answer(heard, number, probe.type)
            except DnsFormatError as error:
                attempt.reached = f"{error}; no answer"
                continue
            return _judged(found, probe)


async def _by_tcp(peer: Peer, probe: DnsCheck, asked: bytes, number: int) -> str:
    await peer.send(len(asked).to_bytes(2, "big") + asked)
    heard = b""
    while len(heard) < 2 or len(heard) < 2 + int.from_bytes(heard[:2], "big"):  # noqa: PLR2004 - the length
        more = await peer.receive(_MOST)
        if not more:
            return "it closes the connection without a whole answer"
        heard += more
    try:
        return _judged(answer(heard[2 : 2 + int.from_bytes(heard[:2], "big")], number, probe.type), probe)
    except DnsFormatError as error:
        return str(error)


def _judged(found: Answer, probe: DnsCheck) -> str:
    if found.code:
        return f"answered {found.code_text}"
    wanted = _comparable(probe.expect, probe.type)
    if probe.expect and wanted in {_comparable(each, probe.type) for each in found.records}:
        return ""
    if found.records and not probe.expect:
        return ""
    if found.truncated:
        return "the answer is cut off: use protocol TCP"
    if not found.records:
        return f"answered without a record of type {probe.type}"
    listed = ", ".join(each[:64] for each in found.records[:_SHOWN])
    return f"answered {listed}{' and more' if len(found.records) > _SHOWN else ''}, expected {probe.expect}"


def _comparable(text: str, kind: DnsType) -> str:
    if kind is DnsType.TXT:
        return text
    if kind in (DnsType.A, DnsType.AAAA):
        try:
            return str(ipaddress.ip_address(text))
        except ValueError:
            return text
    return text.lower().removesuffix(".")
