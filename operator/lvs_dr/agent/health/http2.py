"""HTTP/2 (RFC 9113) as far as one gRPC call needs it: our frames, and what comes back on stream 1. Pure.

Header blocks that come back are not decoded: whether a server is well stands in the message, never in a header. Ours
use no table and no Huffman code (RFC 7541), which every server must read.
"""

import struct
from collections.abc import Sequence
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
MOST_FRAME: Final = 16384  # bytes: what we allow by saying nothing (RFC 9113, 4.2)
MOST_MESSAGE: Final = 4096
STREAM: Final = 1

_HEAD: Final = struct.Struct("!BHBBI")  # length (24 bits), type, flags, stream
_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY = 0, 1, 3, 4, 6, 7
_END_STREAM: Final = 0x1  # of DATA and HEADERS
_ACK: Final = 0x1  # of SETTINGS and PING
_END_HEADERS: Final = 0x4
_PADDED: Final = 0x8
_NO_PUSH: Final = struct.pack("!HI", 2, 0)  # SETTINGS_ENABLE_PUSH
_ERRORS: Final = (
    *("NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED"),
    *("FRAME_SIZE_ERROR", "REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM"),
    *("INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED"),
)


class Http2Error(Exception):
    """The server does not speak HTTP/2, or ends the call. The text is for people."""


class Told(NamedTuple):
    """What came of some bytes."""

    reply: bytes  # to send back
    ended: bool  # the server has said all


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame."""
    size = len(payload)
    return _HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def call(*, authority: str, path: str, https: bool, message: bytes) -> bytes:
    """Return all that the client of a unary gRPC call sends."""
    headers: Sequence[bytes] = (
        b"\x83",  # :method POST, entry 3 of the static table
        b"\x87" if https else b"\x86",  # :scheme
        b"\x04" + _text(path),  # :path
        b"\x01" + _text(authority),  # :authority
        b"\x0f\x10" + _text("application/grpc"),  # content-type, entry 31
        b"\x00" + _text("te") + _text("trailers"),
    )
    body = b"\x00" + len(message).to_bytes(4, "big") + message  # not compressed
    return (
        PREFACE
        + frame(_SETTINGS, 0, 0, _NO_PUSH)
        + frame(_HEADERS, _END_HEADERS, STREAM, b"".join(headers))
        + frame(_DATA, _END_STREAM, STREAM, body)
    )


class Answer:
    """Takes apart what the server sends."""

    def __init__(self) -> None:
        self._pending = b""
        self._heard = False
        self.data = b""

    def feed(self, heard: bytes) -> Told:
        """Take some bytes. Raises Http2Error."""
        self._pending += heard
        reply, ended = bytearray(), False
        while len(self._pending) >= _HEAD.size and not ended:
            high, low, kind, flags, stream = _HEAD.unpack_from(self._pending)
            size = high << 16 | low
            if (not self._heard and kind != _SETTINGS) or size > MOST_FRAME:
                raise Http2Error("the answer is no HTTP/2")
            if len(self._pending) < _HEAD.size + size:
                break
            payload = self._pending[_HEAD.size : _HEAD.size + size]
            self._pending = self._pending[_HEAD.size + size :]
            self._heard = True
            reply += self._control(kind, flags, payload)
            if stream & 0x7FFFFFFF == STREAM:
                ended = self._on_stream(kind, flags, payload)
        return Told(bytes(reply), ended)

    def _control(self, kind: int, flags: int, payload: bytes) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            return frame(_SETTINGS, _ACK, 0, b"")
        if kind == _PING and not flags & _ACK:
            return frame(_PING, _ACK, 0, payload)
        if kind == _GOAWAY and _number(payload[4:8]):
            raise Http2Error(f"it ends the connection: {_error(_number(payload[4:8]))}")
        return b""

    def _on_stream(self, kind: int, flags: int, payload: bytes) -> bool:
        if kind == _RST_STREAM:
            raise Http2Error(f"it ends the call: {_error(_number(payload))}")
        if kind == _DATA:
            if flags & _PADDED:
                padding = payload[0] if payload else 0
                payload = payload[1 : max(1, len(payload) - padding)]
            self.data += payload
            if len(self.data) > MOST_MESSAGE:
                raise Http2Error(f"the answer has more than {MOST_MESSAGE} bytes")
        return kind in (_DATA, _HEADERS) and bool(flags & _END_STREAM)


def _text(text: str) -> bytes:
    """Return a string literal (RFC 7541, 5.2), not Huffman-coded."""
    data = text.encode("ascii")
    size = len(data)
    if size < 127:  # noqa: PLR2004 - what fits into 7 bits (RFC 7541, 5.1)
        return bytes([size]) + data
    out, left = bytearray([127]), size - 127
    while left >= 128:  # noqa: PLR2004
        out.append(left & 0x7F | 0x80)
        left >>= 7
    return bytes([*out, left]) + data


def _number(data: bytes) -> int:
    return int.from_bytes(data[:4], "big")


def _error(code: int) -> str:
    return _ERRORS[code] if code < len(_ERRORS) else f"error {code}"
