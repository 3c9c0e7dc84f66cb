"""Listening TCP sockets: made by the agent, told apart by where they are bound."""

import socket
from contextlib import suppress
from typing import Final

from lvs_dr.redirect.messages import socket_key

BACKLOG: Final = 4096
_IPV6_FREEBIND: Final = 78  # include/uapi/linux/in6.h
_IP_FREEBIND: Final = 15  # include/uapi/linux/in.h


def listening_socket(address: str, port: int) -> socket.socket:
    """Listen on an address, whether this node holds it now or not: a Backup is ready when the VIP comes.

    Raises OSError: the address is none, somebody else listens there, a port below 1024 needs NET_BIND_SERVICE.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listening.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            listening.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
        else:
            listening.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
        listening.bind((address, port))
        listening.listen(BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def bound_key(listening: socket.socket) -> str:
    """Name a listening TCP socket by where it is bound; "" when it is none."""
    with suppress(OSError):
        tcp = listening.type == socket.SOCK_STREAM and listening.family in (socket.AF_INET, socket.AF_INET6)
        if tcp and listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            name = listening.getsockname()
            return socket_key(name[0], name[1])
    return ""
