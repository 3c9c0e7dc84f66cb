"""Redirected tables from the API server to the answer that a client gets: agent and redirector on real sockets."""

import asyncio
import os
import random
import socket
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from lvs_dr.agent import redirects
from lvs_dr.agent.drains import DrainCounts
from lvs_dr.agent.load.answers import Saying
from lvs_dr.agent.load.reader import LoadReader
from lvs_dr.agent.redirects import PATIENCE_SECONDS, STARTING_SECONDS, Redirects
from lvs_dr.agent.secrets import Secret, SecretUnavailableError
from lvs_dr.core.desired import Desired, desired
from lvs_dr.core.drain_report import DrainReport
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.load_spec import LoadQuestion
from lvs_dr.core.loads import PortLoad, ServerLoad, Sockets
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.objects import ForwardingMethod, OnFailure, Protocol
from lvs_dr.core.redirect_spec import TableRedirect, TableToken
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableHealthCheck, TablePort, TcpCheck
from lvs_dr.process.metrics import Metrics
from lvs_dr.redirect.__main__ import METRICS, tally
from lvs_dr.redirect.link import Link
from lvs_dr.redirect.listeners import Listeners
from tests.unit.agent.bench import CHECK, DIRECTOR, TABLE, Bench, vrrp
from tests.unit.redirect.redirecting import first_answer, free_port, header, status

VIP = "127.0.0.9"
UPLOAD = b"PUT /a?b=c HTTP/1.1\r\nHost: vip\r\nContent-Length: 9\r\nExpect: 100-continue\r\n\r\n"


class Side:
    """A redirector in this process, which connects to the agent's socket."""

    def __init__(self, path: Path) -> None:
        self.listeners = Listeners(
            tally=tally(Metrics(METRICS)), uniform=random.Random(1).random, wall=time.time, most_connections=100
        )
        self.link = Link(path, self.listeners, "test")
        self.tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Follow the agent."""
        self.tasks = [asyncio.create_task(self.link.run()), asyncio.create_task(self.listeners.look_after())]

    async def kill(self) -> None:
        """End without a word."""
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        await self.listeners.drain(0)
        self.listeners.close()


@asynccontextmanager
async def redirector(path: Path) -> AsyncIterator[Side]:
    """Run a redirector."""
    side = Side(path)
    side.start()
    try:
        yield side
    finally:
        await side.kill()


def redirected(port: int, **changes: Any) -> dict[str, Any]:
    """Return a DirectorTable's fields: uploads to two real servers."""
    one, two = TABLE["destinations"]
    return {
        "address": VIP,
        "ports": [{"port": port, "protocol": "TCP"}],
        "scheduler": "wlc",
        "redirect": {"port": 8080, "algorithm": "rr"},
        "requires": ["redirect"],
        "destinations": [
            {**one, "forwarding": "Redirect", "hostname": "s1.example.org"},
            {**two, "forwarding": "Redirect"},
        ],
        **changes,
    }


async def serving(bench: Bench, tmp_path: Path, **changes: Any) -> int:
    """Have a director serve uploads; returns the port."""
    port = free_port()
    bench.more = {"redirector_socket": tmp_path / "agent.sock", "redirector_uids": (os.getuid(),)}
    await bench.node({**DIRECTOR, "director": DIRECTOR["director"] | vrrp(VIP)})
    await bench.table(**redirected(port, **changes))
    return port


async def location(port: int) -> str:
    """Return where an upload is sent, or the status code."""
    answer = await first_answer((VIP, port), UPLOAD)
    return header(answer, "Location") or str(status(answer))


async def locations(port: int) -> set[str]:
    """Return where four uploads are sent."""
    return {await location(port) for _ in range(4)}


S1, S2 = "http://s1.example.org:8080/a?b=c", "http://192.0.2.12:8080/a?b=c"


async def redirecting(port: int, *expected: str) -> None:
    """Wait until uploads are sent exactly there; `refused`: nowhere, nobody listens."""
    async with asyncio.timeout(10):
        while await found_at(port) != set(expected):  # noqa: ASYNC110 - a port tells nothing
            await asyncio.sleep(0.02)


async def found_at(port: int) -> set[str]:
    """Return where uploads are sent, also while sockets come and go."""
    try:
        return await locations(port)
    except ConnectionRefusedError:
        return {"refused"}
    except (ConnectionError, asyncio.IncompleteReadError):
        return set()


