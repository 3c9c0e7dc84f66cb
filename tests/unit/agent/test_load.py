"""What a node tells of its load, and how directors hear it."""

import asyncio
import math
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.agent.load import answers
from lvs_dr.agent.load.answers import AnswerError
from lvs_dr.agent.load.answers import Saying as Said
from lvs_dr.agent.load.asking import Asker, LoadUnknownError
from lvs_dr.agent.load.reader import LoadReader, Want
from lvs_dr.agent.load.sampler import FORGET_SECONDS
from lvs_dr.agent.load.server import LoadServer
from lvs_dr.core.load_spec import LoadQuestion, LoadSource
from lvs_dr.core.loads import Part, PortLoad, ServerLoad, Sockets
from lvs_dr.core.node_status import InterfaceReport
from lvs_dr.netlink.sock_diag import TcpSocket, TcpState
from tests.unit.agent.load_servers import LoadedNode, page, saying

VIP = socket.inet_aton("192.0.2.100")
LISTENER = TcpSocket(bytes(4), 443, TcpState.LISTEN, 1, -1)
OWN = (InterfaceReport("eth0", ("127.0.0.0/8",)),)


def connection(cookie: int, received: int = 0, *, address: bytes = VIP, port: int = 443) -> TcpSocket:
    """Return an established connection."""
    return TcpSocket(address, port, TcpState.ESTABLISHED, cookie, received)


@pytest.fixture
def node(tmp_path: Path) -> LoadedNode:
    """A node."""
    return LoadedNode(tmp_path)


# What is read


def test_a_report_has_all_that_the_kernel_tells(node: LoadedNode) -> None:
    """A number from the wrong column would steer the traffic."""
    node.pressure(123_456)
    node.running(4)
    node.traffic(received=5000, sent=70_000)
    load = node.sampler().sample(["eth0"])
    assert (load.node, load.milliseconds) == ("storage-1", 1_000_000)
    assert (load.cpu_stall_microseconds, load.running) == (123_456, 3), "without the one that reads it"
    assert [(each.name, each.received_bytes, each.sent_bytes, each.megabits) for each in load.interfaces] == [
        ("eth0", 5000, 70_000, 1000)
    ]
    assert load.processors >= 1
    assert load.troubles == ()
    assert (load.ports, node.table.dumps) == ((), 0), "sockets are looked at for those who ask for them"


def test_what_the_kernel_does_not_have_is_said_and_spoils_nothing_else(node: LoadedNode) -> None:
    """A kernel without PSI would read as an idle machine, or tell nothing at all."""
    (node.proc / "pressure/cpu").unlink()
    (node.network / "eth0/speed").write_text("-1\n")
    node.table.broken = True
    node.running(3)
    load = node.sampler().sample(["eth0"], Sockets.COUNT)
    assert load.running == 2
    assert load.interfaces[0].megabits == 0
    assert "built without PSI" in load.trouble(Part.CPU_PRESSURE)
    assert "ENOENT" in load.trouble(Part.SOCKETS)


def test_connections_count_at_the_ports_that_somebody_listens_on(node: LoadedNode) -> None:
    """Connections that the server itself opened, to a database for example, are not its clients'."""
    rip = socket.inet_aton("192.0.2.11")
    node.table.found = [
        LISTENER,
        connection(2),
        connection(3),
        connection(4, address=rip),
        connection(5, address=rip, port=50_123),
    ]
    load = node.sampler().sample(["eth0"], Sockets.COUNT)
    assert load.ports == (PortLoad("192.0.2.11", 443, 1), PortLoad("192.0.2.100", 443, 2))
    assert load.sockets is Sockets.COUNT


