"""Long connections from the lab's client, held through whatever a test does; a guest script and its other end.

On the client: holding.py DIRECTORY reads commands from DIRECTORY/N.json, N counting from 1, and prints one JSON
object for each: {"n": N, "held": {name of the server: live connections}}.
"""

import itertools
import json
import select
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lvs_lab import Node

PACKET = b"x" * 64
ECHO_SECONDS = 4.0
"""A segment that is lost once is sent again after 0.2 s, twice after 0.6 s, three times after 1.4 s."""
OPEN_SECONDS = 15.0
"""The first segment of a connection is sent again after 1, 3 and 7 s; a machine that is busy may lose some."""


class Holder:
    """The test's end: a process on a node that holds connections."""

    def __init__(self, node: "Node") -> None:
        self._node = node
        self._directory = f"/run/holding-{time.time_ns()}"
        self._numbers = itertools.count(1)
        self._process = node.spawn(sys.executable, str(Path(__file__)), self._directory)
        self._process.wait_for_output("ready", timeout=30)

    def open(self, address: str, port: int, count: int) -> dict[str, int]:
        """Open more connections; return how many live ones there are to which server."""
        return self._ask(do="open", address=address, port=port, count=count)

    def check(self) -> dict[str, int]:
        """Use every connection; return how many answered, by server. Those that did not are gone."""
        return self._ask(do="check")

    def close(self, server: str) -> dict[str, int]:
        """Close those to one server in good order."""
        return self._ask(do="close", server=server)

    def end(self) -> None:
        """Drop all connections."""
        self._process.signal(9)

    def _ask(self, **command: object) -> dict[str, int]:
        number = next(self._numbers)
        self._node.put_file(f"{self._directory}/{number}.json", json.dumps(command))
        output = self._process.wait_for_output(f'{{"n": {number}, ', timeout=60)
        line = next(line for line in output.splitlines() if line.startswith(f'{{"n": {number}, '))
        found: dict[str, int] = json.loads(line)["held"]
        return found


def _open(address: str, port: int) -> tuple[str, socket.socket]:
    opened = socket.create_connection((address, port), timeout=OPEN_SECONDS)
    name = b""
    while not name.endswith(b"\n"):
        data = opened.recv(256)
        if not data:
            raise ConnectionResetError("closed before it answered")
        name += data
    return name.decode().strip(), opened


def _alive(held: list[tuple[str, socket.socket]]) -> list[tuple[str, socket.socket]]:
    """Send on all connections at once; keep those that echo everything in time."""
    waiting = {}
    for name, each in held:
        each.setblocking(False)
        try:
            each.send(PACKET)
        except OSError:
            continue
        waiting[each] = (name, 0)
    alive = []
    end = time.monotonic() + ECHO_SECONDS
    while waiting and time.monotonic() < end:
        for each in select.select(list(waiting), [], [], 0.1)[0]:
            name, got = waiting.pop(each)
            try:
                data = each.recv(len(PACKET))
            except OSError:
                continue
            if not data:
                continue
            if got + len(data) == len(PACKET):
                alive.append((name, each))
            else:
                waiting[each] = (name, got + len(data))
    return alive


def main() -> None:
    """Follow the commands until killed."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True)
    held: list[tuple[str, socket.socket]] = []
    print("ready", flush=True)  # noqa: T201
    for number in itertools.count(1):
        file = directory / f"{number}.json"
        while True:
            try:
                command = json.loads(file.read_text())
                break
            except (FileNotFoundError, ValueError):  # not there, or not written to its end
                time.sleep(0.02)
        if command["do"] == "open":
            held += [_open(command["address"], command["port"]) for _ in range(command["count"])]
        elif command["do"] == "close":
            for name, each in held:
                if name == command["server"]:
                    each.close()
            held = [one for one in held if one[0] != command["server"]]
        else:
            held = _alive(held)
        names = sorted({name for name, _ in held})
        counts = {name: sum(1 for one, _ in held if one == name) for name in names}
        print(json.dumps({"n": number, "held": counts}), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
