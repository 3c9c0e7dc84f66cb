"""The agent's own pass over given tables, and the ways it is compared with. Used by `ipvs_guest` inside a lab node."""

import contextlib
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from lvs_dr.agent.assigner import Assigner
from lvs_dr.agent.desired import DesiredState
from lvs_dr.agent.door import KernelDoor
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.prober import Prober
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.kernel.node import NodeKernel
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.watch import Metadata, Seen, Unreadable
from lvs_dr.core.kernel import Failure, Op
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TablePort
from lvs_dr.netlink import ipvs_encode as encode
from lvs_dr.netlink.ipvs import (
    FAMILY_NAME,
    DestinationConfig,
    DestinationKey,
    Forwarding,
    ServiceConfig,
    ServiceKey,
)
from lvs_dr.netlink.message import HEADER, NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR
from lvs_dr.netlink.socket import CHUNK_BYTES, GenericNetlinkSocket
from lvs_dr.netlink.transport import open_transport
from lvs_dr.vrrp.messages import Assignment, SpeakerState

PORT = 80
WEIGHT = 100
CONFIG = ServiceConfig("wlc", 0, 0, 32, "")
DIRECT = DestinationConfig(WEIGHT, Forwarding.DIRECT_ROUTING, 0, 0, 0, 0, 0)


def vip(number: int) -> str:
    """Address of one service."""
    return f"10.9.{number >> 8}.{number & 255}"


def rip(number: int) -> str:
    """Address of one real server."""
    return f"10.1.{number >> 8}.{number & 255}"


def keys(services: int) -> list[ServiceKey]:
    """Keys of all services."""
    return [ServiceKey(vip(number), PORT, socket.IPPROTO_TCP, 0, socket.AF_INET) for number in range(services)]


def table(number: int, destinations: int, first_weight: int = WEIGHT) -> DirectorTableSpec:
    """One DirectorTable as the controller would compile it."""
    entries = tuple(
        TableDestination(f"server-{one}", rip(one), WEIGHT if one else first_weight) for one in range(destinations)
    )
    return DirectorTableSpec(
        "default", 1, vip(number), (TablePort(PORT, Protocol.TCP),), CONFIG.scheduler, OnFailure.REMOVE, entries
    )


class IdleSpeaker:
    """Holds no VIP: what is measured is the way to IPVS."""

    async def assign(self, assignment: Assignment) -> SpeakerState:  # noqa: ARG002
        """Hold nothing."""
        return self.state()

    def state(self) -> SpeakerState:
        """Hold nothing."""
        return SpeakerState("", ())

    async def announce(self) -> None:
        """Hold nothing."""


class Node:
    """A node's agent from watch to kernel, without an API server. `messages` counts IPVS changes sent since `take`."""

    def __init__(self, directory: Path) -> None:
        self._kernel = NodeKernel()
        self.door = KernelDoor(self._kernel, seconds=120.0)
        self.ledger = LedgerFile(directory, self._kernel.boot_id())
        self.state = DesiredState("node", wake=lambda: None)
        self.messages = 0
        self.node_pass = NodePass(
            source=self.state,
            in_force=InForce("node"),
            door=self.door,
            ledger=self.ledger,
            assigner=Assigner(IdleSpeaker(), wake=lambda: None),
            prober=Prober(changed=lambda: None, check=Checkers()),
        )
        self._apply = self._kernel.apply
        self._kernel.apply = self._counted  # type: ignore[method-assign]

    def follow(self, tables: Sequence[DirectorTableSpec]) -> None:
        """Take tables as a watch would after its list."""
        names = tuple(f"default/service-{number}" for number in range(len(tables)))
        spec = LVSNodeSpec(decided=True, director=DirectorRole("default", tables=names))
        self.state.nodes.replaced({"node": Seen(Metadata("node", uid="1", generation=1), spec)})
        seen: Mapping[str, Seen[DirectorTableSpec] | Unreadable] = {
            name: Seen(Metadata(name.split("/")[1], "default", "1", generation=1), one)
            for name, one in zip(names, tables, strict=True)
        }
        self.state.tables.replaced(seen)

    def change(self, number: int, changed: DirectorTableSpec, generation: int) -> None:
        """Take a new version of one table."""
        self.state.tables.changed(Seen(Metadata(f"service-{number}", "default", "1", generation=generation), changed))

    async def once(self, *, deep: bool = True) -> float:
        """Make one pass as the resync does, or (not `deep`) as a watch event does; return its seconds."""
        began = time.perf_counter()
        seen = await self.node_pass.once(deep=deep)
        ended = time.perf_counter()
        if seen.done is None or seen.done.failures:
            raise SystemExit(f"the pass failed: {seen.done.failures[:3] if seen.done else 'nothing was done'}")
        return ended - began

    def take(self) -> int:
        """Return how many IPVS changes were sent since the last call."""
        count, self.messages = self.messages, 0
        return count

    def _counted(self, ops: Sequence[Op]) -> tuple[Failure, ...]:
        self.messages += len(ops)
        return self._apply(ops)


