"""A client for the lab: opens TCP connections one after the other and counts who answered.

    connect.py ADDRESS PORT --count N            exactly N connections
    connect.py ADDRESS PORT --until FILE         until FILE exists (at most 300 s)
    connect.py ADDRESS PORT --hold FILE          one connection, an echo every 0.2 s, until FILE exists

Each connection comes from a port that none before it had, across all runs on a node, until all were used: IPVS
remembers a connection for two minutes after its end, and for a quarter of an hour where it was cut off, and sends
whoever comes from the same port to the same real server, or nowhere if that one was taken out. With --from-port it is
always that one.

Prints one JSON object: {"answers": {name: n}, "errors": {kind: n}, "longest": seconds, "last": [name, ...], "failed":
[[when it was opened (UTC), the newest port of this node, kind], ...]}, the first failures only.
"""

import argparse
import collections
import datetime as dt
import errno
import fcntl
import json
import pathlib
import socket
import time
from collections.abc import Callable
from functools import partial

LONGEST_RUN_SECONDS = 300
PAUSE_SECONDS = 0.01
FAILURES_TOLD = 10
PORTS = range(1024, 65536)
LAST_PORT = pathlib.Path("/run/lvs-lab-last-client-port")


def fresh_port() -> int:
    """Return the port after the one that was handed out last on this node."""
    with LAST_PORT.open("a+") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        last = int(file.read() or PORTS[-1])
        port = last + 1 if last + 1 in PORTS else PORTS[0]
        file.truncate(0)
        file.write(str(port))
    return port


def opened(address: str, port: int, timeout: float, source: int) -> socket.socket:
    """Open a connection from a port; 0: from a fresh one."""
    connection = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET)
    connection.settimeout(timeout)
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        while True:
            try:
                connection.bind(("", source or fresh_port()))
                break
            except OSError as error:
                if source or error.errno != errno.EADDRINUSE:
                    raise
        connection.connect((address, port))
    except OSError:
        connection.close()
        raise
    return connection


def one(address: str, port: int, timeout: float, source: int = 0) -> str:
    """Open one connection and return the name of the server that answered."""
    with opened(address, port, timeout, source) as connection:
        line = b""
        while not line.endswith(b"\n"):
            data = connection.recv(256)
            if not data:
                raise ConnectionResetError("closed before it answered")
            line += data
        return line.decode().strip()


def hold(address: str, port: int, timeout: float, until: pathlib.Path) -> dict[str, object]:
    """Keep one connection in use until the file appears; count what was echoed."""
    echoes = 0
    longest = 0.0
    end = time.monotonic() + LONGEST_RUN_SECONDS
    with opened(address, port, timeout, 0) as connection:
        name = connection.recv(256).decode().strip()
        print(json.dumps({"connected": name}), flush=True)
        while not until.exists() and time.monotonic() < end:
            began = time.monotonic()
            connection.sendall(b"x" * 64)
            got = 0
            while got < 64:
                data = connection.recv(64)
                if not data:
                    raise ConnectionResetError("closed by the server")
                got += len(data)
            longest = max(longest, time.monotonic() - began)
            echoes += 1
            time.sleep(0.2)
    return {"answers": {name: echoes}, "errors": {}, "longest": longest, "last": [name]}


def many(connect: Callable[[], str], count: int, until: pathlib.Path | None) -> dict[str, object]:
    """Open connections until the count is reached or the file appears."""
    answers: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    last: collections.deque[str] = collections.deque(maxlen=20)
    failed: list[list[str]] = []
    longest = 0.0
    end = time.monotonic() + LONGEST_RUN_SECONDS
    done = 0
    while time.monotonic() < end and (done < count if until is None else not until.exists()):
        began, at = time.monotonic(), dt.datetime.now(dt.UTC)
        try:
            name = connect()
        except OSError as error:
            errors[type(error).__name__] += 1
            last.append(type(error).__name__)
            if len(failed) < FAILURES_TOLD:
                failed.append([at.strftime("%H:%M:%S.%f"), LAST_PORT.read_text(), type(error).__name__])
        else:
            answers[name] += 1
            last.append(name)
        longest = max(longest, time.monotonic() - began)
        done += 1
        if until is not None:
            time.sleep(PAUSE_SECONDS)
    return {
        "answers": dict(answers),
        "errors": dict(errors),
        "longest": round(longest, 3),
        "last": list(last),
        "failed": failed,
    }


def main() -> None:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=3.0)
    parser.add_argument("--until", type=pathlib.Path)
    parser.add_argument("--hold", type=pathlib.Path)
    parser.add_argument("--from-port", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.hold:
        result = hold(arguments.address, arguments.port, arguments.timeout, arguments.hold)
    else:
        connection = partial(one, arguments.address, arguments.port, arguments.timeout, arguments.from_port)
        result = many(connection, arguments.count, arguments.until)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