async def test_a_client_is_sent_to_a_real_server_and_ipvs_gets_nothing(bench: Bench, tmp_path: Path) -> None:
    """The director holds the VIP for it as for every service, and says that it has the table."""
    port = await serving(bench, tmp_path)
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        await bench.until(lambda: bench.speaker.held == {VIP})
        assert bench.kernel.services == {}
        told = await bench.api.status_where(lambda status: status["tables"][0].get("healthy") == 2)
        assert told["tables"][0]["generation"] == 1
        assert "exceptions" not in told["tables"][0]


async def test_a_failed_real_server_gets_no_upload(bench: Bench, tmp_path: Path) -> None:
    """Health is the same as for every other method, asked at the port that clients are sent to."""
    port = await serving(bench, tmp_path, healthCheck=CHECK)
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        assert {place[1] for place in bench.checks} == {8080}
        bench.down.add(("192.0.2.12", 8080))
        await redirecting(port, S1)
        await bench.api.status_where(lambda status: status["tables"][0]["healthy"] == 1)
        bench.down.clear()
        await redirecting(port, S1, S2)
        bench.down.update({("192.0.2.11", 8080), ("192.0.2.12", 8080)})
        await redirecting(port, "503")
        assert bench.speaker.held == {VIP}


async def test_below_the_quorum_clients_are_sent_to_the_sorry_server(bench: Bench, tmp_path: Path) -> None:
    """With no real server left they would get a bare 503."""
    sorry = {"realServer": "sorry", "address": "192.0.2.99", "weight": 1, "forwarding": "Redirect"}
    more = {"sorryServer": sorry, "sorryPort": 8000, "quorum": {"minimum": 2, "back": 2}}
    port = await serving(bench, tmp_path, healthCheck=CHECK, **more)
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        bench.down.add(("192.0.2.12", 8080))
        await redirecting(port, "http://192.0.2.99:8000/a?b=c")
        await bench.api.status_where(lambda status: "SorryServer" in str(status["tables"][0].get("exceptions")))
        bench.down.clear()
        await redirecting(port, S1, S2)


async def test_weight_0_and_changes_are_followed(bench: Bench, tmp_path: Path) -> None:
    """Maintenance and drain are weight 0 in the table."""
    port = await serving(bench, tmp_path)
    one, two = redirected(port)["destinations"]
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        await bench.table(**redirected(port, destinations=[{**one, "weight": 0}, two]))
        await redirecting(port, S2)
        await bench.table(**redirected(port, redirect={"port": 9000, "host": "{name}.up"}))
        await redirecting(port, "http://storage-1.up:9000/a?b=c", "http://storage-2.up:9000/a?b=c")


async def test_agent_and_redirector_outlive_each_other(bench: Bench, tmp_path: Path) -> None:
    """Either may be upgraded; no client is refused, and none gets an error."""
    port = await serving(bench, tmp_path, healthCheck=CHECK)
    path = tmp_path / "agent.sock"
    async with redirector(path):
        async with bench.running():
            await redirecting(port, S1, S2)
        assert await locations(port) == {S1, S2}, "without an agent"
        async with bench.running() as agent:
            await bench.until(lambda: agent.redirects.connected)
            for _ in range(5):
                assert await locations(port) == {S1, S2}
                await bench.passes(1)
            assert bench.speaker.held == {VIP}
            told = await bench.api.status_where(lambda status: status["tables"][0].get("healthy") == 2)
            assert "exceptions" not in told["tables"][0]
    async with bench.running() as agent:
        side = Side(path)
        side.start()
        await redirecting(port, S1, S2)
        await side.kill()
        waiting = asyncio.create_task(location(port))
        await bench.until(lambda: not agent.redirects.connected)
        await bench.passes(2)
        assert bench.speaker.held == {VIP}
        async with redirector(path):
            assert await waiting in {S1, S2}


async def test_a_removed_table_is_released_before_nobody_answers(bench: Bench, tmp_path: Path) -> None:
    """The VIP goes first, then the port."""
    port = await serving(bench, tmp_path)
    async with bench.running() as agent, redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        await bench.api.delete("directortables", "web/webdav")
        await bench.node({**DIRECTOR, "director": DIRECTOR["director"] | {"tables": [], **vrrp()}})
        await bench.until(lambda: not bench.speaker.held and not agent.redirects.count)
        await redirecting(port, "refused")


async def test_from_ipvs_to_redirect_nobody_is_refused(bench: Bench, tmp_path: Path) -> None:
    """While IPVS has the service it turns new clients away, and the redirector gets none: live connections must go."""
    port = await serving(bench, tmp_path)
    direct = {**TABLE, "address": VIP, "ports": [{"port": port, "protocol": "TCP"}], "redirect": None}
    await bench.table(**direct, requires=[])
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await bench.until(lambda: len(bench.kernel.destinations) == 2 and bench.speaker.held == {VIP})
        bench.kernel.connections = dict.fromkeys(bench.kernel.destinations, 7)
        await bench.table(**redirected(port))
        await bench.until(lambda: not bench.kernel.services, seconds=5)
        await redirecting(port, S1, S2)
        await bench.api.status_where(lambda status: status["tables"][0]["generation"] == 3)
        await bench.table(**direct, requires=[])
        await bench.until(lambda: len(bench.kernel.destinations) == 2)
        await redirecting(port, "refused")
        assert bench.speaker.held == {VIP}