def test_received_bytes_only_grow(node: LoadedNode) -> None:
    """A counter that falls when a connection ends would look like a server that began anew."""
    sampler = node.sampler()

    def received() -> int:
        (port,) = sampler.sample(["eth0"], Sockets.BYTES).ports
        return port.received_bytes

    node.table.found = [LISTENER, connection(2, 1000), connection(3, 500)]
    assert received() == 1500
    node.table.found = [LISTENER, connection(3, 700)]
    assert received() == 1700
    node.table.found = [LISTENER]
    assert received() == 1700
    sampler.sample(["eth0"], Sockets.COUNT)
    node.table.found = [LISTENER, connection(4, 10)]
    assert received() == 1710
    node.now += FORGET_SECONDS + 1
    assert received() == 10, "nobody asked for long: it begins anew, as the one who asks knows how to read"


# What is answered


class Page:
    """The page of a node, and how to ask for it."""

    def __init__(self, node: LoadedNode, server: LoadServer) -> None:
        self.node = node
        self.port = server.port

    async def get(self, path: str, host: str = "127.0.0.1") -> tuple[int, str]:
        """Ask as a client does that is not ours."""
        async with aiohttp.ClientSession() as session, session.get(f"http://{host}:{self.port}{path}") as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def served(node: LoadedNode) -> AsyncIterator[Page]:
    """A node that answers on 127.0.0.1."""
    async with LoadServer("127.0.0.1:0", node.sampler(), own=lambda: OWN) as server:
        yield Page(node, server)


async def test_the_page_is_the_report(served: Page) -> None:
    """Directors hear what the kernel says."""
    served.node.running(6)
    status, text = await served.get("/load")
    assert status == 200
    load = msgspec.json.decode(text, type=ServerLoad)
    assert (load.running, load.sockets) == (5, Sockets.NONE)
    served.node.table.found = [LISTENER, connection(2)]
    load = msgspec.json.decode((await served.get("/load?sockets=count"))[1], type=ServerLoad)
    assert load.ports == (PortLoad("192.0.2.100", 443, 1),)
    for path in ("/", "/metrics", "/load?sockets=all", "/load?x"):
        assert (await served.get(path))[0] == 404


async def test_many_who_ask_at_once_cost_one_look(served: Page) -> None:
    """Sixteen directors would make a busy server list its sockets sixteen times."""
    found = await asyncio.gather(*(served.get("/load?sockets=count") for _ in range(16)))
    assert {status for status, _ in found} == {200}
    assert served.node.table.dumps <= 2


async def test_a_vip_does_not_answer(node: LoadedNode) -> None:
    """Clients of the service could read how busy each server is."""
    asked = "127.0.0.1"
    loopback_is_no_vip = LoadServer("127.0.0.1:0", node.sampler(), own=lambda: ())
    assert (await loopback_is_no_vip.page("/load", "", asked)).code == 200
    assert (await loopback_is_no_vip.page("/load", "", "192.0.2.100")).code == 403
    assert (await loopback_is_no_vip.page("/load", "", "fe80::1%eth0")).code == 403
    own = LoadServer("127.0.0.1:0", node.sampler(), own=lambda: (InterfaceReport("eth0", ("192.0.2.11/24",)),))
    assert (await own.page("/load", "", "192.0.2.11")).code == 200
    new = LoadServer("127.0.0.1:0", node.sampler(), own=lambda: None)
    assert (await new.page("/load", "", "192.0.2.11")).code == 503


# What is asked


async def ask(port: int, source: LoadSource | None, seconds: float = 5.0, **more: str) -> ServerLoad | Said:
    """Ask once."""
    question = LoadQuestion("127.0.0.1", source, port if source is not None else 0, **more)
    return await Asker(port)(question, Sockets.COUNT, seconds)


async def test_an_agent_is_heard(served: Page) -> None:
    """The two ends of the channel understand each other."""
    served.node.table.found = [LISTENER, connection(2)]
    load = await ask(served.port, None)
    assert isinstance(load, ServerLoad)
    assert (load.node, load.ports) == ("storage-1", (PortLoad("192.0.2.100", 443, 1),))


