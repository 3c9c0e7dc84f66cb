"""A shell on a node: this terminal, in raw mode, joined to one on the node."""

import contextlib
import os
import selectors
import socket
import sys
import termios
import tty
from collections.abc import Iterator, Sequence
from pathlib import Path

from lvs_lab import rpc
from lvs_lab.errors import LabError


def shell(lab_socket: Path, node: str, argv: Sequence[str]) -> int:
    """Run a command on a node with this terminal. Raises LabError when there is no terminal."""
    if not sys.stdin.isatty():
        raise LabError("a shell needs a terminal; use: lab/ctl run NODE -- COMMAND")
    size = os.get_terminal_size()
    parameters = {"node": node, "argv": list(argv), "size": [size.lines, size.columns]}
    with rpc.connect(lab_socket, "node.shell", parameters, None) as connection:
        rpc.read_answer(connection)
        with _raw(sys.stdin.fileno()):
            _join(connection)
    return 0


@contextlib.contextmanager
def _raw(terminal: int) -> Iterator[None]:
    before = termios.tcgetattr(terminal)
    tty.setraw(terminal)
    try:
        yield
    finally:
        termios.tcsetattr(terminal, termios.TCSADRAIN, before)


def _join(connection: socket.socket) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(connection, selectors.EVENT_READ)
        selector.register(sys.stdin, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                data = os.read(key.fd, 65536)
                if not data:
                    return
                if key.fd == connection.fileno():
                    os.write(sys.stdout.fileno(), data)
                else:
                    connection.sendall(data)
