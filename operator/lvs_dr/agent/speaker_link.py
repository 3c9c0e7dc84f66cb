"""The connection to the speaker's control socket: kept up, asked, and listened to."""

import asyncio
import itertools
import json
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

from lvs_dr.agent.speaker_message import Told, decode

log = logging.getLogger(__name__)

CONNECT_SECONDS: Final = 2.0
ANSWER_SECONDS: Final = 5.0
ALIVE_SECONDS: Final = 2.0
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 2.0
LONGEST_LINE: Final = 4 * 1024 * 1024


class SpeakerGoneError(Exception):
    """The speaker does not answer."""


class SpeakerRefusedError(Exception):
    """The speaker does not do what it was asked; the message says why."""


class SpeakerLink:
    """Connects again and again. `greet` is called with each connection, `told` with each state, `lost` at its end.

    While `alive` says so the speaker hears every two seconds that the agent lives.
    """

    def __init__(
        self,
        path: Path,
        *,
        greet: Callable[[], Awaitable[None]],
        told: Callable[[Told], None],
        lost: Callable[[], Awaitable[None]],
        alive: Callable[[], bool],
    ) -> None:
        self._path = path
        self._greet = greet
        self._told = told
        self._lost = lost
        self._alive = alive
        self._writer: asyncio.StreamWriter | None = None
        self._answers: dict[str, asyncio.Future[Told]] = {}
        self._names = itertools.count(1)
        self.trouble = "not connected yet"

    @property
    def connected(self) -> bool:
        """Whether there is a connection."""
        return self._writer is not None

    async def ask(self, kind: str, configuration: Mapping[str, Any] | None = None) -> Told:
        """Send a request and return the answer. Raises SpeakerGoneError, SpeakerRefusedError."""
        if self._writer is None:
            raise SpeakerGoneError(self.trouble)
        name = str(next(self._names))
        answer: asyncio.Future[Told] = asyncio.get_running_loop().create_future()
        self._answers[name] = answer
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                self._writer.write(_line({"kind": kind, "id": name, "configuration": configuration}))
                await self._writer.drain()
                told = await answer
        except TimeoutError as error:
            self._hang_up(f"no answer within {ANSWER_SECONDS:.0f} s")
            raise SpeakerGoneError(self.trouble) from error
        except OSError as error:
            raise SpeakerGoneError(str(error)) from error
        finally:
            self._answers.pop(name, None)
        if told.kind == "refused":
            raise SpeakerRefusedError(told.message)
        return told

    async def run(self) -> None:
        """Keep up the connection until cancelled."""
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                async with asyncio.timeout(CONNECT_SECONDS):
                    reader, writer = await asyncio.open_unix_connection(self._path, limit=LONGEST_LINE)
            except (OSError, TimeoutError) as error:
                self.trouble = str(error) or f"no connection within {CONNECT_SECONDS:.0f} s"
            else:
                pause = FIRST_PAUSE_SECONDS
                await self._converse(reader, writer)
            await asyncio.sleep(pause)
            pause = min(LONGEST_PAUSE_SECONDS, 2 * pause)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        tasks = [asyncio.create_task(self._listen(reader)), asyncio.create_task(self._talk())]
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            failure = next((each.exception() for each in done if each.exception() is not None), None)
            self._hang_up(str(failure) if failure is not None else "it closed the connection")
            if failure is not None and not isinstance(failure, SpeakerGoneError | OSError | ValueError):
                log.error("the conversation with the speaker failed", exc_info=failure)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._hang_up("the connection was closed")
        log.warning("the speaker is lost: %s", self.trouble)
        await self._lost()

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        while line := await reader.readline():
            told = decode(line)
            if told.kind == "state":
                self._told(told)
            answer = self._answers.get(told.id)
            if answer is not None and not answer.done():
                answer.set_result(told)

    async def _talk(self) -> None:
        await self._greet()
        while True:
            if self._alive():
                await self.ask("alive")
            await asyncio.sleep(ALIVE_SECONDS)

    def _hang_up(self, why: str) -> None:
        writer, self._writer = self._writer, None
        if writer is None:
            return
        self.trouble = why
        writer.close()
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(SpeakerGoneError(why))


def _line(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode() + b"\n"
