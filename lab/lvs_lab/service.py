"""What clients may ask of nodes: the supervisor's methods `node.*`."""

import asyncio
import contextlib
import json
from collections.abc import Coroutine, Mapping

from lvs_lab.errors import LabError
from lvs_lab.node import NodeHandle
from lvs_lab.rpc import Emit, Params, RawHandler
from lvs_lab.spec import Completed

_CHANGES = ("boot", "kill", "reboot", "freeze", "thaw", "cut_off", "reconnect", "netem", "clear_netem")
_QUERIES = ("spawn", "signal", "wait", "put_file", "read_file", "ping", "http_get")


class NodeService:
    """Calls by name on the nodes by name."""

    def __init__(self, nodes: Mapping[str, NodeHandle]) -> None:
        self._nodes = nodes

    @property
    def raw(self) -> Mapping[str, RawHandler]:
        """Return the methods that take over the connection."""
        return {"node.shell": self._shell}

    async def handle(self, name: str, params: Params, emit: Emit) -> object:
        """Serve node.NAME. Raises LabError for an unknown node or method."""
        node = self._node(params)
        rest = {key: value for key, value in params.items() if key != "node"}
        if name == "run":
            return await self._run(node, rest, emit)
        if name in _CHANGES or name in _QUERIES:
            return await getattr(node, name)(**rest)
        raise LabError(f"no method node.{name}")

    def _node(self, params: Params) -> NodeHandle:
        try:
            return self._nodes[params["node"]]
        except KeyError as error:
            raise LabError(f"no node {params.get('node')!r}: there are {', '.join(self._nodes)}") from error

    async def _run(self, node: NodeHandle, params: Params, emit: Emit) -> Completed:
        if not params.pop("stream", False):
            return await node.run(**params)

        async def output(stream: str, text: str) -> None:
            await emit({stream: text})

        return await node.run(**params, output=output)

    async def _shell(self, params: Params, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Join the client's connection with a terminal on the node until one of them ends."""
        node = self._node(params)
        async with node.channel.connection() as (node_reader, node_writer):
            frame = {"op": "shell", "argv": params["argv"], "size": params["size"]}
            node_writer.write(json.dumps(frame).encode() + b"\n")
            await node_reader.readline()
            writer.write(b'{"result": null}\n')
            await _first_of(_copy(reader, node_writer), _copy(node_reader, writer))


async def _copy(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await source.read(65536):
            target.write(data)
            await target.drain()


async def _first_of(*works: Coroutine[None, None, None]) -> None:
    tasks = [asyncio.create_task(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
