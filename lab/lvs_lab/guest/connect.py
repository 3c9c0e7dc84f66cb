"""A client for the lab: opens TCP connections one after the other and counts who answered.

    connect.py ADDRESS PORT --count N            exactly N connections
    connect.py ADDRESS PORT --until FILE         until FILE exists (at most 300 s)
    connect.py ADDRESS PORT --hold FILE          one connection, an echo every 0.2 s, until FILE exists

Prints one JSON object: {"answers": {name: n}, "errors": {kind: n}, "longest": seconds, "last": [name, ...]}.
"""

import argparse
import collections
import json
import pathlib
import socket
import time

LONGEST_RUN_SECONDS = 300
PAUSE_SECONDS = 0.01


def one(address: str, port: int, timeout: float) -> str:
    """Open one connection and return the name of the server that answered."""
    with socket.create_connection((address, port), timeout=timeout) as connection:
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
    with socket.create_connection((address, port), timeout=timeout) as connection:
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


def many(address: str, port: int, timeout: float, count: int, until: pathlib.Path | None) -> dict[str, object]:
    """Open connections until the count is reached or the file appears."""
    answers: collections.Counter[str] = collections.Counter()
    errors: collections.Counter[str] = collections.Counter()
    last: collections.deque[str] = collections.deque(maxlen=20)
    longest = 0.0
    end = time.monotonic() + LONGEST_RUN_SECONDS
    done = 0
    while time.monotonic() < end and (done < count if until is None else not until.exists()):
        began = time.monotonic()
        try:
            name = one(address, port, timeout)
        except OSError as error:
            errors[type(error).__name__] += 1
            last.append(type(error).__name__)
        else:
            answers[name] += 1
            last.append(name)
        longest = max(longest, time.monotonic() - began)
        done += 1
        if until is not None:
            time.sleep(PAUSE_SECONDS)
    return {"answers": dict(answers), "errors": dict(errors), "longest": round(longest, 3), "last": list(last)}


def main() -> None:
    """Run as the arguments say."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address")
    parser.add_argument("port", type=int)
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=3.0)
    parser.add_argument("--until", type=pathlib.Path)
    parser.add_argument("--hold", type=pathlib.Path)
    arguments = parser.parse_args()
    if arguments.hold:
        result = hold(arguments.address, arguments.port, arguments.timeout, arguments.hold)
    else:
        result = many(arguments.address, arguments.port, arguments.timeout, arguments.count, arguments.until)
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
