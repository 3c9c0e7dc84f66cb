"""The agent's side: makes and keeps the listening sockets, and gives sockets and states to the redirector.

Because the agent keeps every socket, a connection that comes while the redirector restarts waits in the kernel's queue.
A redirector that outlives an agent hands its sockets back (Hello), so the next agent need not bind them anew. Imports
nothing of HTTP, so that it costs the agent no memory.
"""

import asyncio
import logging
import socket
from collections.abc import Callable, Collection, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Self

from lvs_dr.redirect.channel import Channel
from lvs_dr.redirect.messages import (
    SOCKETS_A_LINE,
    Hello,
    Listener,
    Load,
    Loads,
    RefusedLine,
    Report,
    Sockets,
    State,
    for_agent,
    line,
)
from lvs_dr.redirect.sockets import bound_key, listening_socket

log = logging.getLogger(__name__)

HELLO_SECONDS: Final = 10.0
RETRY_SECONDS: Final = 1.0


class Handoff:
    """Serves one redirector at a time at `path`; the newest connection counts. Use as `async with`.

    `uids`: who may connect. `on_report`: gets each report. Raises OSError if it cannot listen. Until the first `update`
    the redirector is told nothing and goes on with what it has: missing is not empty.
    """

    def __init__(
        self, path: Path, *, uids: Collection[int], on_report: Callable[[Report], None] = lambda _: None
    ) -> None:
        self._path = path
        self._uids = frozenset(uids)
        self._on_report = on_report
        self.state: State | None = None
        self.loads: tuple[Load, ...] = ()
        self._sockets: dict[str, socket.socket] = {}
        self._offered: dict[str, socket.socket] = {}  # by a redirector, before the first update
        self._door: socket.socket | None = None
        self._peer: _Peer | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self.problems: dict[str, str] = {}  # of sockets, by key
        self._said: set[str] = set()  # keys whose problem was logged
        self.report: Report | None = None  # the redirector's last; None when none is connected

    async def __aenter__(self) -> Self:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        temporary = self._path.with_name(self._path.name + ".new")
        temporary.unlink(missing_ok=True)
        self._door = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            self._door.bind(str(temporary))
            temporary.chmod(0o666)  # the redirector has another uid; who connects, the kernel says
            self._door.listen(8)
            temporary.replace(self._path)
        except BaseException:
            self._door.close()
            raise
        self._start(self._accept(self._door))
        self._start(self._retry())
        return self

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._door is not None:
            self._door.close()
        for one in (*self._sockets.values(), *self._offered.values()):
            one.close()
        self._sockets.clear()
        self._offered.clear()

    @property
    def connected(self) -> bool:
        """Whether a redirector is there."""
        return self._peer is not None

    @property
    def sockets(self) -> Mapping[str, socket.socket]:
        """The listening sockets by key."""
        return self._sockets

    def update(self, listeners: Sequence[Listener]) -> int:
        """Have the redirector do this, and nothing else; returns the revision that its report will show.

        Sockets that cannot be made are told in `problems` and tried again; the others are served meanwhile.
        """
        revision = self.state.revision + 1 if self.state is not None else 1
        self.state = State(revision=revision, listeners=tuple(listeners))
        wanted = {listener.key for listener in listeners}
        for key in self._sockets.keys() - wanted:
            self._sockets.pop(key).close()
        self.problems = {key: text for key, text in self.problems.items() if key in wanted}
        self._said &= wanted
        self._make_sockets()
        for left in self._offered.values():
            left.close()
        self._offered.clear()
        self._tell()
        return revision

    def tell_loads(self, loads: Sequence[Load]) -> None:
        """Pass on what real servers report."""
        self.loads = tuple(loads)
        if self._peer is not None:
            self._peer.loads_due = True
            self._tell()

    def _make_sockets(self) -> bool:
        """Make what is missing; tells whether there is something new."""
        made = False
        for listener in self.state.listeners if self.state is not None else ():
            key = listener.key
            if key in self._sockets:
                continue
            try:
                offered = key in self._offered
                self._sockets[key] = (
                    self._offered.pop(key) if offered else listening_socket(listener.address, listener.port)
                )
                self.problems.pop(key, None)
                self._said.discard(key)
                made = True
            except OSError as error:
                text = f"cannot listen on {key}: {error.strerror or error}"
                # Not at the first time: a redirector that outlived an agent is about to hand its sockets over.
                if self.problems.get(key) == text and key not in self._said:
                    log.warning("%s", text)
                    self._said.add(key)
                self.problems[key] = text
        return made

    def adopt(self, offered: Mapping[str, socket.socket]) -> None:
        """Take sockets that a redirector has from an earlier agent, as far as they are what they are said to be."""
        for key, one in offered.items():
            if key in self._sockets or key in self._offered or bound_key(one) != key:
                one.close()
            else:
                self._offered[key] = one
        if self.state is not None:
            self._make_sockets()
            for left in self._offered.values():
                left.close()
            self._offered.clear()

    def _tell(self) -> None:
        if self._peer is not None:
            self._peer.wake.set()

    async def _retry(self) -> None:
        """Try again to make the sockets that are missing."""
        while True:
            await asyncio.sleep(RETRY_SECONDS)
            if self.problems and self._make_sockets():
                self._tell()

    async def _accept(self, door: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                client, _ = await loop.sock_accept(door)
            except OSError as error:
                log.warning("a redirector could not connect: %s", error)
                await asyncio.sleep(RETRY_SECONDS)
                continue
            channel = Channel(client)
            if channel.peer.uid not in self._uids:
                log.warning("a process of uid %d may not connect as the redirector", channel.peer.uid)
                channel.close()
                continue
            self._start(self._serve(channel))

    async def _serve(self, channel: Channel) -> None:
        """Talk with a redirector until it leaves."""
        peer = _Peer(channel)
        sender: asyncio.Task[None] | None = None
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                peer.given = await _hello(channel)
            self.adopt({key: one.dup() for key, one in peer.given.items()})
            if self._peer is not None:
                self._peer.channel.shut()
            self._peer = peer
            sender = asyncio.create_task(self._send(peer))
            while data := await channel.line():
                self._heard(data)
        except (OSError, RefusedLine, TimeoutError) as error:
            log.warning("the redirector was hung up on: %s", error)
        finally:
            if self._peer is peer:
                self._peer = self.report = None
            try:
                if sender is not None:
                    sender.cancel()
                    await asyncio.gather(sender, return_exceptions=True)
            finally:  # also when the agent stops meanwhile
                peer.close()

    def _heard(self, data: bytes) -> None:
        try:
            message = for_agent(data)
        except RefusedLine as error:
            log.warning("the redirector sent what is no message: %s", error)
            return
        if isinstance(message, Report):
            self.report = message
            self._on_report(message)

    async def _send(self, peer: "_Peer") -> None:
        """Send what the redirector has not got, whenever there is something."""
        try:
            while True:
                await peer.wake.wait()
                peer.wake.clear()
                await peer.send_sockets(self._sockets)
                state = self.state
                if state is not None and state.revision != peer.revision:
                    await peer.channel.send(line(state))
                    peer.revision = state.revision
                if peer.loads_due:
                    peer.loads_due = False
                    await peer.channel.send(line(Loads(self.loads)))
        except (OSError, RefusedLine, TimeoutError) as error:
            log.warning("the redirector cannot be told: %s", error)
            peer.channel.shut()

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Peer:
    """A connected redirector, and what it has been given."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.given: dict[str, socket.socket] = {}
        self.revision = 0
        self.loads_due = True
        self.wake = asyncio.Event()
        self.wake.set()

    async def send_sockets(self, sockets: Mapping[str, socket.socket]) -> None:
        """Send the sockets that it has not got: by what is open, not by name."""
        new = {key: one for key, one in sockets.items() if key not in self.given or not _same(self.given[key], one)}
        keys = tuple(new)
        for at in range(0, len(keys), SOCKETS_A_LINE):
            part = keys[at : at + SOCKETS_A_LINE]
            await self.channel.send(line(Sockets(part)), [new[key] for key in part])
        for key in tuple(self.given):
            if key in new or key not in sockets:
                self.given.pop(key).close()
        self.given.update({key: one.dup() for key, one in new.items()})

    def close(self) -> None:
        """Hang up."""
        self.channel.close()
        for one in self.given.values():
            one.close()
        self.given.clear()


async def _hello(channel: Channel) -> dict[str, socket.socket]:
    """Read what a redirector introduces itself with. Raises RefusedLine."""
    offered: dict[str, socket.socket] = {}
    while True:
        message = for_agent(await channel.line())
        if not isinstance(message, Hello):
            raise RefusedLine("a redirector begins with hello")
        offered.update(zip(message.keys, channel.take(len(message.keys)), strict=True))
        if not message.more:
            return offered


def _same(one: socket.socket, other: socket.socket) -> bool:
    """Tell whether two descriptors are one socket: each socket has its own cookie while the machine runs."""
    cookie = 57  # SO_COOKIE, include/uapi/asm-generic/socket.h
    return one.getsockopt(socket.SOL_SOCKET, cookie, 8) == other.getsockopt(socket.SOL_SOCKET, cookie, 8)
