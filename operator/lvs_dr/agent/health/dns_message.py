"""DNS messages as a check needs them (RFC 1035, AAAA: 3596, SRV: 2782). Pure; whatever is heard is bounded."""

import ipaddress
from dataclasses import dataclass
from struct import Struct, error
from typing import Final

from lvs_dr.core.checks import DnsType

TYPES: Final = {
    DnsType.A: 1,
    DnsType.NS: 2,
    DnsType.CNAME: 5,
    DnsType.SOA: 6,
    DnsType.PTR: 12,
    DnsType.MX: 15,
    DnsType.TXT: 16,
    DnsType.AAAA: 28,
    DnsType.SRV: 33,
}
RESPONSE_CODES: Final = {
    0: "NOERROR",
    1: "FORMERR",
    2: "SERVFAIL",
    3: "NXDOMAIN",
    4: "NOTIMP",
    5: "REFUSED",
}
MOST_RECORDS: Final = 256

_HEADER: Final = Struct("!HHHHHH")
_QUESTION: Final = Struct("!HH")
_RECORD: Final = Struct("!HHIH")
_CLASS_IN: Final = 1
_RECURSION_DESIRED: Final = 0x0100
_RESPONSE: Final = 0x8000
_TRUNCATED: Final = 0x0200
_POINTER: Final = 0xC0
_MOST_NAME: Final = 255  # bytes, RFC 1035 (2.3.4)
_MOST_LABEL: Final = 63
_NAME_AT: Final = {DnsType.MX: 2, DnsType.SRV: 6}  # where the name begins in the data; 0 in the others


class DnsFormatError(Exception):
    """What was heard is no answer to the question."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a name server says; `records` of the type that was asked for, as text."""

    code: int
    truncated: bool
    records: tuple[str, ...]

    @property
    def code_text(self) -> str:
        """The response code by name."""
        return RESPONSE_CODES.get(self.code, f"response code {self.code}")


def query(number: int, name: str, kind: DnsType) -> bytes:
    """Return a question. Raises ValueError if the name is none."""
    out = bytearray(_HEADER.pack(number, _RECURSION_DESIRED, 1, 0, 0, 0))
    size = 1
    for label in name.removesuffix(".").split(".") if name != "." else ():
        data = label.encode("ascii")
        size += len(data) + 1
        if not data or len(data) > _MOST_LABEL or size > _MOST_NAME:
            raise ValueError(f"{name!r} is no DNS name")
        out.append(len(data))
        out += data
    out.append(0)
    return bytes(out + _QUESTION.pack(TYPES[kind], _CLASS_IN))


def answer(heard: bytes, number: int, kind: DnsType) -> Answer:
    """Return what a message says. Raises DnsFormatError if it is no answer to this question."""
    try:
        return _answer(heard, number, kind)
    except (error, IndexError, ValueError) as problem:
        raise DnsFormatError("the answer is no DNS message") from problem


def _answer(heard: bytes, number: int, kind: DnsType) -> Answer:
    told, flags, questions, count, _, _ = _HEADER.unpack_from(heard)
    if told != number or not flags & _RESPONSE:
        raise DnsFormatError("the answer is to another question")
    at = _HEADER.size
    for _ in range(questions):
        at = _name(heard, at)[1] + _QUESTION.size
    records: list[str] = []
    truncated = bool(flags & _TRUNCATED)
    for _ in range(min(count, MOST_RECORDS)):
        if at >= len(heard) and truncated:
            break
        at = _name(heard, at)[1]
        code, group, _, size = _RECORD.unpack_from(heard, at)
        at += _RECORD.size
        if at + size > len(heard):
            raise ValueError("a record is longer than the message")
        if code == TYPES[kind] and group == _CLASS_IN:
            records.append(_text(heard, at, size, kind))
        at += size
    return Answer(flags & 0x000F, truncated, tuple(records))


def _text(heard: bytes, at: int, size: int, kind: DnsType) -> str:
    data = heard[at : at + size]
    if kind in (DnsType.A, DnsType.AAAA):
        if size != (4 if kind is DnsType.A else 16):
            raise ValueError("an address has the wrong length")
        return str(ipaddress.ip_address(data))
    if kind is DnsType.TXT:
        parts = []
        while data:
            parts.append(data[1 : 1 + data[0]])
            data = data[1 + data[0] :]
        return b"".join(parts).decode("utf-8", "replace")
    return _name(heard, at + _NAME_AT.get(kind, 0))[0]


def _name(heard: bytes, at: int) -> tuple[str, int]:
    """Return a name, and where what follows it begins. A pointer leads backwards only, so there is an end."""
    labels: list[str] = []
    size, after, lowest = 1, -1, at
    while True:
        length = heard[at]
        if length & _POINTER == _POINTER:
            target = (length & ~_POINTER) << 8 | heard[at + 1]
            after = at + 2 if after < 0 else after
            if target >= lowest:
                raise ValueError("a name's pointer does not lead backwards")
            at = lowest = target
        elif length & _POINTER:
            raise ValueError("a label has a type that nobody uses")
        elif not length:
            return ".".join(labels) or ".", at + 1 if after < 0 else after
        else:
            label = heard[at + 1 : at + 1 + length]
            size += length + 1
            if len(label) < length or size > _MOST_NAME:
                raise ValueError("a name is too long")
            labels.append(label.decode("latin-1"))
            at += 1 + length
