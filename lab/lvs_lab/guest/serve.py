"""A service for the lab's real servers: tells each connection the node's name, then echoes until it is closed.

    serve.py PORT [ADDRESS]

One thread and one selector, so that thousands of idle connections cost nothing.
"""

import contextlib
import selectors
import socket
import sys


def main() -> None:
    """Serve on all addresses (or one) of this node until killed."""
    port = int(sys.argv[1])
    address = sys.argv[2] if len(sys.argv) > 2 else "::"
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if family == socket.AF_INET6:
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    listener.bind((address, port))
    listener.listen(1024)
    listener.setblocking(False)
    name = socket.gethostname().encode() + b"\n"
    selector = selectors.DefaultSelector()
    selector.register(listener, selectors.EVENT_READ)
    print(f"serving on {address} port {port}", flush=True)
    while True:
        for key, _ in selector.select():
            if key.fileobj is listener:
                with contextlib.suppress(BlockingIOError, ConnectionError):
                    connection, _ = listener.accept()
                    connection.setblocking(True)
                    connection.settimeout(2)
                    connection.sendall(name)
                    selector.register(connection, selectors.EVENT_READ)
                continue
            if isinstance(key.fileobj, socket.socket) and not echo(key.fileobj):
                selector.unregister(key.fileobj)
                key.fileobj.close()


def echo(connection: socket.socket) -> bool:
    """Send back what came; tell whether the connection is still open."""
    try:
        data = connection.recv(65536)
        connection.sendall(data)
    except OSError:  # a client that went away
        return False
    return bool(data)


if __name__ == "__main__":
    main()
