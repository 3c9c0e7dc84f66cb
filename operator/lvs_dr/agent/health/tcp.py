"""The TCP check: a connection to the real server's own address and port is accepted in time."""

import asyncio
import errno
import os
import socket

_TEXTS = {
    errno.ECONNREFUSED: "connection refused",
    errno.EHOSTUNREACH: "no route to the host, or it does not answer ARP",
    errno.ENETUNREACH: "no route to the network",
    errno.ECONNRESET: "connection reset",
}


async def check(address: str, port: int, timeout: float) -> str:  # noqa: ASYNC109 - part of the check's settings
    """Connect and close. Returns "" on success, else what went wrong, for people."""
    loop = asyncio.get_running_loop()
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as connection:
            async with asyncio.timeout(timeout):
                await loop.sock_connect(connection, (address, port))
    except TimeoutError:  # ours, or the kernel's ETIMEDOUT: the same to the reader
        return f"no answer within {timeout:g} s"
    except OSError as error:
        return _TEXTS.get(error.errno or 0) or os.strerror(error.errno or 0)
    return ""
