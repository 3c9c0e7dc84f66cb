"""HTTP/1.1 as a check needs it (RFC 9112): a request, the head of an answer, and the bytes of its body. Pure."""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from lvs_dr.core.checks import HttpCheck

MOST_HEAD: Final = 16384  # bytes
_END: Final = re.compile(rb"\r?\n\r?\n")
_LONGEST_END: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-5][0-9][0-9])(?:[ \r\n]|$)")
_LENGTH: Final = re.compile(rb"^content-length:[ \t]*([0-9]{1,15})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNKED: Final = re.compile(rb"^transfer-encoding:[^\r\n]*\bchunked[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,256}\r?\n")
_MOST_CHUNK_LINE: Final = 300


class HttpFormatError(Exception):
    """What was heard is no HTTP."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of an answer; `length` of the body: -1 = to the end of the connection."""

    status: int
    length: int
    chunked: bool
    size: int  # bytes of the head itself


@lru_cache(maxsize=8192)
def request(probe: HttpCheck, address: str, port: int) -> bytes:
    """Return the request. Raises ValueError if the settings are not those that the API takes."""
    default = 443 if probe.tls is not None else 80
    bare = f"[{address}]" if ":" in address else address
    host = probe.host or (bare if port == default else f"{bare}:{port}")
    lines = [f"{probe.method} {probe.path} HTTP/1.1", f"Host: {host}"]
    lines += [f"{each.name}: {each.value}" for each in probe.headers]
    given = {each.name.lower() for each in probe.headers}
    if "user-agent" not in given:
        lines.append("User-Agent: lvs-operator")
    if "accept" not in given:
        lines.append("Accept: */*")
    lines.append("Connection: close")
    if any(not line.isascii() or not line.isprintable() for line in lines) or " " in probe.path:
        raise ValueError("the request has characters that do not belong into one")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def head(heard: bytes, seen: int = 0) -> Head | None:
    """Return the head of an answer; None while more must be heard. Raises HttpFormatError.

    `seen`: bytes that were looked at before: an answer that comes byte by byte costs no more than one that does not.
    """
    if _STATUS.match(heard) is None and (len(heard) >= 12 or not b"HTTP/1.".startswith(heard[:7])):  # noqa: PLR2004
        raise HttpFormatError("the answer is no HTTP/1")
    end = _END.search(heard, max(0, seen - _LONGEST_END))
    if end is None:
        if len(heard) >= MOST_HEAD:
            raise HttpFormatError(f"the answer's head has more than {MOST_HEAD} bytes")
        return None
    found = _STATUS.match(heard)
    if found is None:
        raise HttpFormatError("the answer is no HTTP/1")
    status = int(found[1])
    text = heard[: end.start()]
    length = _LENGTH.search(text)
    return Head(status, int(length[1]) if length else -1, _CHUNKED.search(text) is not None, end.end())


class Body:
    """Takes the body of an answer apart as it comes."""

    def __init__(self, about: Head) -> None:
        self._left = 0 if about.chunked else about.length
        self._chunked = about.chunked
        self._pending = b""  # of a chunk's line
        self._started = False
        self.complete = self._left == 0 and not self._chunked

    def feed(self, heard: bytes) -> bytes:
        """Return the bytes of the body in what was heard. Raises HttpFormatError."""
        if self.complete:
            return b""
        if not self._chunked:
            if self._left < 0:
                return heard
            taken = heard[: self._left]
            self._left -= len(taken)
            self.complete = self._left == 0
            return taken
        return self._chunks(heard)

    def _chunks(self, heard: bytes) -> bytes:
        out = bytearray()
        data = self._pending + heard
        self._pending = b""
        while data and not self.complete:
            if self._left:
                taken = data[: self._left]
                out += taken
                self._left -= len(taken)
                data = data[len(taken) :]
                continue
            line = data
            if self._started:  # the line break that ends the chunk before
                line = line.removeprefix(b"\r") if line.startswith(b"\r\n") or line == b"\r" else line
                line = line.removeprefix(b"\n")
            found = _CHUNK.match(line)
            if found is None:
                if b"\n" in line or len(line) > _MOST_CHUNK_LINE:
                    raise HttpFormatError("the answer's chunks cannot be read")
                self._pending = data
                break
            self._started = True
            self._left = int(found[1], 16)
            self.complete = self._left == 0
            data = line[found.end() :]
        return bytes(out)


@lru_cache(maxsize=1024)
def expected(statuses: tuple[str, ...]) -> frozenset[int]:
    """Return the statuses that are well."""
    found: set[int] = set()
    for each in statuses:
        low, _, high = each.partition("-")
        found.update(range(int(low), int(high or low) + 1))
    return frozenset(found)
