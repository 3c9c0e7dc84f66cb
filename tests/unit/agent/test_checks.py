"""Every kind of check against real servers on loopback: well, refusing, hanging, wrong, slow, talking nonsense."""

import errno
import os
import resource
import socket
import struct
from pathlib import Path

import pytest

from lvs_dr.agent.health.attempt import Attempt, CannotCheckError
from lvs_dr.agent.health.checkers import Checkers
from lvs_dr.agent.health.connection import connect
from lvs_dr.core.checks import (
    DnsCheck,
    DnsProtocol,
    DnsType,
    ExecCheck,
    GrpcCheck,
    HttpCheck,
    HttpHeader,
    HttpMethod,
    PingCheck,
    TcpCheck,
    TlsSettings,
    UdpCheck,
)
from tests.unit.agent.check_servers import (
    AUTHORITY,
    NAME,
    ask,
    datagrams,
    dns_name,
    dns_reply,
    full,
    grpc_answer,
    h2_frame,
    server_tls,
    stream,
    unused,
)

BLANK = b"\r\n\r\n"


def hexed(text: str) -> str:
    """Return text as the compiled check holds it."""
    return text.encode().hex()


# TCP


async def test_an_open_port_is_well_and_a_closed_one_is_refused() -> None:
    """The report says what a person would look for: refused means that nothing listens."""
    async with stream() as server:
        assert await ask(server.port, tcp=TcpCheck()) == ""
    assert await ask(server.port, tcp=TcpCheck()) == "connection refused"


async def test_a_listener_that_accepts_nothing_is_found_out_in_time() -> None:
    """A real server that hangs is found out within the timeout, with words that say at what it hangs."""
    async with full() as port:
        assert await ask(port, timeout=0.1, tcp=TcpCheck()) == "no answer within 0.1 s"


@pytest.mark.parametrize("pieces", [1, 1000])
async def test_an_expected_answer_counts_however_it_comes(pieces: int) -> None:
    """A mail server that greets is well, also when its greeting comes in pieces."""
    async with stream(b"220 mail ESMTP\r\n", pieces=pieces, hold=True) as server:
        assert await ask(server.port, tcp=TcpCheck(expect=hexed("ESMTP"))) == ""


async def test_what_is_said_reaches_the_server_first() -> None:
    """Redis answers PONG only to PING."""
    async with stream(b"+PONG\r\n", until=b"PING\r\n", hold=True) as server:
        assert await ask(server.port, tcp=TcpCheck(send=hexed("PING\r\n"), expect=hexed("+PONG"))) == ""
        assert server.heard == [b"PING\r\n"]


@pytest.mark.parametrize(
    ("answer", "hold", "said"),
    [
        (b"-LOADING\r\n", False, "answered '-LOADING..', without the expected '+PONG'"),
        (b"", False, "it closes the connection without an answer"),
        (b"", True, "it accepts the connection, but the expected answer does not come within 0.2 s"),
        (b"x" * 10000, True, f"answered '{'x' * 40}…', without the expected '+PONG'"),
    ],
)
async def test_another_answer_is_a_failure(answer: bytes, hold: bool, said: str) -> None:  # noqa: FBT001
    """A server that is up but not ready must not get clients; the message shows what it said, cut short."""
    async with stream(answer, hold=hold) as server:
        assert await ask(server.port, timeout=0.2, tcp=TcpCheck(expect=hexed("+PONG"))) == said


async def test_the_agents_own_limits_are_not_the_real_servers_fault() -> None:
    """Too many open files on the director would take every real server out at once."""
    async with stream() as server:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        unused_descriptor = os.dup(0)
        os.close(unused_descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (unused_descriptor, hard))
        try:
            with pytest.raises(CannotCheckError, match="too many files open"):
                await ask(server.port, tcp=TcpCheck())
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_source_address_that_is_not_there_is_not_the_real_servers_fault() -> None:
    """A mistyped network would take every real server out at once."""
    async with stream() as server:
        assert await ask(server.port, source="127.0.0.9", tcp=TcpCheck()) == ""
        with pytest.raises(CannotCheckError, match="does not have the source address"):
            await ask(server.port, source="192.0.2.55", tcp=TcpCheck())


class Unrouted(socket.socket):
    """A socket of a node that has no route to whom is asked."""

    def connect_ex(self, _address: object) -> int:
        """Fail at once, as the kernel does where it finds no route."""
        return errno.ENETUNREACH


