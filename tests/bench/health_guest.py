"""Runs in a lab node or on this machine, and prints what it measured as JSON.

    health_guest.py agent|keepalived tcp|http COUNT INTERVAL SECONDS

COUNT addresses of 127.0.0.0/8 are checked at INTERVAL seconds for SECONDS; what answers is a process of its own, which
counts what it is asked. CPU time is that of the checking process alone.
"""

import asyncio
import json
import logging
import mmap
import os
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from msgspec.structs import replace

from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.memory import use_memory_calmly
from lvs_dr.core.checks import HttpCheck, TableHealthCheck, TcpCheck
from lvs_dr.core.health import CheckKey, Health

ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nok\n"
WARM_UP_INTERVALS = 2
CHECKS = {"tcp": TableHealthCheck(TcpCheck()), "http": TableHealthCheck(http=HttpCheck(path="/healthz"))}


def addresses(count: int) -> list[str]:
    """Return addresses that are all this machine's."""
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Listener:
    """Answers on a port of all addresses, in a process of its own."""

    def __init__(self, *, http: bool) -> None:
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._socket.bind(("0.0.0.0", 0))
        self._socket.listen(65535)
        self.port = self._socket.getsockname()[1]
        self._count = mmap.mmap(-1, 8)  # shared with the process that answers
        self._told = 0
        self.pid = os.fork()
        if self.pid == 0:
            self._serve(http=http)

    def _serve(self, *, http: bool) -> None:
        total = 0
        with selectors.DefaultSelector() as waiting:
            self._socket.setblocking(False)
            waiting.register(self._socket, selectors.EVENT_READ)
            while True:
                for key, _ in waiting.select():
                    if key.fileobj is not self._socket:
                        self._answer(waiting, key.fileobj)
                        continue
                    while True:
                        try:
                            connection, _ = self._socket.accept()
                        except BlockingIOError:
                            break
                        total += 1
                        if http:
                            waiting.register(connection, selectors.EVENT_READ)
                        else:
                            connection.close()
                    self._count[:] = total.to_bytes(8, "little")

    @staticmethod
    def _answer(waiting: selectors.BaseSelector, connection: object) -> None:
        if not isinstance(connection, socket.socket):
            raise TypeError
        try:
            connection.recv(4096)
            connection.sendall(ANSWER)
        except OSError as error:
            sys.stderr.write(f"a checker went away: {error}\n")
        waiting.unregister(connection)
        connection.close()

    def asked(self) -> int:
        """Return how often it was asked since the last call."""
        total = int.from_bytes(self._count, "little")
        before, self._told = self._told, total
        return total - before

    def stop(self) -> None:
        """End it."""
        os.kill(self.pid, 9)
        os.waitpid(self.pid, 0)


async def agent(kind: str, count: int, interval: int, seconds: int, listener: Listener) -> dict[str, float]:
    """Check as the agent does."""
    check = replace(CHECKS[kind], interval_seconds=interval, timeout_seconds=1)
    prober = Prober(changed=lambda: None, check=Checkers())
    prober.update([CheckKey(address, listener.port, check) for address in addresses(count)])
    use_memory_calmly()
    running = asyncio.create_task(prober.run())
    await asyncio.sleep(WARM_UP_INTERVALS * interval + 1)
    listener.asked()
    prober.late = 0
    began, used = time.monotonic(), time.process_time()
    await asyncio.sleep(seconds)
    made = listener.asked()
    used, took = time.process_time() - used, time.monotonic() - began
    down = sum(each is not Health.UP for each in prober.view().values())
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    return {"checks": made, "seconds": took, "cpu": used, "late": prober.late, "down": down}


URL = {"tcp": "TCP_CHECK { connect_timeout 1 }"}
URL["http"] = "HTTP_GET { connect_timeout 1\n url { path /healthz\n status_code 200 } }"


def keepalived(kind: str, count: int, interval: int, seconds: int, listener: Listener) -> dict[str, float]:
    """Check as keepalived's checker does, which is a process of its own."""
    servers = "\n".join(f" real_server {each} {listener.port} {{ {URL[kind]} }}" for each in addresses(count))
    service = f"virtual_server 10.255.255.1 {listener.port} {{\n delay_loop {interval}\n protocol TCP\n{servers}\n}}\n"
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "keepalived.conf"
        config.write_text(f"global_defs {{\n enable_script_security\n}}\n{service}", encoding="ascii")
        files = [f"--pid={directory}/pid", f"--checkers_pid={directory}/checkers"]
        argv = ["keepalived", "--check", "--dont-fork", "--log-console", f"--use-file={config}", *files]
        with (Path(directory) / "log").open("wb") as log:
            running = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            time.sleep(WARM_UP_INTERVALS * interval + 3)
            checker = int((Path(directory) / "checkers").read_text(encoding="ascii"))
            listener.asked()
            began, used = time.monotonic(), cpu_seconds(checker)
            time.sleep(seconds)
            made = listener.asked()
            used, took = cpu_seconds(checker) - used, time.monotonic() - began
        except (OSError, ValueError) as error:
            raise RuntimeError((Path(directory) / "log").read_text(errors="replace")[-2000:]) from error
        finally:
            running.terminate()
            running.wait(30)
    return {"checks": made, "seconds": took, "cpu": used}


def main() -> None:
    """Measure what the arguments say."""
    who, kind = sys.argv[1:3]
    count, interval, seconds = map(int, sys.argv[3:6])
    logging.basicConfig(level=logging.WARNING)
    listener = Listener(http=kind == "http")
    try:
        if who == "agent":
            found = asyncio.run(agent(kind, count, interval, seconds, listener))
        else:
            found = keepalived(kind, count, interval, seconds, listener)
    finally:
        listener.stop()
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