async def test_a_paused_table_goes_on_as_it_is(bench: Bench, tmp_path: Path) -> None:
    """Pausing changes nothing for clients, whatever else is written to the table."""
    port = await serving(bench, tmp_path)
    async with bench.running(), redirector(tmp_path / "agent.sock"):
        await redirecting(port, S1, S2)
        await bench.table(**redirected(port, paused=True, destinations=[]))
        await bench.api.status_where(lambda status: status["tables"][0]["exceptions"][0]["reason"] == "Paused")
        await bench.passes(2)
        assert await locations(port) == {S1, S2}
        assert bench.speaker.held == {VIP}


async def test_without_the_component_the_user_is_told(bench: Bench, tmp_path: Path) -> None:
    """A service that nobody answers for looks like a dead one."""
    await serving(bench, tmp_path)
    bench.more = {}
    async with bench.running():
        told = await bench.api.status_where(lambda status: "exceptions" in status["tables"][0])
        [found] = told["tables"][0]["exceptions"]
        assert found["reason"] == "RedirectorUnavailable"
        assert "components/redirect" in found["message"]


# One Redirects by itself, with a clock of the test's.


class Clock:
    """Seconds, as the test says."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now


class Alone:
    """What a pass has to do with, without the pass."""

    def __init__(self, path: Path) -> None:
        self.clock = Clock()
        self.secrets: dict[str, dict[str, bytes]] = {}
        self.reader = LoadReader(self.ask)
        self.answer: ServerLoad | Saying = Saying(0.0)
        self.redirects = Redirects(path, uids=(os.getuid(),), secret=self.secret, loads=self.reader, clock=self.clock)

    async def ask(self, _: LoadQuestion, sockets: Sockets, __: float) -> ServerLoad | Saying:
        """Answer what the test says."""
        assert sockets is Sockets.BYTES
        return self.answer

    def secret(self, name: str) -> Secret:
        """Return what the test says."""
        if name not in self.secrets:
            raise SecretUnavailableError(f"Secret {name} has not been read yet")
        return Secret(name, "1", self.secrets[name])

    def states(self) -> dict[str, str]:
        """Return what the redirector is told of each real server."""
        assert self.redirects._handoff is not None
        assert self.redirects._handoff.state is not None
        [listener] = self.redirects._handoff.state.listeners
        return {each.name: each.state.value for each in listener.targets}

    def reasons(self) -> list[tuple[str, str]]:
        """Return what is told of the table."""
        return [(each.reason, each.message) for each in self.redirects.troubles().get("web/up", ())]


@pytest.fixture
async def alone(tmp_path: Path) -> AsyncIterator[Alone]:
    """A Redirects that runs."""
    found = Alone(tmp_path / "agent.sock")
    tasks = [asyncio.create_task(found.redirects.run()), asyncio.create_task(found.reader.run())]
    yield found
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def table(port: int, given: TableRedirect | None = None, **more: Any) -> DirectorTableSpec:
    """Return a table of two real servers on nodes."""
    method = ForwardingMethod.REDIRECT
    fields: dict[str, Any] = {
        "director_group": "default",
        "service_generation": 1,
        "address": VIP,
        "ports": (TablePort(port, Protocol.TCP),),
        "scheduler": "wlc",
        "on_failure": OnFailure.REMOVE,
        "redirect": given or TableRedirect(),
        "destinations": (
            TableDestination("storage-1", "192.0.2.11", 100, "storage-1", method),
            TableDestination("storage-2", "192.0.2.12", 100, "storage-2", method),
        ),
    }
    return DirectorTableSpec(**(fields | more))


def goal(spec: DirectorTableSpec, health: Mapping[CheckKey, Health] | None = None, **more: Any) -> Desired:
    """Return what a pass wants."""
    tables = {"web/up": spec, **more}
    return desired(LVSNodeSpec(decided=True), tables, health or {}, Ledger("boot"), held=frozenset(), reserved={})


async def test_a_port_that_somebody_else_has_is_told(alone: Alone) -> None:
    """Only what lasts: a redirector that is about to hand its sockets over is no trouble."""
    taken = socket.create_server((VIP, 0))
    alone.redirects.follow(goal(table(taken.getsockname()[1])))
    assert alone.reasons() == []
    assert not alone.redirects.news
    alone.clock.now += PATIENCE_SECONDS
    assert alone.redirects.news
    assert sorted(reason for reason, _ in alone.reasons()) == ["CannotListen", "RedirectorUnavailable"]
    taken.close()


async def test_unchecked_real_servers_go_on_as_they_were(alone: Alone) -> None:
    """A restart of the agent would send everybody away for the time of a check; a new server may be a dead one."""
    check = TableHealthCheck(TcpCheck())
    spec = table(8443, health_check=check)
    one, two = spec.destinations
    alone.redirects.follow(goal(replace(spec, destinations=(one,))))
    assert alone.states() == {"storage-1": "InService"}
    alone.clock.now += STARTING_SECONDS
    alone.redirects.follow(goal(replace(spec, destinations=(one, two))))
    assert alone.states() == {"storage-1": "InService", "storage-2": "Failed"}
    up = {CheckKey(each.address, 8443, check): Health.UP for each in (one, two)}
    alone.redirects.follow(goal(spec, up))
    assert alone.states() == {"storage-1": "InService", "storage-2": "InService"}
    alone.redirects.follow(goal(spec, dict.fromkeys(up, Health.DOWN)))
    assert set(alone.states().values()) == {"Failed"}


async def test_what_a_secret_lacks_is_told_and_takes_nothing_away(alone: Alone) -> None:
    """A Secret that is deleted, or a restart while the API server is away, would end every upload."""
    given = TableRedirect(tls_secret="tls", token=TableToken("keys", "k1"))  # noqa: S106 - a name
    assert alone.redirects._handoff is not None
    alone.redirects.follow(goal(table(8443, given)))
    alone.clock.now += PATIENCE_SECONDS
    alone.redirects.troubles()
    alone.clock.now += PATIENCE_SECONDS
    assert any("Secret keys has not been read" in text for _, text in alone.reasons())
    alone.secrets = {"tls": {"tls.crt": b"A", "tls.key": b"B"}, "keys": {"k2": b"x"}}
    alone.redirects.follow(goal(table(8443, given)))
    alone.redirects.troubles()
    alone.clock.now += PATIENCE_SECONDS
    assert any("Secret keys has no k1" in text for _, text in alone.reasons())
    alone.secrets["keys"] = {"k1": b"A" * 44 + b"\n"}
    alone.redirects.follow(goal(table(8443, given)))
    state = alone.redirects._handoff.state
    assert state is not None
    [listener] = state.listeners
    assert listener.tls is not None
    assert (listener.tls.certificate, listener.tls.key) == ("A", "B")
    assert listener.settings.token is not None
    assert listener.settings.token.key == "A" * 44


async def test_loads_of_real_servers_reach_the_redirector(alone: Alone, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without them every upload counts for a minute, however short it was."""
    monkeypatch.setattr(redirects, "LOAD_SECONDS", 0.05)
    alone.answer = ServerLoad(
        "storage-1",
        1000,
        ports=(PortLoad("192.0.2.11", 8080, 3, 500), PortLoad("10.0.0.1", 8080, 1, 50), PortLoad("10.0.0.1", 22, 9, 9)),
        sockets=Sockets.BYTES,
    )
    alone.redirects.follow(goal(table(8443, TableRedirect(port=8080))))
    handoff = alone.redirects._handoff
    assert handoff is not None
    async with asyncio.timeout(5):
        while len(handoff.loads) < 2:  # noqa: ASYNC110 - a tuple tells nobody
            await asyncio.sleep(0.01)
    assert {(each.address, each.port, each.established, each.inbound_bytes) for each in handoff.loads} == {
        ("192.0.2.11", 8080, 4, 550),
        ("192.0.2.12", 8080, 4, 550),
    }


def test_uploads_under_way_are_waited_for_before_a_server_is_idle() -> None:
    """A drain would end in the middle of an upload, which no director sees."""
    counts = DrainCounts()
    spec = table(8443)
    one, two = spec.destinations
    tables = {"web/up": replace(spec, destinations=(one, replace(two, weight=0, draining=True)))}
    place = ("web/up", "storage-2")
    told = [
        counts.follow(tables, KernelState(), now, in_flight)["web/up"][0]
        for now, in_flight in ((0.0, {}), (1.0, {place: 3}), (5.0, {}), (6.0, {place: 0}), (7.5, {place: 0}))
    ]
    assert told == [
        DrainReport("storage-2"),
        DrainReport("storage-2", 3),
        DrainReport("storage-2", 3),
        DrainReport("storage-2"),
        DrainReport("storage-2", idle=True),
    ]
