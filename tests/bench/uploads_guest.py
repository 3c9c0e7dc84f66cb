"""Runs inside a lab node: a server that throws uploads away, and a client that sends them and follows redirects.

uploads_guest.py serve PORT
uploads_guest.py send UPLOADS SIZE WORKERS ADDRESS:PORT...   in turn; prints seconds and how many went wrong, as JSON
uploads_guest.py look INTERFACE                              received bytes, and CPU ticks in use so far, as JSON
"""

import itertools
import json
import socket
import socketserver
import sys
import threading
import time
from pathlib import Path

BLOCK = 1 << 18
SECONDS = 120.0


def head(connection: socket.socket) -> bytes:
    """Read up to the end of a header. Raises OSError when there is none."""
    found = b""
    while not found.endswith(b"\r\n\r\n"):
        data = connection.recv(1)
        if not data:
            raise ConnectionResetError("closed within a header")
        found += data
    return found


def field(header: bytes, name: bytes) -> str:
    """Return a field of a header; "" without one."""
    lines = (line.partition(b": ") for line in header.split(b"\r\n"))
    return next((value.decode() for key, _, value in lines if key.lower() == name), "")


class Upload(socketserver.BaseRequestHandler):
    """Takes one upload."""

    def handle(self) -> None:
        """Read it."""
        self.request.settimeout(SECONDS)
        left = int(field(head(self.request), b"content-length"))
        self.request.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        room = memoryview(bytearray(BLOCK))
        while left:
            count = self.request.recv_into(room, min(left, BLOCK))
            if not count:
                return
            left -= count
        self.request.sendall(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")


class Server(socketserver.ThreadingTCPServer):
    """Listens on all addresses."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 256


def send(place: tuple[str, int], size: int, hops: int = 1) -> bool:
    """Upload once; tell whether all of it arrived."""
    asked = f"PUT /file HTTP/1.1\r\nHost: {place[0]}\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    with socket.create_connection(place, timeout=SECONDS) as connection:
        connection.sendall(asked.encode())
        answer = head(connection)
        if answer.startswith(b"HTTP/1.1 100"):
            block = bytes(BLOCK)
            for at in range(0, size, BLOCK):
                connection.sendall(block[: min(BLOCK, size - at)])
            return head(connection).startswith(b"HTTP/1.1 201")
    if not answer.startswith(b"HTTP/1.1 307") or not hops:
        return False
    host, _, port = field(answer, b"location").removeprefix("http://").partition("/")[0].partition(":")
    return send((host, int(port or 80)), size, hops - 1)


def send_all(uploads: int, size: int, workers: int, places: list[tuple[str, int]]) -> dict[str, float]:
    """Upload in parallel."""
    turns = itertools.islice(itertools.cycle(places), uploads)
    lock, wrong = threading.Lock(), []

    def work() -> None:
        while True:
            with lock:
                place = next(turns, None)
            if place is None:
                return
            try:
                done = send(place, size)
            except OSError:
                done = False
            if not done:
                wrong.append(place)

    threads = [threading.Thread(target=work) for _ in range(workers)]
    began = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": time.monotonic() - began, "wrong": len(wrong)}


def look(interface: str) -> dict[str, int]:
    """Read the counters."""
    received = int(Path(f"/sys/class/net/{interface}/statistics/rx_bytes").read_text())
    user, nice, system, _, _, interrupt, soft = (int(each) for each in Path("/proc/stat").read_text().split()[1:8])
    return {"bytes": received, "ticks": user + nice + system + interrupt + soft}


if __name__ == "__main__":
    what, *given = sys.argv[1:]
    if what == "serve":
        with Server(("0.0.0.0", int(given[0])), Upload) as server:
            sys.stdout.write("ready\n")
            sys.stdout.flush()
            server.serve_forever()
    elif what == "look":
        sys.stdout.write(json.dumps(look(given[0])) + "\n")
    else:
        where = [(host, int(port)) for host, _, port in (each.rpartition(":") for each in given[3:])]
        sys.stdout.write(json.dumps(send_all(int(given[0]), int(given[1]), int(given[2]), where)) + "\n")
