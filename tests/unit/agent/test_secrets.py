"""Certificates of checks: read by name, kept when the source is away, rotated without a restart, blamed by key."""

import asyncio
import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from lvs_dr.agent import secrets
from lvs_dr.agent.apiclient import ApiClient, ApiSettings
from lvs_dr.agent.health.attempt import CannotCheckError
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.secrets import Secret, Secrets, SecretUnavailableError
from lvs_dr.core.checks import GrpcCheck, HttpCheck, TlsSettings
from tests.unit.agent.bench import DIRECTOR, Bench
from tests.unit.agent.check_servers import AUTHORITY, NAME, TLS, ask, grpc_answer, server_tls, stream
from tests.unit.agent.fake_api import FakeApi

SERVER = (TLS / "server.pem").read_text()
EXPIRED = (TLS / "expired.pem").read_text()
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
SECRET = "check"  # noqa: S105 - its name
USING = TlsSettings(server_name=NAME, secret=SECRET)


def parts(pem: str) -> tuple[bytes, bytes]:
    """Return certificate and key of a file that has both."""
    start = pem.index("-----BEGIN CERTIFICATE-----")
    end = pem.index("-----END CERTIFICATE-----") + len("-----END CERTIFICATE-----\n")
    return pem[start:end].encode(), (pem[:start] + pem[end:]).encode()


CERTIFICATE, KEY = parts(SERVER)
WHOLE = {"tls.crt": CERTIFICATE, "tls.key": KEY, "ca.crt": AUTHORITY.encode()}


def asking(*alpn: str) -> ssl.SSLContext:
    """Return what a server needs that asks for a client's certificate."""
    context = server_tls("server", *alpn)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=AUTHORITY)
    return context


@contextlib.contextmanager
def telling() -> Iterator[int]:
    """Run a server that asks for a certificate and says what it has against one, as asyncio's does not."""
    context, listener = asking(), socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(5)
            talk = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
            with contextlib.suppress(ssl.SSLError):
                talk.do_handshake()
            with socket.socket(fileno=talk.detach()) as plain, contextlib.suppress(OSError):
                while plain.recv(4096):  # what is not read would reset the connection, and what was said be lost
                    pass

    with listener:
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


def checkers(**data: bytes) -> Checkers:
    """Return checkers whose one Secret holds this; `_` in a key stands for the dot."""
    held = Secret(SECRET, "1", {key.replace("_", "."): value for key, value in data.items()})
    return Checkers(secret=lambda _: held)


async def test_the_client_certificate_is_presented_and_the_secrets_authority_trusted() -> None:
    """Real servers that ask for a certificate could not be checked at all."""
    made = Checkers(secret=lambda name: Secret(name, "1", WHOLE))
    async with stream(OK, until=b"\r\n\r\n", tls=asking()) as server:
        assert await ask(server.port, checkers=made, http=HttpCheck(tls=USING)) == ""
    async with stream(grpc_answer(b"\x08\x01"), until=b"Check", tls=asking("h2")) as server:
        assert await ask(server.port, checkers=made, grpc=GrpcCheck(tls=USING)) == ""


async def test_authorities_alone_will_do() -> None:
    """An authority of one's own in one place, for real servers that ask for nothing."""
    async with stream(OK, until=b"\r\n\r\n", tls=server_tls()) as server:
        assert await ask(server.port, checkers=checkers(ca_crt=AUTHORITY.encode()), http=HttpCheck(tls=USING)) == ""


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({}, "neither tls.crt and tls.key, nor ca.crt"),
        ({"tls_crt": CERTIFICATE}, "has no tls.key"),
        ({"tls_key": KEY}, "has no tls.crt"),
        ({"tls_crt": b"nonsense", "tls_key": KEY}, "tls.crt cannot be read"),
        ({"tls_crt": CERTIFICATE, "tls_key": b"nonsense"}, "tls.key cannot be read"),
        ({"tls_crt": CERTIFICATE, "tls_key": parts(EXPIRED)[1]}, "tls.key does not belong to tls.crt"),
        ({"tls_crt": b"\xff", "tls_key": KEY}, "tls.crt is not in PEM form"),
        ({"ca_crt": b"nonsense"}, "ca.crt cannot be read"),
    ],
)
async def test_a_bad_secret_is_not_the_real_servers_fault(data: dict[str, bytes], said: str) -> None:
    """One mistake in a Secret would take every real server out; the message names the key to mend."""
    with pytest.raises(CannotCheckError, match=said):
        await ask(1, checkers=checkers(**data), http=HttpCheck(tls=USING))


