"""Runs inside a lab node: a service that says who it is, and the client that asks.

guard_guest.py serve NAME PORT              TCP and UDP, both families, on every address
guard_guest.py ask PROTOCOL ADDRESS PORT SOURCE_PORT TIMES [SECONDS]
                                            prints the answers (or what went wrong) as a JSON list
"""

import json
import socket
import sys
import threading

SECONDS = 1.0
TCP_REPAIR = 19


def serve_tcp(name: bytes, port: int) -> None:
    """Answer each connection with the name, as often as it sends something."""
    with socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=128) as listening:
        while True:
            connection, _ = listening.accept()
            threading.Thread(target=converse, args=(connection, name), daemon=True).start()


def converse(connection: socket.socket, name: bytes) -> None:
    """Answer until the client ends."""
    with connection:
        try:
            while connection.recv(64):
                connection.sendall(name)
        except OSError:
            return  # the client has gone


def serve_udp(name: bytes, port: int) -> None:
    """Answer each datagram from the address it came to."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as opened:
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVPKTINFO, 1)
        opened.bind(("::", port))
        while True:
            _, control, _, sender = opened.recvmsg(64, 256)
            # The interface is left to the routing table; the address is the VIP.
            told = [(level, kind, data[:16] + bytes(4)) for level, kind, data in control]
            opened.sendmsg([name], told, 0, sender)


def ask(protocol: str, address: str, port: int, source_port: int, seconds: float) -> str:
    """Ask once; 0 as the source port leaves the choice to the kernel."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    with socket.socket(family, kind) as opened:
        opened.settimeout(seconds)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            opened.bind(("", source_port))
            opened.connect((address, port))
            opened.send(b"?")
            answer = opened.recv(64).decode()
        except OSError as error:
            return type(error).__name__ if error.errno is None else f"{error.errno}: {error.strerror}"
        if protocol == "tcp":
            # Closed without a word, as by a client that loses its power: every director remembers it.
            opened.setsockopt(socket.IPPROTO_TCP, TCP_REPAIR, 1)
        return answer


def main(argv: list[str]) -> None:
    """Serve or ask."""
    if argv[0] == "serve":
        name, port = argv[1].encode(), int(argv[2])
        threading.Thread(target=serve_udp, args=(name, port), daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        serve_tcp(name, port)
    protocol, address, port, source_port, times = argv[1], argv[2], int(argv[3]), int(argv[4]), int(argv[5])
    seconds = float(argv[6]) if len(argv) > 6 else SECONDS
    json.dump([ask(protocol, address, port, source_port, seconds) for _ in range(times)], sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1:])
