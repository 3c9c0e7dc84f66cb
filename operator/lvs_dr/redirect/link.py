"""The redirector's side of the Unix socket: connects to the agent, takes sockets and states, tells what is done."""

import asyncio
import logging
import os
import socket
from pathlib import Path
from typing import Final

from lvs_dr.redirect.channel import Channel
from lvs_dr.redirect.listeners import Listeners
from lvs_dr.redirect.messages import (
    PROTOCOL,
    SOCKETS_A_LINE,
    Hello,
    Loads,
    RefusedLine,
    Report,
    Sockets,
    State,
    for_redirector,
    line,
)

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 5.0
RETRY_SECONDS: Final = (0.1, 2.0)  # first and longest pause before connecting again
REPORT_SECONDS: Final = 1.0


class Link:
    """Follows the agent. While there is none, what was said last goes on being served."""

    def __init__(self, path: Path, listeners: Listeners, version: str) -> None:
        self._path = path
        self._listeners = listeners
        self._version = version
        self._told: Report | None = None
        self.connected = False
        self.configured = False
        self.refused_lines = 0

    async def run(self) -> None:
        """Connect again and again, for ever."""
        shortest, longest = RETRY_SECONDS
        pause, said = shortest, ""
        while True:
            try:
                await self._converse()
                trouble, pause = "the agent hung up", shortest
            except (OSError, TimeoutError, RefusedLine) as error:
                trouble = f"no agent at {self._path}: {error}"
            finally:
                self.connected = False
            if trouble != said:
                log.warning("%s; trying again", trouble)
                said = trouble
            await asyncio.sleep(pause)
            pause = min(pause * 2, longest)

    def ready(self) -> str:
        """Return what is missing; "" when everything asked for is served."""
        return self._listeners.missing() if self.configured else "there is no configuration from the agent yet"

    async def _converse(self) -> None:
        connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                await asyncio.get_running_loop().sock_connect(connected, str(self._path))
        except BaseException:
            connected.close()
            raise
        channel = Channel(connected)
        reporter: asyncio.Task[None] | None = None
        try:
            if channel.peer.uid not in (0, os.getuid()):
                raise RefusedLine(f"uid {channel.peer.uid} is no agent")
            await self._introduce(channel)
            self.connected, self._told = True, None
            log.info("connected to the agent")
            reporter = asyncio.create_task(self._report(channel))
            while data := await channel.line():
                await self._heard(channel, data)
        finally:
            if reporter is not None:
                reporter.cancel()
                await asyncio.gather(reporter, return_exceptions=True)
            channel.close()

    async def _introduce(self, channel: Channel) -> None:
        """Say who we are, and hand over the sockets that we have."""
        have = list(self._listeners.sockets.items())
        at = 0
        while True:
            part = have[at : at + SOCKETS_A_LINE]
            at += SOCKETS_A_LINE
            more = at < len(have)
            hello = Hello(PROTOCOL, self._version, tuple(key for key, _ in part), more)
            await channel.send(line(hello), [one for _, one in part])
            if not more:
                return

    async def _heard(self, channel: Channel, data: bytes) -> None:
        try:
            message = for_redirector(data)
        except RefusedLine as error:
            self.refused_lines += 1
            log.warning("the agent sent what is no message: %s", error)
            return
        if isinstance(message, Sockets):
            for key, one in zip(message.keys, channel.take(len(message.keys)), strict=True):
                self._listeners.give(key, one)
        elif isinstance(message, State):
            self._listeners.apply(message)
            self.configured = True
            await self._tell(channel)
        elif isinstance(message, Loads):
            self._listeners.loads(message.loads)

    async def _report(self, channel: Channel) -> None:
        """Tell the agent what changed, once a second at most."""
        try:
            while True:
                await asyncio.sleep(REPORT_SECONDS)
                await self._tell(channel)
        except (OSError, TimeoutError, RefusedLine) as error:
            log.warning("the agent does not take our reports: %s", error)
            channel.shut()

    async def _tell(self, channel: Channel) -> None:
        report = self._listeners.report()
        if report != self._told:
            self._told = report
            await channel.send(line(report))
