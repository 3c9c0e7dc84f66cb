"""One question to, or one change by, rtnetlink: for changes so rare that each may open a socket of its own."""

import errno
import socket
from typing import Final, NamedTuple

from lvs_dr.netlink.errors import MalformedMessage
from lvs_dr.netlink.message import HEADER, HEADER_SIZE, NLM_F_ACK, NLM_F_REQUEST, NLMSG_ERROR, decode_error, split

TIMEOUT_SECONDS: Final = 5.0
NLM_F_EXCLUSIVE_CREATE: Final = 0x600  # NLM_F_CREATE | NLM_F_EXCL

_RECEIVE_BYTES: Final = 64 * 1024
_SEQUENCE: Final = 1


class Answer(NamedTuple):
    """An errno, 0 for success, and the kernel's message if it sent one."""

    code: int
    message: bytes = b""


def ask(kind: int, body: bytes) -> Answer:
    """Put a question that has one message as its answer."""
    return _exchange(kind, NLM_F_REQUEST, body)


def change(kind: int, body: bytes, flags: int = 0) -> int:
    """Carry out a change and return 0 or the errno."""
    return _exchange(kind, NLM_F_REQUEST | NLM_F_ACK | flags, body).code


def _exchange(kind: int, flags: int, body: bytes) -> Answer:
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE) as opened:
            opened.settimeout(TIMEOUT_SECONDS)
            opened.bind((0, 0))
            opened.send(HEADER.pack(HEADER_SIZE + len(body), kind, flags, _SEQUENCE, 0) + body)
            while True:
                data = opened.recv(_RECEIVE_BYTES)
                for header in split(data, len(data)):
                    if header.sequence != _SEQUENCE:
                        continue
                    if header.kind != NLMSG_ERROR:
                        return Answer(0, data[header.start : header.stop])
                    refused = decode_error(data, header)
                    return Answer(refused.code if refused is not None else 0)
    except MalformedMessage:
        return Answer(errno.EBADMSG)
    except TimeoutError:
        return Answer(errno.ETIMEDOUT)
    except OSError as error:
        return Answer(error.errno or errno.EIO)
