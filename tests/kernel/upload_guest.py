"""Runs inside a lab node: a service that counts what is uploaded to it, and the client that uploads.

upload_guest.py serve NAME PORT [ADDRESS]    answers each upload with "NAME BYTES SHA256"
upload_guest.py send ADDRESS PORT BYTES TIMES    prints the answers as a JSON list
"""

import hashlib
import json
import socket
import socketserver
import sys

BLOCK = 1 << 16
SECONDS = 60


def block(size: int) -> bytes:
    """Return bytes that differ, so that a lost or doubled piece shows."""
    return (b"".join(number.to_bytes(4, "big") for number in range(BLOCK // 4)) * (size // BLOCK + 1))[:size]


class Upload(socketserver.BaseRequestHandler):
    """Reads up to the end and says what came."""

    def handle(self) -> None:
        """Serve one upload."""
        self.request.settimeout(SECONDS)
        digest, count = hashlib.sha256(), 0
        while data := self.request.recv(BLOCK):
            digest.update(data)
            count += len(data)
        self.request.sendall(f"{sys.argv[2]} {count} {digest.hexdigest()}".encode())


class Server(socketserver.ThreadingTCPServer):
    """Listens on every address, of both families."""

    address_family = socket.AF_INET6
    allow_reuse_address = True
    daemon_threads = True


def serve(port: int) -> None:
    """Serve until killed."""
    with Server(("::", port), Upload) as server:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        server.serve_forever()


def send(address: str, port: int, size: int, times: int) -> list[str]:
    """Upload several times, each over a connection of its own."""
    payload, answers = block(size), []
    for _ in range(times):
        with socket.create_connection((address, port), timeout=SECONDS) as connection:
            connection.sendall(payload)
            connection.shutdown(socket.SHUT_WR)
            name, count, digest = connection.recv(BLOCK).decode().split()
            whole = int(count) == size and digest == hashlib.sha256(payload).hexdigest()
            answers.append(name if whole else f"{name} got {count} of {size} bytes")
    return answers


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(int(sys.argv[3]))
    else:
        json.dump(send(sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5])), sys.stdout)
