"""The node's control server: runs what the lab asks for. Standard library only; one thread per connection.

One request per connection: a JSON line {"op": …}; answers are JSON lines. It listens in the network namespace
`control`, where no fault of a test can reach it, and runs commands in the node's own.
"""

import codecs
import contextlib
import ctypes
import fcntl
import json
import os
import pty
import selectors
import signal
import socket
import struct
import subprocess
import termios
import threading
import time
from pathlib import Path
from typing import Any, BinaryIO

PORT = 2602
_CHUNK = 65536
_PROBE_BODY = 1024

_children: dict[int, subprocess.Popen[bytes]] = {}
_libc = ctypes.CDLL(None, use_errno=True)


class Connection:
    """A client, which has sent its request line."""

    def __init__(self, client: socket.socket) -> None:
        self.client = client
        self._rest = b""

    def request(self) -> dict[str, Any]:
        """Read the request line. Raises ValueError for anything else."""
        data = bytearray()
        while b"\n" not in data:
            chunk = self.client.recv(_CHUNK)
            if not chunk:
                raise ValueError("no request")
            data += chunk
        line, _, self._rest = bytes(data).partition(b"\n")
        request: dict[str, Any] = json.loads(line)
        return request

    def send(self, frame: dict[str, object]) -> None:
        """Send one answer line."""
        self.client.sendall(json.dumps(frame).encode() + b"\n")


def _environment(request: dict[str, Any]) -> dict[str, str]:
    base = {} if request.get("clear_env") else dict(os.environ)
    return {**base, **request.get("env", {})}


def op_ping(connection: Connection, _request: dict[str, Any]) -> None:
    """Answer, with this kernel's clock."""
    connection.send({"time": time.time(), "uptime": time.monotonic()})


