"""Asks for a load: the lvs-agent of a node, or an application at a real server. One exchange, bounded in everything."""

import socket
from typing import Final

import msgspec

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError, explained
from lvs_dr.agent.health.connection import CheckFailedError, Plain, connect, connected, open_socket
from lvs_dr.agent.health.deadline import Deadline, StolenTime
from lvs_dr.agent.health.http_message import MOST_HEAD, Body, HttpFormatError, head, request
from lvs_dr.agent.load import answers
from lvs_dr.agent.load.answers import AnswerError, Saying
from lvs_dr.agent.load.server import LOAD_PATH
from lvs_dr.core.checks import HttpCheck
from lvs_dr.core.load_spec import LoadQuestion, LoadSource
from lvs_dr.core.loads import ServerLoad, Sockets

MOST_BODY: Final = 256 * 1024  # bytes of a number, JSON or an agent's report
MOST_METRICS: Final = 2 * 1024 * 1024  # of a page of metrics
_OK: Final = 200
_decoder: Final = msgspec.json.Decoder(ServerLoad)


class LoadUnknownError(Exception):
    """Nobody knows the load. The text is for people."""


class Asker:
    """Asks. `port`: where the agents of nodes answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._stolen = StolenTime()

    async def __call__(self, question: LoadQuestion, sockets: Sockets, seconds: float) -> ServerLoad | Saying:
        """Ask once, for `seconds` at most. Raises LoadUnknownError."""
        port = question.port or self._port
        attempt = Attempt(question.address, port, seconds)
        deadline = Deadline(seconds, self._stolen)
        try:
            async with deadline:
                return await _answer(attempt, question, sockets)
        except TimeoutError as error:
            late = "this director is too busy to ask" if deadline.starved else attempt.too_slow
            raise LoadUnknownError(_at(attempt, late)) from error
        except (CannotCheckError, CheckFailedError, HttpFormatError, AnswerError) as error:
            raise LoadUnknownError(_at(attempt, str(error))) from error
        except OSError as error:
            raise LoadUnknownError(_at(attempt, _words(error))) from error


def _at(attempt: Attempt, text: str) -> str:
    return f"{attempt.address} port {attempt.port}: {text}"


def _words(error: OSError) -> str:
    try:
        return explained(error)
    except CannotCheckError as ours:
        return str(ours)


async def _answer(attempt: Attempt, question: LoadQuestion, sockets: Sockets) -> ServerLoad | Saying:
    match question.source:
        case LoadSource.AGENT_CHECK:
            return answers.agent_check(await _line(attempt))
        case LoadSource.HTTP:
            body = await _get(attempt, question.path or "/", MOST_BODY)
            return answers.pointed(body, question.json_pointer) if question.json_pointer else answers.plain(body)
        case LoadSource.PROMETHEUS:
            return answers.prometheus(await _get(attempt, question.path or "/metrics", MOST_METRICS), question.metric)
        case _:
            query = "" if sockets is Sockets.NONE else f"?sockets={sockets}"
            try:
                return _decoder.decode(await _get(attempt, LOAD_PATH + query, MOST_BODY))
            except msgspec.MsgspecError as error:
                raise AnswerError(f"that is no lvs-agent's load: {error}") from error


async def _line(attempt: Attempt) -> bytes:
    """Return the line that is said to whoever connects."""
    with open_socket(attempt, socket.SOCK_STREAM) as connection:
        await connect(connection, attempt)
        attempt.reached = "it accepts the connection, but says nothing"
        peer, heard = Plain(connection), b""
        while b"\n" not in heard and len(heard) < answers.MOST_LINE:
            more = await peer.receive(answers.MOST_LINE - len(heard))
            if not more:
                break
            heard += more
        return heard


async def _get(attempt: Attempt, path: str, most: int) -> bytes:
    """Return the body of a page."""
    try:
        asked = request(HttpCheck(path=path), attempt.address, attempt.port)
    except ValueError as error:
        raise AnswerError(str(error)) from error
    async with connected(attempt) as peer:
        await peer.send(asked)
        heard, found = b"", None
        while found is None:
            more = await peer.receive(MOST_HEAD)
            if not more:
                raise AnswerError("it closes the connection without an answer")
            heard += more
            found = head(heard, len(heard) - len(more))
        if found.status != _OK:
            raise AnswerError(f"answered {found.status}, expected {_OK}")
        attempt.reached = "the answer does not end"
        body, read = Body(found), bytearray(b"")
        heard = heard[found.size :]
        while True:
            read += body.feed(heard)
            if len(read) > most:
                raise AnswerError(f"the answer has more than {most} bytes")
            if body.complete:
                return bytes(read)
            heard = await peer.receive(MOST_HEAD)
            if not heard:
                if found.length > len(read) or found.chunked:
                    raise AnswerError("it closes the connection in the middle of the answer")
                return bytes(read)