class Bare:
    """The limit: datagrams made before the clock starts, sent and received without looking into them."""

    def __init__(self) -> None:
        with GenericNetlinkSocket(FAMILY_NAME) as opened:
            self._family = opened.family_number
        self._socket = open_transport(60.0)
        self._buffer = bytearray(64 * 1024)
        self._sequence = 1

    def batch(self, services: int, destinations: int) -> list[bytes]:
        """Encode a whole table as datagrams, the last message of each asking for an answer."""
        servers = [DestinationKey(rip(number), PORT, socket.AF_INET) for number in range(destinations)]
        messages: list[bytes] = []
        for key in keys(services):
            messages.append(encode.new_service(key, CONFIG))
            messages += [encode.new_destination(key, server, DIRECT) for server in servers]
        datagrams: list[bytes] = []
        chunk: list[bytes] = []
        size = 0
        for message in messages:
            if size + len(message) > CHUNK_BYTES:
                datagrams.append(self._numbered(chunk, NLM_F_REQUEST, NLM_F_ACK))
                chunk, size = [], 0
            chunk.append(message)
            size += len(message)
        return [*datagrams, self._numbered(chunk, NLM_F_REQUEST, NLM_F_ACK)]

    def send(self, datagrams: Sequence[bytes]) -> float:
        """Send a batch and wait for the answer to each datagram; return the seconds."""
        began = time.perf_counter()
        for datagram in datagrams:
            self._socket.send(datagram)
            size = self._socket.recv_into(self._buffer)
            if size != 36 or any(self._buffer[16:20]):  # an acknowledgement: two headers and a 0
                raise SystemExit(f"the kernel refused something: {bytes(self._buffer[:size]).hex()}")
        return time.perf_counter() - began

    def questions(self, services: int) -> list[bytes]:
        """Encode the requests of a whole read."""
        asked = [encode.get_services(), *(encode.get_destinations(key) for key in keys(services))]
        return [self._numbered([one], NLM_F_REQUEST | NLM_F_DUMP, 0) for one in asked]

    def dump(self, questions: Sequence[bytes]) -> float:
        """Read a whole table, looking only for the end of each dump; return the seconds."""
        transport, buffer = self._socket, self._buffer
        began = time.perf_counter()
        for question in questions:
            transport.send(question)
            while True:
                size = transport.recv_into(buffer)
                if buffer[4] == NLMSG_ERROR:
                    raise SystemExit(f"the kernel refused a dump: {bytes(buffer[:size]).hex()}")
                if buffer[4] == NLMSG_DONE:
                    break
        return time.perf_counter() - began

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _numbered(self, messages: Sequence[bytes], flags: int, last: int) -> bytes:
        datagram = bytearray(b"".join(messages))
        position = 0
        for message in messages:
            added = last if position + len(message) == len(datagram) else 0
            HEADER.pack_into(datagram, position, len(message), self._family, flags | added, self._sequence, 0)
            self._sequence += 1
            position += len(message)
        return bytes(datagram)


def ipvsadm(services: int, destinations: int) -> float:
    """Restore the same table with `ipvsadm -R`; return the seconds."""
    lines: list[str] = []
    for number in range(services):
        to = f"-t {vip(number)}:{PORT}"
        lines.append(f"-A {to} -s {CONFIG.scheduler}")
        lines += [f"-a {to} -r {rip(one)}:{PORT} -g -w {WEIGHT}" for one in range(destinations)]
    rules = "\n".join(lines) + "\n"
    began = time.perf_counter()
    subprocess.run(["ipvsadm", "-R"], input=rules, text=True, check=True, timeout=600)
    return time.perf_counter() - began


def pyroute2(services: int, destinations: int) -> float:
    """Add the same table with pyroute2's synchronous IPVS; return the seconds."""
    from pyroute2 import IPVS  # noqa: PLC0415 - imports for seconds, and only where it is needed
    from pyroute2.ipvs import IPVSDest, IPVSService  # noqa: PLC0415

    with IPVS() as opened:
        began = time.perf_counter()
        for number in range(services):
            service = IPVSService(
                af=socket.AF_INET,
                addr=vip(number),
                port=PORT,
                protocol=socket.IPPROTO_TCP,
                sched_name=CONFIG.scheduler,
            )
            opened.service("add", service=service)
            for one in range(destinations):
                server = IPVSDest(addr=rip(one), port=PORT, weight=WEIGHT, fwd_method=3)
                opened.dest("add", service=service, dest=server)
        return time.perf_counter() - began


def entries() -> int:
    """Count services and destinations in the kernel, as ipvsadm lists them."""
    done = subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, check=True, timeout=120)
    return len(done.stdout.splitlines())


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Node]:
    """Make a node's agent parts and end their thread."""
    directory.mkdir(parents=True, exist_ok=True)
    node = Node(directory)
    try:
        yield node
    finally:
        node.door.close()