def op_run(connection: Connection, request: dict[str, Any]) -> None:
    """Run a command, stream its output; a client that hangs up ends it."""
    child = subprocess.Popen(
        request["argv"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=_environment(request),
        cwd=request.get("cwd", "/"),
        start_new_session=True,
    )
    assert child.stdin is not None and child.stdout is not None and child.stderr is not None  # noqa: PT018, S101
    threading.Thread(target=_feed, args=(child.stdin, request.get("stdin", "").encode()), daemon=True).start()
    decoders = {name: codecs.getincrementaldecoder("utf-8")("replace") for name in ("stdout", "stderr")}
    ended = os.pidfd_open(child.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(child.stdout, selectors.EVENT_READ, "stdout")
            selector.register(child.stderr, selectors.EVENT_READ, "stderr")
            selector.register(connection.client, selectors.EVENT_READ, "client")
            selector.register(ended, selectors.EVENT_READ, "ended")
            # A daemon that the command left behind may hold the pipes: its end is enough, once they are empty.
            while events := selector.select(0 if ended not in selector.get_map() else None):
                for key, _ in events:
                    if key.data == "client":  # the request was complete, so this is the end of the client
                        _kill_group(child)
                        return
                    if key.data == "ended":
                        selector.unregister(ended)
                        continue
                    data = os.read(key.fd, _CHUNK)
                    if text := decoders[key.data].decode(data, final=not data):
                        connection.send({key.data: text})
                    if not data:
                        selector.unregister(key.fileobj)
    except OSError:
        _kill_group(child)
        raise
    finally:
        os.close(ended)
    connection.send({"exit": child.wait()})


def _feed(stdin: BinaryIO, data: bytes) -> None:
    with contextlib.suppress(OSError):  # the command need not read its input
        stdin.write(data)
        stdin.close()


def _kill_group(child: "subprocess.Popen[bytes]") -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def op_spawn(connection: Connection, request: dict[str, Any]) -> None:
    """Start a command that outlives the connection."""
    with open(request["log"], "ab") as log:  # noqa: PTH123
        child = subprocess.Popen(
            request["argv"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environment(request),
            cwd=request.get("cwd", "/"),
            start_new_session=True,
        )
    _children[child.pid] = child
    threading.Thread(target=child.wait, daemon=True).start()  # no zombie for want of a waiter
    connection.send({"pid": child.pid})


def op_wait(connection: Connection, request: dict[str, Any]) -> None:
    """Answer when a spawned command has ended."""
    connection.send({"exit": _children[request["pid"]].wait()})


def op_signal(connection: Connection, request: dict[str, Any]) -> None:
    """Send a signal; a process that has ended is no error."""
    pid, number = request["pid"], request["signal"]
    child = _children.get(pid)
    if child is not None and child.poll() is not None and not request.get("group"):
        connection.send({"sent": False})  # the number may belong to somebody else by now
        return
    try:
        (os.killpg if request.get("group") else os.kill)(pid, number)
    except ProcessLookupError:
        connection.send({"sent": False})
    else:
        connection.send({"sent": True})


def op_put(connection: Connection, request: dict[str, Any]) -> None:
    """Write a file."""
    path = Path(request["path"])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(request["content"])
    path.chmod(request["mode"])
    connection.send({})


def op_get(connection: Connection, request: dict[str, Any]) -> None:
    """Read a file."""
    connection.send({"content": Path(request["path"]).read_text(errors="replace")})


def op_tcp(connection: Connection, request: dict[str, Any]) -> None:
    """Try a TCP connection from the node."""
    try:
        with socket.create_connection((request["host"], request["port"]), timeout=request["timeout"]):
            connection.send({"reason": ""})
    except OSError as error:
        connection.send({"reason": str(error) or type(error).__name__})


def op_http(connection: Connection, request: dict[str, Any]) -> None:
    """Make a plain HTTP GET from the node: http.client costs too much memory and time to import here."""
    host, port = request["host"], request["port"]
    try:
        with socket.create_connection((host, port), timeout=request["timeout"]) as client:
            head = f"GET {request['path']} HTTP/1.0\r\nHost: {host}:{port}\r\nUser-Agent: kube-probe/lab\r\n\r\n"
            client.sendall(head.encode())
            answer = _read_limited(client, time.monotonic() + request["timeout"])
        head_text, _, body = answer.decode(errors="replace").partition("\r\n\r\n")
        connection.send({"status": int(head_text.split()[1]), "body": body[:_PROBE_BODY]})
    except (OSError, ValueError, IndexError) as error:
        connection.send({"status": 0, "body": str(error) or type(error).__name__})


def _read_limited(client: socket.socket, deadline: float) -> bytes:
    answer = b""
    while len(answer) < 16 * _PROBE_BODY and (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        chunk = client.recv(_CHUNK)
        if not chunk:
            break
        answer += chunk
    return answer


def op_terminate(connection: Connection, request: dict[str, Any]) -> None:
    """Ask every process on the node to end, as a shutdown does, and give them some time."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, signal.SIGTERM)
    deadline = time.monotonic() + request["grace"]
    while time.monotonic() < deadline and _user_processes():
        time.sleep(0.05)
    os.sync()
    connection.send({"left": _user_processes()})


def _user_processes() -> int:
    count = 0
    for entry in os.listdir("/proc"):  # noqa: PTH208 - cheaper here than pathlib
        if entry.isdigit() and int(entry) not in (1, os.getpid()):
            with contextlib.suppress(OSError):
                # Kernel threads and zombies have no command line.
                count += bool(Path("/proc", entry, "cmdline").read_bytes())
    return count


def op_shell(connection: Connection, request: dict[str, Any]) -> None:
    """Run a command on a terminal; after the answer line the connection carries the terminal's bytes."""
    pid, terminal = pty.fork()
    if not pid:
        os.chdir("/")
        os.execvpe(request["argv"][0], request["argv"], _environment(request))  # noqa: S606
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", *request["size"], 0, 0))
    connection.send({"pid": pid})
    with selectors.DefaultSelector() as selector:
        selector.register(connection.client, selectors.EVENT_READ)
        selector.register(terminal, selectors.EVENT_READ)
        with contextlib.suppress(OSError):  # EIO: the last process left the terminal
            while True:
                for key, _ in selector.select():
                    data = os.read(key.fd, _CHUNK)
                    if not data:
                        raise OSError
                    os.write(terminal, data) if key.fd != terminal else connection.client.sendall(data)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGHUP)
    os.close(terminal)
    os.waitpid(pid, 0)


OPERATIONS = {name.removeprefix("op_"): value for name, value in globals().items() if name.startswith("op_")}


def handle(client: socket.socket) -> None:
    """Serve one connection; whatever goes wrong is the client's answer, not the server's end."""
    with client:
        connection = Connection(client)
        try:
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            request = connection.request()
            OPERATIONS[request["op"]](connection, request)
        except (BrokenPipeError, ConnectionResetError):
            return
        except Exception as error:  # noqa: BLE001 - reported to the client
            with contextlib.suppress(OSError):
                connection.send({"error": f"{type(error).__name__}: {error}"})


def listen(address: str) -> socket.socket:
    """Open the listening socket in the namespace `control`; a socket stays where it was made."""
    own = os.open("/proc/self/ns/net", os.O_RDONLY)
    control = os.open("/run/netns/control", os.O_RDONLY)
    try:
        _enter(control)
        try:
            return socket.create_server((address, PORT), backlog=128)
        finally:
            _enter(own)
    finally:
        os.close(own)
        os.close(control)


def _enter(namespace: int) -> None:
    if _libc.setns(namespace, 0):
        raise OSError(ctypes.get_errno(), "setns")


def main(address: str) -> None:
    """Serve for ever."""
    signal.signal(signal.SIGTERM, lambda *_: None)  # a handler, since children would inherit SIG_IGN
    server = listen(address)
    while True:
        client, _ = server.accept()
        threading.Thread(target=handle, args=(client,), daemon=True).start()
