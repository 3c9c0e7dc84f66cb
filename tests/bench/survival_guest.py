"""Runs inside the lab nodes of section `survival`.

    survival_guest.py director          on a director: makes it what the JSON on stdin says
    survival_guest.py move VIP          on a director: takes a VIP, and says so to its neighbours
    survival_guest.py fuse ADDRESS      on a director: takes eth0 down when a datagram comes, as when it lost its power
    survival_guest.py client JSON       on the client: opens connections, blows the fuse, says `dead`, and once the
                                        other director has the VIP finds out what still works
    survival_guest.py serve PORT        on a real server: echoes TCP, answers UDP with its name

Connections: `echo` sends a few bytes every second, `bulk` 32 KiB every second, `idle` nothing.
"""

import asyncio
import collections
import contextlib
import fcntl
import itertools
import json
import pathlib
import random
import socket
import struct
import subprocess
import sys
from typing import Any, NamedTuple

PAUSE_SECONDS = 1.0
BULK_BYTES = 32 * 1024
PATIENCE_SECONDS = 4.0
_PKTINFO = 8  # IP_PKTINFO, which the socket module does not name
FUSE_PORT = 9999
_GET_FLAGS, _SET_FLAGS, _UP = 0x8913, 0x8914, 1  # SIOCGIFFLAGS, SIOCSIFFLAGS, IFF_UP


def director(asked: dict[str, Any]) -> None:
    """Set sysctls, services, and daemons, each through the agent's kernel door."""
    from lvs_dr.agent.kernel.node import NodeKernel  # noqa: PLC0415 - only here, the client starts faster without
    from lvs_dr.core import kernel as core  # noqa: PLC0415
    from lvs_dr.core.scope import IPVS  # noqa: PLC0415
    from lvs_dr.core.settings import sysctl_key  # noqa: PLC0415
    from lvs_dr.core.sync import DAEMONS  # noqa: PLC0415

    node = NodeKernel()
    there = node.read(frozenset(), IPVS)
    ops: list[core.Op] = [core.DaemonOp(core.Verb.DELETE, key) for key in there.daemons]
    ops += [core.ServiceOp(core.Verb.DELETE, key) for key in there.services]
    ops += [core.SysctlOp(core.Verb.SET, sysctl_key(name), value) for name, value in asked["sysctls"].items()]
    if asked.get("service"):
        service = core.ServiceKey(*asked["service"])
        ops.append(core.ServiceOp(core.Verb.ADD, service, core.ServiceConfig(*asked["config"])))
        for address in asked["servers"]:
            key = core.DestinationKey(service, address, service.port)
            ops.append(core.DestinationOp(core.Verb.ADD, key, core.DestinationConfig(1)))
    for key in DAEMONS:
        if key.state in asked["daemons"]:
            ops.append(core.DaemonOp(core.Verb.ADD, key, core.DaemonConfig(*asked["daemons"][key.state])))
    failures = node.apply(ops)
    node.close()
    if failures:
        raise SystemExit("; ".join(failure.message for failure in failures))
    if asked.get("vip"):
        move(asked["vip"])


def move(vip: str) -> None:
    """Take a VIP and tell the neighbours."""
    from lvs_dr.netlink import arp, ndp  # noqa: PLC0415
    from lvs_dr.netlink.ethernet import ETH_P_ARP, ETH_P_IPV6  # noqa: PLC0415
    from lvs_dr.netlink.packet import PacketSocket  # noqa: PLC0415

    six = ":" in vip
    host = [f"{vip}/128", "dev", "eth0", "nodad"] if six else [f"{vip}/32", "dev", "eth0"]
    subprocess.run(["ip", "address", "add", *host], check=True, timeout=10)
    mac = bytes.fromhex(pathlib.Path("/sys/class/net/eth0/address").read_text().strip().replace(":", ""))
    with PacketSocket("eth0", ETH_P_IPV6 if six else ETH_P_ARP) as opened:
        frames = (
            [ndp.unsolicited_advertisement(mac, vip)]
            if six
            else [arp.gratuitous_request(mac, vip), arp.gratuitous_reply(mac, vip)]
        )
        for frame in frames:
            opened.send(frame)


def fuse(address: str) -> None:
    """Take the interface down when a datagram comes: at once, without starting another program."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as listener:
        listener.bind((address, FUSE_PORT))
        print("armed", flush=True)
        while listener.recv(16):
            request = fcntl.ioctl(listener, _GET_FLAGS, struct.pack("16sh14x", b"eth0", 0))
            name, flags = struct.unpack("16sh14x", request)
            fcntl.ioctl(listener, _SET_FLAGS, struct.pack("16sh14x", name, flags & ~_UP))


async def tcp(source: str, address: str, port: int, kind: str, failed: asyncio.Event) -> tuple[Any, str]:
    """Open a connection that does what its kind does until the director has failed."""
    reader, writer = await asyncio.wait_for(
        asyncio.open_connection(address, port, local_addr=(source, 0) if source else None), PATIENCE_SECONDS
    )
    name = ""
    if kind == "client":
        writer.write(b"?")
        name = (await asyncio.wait_for(reader.readline(), PATIENCE_SECONDS)).decode().strip()
    if kind in ("idle", "client"):
        return (reader, writer, None), name
    return (
        reader,
        writer,
        asyncio.create_task(busy(reader, writer, BULK_BYTES if kind == "bulk" else 64, failed)),
    ), name


async def busy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, size: int, failed: asyncio.Event) -> bool:
    """Send and get back until the director has failed; tell whether the connection held."""
    try:
        while not failed.is_set():
            writer.write(b"x" * size)
            await reader.readexactly(size)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(failed.wait(), PAUSE_SECONDS)
    except (OSError, asyncio.IncompleteReadError):
        return False
    return True


async def alive(connection: Any) -> bool:
    """Tell whether a connection still carries both ways."""
    reader, writer, task = connection
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            if task is not None and not await task:
                return False
            writer.write(b"y" * 64)
            return await reader.readexactly(64) == b"y" * 64
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return False
    finally:
        if task is not None:
            task.cancel()
        writer.transport.abort()


class Datagrams(asyncio.DatagramProtocol):
    """A client's UDP port: who answered last."""

    def __init__(self) -> None:
        self.name = ""
        self.heard = asyncio.Event()

    def datagram_received(self, data: bytes, addr: object) -> None:  # noqa: ARG002
        """Take an answer."""
        self.name = data.decode()
        self.heard.set()