async def test_a_certificate_that_is_not_accepted_is_not_the_real_servers_fault() -> None:
    """On the day the check's certificate expires the whole service would go down."""
    expired, key = parts(EXPIRED)
    made = checkers(tls_crt=expired, tls_key=key, ca_crt=AUTHORITY.encode())
    nothing = TlsSettings(server_name=NAME, ca_bundle=AUTHORITY)
    with telling() as port:
        with pytest.raises(CannotCheckError, match=r"does not accept tls.crt of Secret check: .*expired"):
            await ask(port, checkers=made, http=HttpCheck(tls=USING))
        assert "certificate required" in await ask(port, checkers=made, http=HttpCheck(tls=nothing))


async def test_one_that_was_never_read_says_why() -> None:
    """Whoever waits for the service must learn that a right is missing."""

    def unread(_: str) -> Secret:
        raise SecretUnavailableError("the agents may not read it")

    with pytest.raises(CannotCheckError, match="the agents may not read it"):
        await ask(1, checkers=Checkers(secret=unread), http=HttpCheck(tls=USING))


# Reading


def stored(**data: bytes) -> dict[str, str]:
    """Return a Secret's data as the API server has it."""
    return {key.replace("_", "."): base64.b64encode(value).decode() for key, value in data.items()}


class Reading:
    """Secrets read from a fake API."""

    def __init__(self, api: FakeApi, client: ApiClient) -> None:
        self.api = api
        self.news = asyncio.Event()
        self.secrets = Secrets(client, "lvs-system", changed=self.news.set)

    async def told(self) -> None:
        """Wait for news."""
        async with asyncio.timeout(5):
            await self.news.wait()
        self.news.clear()


@pytest.fixture
async def reading(api: FakeApi, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Reading]:
    """A running reader in a hurry."""
    monkeypatch.setattr(secrets, "READ_SECONDS", 0.02)
    monkeypatch.setattr(secrets, "AGAIN_SECONDS", 0.02)
    async with ApiClient(ApiSettings(api.url), seconds=2) as client:
        made = Reading(api, client)
        task = asyncio.create_task(made.secrets.run())
        yield made
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_a_changed_secret_counts_without_a_restart(reading: Reading) -> None:
    """A certificate that is renewed every few weeks would need somebody to restart all directors."""
    reading.api.secrets[SECRET] = stored(tls_crt=b"one")
    reading.secrets.want([SECRET])
    await reading.told()
    assert reading.secrets.read(SECRET).data == {"tls.crt": b"one"}
    reading.api.secrets[SECRET] = stored(tls_crt=b"two")
    await reading.told()
    assert reading.secrets.read(SECRET).data == {"tls.crt": b"two"}
    assert reading.secrets.problems() == ()


async def test_what_was_read_is_used_on_and_what_is_wrong_is_told(reading: Reading) -> None:
    """A Secret deleted by mistake, or a right that is lost, would break every check at once."""
    reading.secrets.want([SECRET])
    await reading.told()
    assert "lvs-system/check does not exist" in reading.secrets.problems()[0]
    with pytest.raises(SecretUnavailableError, match="does not exist"):
        reading.secrets.read(SECRET)
    reading.api.secrets[SECRET] = stored(ca_crt=b"x")
    await reading.told()
    reading.api.forbidden.add("secrets")
    await reading.told()
    (text,) = reading.secrets.problems()
    assert "add its name to Role lvs-agent-secrets" in text
    assert "used on" in text
    assert reading.secrets.read(SECRET).data == {"ca.crt": b"x"}


async def test_what_is_no_longer_named_is_forgotten(reading: Reading) -> None:
    """A key would stay in the memory of a node that has no business with it."""
    reading.api.secrets[SECRET] = stored(ca_crt=b"x")
    reading.secrets.want([SECRET])
    await reading.told()
    reading.secrets.want([])
    with pytest.raises(SecretUnavailableError, match=r"not among spec.secrets"):
        reading.secrets.read(SECRET)


async def test_a_director_reads_what_its_group_names_and_reports_what_it_cannot(bench: Bench) -> None:
    """From LVSNode to report: the administrator sees which Secret is missing."""
    async with bench.running() as agent:
        role = DIRECTOR["director"] | {"secrets": [SECRET, "other"]}
        bench.api.secrets[SECRET] = stored(ca_crt=b"x")
        await bench.node(DIRECTOR | {"director": role})
        told = await bench.api.status_where(
            lambda status: [each["reason"] for each in status["problems"]] == ["SecretUnavailable"]
        )
        assert "lvs-system/other does not exist" in told["problems"][0]["message"]
        assert agent.secrets.read(SECRET).data == {"ca.crt": b"x"}
