"""What clients send, byte by byte, and what comes back."""

import asyncio
import socket

import pytest

from lvs_dr.redirect.messages import Settings, SorryServer, Target, TargetState
from tests.unit.redirect.redirecting import first_answer, header, listener, needs_ipv6, redirecting, status, talk

GET = b"GET /a HTTP/1.1\r\nHost: vip\r\n\r\n"
PUT = b"PUT /a HTTP/1.1\r\nHost: vip\r\n"
ONE = (Target(name="storage-1", address="192.0.2.11", hostname="s1.example.org"),)

REFUSED = {
    "both lengths": (PUT + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "Malformed"),
    "both lengths, turned": (
        PUT + b"Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n0\r\n\r\n",
        400,
        "Malformed",
    ),
    "two lengths": (PUT + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 400, "Malformed"),
    "equal lengths": (PUT + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc", 400, "Malformed"),
    "signed length": (PUT + b"Content-Length: +3\r\n\r\nabc", 400, "Malformed"),
    "list of lengths": (PUT + b"Content-Length: 3, 3\r\n\r\nabc", 400, "Malformed"),
    "empty length": (PUT + b"Content-Length: \r\n\r\n", 400, "Malformed"),
    "huge length": (PUT + b"Content-Length: 99999999999999999999999\r\n\r\n", 400, "Malformed"),
    "coding behind chunked": (PUT + b"Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n", 400, "Malformed"),
    "coding before chunked": (PUT + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400, "TransferEncoding"),
    "unknown coding": (PUT + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 400, "TransferEncoding"),
    "identity": (PUT + b"Transfer-Encoding: identity\r\n\r\n", 400, "TransferEncoding"),
    "chunked twice": (
        PUT + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        400,
        "Malformed",
    ),
    "space before colon": (PUT + b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400, "Malformed"),
    "chunked in 1.0": (b"PUT / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400, "TransferEncoding"),
    "folded value": (b"GET / HTTP/1.1\r\nHost: vip\r\nX: a\r\n b\r\n\r\n", 400, "Malformed"),
    "folded first line": (b"GET / HTTP/1.1\r\n Host: vip\r\n\r\n", 400, "Malformed"),
    "bare newlines": (b"GET / HTTP/1.1\nHost: vip\n\n", 400, "Malformed"),
    "bare return": (b"GET / HTTP/1.1\r\nHost: vip\rX: y\r\n\r\n", 400, "Malformed"),
    "nul": (b"GET / HTTP/1.1\r\nHost: vip\r\nX: a\0b\r\n\r\n", 400, "Malformed"),
    "no name": (b"GET / HTTP/1.1\r\nHost: vip\r\n: x\r\n\r\n", 400, "Malformed"),
    "no colon": (b"GET / HTTP/1.1\r\nHost: vip\r\nnothing\r\n\r\n", 400, "Malformed"),
    "space in target": (b"GET /a b HTTP/1.1\r\nHost: vip\r\n\r\n", 400, "Malformed"),
    "tab in target": (b"GET /a\tb HTTP/1.1\r\nHost: vip\r\n\r\n", 400, "Malformed"),
    "raw umlaut": (b"GET /\xc3\xa4 HTTP/1.1\r\nHost: vip\r\n\r\n", 400, "Malformed"),
    "no path": (b"GET foo HTTP/1.1\r\nHost: vip\r\n\r\n", 400, "Malformed"),
    "no authority": (b"GET http:///etc HTTP/1.1\r\nHost: vip\r\n\r\n", 400, ""),
    "other scheme": (b"GET ftp://a/b HTTP/1.1\r\nHost: vip\r\n\r\n", 400, "RequestTarget"),
    "star": (b"GET * HTTP/1.1\r\nHost: vip\r\n\r\n", 400, ""),
    "no host": (b"GET / HTTP/1.1\r\n\r\n", 400, "Host"),
    "two hosts": (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400, "Host"),
    "HTTP/2 without TLS": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "Malformed"),
    "HTTP/1.2": (b"GET / HTTP/1.2\r\nHost: vip\r\n\r\n", 400, "Malformed"),
    "TLS to a plain port": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 501, "UnknownMethod"),
    "unknown method": (b"FOO / HTTP/1.1\r\nHost: vip\r\n\r\n", 501, "UnknownMethod"),
    "small letters": (b"put / HTTP/1.1\r\nHost: vip\r\n\r\n", 501, "UnknownMethod"),
    "connect": (b"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", 405, "Method"),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n", 405, "Method"),
    "long header": (b"GET / HTTP/1.1\r\nHost: vip\r\nX: " + b"x" * 20000, 431, "HeaderTooLarge"),
    "long target": (b"GET /" + b"x" * 20000 + b" HTTP/1.1\r\nHost: vip\r\n\r\n", 431, "HeaderTooLarge"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_is_not_clear_is_refused_and_ends_the_connection(case: str) -> None:
    """A proxy before us would see other requests in the same bytes: the next client gets another's answer."""
    sent, code, reason = REFUSED[case]
    async with redirecting(listener(settings=Settings(discard_seconds=0.5))) as running:
        answer = await talk(running.address, sent, b"GET /smuggled HTTP/1.1\r\nHost: vip\r\n\r\n")
        assert status(answer) == code
        assert b"smuggled" not in answer
        assert header(answer, "Connection") == "close"
        assert not reason or running.refused(reason) == 1


async def test_pipelined_requests_are_answered_in_order() -> None:
    """A client that sends several at once would take one answer for another."""
    requests = b"".join(b"GET /%d HTTP/1.1\r\nHost: vip\r\n\r\n" % number for number in range(500))
    async with redirecting(listener(targets=ONE)) as running:
        answers = await talk(running.address, requests + b"GET /end HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
        found = [line for line in answers.decode().split("\r\n") if line.startswith("Location: ")]
        expected = [f"Location: http://s1.example.org:{running.port}/{name}" for name in [*range(500), "end"]]
        assert found == expected


async def test_a_request_in_single_bytes_is_a_request() -> None:
    """Slow lines and small segments would break requests."""
    async with redirecting(listener(targets=ONE)) as running:
        text = b"PUT http://other/x%2Fy?q=1 HTTP/1.1\r\nHost: vip\r\nContent-Length: 3\r\n\r\nabc"
        answer = await talk(running.address, *(text[at : at + 1] for at in range(len(text))))
        assert status(answer) == 307
        assert header(answer, "Location") == f"http://s1.example.org:{running.port}/x%2Fy?q=1"


async def test_a_connection_stays_open_for_requests_without_body() -> None:
    """Each request would cost a connection, and with TLS a handshake."""
    async with redirecting() as running:
        reader, writer = await asyncio.open_connection(*running.address)
        for method in (b"GET", b"HEAD", b"OPTIONS", b"PROPFIND", b"MKCOL", b"DELETE"):
            writer.write(method + b" /a HTTP/1.1\r\nHost: vip\r\n\r\n")
            answer = await reader.readuntil(b"\r\n\r\n")
            assert (status(answer), header(answer, "Content-Length"), header(answer, "Connection")) == (307, "0", "")
        writer.write(b"PUT /a HTTP/1.1\r\nHost: vip\r\nContent-Length: 0\r\n\r\n")
        assert header(await reader.readuntil(b"\r\n\r\n"), "Connection") == ""
        writer.close()


async def test_expect_is_answered_by_the_redirect_and_never_by_100() -> None:
    """The client would send its body to the director, which is what the redirect is there to avoid."""
    async with redirecting() as running:
        answer = await first_answer(
            running.address, PUT + b"Content-Length: 1000000000\r\nExpect: 100-continue\r\n\r\n"
        )
        assert answer.startswith(b"HTTP/1.1 307 ")
        assert header(answer, "Connection") == "close"


def send_all_then_read(address: tuple[str, int], data: bytes) -> bytes:
    """Do as simple clients do: look for the answer only after the last byte."""
    with socket.create_connection(address, timeout=10) as one:
        one.sendall(data)
        return b"".join(iter(lambda: one.recv(65536), b""))


@pytest.mark.parametrize("framing", ["length", "chunked"])
async def test_a_client_that_sends_at_once_sees_the_answer_not_a_reset(framing: str) -> None:
    """An upload without Expect would fail with `connection reset` instead of following the redirect."""
    body = b"x" * 300_000
    head = b"Content-Length: %d\r\n\r\n" % len(body) if framing == "length" else b"Transfer-Encoding: chunked\r\n\r\n"
    data = body if framing == "length" else b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with redirecting() as running:
        answer = await asyncio.to_thread(send_all_then_read, running.address, PUT + head + data)
        assert status(answer) == 307
        assert answer.count(b"HTTP/1.1") == 1
        await running.quiet()
        assert running.metrics.value("lvs_redirector_discarded_bytes_total", service="default/upload") > 250_000


async def test_nothing_behind_a_body_is_a_request() -> None:
    """What a client hides in a body would be answered to whoever shares the connection."""
    async with redirecting() as running:
        answer = await talk(running.address, PUT + b"Content-Length: 5\r\n\r\nabcde" + GET + GET)
        assert answer.count(b"HTTP/1.1 ") == 1
        answer = await talk(running.address, GET + PUT + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + GET)
        assert answer.count(b"HTTP/1.1 ") == 2


async def without_end(writer: asyncio.StreamWriter) -> None:
    """Send, until it fails."""
    async with asyncio.timeout(30):
        while True:
            writer.write(b"x" * 65536)
            await writer.drain()


async def ask_without_end(loop: asyncio.AbstractEventLoop, one: socket.socket) -> None:
    """Ask, and read no answer, until it fails."""
    while True:
        await loop.sock_sendall(one, GET * 100)


async def test_discarding_ends_at_the_bound_and_at_the_time() -> None:
    """One client could keep the director's line full for ever."""
    async with redirecting(listener(settings=Settings(discard_bytes=100_000, discard_seconds=1.0))) as running:
        reader, writer = await asyncio.open_connection(*running.address)
        writer.write(PUT + b"Content-Length: 1000000000\r\n\r\n")
        assert status(await reader.readuntil(b"\r\n\r\n")) == 307
        with pytest.raises(ConnectionError):
            await without_end(writer)
        discarded = running.metrics.value("lvs_redirector_discarded_bytes_total", service="default/upload")
        assert 100_000 <= discarded <= 100_000 + 65536
        writer.close()


async def test_a_slow_header_is_given_up() -> None:
    """A few clients that send a byte now and then would take all connections."""
    async with redirecting(listener(settings=Settings(header_seconds=0.5, discard_seconds=0.5))) as running:
        answer = await talk(
            running.address, b"GET / HTTP/1.1\r\n", b"Host: vip\r\n", b"X: y\r\n", b"X: y\r\n", pause=0.3
        )
        assert status(answer) == 408
        assert running.refused("HeaderTimeout") == 1
        assert await talk(running.address) == b""  # nothing sent at all: nothing to say


async def test_an_idle_connection_is_closed() -> None:
    """Connections that nobody uses would add up."""
    async with redirecting(listener(settings=Settings(idle_seconds=0.3))) as running:
        answer = await talk(running.address, GET)
        assert (status(answer), answer.count(b"HTTP/1.1")) == (307, 1)


async def test_a_client_that_reads_no_answers_is_given_up() -> None:
    """Answers for it would fill the memory."""
    async with redirecting(listener(settings=Settings(header_seconds=0.5))) as running:
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(one, running.address)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(ask_without_end(loop, one), 30)
        one.close()


async def test_aborts_leave_nothing_behind() -> None:
    """Connections of clients that vanish would be counted, and kept, for ever."""
    async with redirecting() as running:
        for data in (b"", b"GET / HT", PUT + b"Content-Length: 100\r\n\r\nabc", GET):
            one = socket.create_connection(running.address)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            one.sendall(data)
            one.close()
        await first_answer(running.address, GET)
        await running.quiet()


@pytest.mark.parametrize("turns", range(6))
async def test_connections_in_every_stage_are_answered_when_we_stop(turns: int) -> None:
    """Each restart would reset the connections that were accepted in its last moment."""
    async with redirecting() as running:
        kept = running.listeners.sockets[f"127.0.0.1:{running.port}"].dup()  # as the agent does
        clients = [socket.create_connection(running.address, timeout=30) for _ in range(100)]
        for client in clients:
            client.sendall(GET)
        for _ in range(turns):
            await asyncio.sleep(0)
        await running.listeners.drain(30)
    async with redirecting() as successor:
        successor.listeners.give(f"127.0.0.1:{running.port}", kept)
        successor.port = running.port
        await successor.serve(listener())
        for client in clients:
            assert status(await asyncio.to_thread(client.recv, 1000)) == 307
            client.close()


async def test_more_connections_than_allowed_are_refused() -> None:
    """Memory and descriptors would run out, and with them everybody's service."""
    async with redirecting() as running:
        running.listeners._most = 2
        kept = [await asyncio.open_connection(*running.address) for _ in range(2)]
        answer = await talk(running.address)
        assert (status(answer), header(answer, "Retry-After")) == (503, "5")
        for _, writer in kept:
            writer.close()


async def test_methods_that_are_not_redirected_are_named() -> None:
    """A client would not learn what it may do here."""
    async with redirecting(listener(settings=Settings(methods=("PUT", "POST")))) as running:
        answer = await first_answer(running.address, GET)
        assert (status(answer), header(answer, "Allow")) == (405, "PUT, POST")
        assert status(await first_answer(running.address, PUT + b"Content-Length: 1\r\n\r\n")) == 307
        answer = await first_answer(running.address, b"OPTIONS * HTTP/1.1\r\nHost: vip\r\n\r\n")
        assert status(answer) == 405
    async with redirecting() as running:
        answer = await first_answer(running.address, b"OPTIONS * HTTP/1.1\r\nHost: vip\r\n\r\n")
        assert status(answer) == 204
        assert "PUT" in header(answer, "Allow")


async def test_head_has_no_body_even_when_refused() -> None:
    """The client would take the text for the beginning of the next answer."""
    async with redirecting(listener(targets=())) as running:
        answer = await talk(running.address, b"HEAD / HTTP/1.1\r\nHost: vip\r\nConnection: close\r\n\r\n")
        assert answer.endswith(b"\r\n\r\n")
        assert (status(answer), header(answer, "Content-Length")) == (503, "36")


async def test_without_a_real_server_there_is_503_or_the_sorry_server() -> None:
    """Clients would be sent to a server that is down."""
    gone = (
        Target(name="a", address="192.0.2.1", weight=0),
        Target(name="b", address="192.0.2.2", state=TargetState.FAILED),
        Target(name="c", address="192.0.2.3", state=TargetState.QUIESCED),
    )
    async with redirecting(listener(targets=gone, settings=Settings(retry_after_seconds=7))) as running:
        answer = await first_answer(running.address, GET)
        assert (status(answer), header(answer, "Retry-After")) == (503, "7")
        await running.serve(listener(targets=gone, sorry_server=SorryServer(host="sorry.example.org", port=80)))
        answer = await first_answer(running.address, GET)
        assert (status(answer), header(answer, "Location")) == (307, "http://sorry.example.org/a")
        assert header(answer, "Cache-Control") == "no-store"


@pytest.mark.parametrize("code", [301, 302, 307, 308])
async def test_no_answer_is_kept_by_clients_unless_the_user_says_so(code: int) -> None:
    """A client that remembers a 301 goes to one real server for ever, also when it is down."""
    async with redirecting(listener(settings=Settings(status_code=code))) as running:  # type: ignore[arg-type]
        answer = await first_answer(running.address, GET)
        assert (status(answer), header(answer, "Cache-Control")) == (code, "no-store")
        own = Settings(status_code=code, cache_control="max-age=60")  # type: ignore[arg-type]
        await running.serve(listener(settings=own))
        assert header(await first_answer(running.address, GET), "Cache-Control") == "max-age=60"


async def test_http_1_0_is_answered_and_closed() -> None:
    """Old clients and health checks wait for the end of the connection."""
    async with redirecting() as running:
        answer = await talk(running.address, b"GET /a HTTP/1.0\r\n\r\n")
        assert (status(answer), header(answer, "Connection")) == (307, "close")


async def test_an_upgrade_is_answered_as_any_request() -> None:
    """Browsers and curl ask for websockets or h2c on the way; what follows is no HTTP."""
    async with redirecting() as running:
        answer = await talk(
            running.address,
            b"GET /a HTTP/1.1\r\nHost: vip\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + GET,
        )
        assert (status(answer), answer.count(b"HTTP/1.1 ")) == (307, 1)


async def test_ipv6_listens_and_redirects_with_brackets() -> None:
    """Half of the clients could not reach the service."""
    needs_ipv6()
    targets = (Target(name="a", address="2001:db8::1"),)
    async with redirecting(listener(address="::1", targets=targets)) as running:
        answer = await first_answer(("::1", running.port), GET)
        assert header(answer, "Location") == f"http://[2001:db8::1]:{running.port}/a"
