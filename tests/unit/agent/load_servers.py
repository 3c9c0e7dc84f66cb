"""A node whose load is in files, a kernel's list of sockets, and servers that say what they are told to say."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from lvs_dr.agent.load.sampler import Sampler
from lvs_dr.netlink.errors import NetlinkError
from lvs_dr.netlink.sock_diag import SocketTable, TcpSocket

DEV = """Inter-|   Receive                                                |  Transmit
 face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed
    lo:     100       1    0    0    0     0          0         0      100       1    0    0    0     0       0          0
  eth0: {received}      10    0    0    0     0          0         0 {sent}      20    0    0    0     0       0          0
"""  # noqa: E501 - as the kernel prints it


class Table(SocketTable):
    """A kernel's list of sockets; `broken`: it has none."""

    def __init__(self) -> None:
        self.found: list[TcpSocket] = []
        self.broken = False
        self.dumps = 0

    def sockets(self, states: Iterable[int], *, port: int = 0, received: bool = False) -> Iterator[TcpSocket]:
        """List them."""
        self.dumps += 1
        if self.broken:
            raise NetlinkError(2)
        wanted = frozenset(states)
        for each in self.found:
            if each.state in wanted and port in (0, each.port):
                yield each if received else each._replace(received=-1)

    def close(self) -> None:
        """Nothing is open."""


class LoadedNode:
    """A node's kernel as far as its load goes."""

    def __init__(self, directory: Path) -> None:
        self.proc, self.network = directory / "proc", directory / "net"
        self.table = Table()
        self.now = 1000.0
        (self.proc / "pressure").mkdir(parents=True)
        (self.proc / "net").mkdir()
        (self.network / "eth0").mkdir(parents=True)
        (self.network / "eth0" / "speed").write_text("1000\n")
        self.pressure(0)
        self.running(1)
        self.traffic(0, 0)

    def pressure(self, microseconds: int) -> None:
        """Set the counter of /proc/pressure/cpu."""
        text = f"some avg10=1.00 avg60=2.00 avg300=3.00 total={microseconds}\nfull avg10=0.00 total=0\n"
        (self.proc / "pressure/cpu").write_text(text)

    def running(self, tasks: int) -> None:
        """Set the number of running tasks."""
        (self.proc / "loadavg").write_text(f"0.50 0.40 0.30 {tasks}/345 6789\n")

    def traffic(self, received: int, sent: int) -> None:
        """Set the counters of eth0."""
        (self.proc / "net/dev").write_text(DEV.format(received=received, sent=sent))

    def sampler(self) -> Sampler:
        """Return what reads it."""
        return Sampler(
            "storage-1",
            proc=self.proc,
            network=self.network,
            open_table=lambda: self.table,
            clock=lambda: self.now,
        )


class Saying:
    """A server that says the same to everybody: `answer`, or nothing at all while it is None."""

    def __init__(self, answer: bytes | None) -> None:
        self.answer = answer
        self.asked: list[bytes] = []
        self.port = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer one."""
        task = asyncio.current_task()
        assert task is not None
        self.tasks.add(task)
        if self.answer is None:
            self.asked.append(await reader.read(4096))
            await reader.read()
        elif self.answer.startswith(b"HTTP/"):
            self.asked.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(self.answer)
        else:
            self.asked.append(b"")
            writer.write(self.answer)
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def saying(answer: bytes | None) -> AsyncIterator[Saying]:
    """Run such a server on 127.0.0.1."""
    one = Saying(answer)
    server = await asyncio.start_server(one.serve, "127.0.0.1", 0)
    one.port = server.sockets[0].getsockname()[1]
    try:
        yield one
    finally:
        server.close()
        await asyncio.wait_for(asyncio.gather(*one.tasks), 5)


def page(body: bytes, status: int = 200) -> bytes:
    """Return an HTTP answer."""
    return b"HTTP/1.1 %d Fine\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body)
