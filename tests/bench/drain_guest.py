"""Runs on the lab's client: long transfers to a real server that is drained meanwhile, and short connections to all.

    drain_guest.py FILE    (FILE: JSON with address, port, realServer, transfers, server, ca, token, path)

Prints "flowing" when all transfers do. It watches the RealServer over one kept connection, so that all stamps are of
one clock: once its state is Drain, transfers end over some seconds, each in good order; when it is told to be Drained,
a JSON object says what broke, and how long after the last connection's end that was.
"""

import contextlib
import errno
import http.client
import json
import resource
import select
import socket
import ssl
import sys
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

BLOCK_BYTES = 512
BLOCK_SECONDS = 0.4
"""Between two blocks of a transfer, each of which comes back as it went."""
ECHO_SECONDS = 10.0
SHORT_SECONDS = 0.02
STAY_SECONDS = 9.0
"""All transfers go on for so long after the real server drains; then one after the other ends within:"""
END_SECONDS = 4.0
LIMIT_SECONDS = 60.0
PATIENCE_SECONDS = 5.0


class Watch(threading.Thread):
    """When the RealServer drained, had no connection left and was Drained, by a kept connection to the API server."""

    def __init__(self, plan: dict[str, Any]) -> None:
        super().__init__(daemon=True)
        self._plan = plan
        self.draining = self.counted = self.drained = 0.0
        self.ready = threading.Event()
        self.trouble = ""

    def run(self) -> None:
        """Watch until it is Drained."""
        try:
            self._follow()
        except (OSError, http.client.HTTPException, ValueError) as error:
            self.trouble = f"the watch ended: {error!r}"

    def _follow(self) -> None:
        context = ssl.create_default_context(cafile=self._plan["ca"])
        context.check_hostname = False
        parts = urlsplit(self._plan["server"])
        connection = http.client.HTTPSConnection(parts.hostname or "", parts.port, context=context, timeout=120)
        query = f"?watch=1&fieldSelector=metadata.name={self._plan['realServer']}&timeoutSeconds=300"
        connection.request(
            "GET", self._plan["path"] + query, headers={"Authorization": f"Bearer {self._plan['token']}"}
        )
        response = connection.getresponse()
        if response.status != http.client.OK:
            raise OSError(f"{response.status} {response.read(300)!r}")
        while line := response.readline():
            now = time.monotonic()
            found = json.loads(line)["object"]
            self.ready.set()
            if found["spec"].get("state") == "Drain":
                self.draining = self.draining or now
                conditions = found.get("status", {}).get("conditions", [])
                told = next((each for each in conditions if each["type"] == "Drained"), None)
                message = told["message"] if told is not None else ""
                none = message.startswith("0 connections left") and "not told yet" not in message
                done = told is not None and told["status"] == "True"
                self.counted = (self.counted or now) if done or none else 0.0
                if done:
                    self.drained = now
                    return
        raise OSError("closed by the API server")


class Transfer:
    """Blocks there and back, until it is to end."""

    def __init__(self, number: int, opened: socket.socket) -> None:
        self.opened = opened
        opened.setblocking(False)
        self._number = number
        self._sent = 0
        self._awaited = b""
        self.ends = float("inf")
        self.due = time.monotonic() + BLOCK_SECONDS * (number % 50) / 50
        self.overdue = float("inf")

    def send(self, now: float) -> None:
        """Send a block. Raises OSError when the connection has broken."""
        block = f"{self._number} {self._sent} ".encode().ljust(BLOCK_BYTES, b".")
        if self.opened.send(block) != BLOCK_BYTES:
            raise BlockingIOError("a block did not fit")
        self._sent += 1
        self._awaited = block
        self.due, self.overdue = float("inf"), now + ECHO_SECONDS

    def receive(self, now: float) -> None:
        """Take what came back. Raises OSError when it is not what was sent."""
        data = self.opened.recv(BLOCK_BYTES)
        if not data or not self._awaited.startswith(data):
            raise ConnectionResetError("it is not what was sent")
        self._awaited = self._awaited[len(data) :]
        if not self._awaited:
            self.due, self.overdue = now + BLOCK_SECONDS, float("inf")

    def may_end(self, now: float) -> bool:
        """Whether its time has come, and nothing is on its way."""
        return now > self.ends and not self._awaited