async def test_a_director_without_a_route_to_the_vip_is_not_the_real_servers_fault() -> None:
    """A Backup that lost its default route would call all real servers dead: their own addresses are on its link."""
    sent = 0

    def count() -> None:
        nonlocal sent
        sent += 1

    with Unrouted() as connection:
        with pytest.raises(CannotCheckError, match=r"no route to 192\.0\.2\.100"):
            await connect(connection, Attempt("192.0.2.100", 443, 1.0, mark=4097, sent=count))
        with pytest.raises(OSError, match="unreachable"):
            await connect(connection, Attempt("192.0.2.21", 443, 1.0, sent=count))
    assert sent == 0


# HTTP

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3;x=y\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n"
TWO = ("200", "301-303")
ANSWERS: list[tuple[bytes, HttpCheck, str]] = [
    (OK, HttpCheck(), ""),
    (b"HTTP/1.0 204 \r\n\r\n", HttpCheck(), ""),
    (b"HTTP/1.1 200\nServer: old\n\n", HttpCheck(), ""),
    (b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + OK, HttpCheck(body_contains="hello"), ""),
    (b"HTTP/1.1 503 Service Unavailable\r\n\r\n", HttpCheck(), "answered 503, expected 200-299"),
    (b"HTTP/1.1 302 Found\r\nLocation: /\r\n\r\n", HttpCheck(), "answered 302, expected 200-299"),
    (b"HTTP/1.1 302 Found\r\n\r\n", HttpCheck(expected_statuses=("200", "301-303")), ""),
    (
        b"HTTP/1.1 404 No\r\n\r\n",
        HttpCheck(expected_statuses=("200", "301-303")),
        "answered 404, expected 200, 301-303",
    ),
    (OK, HttpCheck(body_contains="hello"), ""),
    (OK, HttpCheck(body_contains="hullo"), "answered 200, but the body does not contain 'hullo'"),
    (CHUNKED, HttpCheck(body_contains="hello"), ""),
    (CHUNKED, HttpCheck(body_contains="hel\r\n"), "answered 200, but the body does not contain 'hel..'"),
    (CHUNKED.replace(b"3;", b"z;"), HttpCheck(body_contains="hello"), "the answer's chunks cannot be read"),
    (b"HTTP/1.1 200 OK\r\n\r\nto the end: hello", HttpCheck(body_contains="hello"), ""),
    (b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nhello", HttpCheck(body_contains="hello"), "answered 200, but"),
    (b"", HttpCheck(), "it closes the connection without an answer"),
    (b"HTTP/1.1 200 OK\r\nX: y", HttpCheck(), "it closes the connection in the middle of the answer: 'HTTP/1.1 200"),
    (b"SSH-2.0-OpenSSH_9.2p1\r\n", HttpCheck(), "the answer is no HTTP/1: 'S"),
    (b"HTTP/1.1 2000 OK\r\n\r\n", HttpCheck(), "the answer is no HTTP/1: 'HTTP/1.1 200"),
    (b"\0" * 100, HttpCheck(), "the answer is no HTTP/1: '."),
    (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 5000, HttpCheck(), "the answer's head has more than 16384 bytes"),
    (b"HTTP/1.1 100 Continue\r\n\r\n" * 50, HttpCheck(), "it announces an answer again and again, and none comes"),
]


@pytest.mark.parametrize("pieces", [1, 1 << 20])
@pytest.mark.parametrize(("answer", "check", "said"), ANSWERS)
async def test_what_http_servers_say(answer: bytes, check: HttpCheck, said: str, pieces: int) -> None:
    """Each answer is judged by what it is, not by how it is cut into packets."""
    async with stream(answer, until=BLANK, pieces=max(pieces, len(answer) // 500)) as server:
        found = await ask(server.port, timeout=10, http=check)
    assert found == said or (said and found.startswith(said))


async def test_the_request_is_what_was_written() -> None:
    """Servers with several sites answer by Host, and some want a header."""
    check = HttpCheck(
        method=HttpMethod.HEAD, path="/status?full=1", host="www.example.com", headers=(HttpHeader("X-Probe", "lvs"),)
    )
    async with stream(OK, until=BLANK) as server:
        assert await ask(server.port, http=check) == ""
        assert await ask(server.port, http=HttpCheck()) == ""
        first, second = (each.decode().split("\r\n") for each in server.heard)
    assert first[:3] == ["HEAD /status?full=1 HTTP/1.1", "Host: www.example.com", "X-Probe: lvs"]
    assert second[:2] == ["GET / HTTP/1.1", f"Host: 127.0.0.1:{server.port}"]
    assert "Connection: close" in first


async def test_a_request_that_would_be_two_is_not_sent() -> None:
    """Whatever reaches the agent, no line break gets into a request."""
    async with stream(OK) as server:
        with pytest.raises(CannotCheckError, match="do not belong"):
            await ask(server.port, http=HttpCheck(path="/ HTTP/1.1\r\nX: y"))
        assert server.heard == []


async def test_a_server_that_hangs_tells_at_what() -> None:
    """Accepted and silent is another trouble than not accepted: a worker pool that is full, say."""
    async with stream(hold=True) as server:
        said = "it accepts the connection, but no answer within 0.2 s"
        assert await ask(server.port, timeout=0.2, http=HttpCheck()) == said
    async with stream(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhell", hold=True) as server:
        said = "answered 200, but the body does not end within 0.2 s"
        assert await ask(server.port, timeout=0.2, http=HttpCheck(body_contains="hello")) == said


TRUSTING = TlsSettings(ca_bundle=AUTHORITY)


@pytest.mark.parametrize(
    ("certificate", "tls", "said"),
    [
        ("server", TlsSettings(NAME, ca_bundle=AUTHORITY), ""),
        ("server", TRUSTING, ""),  # the certificate names the address, too
        ("server", TlsSettings("other.example", ca_bundle=AUTHORITY), "the certificate is not accepted: Hostname mis"),
        ("server", TlsSettings(), "the certificate is not accepted: "),
        ("expired", TRUSTING, "the certificate is not accepted: certificate has expired"),
        ("expired", TlsSettings(verify=False), ""),
    ],
)
async def test_certificates_are_verified_unless_told_otherwise(certificate: str, tls: TlsSettings, said: str) -> None:
    """Clients would refuse the server; the check refuses it, too, and says why."""
    async with stream(OK, until=BLANK, tls=server_tls(certificate)) as server:
        found = await ask(server.port, http=HttpCheck(body_contains="hello", tls=tls))
    assert found == said or (said and found.startswith(said))


async def test_what_is_no_tls_is_told_as_that() -> None:
    """A plain HTTP server behind https, or one that hangs in the handshake."""
    async with stream(b"HTTP/1.1 400 Bad Request\r\n\r\n") as server:
        assert (await ask(server.port, http=HttpCheck(tls=TRUSTING))).startswith("TLS fails: ")
    async with stream() as server:
        said = "it closes the connection in the TLS handshake"
        assert await ask(server.port, http=HttpCheck(tls=TRUSTING)) in (said, "connection reset")
    async with stream(hold=True) as server:
        said = "it accepts the connection, but no TLS handshake within 0.2 s"
        assert await ask(server.port, timeout=0.2, http=HttpCheck(tls=TRUSTING)) == said


async def test_a_bad_ca_bundle_is_not_the_real_servers_fault() -> None:
    """A certificate that was pasted wrong would take every real server out at once."""
    broken = TlsSettings(ca_bundle="-----BEGIN CERTIFICATE-----\nx\n-----END CERTIFICATE-----\n")
    with pytest.raises(CannotCheckError, match="caBundle cannot be read"):
        await ask(1, http=HttpCheck(tls=broken))


# DNS and UDP

A_RECORD = (1, bytes([192, 0, 2, 1]))
ALIAS = (5, dns_name("real.example"))
RECORDS: list[tuple[DnsCheck, list[tuple[int, bytes]], str]] = [
    (DnsCheck("www.example"), [ALIAS, A_RECORD], ""),
    (DnsCheck("www.example", expect="192.0.2.1"), [ALIAS, A_RECORD], ""),
    (DnsCheck("www.example", expect="192.0.2.2"), [A_RECORD], "answered 192.0.2.1, expected 192.0.2.2"),
    (DnsCheck("www.example"), [ALIAS], "answered without a record of type A"),
    (DnsCheck("www.example", DnsType.AAAA, "2001:DB8::0:1"), [(28, bytes.fromhex("20010db8" + "00" * 11 + "01"))], ""),
    (DnsCheck("www.example", DnsType.CNAME, "Real.Example."), [ALIAS], ""),
    (DnsCheck("example", DnsType.MX, "mx.example"), [(15, b"\0\x0a\x02mx\xc0\x0c")], ""),
    (DnsCheck("_a._tcp.example", DnsType.SRV, "b.example"), [(33, bytes(6) + dns_name("b.example"))], ""),
    (DnsCheck("example", DnsType.TXT, "one two"), [(16, b"\x04one \x03two")], ""),
    (DnsCheck(".", DnsType.NS), [(2, dns_name("a.example"))], ""),
    (DnsCheck("example", DnsType.SOA, "ns.example"), [(6, dns_name("ns.example") + dns_name("x") + bytes(20))], ""),
]


@pytest.mark.parametrize(("check", "records", "said"), RECORDS)
async def test_what_name_servers_say(check: DnsCheck, records: list[tuple[int, bytes]], said: str) -> None:
    """A name server is well when it has the record that clients ask for."""
    async with datagrams(lambda asked: dns_reply(asked, *records)) as port:
        assert await ask(port, dns=check) == said


async def test_a_name_server_without_its_zone_fails() -> None:
    """It is up and answers, with an error: clients would get that error."""
    async with datagrams(lambda asked: dns_reply(asked, code=2)) as port:
        assert await ask(port, dns=DnsCheck("a.example")) == "answered SERVFAIL"


async def test_answers_to_other_questions_do_not_count() -> None:
    """A late or forged answer must not decide; the right one after it does, and nonsense alone is silence."""
    forged = (
        lambda asked: dns_reply(asked, code=3, number=int.from_bytes(asked[:2], "big") ^ 1),
        lambda _: b"\xff" * 9,
    )
    async with datagrams(*forged, lambda asked: dns_reply(asked, A_RECORD)) as port:
        assert await ask(port, dns=DnsCheck("a.example")) == ""
    async with datagrams(*forged) as port:
        said = "the answer is no DNS message; no answer within 0.2 s"
        assert await ask(port, timeout=0.2, dns=DnsCheck("a.example")) == said


async def test_an_answer_that_was_cut_off_names_the_mend() -> None:
    """More records than fit into a datagram: TCP has them all."""
    check = DnsCheck("a.example", expect="192.0.2.9")
    async with datagrams(lambda asked: dns_reply(asked, A_RECORD, flags=0x8380)) as port:
        assert await ask(port, dns=check) == "the answer is cut off: use protocol TCP"


@pytest.mark.parametrize("pieces", [1, 1000])
async def test_dns_over_tcp(pieces: int) -> None:
    """Large answers come by TCP, in as many pieces as the network likes."""

    def answer(asked: bytes) -> bytes:
        told = dns_reply(asked[2:], A_RECORD)
        return len(told).to_bytes(2, "big") + told

    check = DnsCheck("a.example", protocol=DnsProtocol.TCP)
    async with stream(answer, until=b"\0\1\0\1", pieces=pieces) as server:
        assert await ask(server.port, dns=check) == ""
    async with stream(b"\0\x09short", until=b"\0\1\0\1", pieces=pieces) as server:
        assert await ask(server.port, dns=check) == "it closes the connection without a whole answer"


async def test_udp_needs_an_answer() -> None:
    """A dead machine is silent, so silence is a failure; a closed port says so at once."""
    check = UdpCheck(send=hexed("ping"), expect=hexed("pong"))
    async with datagrams(lambda asked: b"pong" if asked == b"ping" else b"") as port:
        assert await ask(port, udp=check) == ""
    async with datagrams(lambda _: b"down") as port:
        assert await ask(port, udp=check) == "answered 'down', without the expected 'pong'"
        assert await ask(port, udp=UdpCheck(send="00")) == ""
    async with datagrams() as port:
        assert await ask(port, timeout=0.1, udp=check) == "no answer within 0.1 s"
    assert await ask(unused(), udp=check) == "connection refused"


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_ping(address: str) -> None:
    """Many pings share a socket, and each gets its own answer."""
    checkers = Checkers()
    try:
        assert [await ask(0, address=address, checkers=checkers, ping=PingCheck()) for _ in range(3)] == [""] * 3
    except CannotCheckError as error:
        pytest.skip(f"pings need the capability NET_RAW: {error}")
    finally:
        checkers.close()


# gRPC


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (grpc_answer(b"\x08\x01"), ""),
        (grpc_answer(b"\x08\x01", first=h2_frame(6, 0, 0, b"12345678") + h2_frame(8, 0, 0, b"\0\0\1\0")), ""),
        (grpc_answer(b"\x08\x02"), "answered NOT_SERVING"),
        (grpc_answer(b""), "answered UNKNOWN"),
        (grpc_answer(None), "answered without a health status: it does not know the service"),
        (grpc_answer(b"\x08"), "the answer is no message of the health protocol"),
        (grpc_answer(b"\x08\x01" * 4000), "the answer has more than 4096 bytes"),
        (h2_frame(4, 0, 0) + h2_frame(3, 0, 1, struct.pack("!I", 7)), "it ends the call: REFUSED_STREAM"),
        (h2_frame(4, 0, 0) + h2_frame(7, 0, 0, struct.pack("!II", 0, 11)), "it ends the connection: ENHANCE_YOUR_CALM"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the answer is no HTTP/2"),
        (b"", "it closes the connection without an answer"),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1 << 20])
async def test_what_grpc_servers_say(answer: bytes, said: str, pieces: int) -> None:
    """Only SERVING is well."""
    async with stream(answer, until=b"\0\0\0\0\0", pieces=max(pieces, len(answer) // 500)) as server:
        found = await ask(server.port, timeout=10, grpc=GrpcCheck())
    assert found == said or (said and found.startswith(said))


async def test_grpc_over_tls() -> None:
    """Certificates are verified as for https."""
    answer = grpc_answer(b"\x08\x01")
    async with stream(answer, until=b"\x0a\x05store", tls=server_tls("server", "h2")) as server:
        assert await ask(server.port, grpc=GrpcCheck(service="store", tls=TRUSTING)) == ""
        assert "not accepted" in await ask(server.port, grpc=GrpcCheck(service="store", tls=TlsSettings()))


# Scripts


def script(directory: Path, text: str, mode: int = 0o755) -> Checkers:
    """Write a script named check; returns checkers that know it."""
    path = directory / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return Checkers(directory)


async def test_a_script_decides_by_its_exit_code(tmp_path: Path) -> None:
    """What it prints helps to find the cause."""
    run = ExecCheck("check", ("a b", "$HOME;`id`"))
    checkers = script(
        tmp_path, 'test "$1" = "a b" && test "$2" = \'$HOME;`id`\' && test "$LVS_ADDRESS:$LVS_PORT" = 127.0.0.1:80'
    )
    assert await ask(80, checkers=checkers, script=run) == ""
    checkers = script(tmp_path, "echo replica is; echo behind >&2; exit 3")
    assert await ask(80, checkers=checkers, script=run) == "check ended with exit code 3: replica is behind"
    checkers = script(tmp_path, "kill -9 $$")
    assert await ask(80, checkers=checkers, script=run) == "check ended with signal 9"


async def test_a_script_sees_nothing_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's environment may name tokens and proxies."""
    monkeypatch.setenv("SECRET", "x")
    checkers = script(tmp_path, 'env | grep -q SECRET && exit 1; read -r line && exit 2; test "$(pwd)" = /')
    assert await ask(80, checkers=checkers, script=ExecCheck("check")) == ""


async def test_a_script_that_does_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    """Scripts that hang would pile up until the node is full of them."""
    checkers = script(tmp_path, f"sleep 100 & echo $! > {tmp_path}/child; wait")
    said = await ask(80, checkers=checkers, timeout=1, script=ExecCheck("check"))
    assert said == "check does not end within 1 s"
    assert ended(int((tmp_path / "child").read_text()))


def ended(process: int) -> bool:
    """Tell whether a process is gone, or a corpse that nobody has buried yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] in "ZX"
    except (FileNotFoundError, ProcessLookupError):
        return True


async def test_a_script_that_prints_for_ever_is_cut(tmp_path: Path) -> None:
    """The agent's memory is not the script's."""
    checkers = script(tmp_path, "head -c 3000000 /dev/zero | tr '\\0' x; exit 1")
    said = await ask(80, checkers=checkers, timeout=10, script=ExecCheck("check"))
    assert said == f"check ended with exit code 1: {'x' * 256}"


@pytest.mark.parametrize("name", ["missing", "../check", "/bin/true", ".hidden", "", "plain"])
async def test_a_script_that_cannot_be_run_says_nothing_of_the_real_server(name: str, tmp_path: Path) -> None:
    """A ConfigMap that is not mounted would take every real server out; and no file elsewhere can be run."""
    (tmp_path / "scripts").mkdir()
    script(tmp_path, "true")
    (tmp_path / "scripts" / "plain").write_text("no program")
    with pytest.raises(CannotCheckError):
        await ask(80, checkers=Checkers(tmp_path / "scripts"), script=ExecCheck(name))