async def ask(transport: asyncio.DatagramTransport, protocol: Datagrams) -> str:
    """Send until somebody answers; return who."""
    for _ in range(int(PATIENCE_SECONDS / 0.25)):
        protocol.heard.clear()
        transport.sendto(b"?")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(protocol.heard.wait(), 0.25)
            return protocol.name
    return ""


async def there(path: str) -> None:
    """Wait until a file is there."""
    async with asyncio.timeout(120):
        while not await asyncio.to_thread(pathlib.Path(path).exists):  # noqa: ASYNC110 - a file tells nothing
            await asyncio.sleep(0.02)


class Opened(NamedTuple):
    """A connection, who answered, and which address of the client it came from."""

    age: float
    kind: str
    connection: Any
    name: str
    source: str


async def client(asked: dict[str, Any]) -> None:
    """Open everything, blow the fuse, find out what is left; print one JSON object."""
    failed = asyncio.Event()
    margin = asked["margin"]  # seconds that it takes to open those of one age: they are at least so old
    begun = asyncio.get_running_loop().time()
    dies = begun + max(age for age, _, _ in asked["bursts"]) + margin
    sources = itertools.cycle(asked["sources"] or [""])
    where = asked["address"], asked["port"]
    opened: list[Opened] = []
    for age, kind, count in sorted(asked["bursts"], reverse=True):
        await asyncio.sleep(max(0.0, dies - margin - age - asyncio.get_running_loop().time()))
        opened += [await one_more(age, kind, next(sources), where, failed) for _ in range(count)]
    print("opened", flush=True)
    if asked["hold"]:
        await there(asked["hold"])
    # From the end of the last burst on, so that a slow machine makes them older, not younger.
    await asyncio.sleep(max(dies - asyncio.get_running_loop().time(), min(asked["bursts"])[0]))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"!", (asked["fuse"], FUSE_PORT))
    print("dead", flush=True)
    await there(asked["file"])
    failed.set()
    random.shuffle(opened)  # a scheduler that starts anew would deal out the same servers in the same order
    results = await asyncio.gather(*(check(one, where) for one in opened))
    counts = collections.Counter(
        f"{one.age:g} {one.kind} {'kept' if good else 'lost'}" for one, good in zip(opened, results, strict=True)
    )
    print(json.dumps(counts), flush=True)


async def one_more(age: float, kind: str, source: str, where: tuple[str, int], failed: asyncio.Event) -> Opened:
    """Open one."""
    if kind == "udp":
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, remote_addr=where)
        name = await ask(transport, protocol)
        await ask(transport, protocol)
        return Opened(age, kind, (transport, protocol), name, source)
    connection, name = await tcp(source, *where, kind, failed)
    if kind == "client":  # persistence: the connection ends, its template stays
        connection[1].transport.abort()
    return Opened(age, kind, connection, name, source)


async def check(one: Opened, where: tuple[str, int]) -> bool:
    """Tell whether it goes on as before: carries both ways, or reaches the same real server."""
    if one.kind == "udp":
        return one.name != "" and await ask(*one.connection) == one.name
    if one.kind == "client":
        try:
            again, name = await tcp(one.source, *where, "client", asyncio.Event())
        except (OSError, TimeoutError):
            return False
        again[1].transport.abort()
        return name == one.name
    return await alive(one.connection)


async def serve(port: int) -> None:
    """Echo TCP, or answer a question mark with this node's name; answer UDP with it. A connection gets no greeting."""
    name = socket.gethostname().encode() + b"\n"

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                writer.write(name if data == b"?" else data)
                await writer.drain()
        writer.transport.abort()

    listener = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    listener.setsockopt(socket.IPPROTO_IP, _PKTINFO, 1)
    listener.setblocking(False)
    listener.bind(("0.0.0.0", port))

    def answer() -> None:
        _, ancillary, _, peer = listener.recvmsg(64, 64)
        local = next(data[8:12] for _, kind, data in ancillary if kind == _PKTINFO)
        listener.sendmsg([name], [(socket.IPPROTO_IP, _PKTINFO, bytes(4) + local + bytes(4))], 0, peer)

    asyncio.get_running_loop().add_reader(listener, answer)
    servers = [await asyncio.start_server(talk, address, port, backlog=1024) for address in ("0.0.0.0", "::")]
    print("serving", flush=True)
    await asyncio.gather(*(server.serve_forever() for server in servers))


def main() -> None:
    """Do what the arguments say."""
    what, *rest = sys.argv[1:]
    if what == "director":
        director(json.load(sys.stdin))
    elif what == "move":
        move(rest[0])
    elif what == "fuse":
        fuse(rest[0])
    elif what == "serve":
        asyncio.run(serve(int(rest[0])))
    else:
        asyncio.run(client(json.loads(rest[0])))


if __name__ == "__main__":
    main()
