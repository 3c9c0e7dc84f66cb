"""Calls from clients (tests, command line, demo) to the supervisor, over the unix socket RUN/lab.sock.

One connection per call: a JSON line {"method", "params"}; zero or more {"event"} lines and one {"result"} or
{"error"} line come back. A client that hangs up cancels its call. Client side synchronous, server side asyncio.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import socket
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any

from lvs_lab import errors
from lvs_lab.spec import Completed

Params = dict[str, Any]
Emit = Callable[[object], Awaitable[None]]
Handler = Callable[[str, Params, Emit], Awaitable[object]]
RawHandler = Callable[[Params, asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_LINE_LIMIT = 64 * 1024 * 1024
_REQUEST_TIMEOUT = 30.0


def _jsonable(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def _line(frame: object) -> bytes:
    return json.dumps(frame, default=_jsonable).encode() + b"\n"


class Server:
    """Accepts calls; `raw` methods get the connection once their request is read, and send {"result"} themselves."""

    def __init__(self, handler: Handler, raw: Mapping[str, RawHandler]) -> None:
        self._handler = handler
        self._raw = raw

    async def listen(self, path: Path) -> asyncio.Server:
        """Listen on a unix socket that only its owner may open."""
        mask = os.umask(0o177)
        try:
            return await asyncio.start_unix_server(self._serve, path, limit=_LINE_LIMIT)
        finally:
            os.umask(mask)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT):
                line = await reader.readline()
            if not line:
                return
            request = json.loads(line)
            if raw := self._raw.get(request["method"]):
                await self._serve_raw(raw, request["params"], reader, writer)
            else:
                await self._serve_call(request, reader, writer)
        except (OSError, ValueError, TimeoutError) as error:
            print(f"rpc: connection given up: {error!r}", flush=True)
        finally:
            writer.close()

    async def _serve_raw(
        self, handler: RawHandler, params: Params, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """The handler answers for itself, unless it fails."""
        try:
            await handler(params, reader, writer)
        except errors.LabError as error:
            writer.write(_line({"error": str(error), "type": type(error).__name__}))

    async def _serve_call(
        self, request: dict[str, Any], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        async def emit(event: object) -> None:
            writer.write(_line({"event": event}))
            await writer.drain()

        work = asyncio.create_task(self._reply(writer, self._handler(request["method"], request["params"], emit)))
        gone = asyncio.create_task(reader.read(1))
        await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
        for task in (work, gone):
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work
        with contextlib.suppress(asyncio.CancelledError, OSError):
            await gone

    async def _reply(self, writer: asyncio.StreamWriter, work: Awaitable[object]) -> None:
        try:
            frame: dict[str, object] = {"result": await work}
        except errors.CommandFailed as error:
            failed = {"where": error.where, "argv": error.argv, "completed": error.completed}
            frame = {"error": str(error), "type": "CommandFailed", "data": failed}
        except Exception as error:  # noqa: BLE001 - the caller's to handle, and the log's
            print(f"rpc: {type(error).__name__}: {error}", flush=True)
            known = isinstance(error, errors.LabError)
            frame = {"error": str(error) if known else f"{type(error).__name__}: {error}"}
            frame["type"] = type(error).__name__ if known else "LabError"
        writer.write(_line(frame))
        with contextlib.suppress(ConnectionError):  # the caller is gone: nobody to tell
            await writer.drain()


def connect(path: Path, method: str, params: Params, timeout: float | None) -> socket.socket:
    """Open a connection and send a request. Raises StartFailed when no supervisor listens there."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(timeout)
    try:
        client.connect(str(path))
        client.sendall(_line({"method": method, "params": params}))
    except OSError as error:
        client.close()
        raise errors.StartFailed(f"the lab at {path.parent} does not run: {error}") from error
    return client


def call(
    path: Path,
    method: str,
    params: Params,
    *,
    timeout: float | None,
    on_event: Callable[[Any], None] | None = None,
) -> Any:  # noqa: ANN401 - JSON
    """Call the supervisor and wait for the result; `timeout` in seconds between two lines of answer.

    Raises what the method raised (errors.py), CommandTimeout when the supervisor does not answer.
    """
    with connect(path, method, params, timeout) as client, client.makefile("rb") as lines:
        try:
            for line in lines:
                frame = json.loads(line)
                if "event" in frame:
                    if on_event is not None:
                        on_event(frame["event"])
                    continue
                if "error" in frame:
                    raise _exception(frame)
                return frame["result"]
        except TimeoutError as error:
            raise errors.CommandTimeout(f"{method}: the lab did not answer within {timeout} s") from error
        except ConnectionError as error:
            raise errors.StartFailed(f"{method}: the lab has ended: {error}") from error
    raise errors.StartFailed(f"{method}: the lab has ended")


def read_answer(client: socket.socket) -> None:
    """Read the first line of a raw method's answer, byte by byte: what follows is not ours. Raises what it raised."""
    line = b""
    while not line.endswith(b"\n"):
        byte = client.recv(1)
        if not byte:
            raise errors.StartFailed("the lab has ended")
        line += byte
    frame = json.loads(line)
    if "error" in frame:
        raise _exception(frame)


def _exception(frame: dict[str, Any]) -> errors.LabError:
    if frame["type"] == "CommandFailed":
        data = frame["data"]
        return errors.CommandFailed(data["where"], data["argv"], Completed(**data["completed"]))
    kind = getattr(errors, frame["type"], errors.LabError)
    return kind(frame["error"]) if issubclass(kind, errors.LabError) else errors.LabError(frame["error"])