@pytest.mark.parametrize(
    ("answer", "source", "more", "said"),
    [
        (b"up 75%\n", LoadSource.AGENT_CHECK, {}, Said(75)),
        (b"drain\r\n", LoadSource.AGENT_CHECK, {}, Said(100, "drain")),
        (b"50%", LoadSource.AGENT_CHECK, {}, Said(50)),
        (page(b"12.5\n"), LoadSource.HTTP, {"path": "/load"}, Said(12.5)),
        (page(b'{"queue": [1, {"jobs": 7}]}'), LoadSource.HTTP, {"json_pointer": "/queue/1/jobs"}, Said(7)),
        (
            page(b'# HELP jobs Jobs.\njobs{kind="a"} 3\njobs{kind="b"} 4 1700000000000\njobs_total 99\n'),
            LoadSource.PROMETHEUS,
            {"metric": "jobs"},
            Said(7),
        ),
        (
            page(b'jobs{kind="a",x="y"} 3\njobs{kind="b"} 4\n'),
            LoadSource.PROMETHEUS,
            {"metric": 'jobs{kind="a"}'},
            Said(3),
        ),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n12\r\n1\r\n3\r\n0\r\n\r\n",
            LoadSource.HTTP,
            {},
            Said(123),
        ),
        (b"HTTP/1.0 200 OK\r\n\r\n77", LoadSource.HTTP, {}, Said(77)),
    ],
)
async def test_applications_are_heard(answer: bytes, source: LoadSource, more: dict[str, str], said: Said) -> None:
    """Each protocol as its documentation has it."""
    async with saying(answer) as server:
        assert await ask(server.port, source, **more) == said
        if answer.startswith(b"HTTP/") and "path" in more:
            assert server.asked[0].startswith(b"GET /load HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "source", "more", "words"),
    [
        (None, LoadSource.AGENT_CHECK, {}, "says nothing within 0.1 s"),
        (b"\n", LoadSource.AGENT_CHECK, {}, "neither a percentage nor a state"),
        (b"x" * 5000, LoadSource.AGENT_CHECK, {}, "neither a percentage nor a state"),
        (page(b"busy"), LoadSource.HTTP, {}, "answered 'busy', which is no number"),
        (page(b"nan"), LoadSource.HTTP, {}, "finite and not negative"),
        (page(b"-1"), LoadSource.HTTP, {}, "finite and not negative"),
        (page(b"1", 503), LoadSource.HTTP, {}, "answered 503, expected 200"),
        (page(b"{}"), LoadSource.HTTP, {"json_pointer": "/a"}, "nothing at /a"),
        (page(b'{"a": "1"}'), LoadSource.HTTP, {"json_pointer": "/a"}, "what is at /a is no number"),
        (page(b'{"a": true}'), LoadSource.HTTP, {"json_pointer": "/a"}, "what is at /a is no number"),
        (page(b'{"a":' + b"9" * 400 + b"}"), LoadSource.HTTP, {"json_pointer": "/a"}, "too large"),
        (page(b"[" * 5000), LoadSource.HTTP, {"json_pointer": "/a"}, "no JSON"),
        (page(b"x" * 300_000), LoadSource.HTTP, {}, "more than 262144 bytes"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1", LoadSource.HTTP, {}, "in the middle of the answer"),
        (page(b"other 1\n"), LoadSource.PROMETHEUS, {"metric": "jobs"}, "the page has no jobs"),
        (page(b"{}"), None, {}, "no lvs-agent's load"),
        (b"SSH-2.0-server\r\n", LoadSource.AGENT_CHECK, {}, "neither a percentage nor a state"),
        (b"HTTP/2 200\r\n\r\n", LoadSource.HTTP, {}, "no HTTP/1"),
    ],
)  # fmt: skip
async def test_what_is_no_load_is_said_to_be_none(
    answer: bytes | None, source: LoadSource | None, more: dict[str, str], words: str
) -> None:
    """An error page would read as a number, or as 0."""
    async with saying(answer) as server:
        with pytest.raises(LoadUnknownError) as caught:
            await ask(server.port, source, 0.1 if answer is None else 5.0, **more)
    assert words in str(caught.value)
    assert str(caught.value).startswith("127.0.0.1 port ")


async def test_who_is_not_there_is_named() -> None:
    """The user is told which address and port to look at."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with pytest.raises(LoadUnknownError, match=r"port [0-9]+: connection refused"):
            await ask(bound.getsockname()[1], LoadSource.HTTP)


@settings(deadline=None)
@given(st.binary(max_size=200), st.sampled_from(["/a/0", ""]))
def test_whatever_applications_say_is_a_load_or_refused(heard: bytes, pointer: str) -> None:
    """A hostile server must not stop the director."""
    for read in (
        answers.agent_check,
        answers.plain,
        lambda body: answers.pointed(body, pointer),
        lambda body: answers.prometheus(body, "a"),
        lambda body: answers.prometheus(b'a{b="c"} 1\na{' + body, 'a{b="c"}'),
    ):
        try:
            found = read(heard)
        except AnswerError:
            continue
        assert 0 <= found.number < math.inf


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b"up 75% maxconn:30 # fine\n", Said(75)),
        (b"ready, 50%\n", Said(50)),
        (b"maint\n", Said(100, "maint")),
        (b"down # disk 90% full\n", Said(100, "down")),
        (b"Stopped\n", Said(100, "stopped")),
        (b"0%\nup\n", Said(0)),
    ],
)
def test_agent_checks_are_read_as_haproxy_reads_them(line: bytes, said: Said) -> None:
    """The same script serves HAProxy and us."""
    assert answers.agent_check(line) == said


# Who asks, and how often


class Answering:
    """Answers questions, or not."""

    def __init__(self) -> None:
        self.asked: list[tuple[LoadQuestion, Sockets]] = []
        self.silent = False
        self.again = asyncio.Event()

    async def __call__(self, question: LoadQuestion, sockets: Sockets, seconds: float) -> ServerLoad | Said:
        """Answer."""
        assert seconds > 0
        self.asked.append((question, sockets))
        self.again.set()
        if self.silent:
            raise LoadUnknownError("nobody is there")
        return ServerLoad("storage-1", len(self.asked))

    async def rounds(self, count: int) -> None:
        """Wait until it was asked again, several times."""
        for _ in range(count):
            self.again.clear()
            async with asyncio.timeout(5):
                await self.again.wait()


async def test_equal_questions_are_asked_once_and_as_often_as_somebody_needs() -> None:
    """A server behind a hundred services would be asked a hundred times."""
    answering, question = Answering(), LoadQuestion("192.0.2.11")
    reader = LoadReader(answering)
    task = asyncio.create_task(reader.run())
    reader.want("weights", {question: Want(0.01)})
    reader.want("redirect", {question: Want(60.0, Sockets.BYTES)})
    await answering.rounds(3)
    assert {sockets for _, sockets in answering.asked} == {Sockets.BYTES}
    heard = reader.heard(question)
    assert heard is not None
    assert isinstance(heard.answer, ServerLoad)
    assert isinstance(heard.before, ServerLoad)
    assert heard.before.milliseconds == heard.answer.milliseconds - 1
    reader.want("weights", {})
    reader.want("redirect", {})
    assert reader.heard(question) is None, "what nobody needs is forgotten"
    before = len(answering.asked)
    other = LoadQuestion("192.0.2.12")
    reader.want("weights", {other: Want(0.01)})
    await answering.rounds(3)
    assert {each for each, _ in answering.asked[before + 1 :]} == {other}
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_silence_is_told_once_and_asking_goes_on() -> None:
    """A node that was away for a minute would never be asked again."""
    answering, question, news = Answering(), LoadQuestion("192.0.2.11"), asyncio.Event()
    reader = LoadReader(answering, heard=news.set)
    task = asyncio.create_task(reader.run())
    answering.silent = True
    reader.want("weights", {question: Want(0.01)})
    await asyncio.wait_for(news.wait(), 5)
    news.clear()
    assert reader.trouble(question) == "nobody is there"
    await answering.rounds(3)
    assert not news.is_set()
    answering.silent = False
    await asyncio.wait_for(news.wait(), 5)
    assert reader.trouble(question) == ""
    assert reader.heard(question) is not None
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