def named(address: str, port: int) -> tuple[str, socket.socket]:
    """Open a connection; also who answered."""
    opened = socket.create_connection((address, port), timeout=15)
    name = b""
    while not name.endswith(b"\n"):
        data = opened.recv(256)
        if not data:
            raise ConnectionResetError("closed before it answered")
        name += data
    return name.decode().strip(), opened


class Flow:
    """All connections of a run."""

    def __init__(self, plan: dict[str, Any]) -> None:
        self._place = (plan["address"], plan["port"])
        self._real_server = plan["realServer"]
        self._poll = select.epoll()
        self.transfers: dict[int, Transfer] = {}
        self._short: dict[int, tuple[socket.socket, float]] = {}
        self.whole = self.broken = 0
        self.short_opened = self.short_failed = 0
        self.last_end = 0.0
        self._next_short = 0.0

    def open(self, count: int) -> None:
        """Open so many transfers, all to the real server; those that others answer are closed again."""
        while len(self.transfers) < count:
            name, opened = named(*self._place)
            if name != self._real_server:
                opened.close()
                continue
            self.transfers[opened.fileno()] = Transfer(len(self.transfers), opened)
            self._poll.register(opened, select.EPOLLIN)

    def end_over(self, begin: float) -> None:
        """Have one transfer after the other end, evenly."""
        for at, each in enumerate(self.transfers.values()):
            each.ends = begin + STAY_SECONDS + END_SECONDS * at / len(self.transfers)

    def step(self) -> None:
        """Do what is due, and wait for a moment."""
        now = time.monotonic()
        if now >= self._next_short:
            self._next_short = now + SHORT_SECONDS
            self._begin_short()
        for number, each in [*self.transfers.items()]:
            if each.may_end(now):
                self._end(number)
                self.whole += 1
            elif now > each.overdue:
                self._break(number)
            elif now >= each.due:
                try:
                    each.send(now)
                except OSError:
                    self._break(number)
        for number, (_, begun) in [*self._short.items()]:
            if now - begun > PATIENCE_SECONDS:
                self._finish_short(number, "")
        for number, _ in self._poll.poll(0.005):
            self._arrived(number)

    def _arrived(self, number: int) -> None:
        if number in self._short:
            try:
                name = self._short[number][0].recv(64).decode().strip()
            except OSError:
                name = ""
            self._finish_short(number, name)
            return
        try:
            self.transfers[number].receive(time.monotonic())
        except OSError:
            self._break(number)

    def _begin_short(self) -> None:
        opened = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        code = opened.connect_ex(self._place)
        self.short_opened += 1
        if code not in (0, errno.EINPROGRESS):
            self.short_failed += 1
            opened.close()
            return
        self._short[opened.fileno()] = (opened, time.monotonic())
        self._poll.register(opened, select.EPOLLIN)

    def _finish_short(self, number: int, name: str) -> None:
        opened, _ = self._short.pop(number)
        opened.close()
        if not name:
            self.short_failed += 1
        elif name == self._real_server:
            self.last_end = time.monotonic()

    def _break(self, number: int) -> None:
        self.broken += 1
        self._end(number)

    def _end(self, number: int) -> None:
        with contextlib.closing(self.transfers.pop(number).opened):
            self._poll.unregister(number)
        self.last_end = time.monotonic()


def main() -> None:
    """Measure one drain."""
    plan = json.loads(Path(sys.argv[1]).read_text())
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    watch = Watch(plan)
    watch.start()
    flow = Flow(plan)
    flow.open(plan["transfers"])
    if not watch.ready.wait(30):
        raise SystemExit(watch.trouble or "the watch told nothing")
    began = time.monotonic()
    flowing = False
    while not watch.drained:
        flow.step()
        now = time.monotonic()
        if not flowing and now > began + 2 * BLOCK_SECONDS:
            flowing = True
            began = now
            print("flowing", flush=True)
        if watch.draining and not any(each.ends < float("inf") for each in flow.transfers.values()):
            flow.end_over(watch.draining)
        if watch.trouble or now > began + LIMIT_SECONDS:
            raise SystemExit(watch.trouble or f"not drained within {LIMIT_SECONDS} s; {len(flow.transfers)} go on")
    told = {
        "whole": flow.whole, "broken": flow.broken, "unended": len(flow.transfers),
        "counted": watch.counted - flow.last_end, "drained": watch.drained - flow.last_end,
        "short": flow.short_opened, "short failed": flow.short_failed,
    }  # fmt: skip
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main()
