"""Where a client is sent, and how a real server knows that it was."""

import base64
import http.client
import json
import subprocess
import sys
import threading
import time
from http.server import ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lvs_dr.core.redirect import harms
from lvs_dr.redirect import verify
from lvs_dr.redirect.location import (
    NotRedirectable,
    UnusableHost,
    authority,
    checked_host,
    host_name,
    request_path,
)
from lvs_dr.redirect.messages import Settings, Target, Token
from lvs_dr.redirect.verify import Verdict
from tests.unit.redirect.redirecting import first_answer, header, listener, redirecting, status

KEY = bytes(range(32))
SERVER = Target(name="storage-1", address="192.0.2.11", hostname="s1.example.org")
VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), max_size=60)


@pytest.mark.parametrize(
    ("target", "keep", "expected"),
    [
        (b"/a/b%2Fc%c3%A4?x=%20&y", True, b"/a/b%2Fc%c3%A4?x=%20&y"),
        (b"/a?x", False, b"/a"),
        (b"/a?x#part", True, b"/a?x"),
        (b"/../a/./b//c", True, b"/../a/./b//c"),
        (b"//evil.example/x", True, b"//evil.example/x"),
        (b"/\\evil.example", True, b"/\\evil.example"),
        (b"http://vip/a?x", True, b"/a?x"),
        (b"HTTPS://user:word@vip:8443/a", True, b"/a"),
        (b"http://vip", True, b"/"),
        (b"http://vip?x=1", True, b"/?x=1"),
        (b"http://vip?x=1", False, b"/"),
    ],
)
def test_path_and_query_stay_byte_for_byte(target: bytes, keep: bool, expected: bytes) -> None:  # noqa: FBT001
    """A file would be stored under another name than the client gave it."""
    assert request_path(target, keep_query=keep) == expected


@pytest.mark.parametrize("target", [b"*", b"vip:443", b"", b"http:///x", b"ftp://vip/x", b"javascript:1"])
def test_what_is_no_path_is_not_redirected(target: bytes) -> None:
    """The Location would be nonsense."""
    with pytest.raises(NotRedirectable):
        request_path(target)


@settings(deadline=None)
@given(VISIBLE)
def test_no_request_leads_anywhere_but_to_the_real_server(text: str) -> None:
    """Anybody could make links that begin with our name and lead elsewhere."""
    for target in (f"/{text}", f"http://vip/{text}", f"http://{text}"):
        try:
            path = request_path(target.encode())
        except NotRedirectable:
            continue
        url = f"http://s1.example.org:8080{path.decode()}"
        assert urlsplit(url).netloc == "s1.example.org:8080"
        assert "#" not in url


@pytest.mark.parametrize(
    ("template", "target", "expected"),
    [
        ("", SERVER, "s1.example.org"),
        ("", Target(name="a", address="192.0.2.1"), "192.0.2.1"),
        ("", Target(name="a", address="2001:db8::1"), "2001:db8::1"),
        ("{address}", SERVER, "192.0.2.11"),
        ("{name}.up.example.org", SERVER, "storage-1.up.example.org"),
    ],
)
def test_real_servers_are_named_as_the_user_wants(template: str, target: Target, expected: str) -> None:
    """Certificates and DNS know real servers by other names than Kubernetes does."""
    assert host_name(template, target) == expected


@pytest.mark.parametrize(
    "host", ["", "a b", "a/b", "a@b", "a:80", "a\r\nX: y", "ä.example", "-a", "a..b", "[::1]", "x" * 300]
)
def test_a_name_that_is_none_never_reaches_a_location(host: str) -> None:
    """A slip in a hostname would break the answer, or lead elsewhere."""
    with pytest.raises(UnusableHost):
        checked_host(host)


def test_a_template_without_value_is_refused() -> None:
    """`.example.org` would be the name of a real server without hostname."""
    for template in ("{hostname}", "{other}"):
        with pytest.raises(UnusableHost):
            host_name(template, Target(name="a", address="192.0.2.1"))


def test_ports_and_brackets_stand_where_they_must() -> None:
    """Clients would not find the server."""
    assert authority("http", "a", 80) == "a"
    assert authority("https", "a", 80) == "a:80"
    assert authority("https", "2001:db8::1", 443) == "[2001:db8::1]"
    assert authority("http", "2001:db8::1", 8080) == "[2001:db8::1]:8080"


async def test_a_real_server_without_usable_name_is_left_out_and_told() -> None:
    """One slip would take the whole service down."""
    bad = Target(name="storage-9", address="192.0.2.9", hostname="no name")
    async with redirecting(listener(targets=(bad, SERVER))) as running:
        for _ in range(4):
            answer = await first_answer(running.address, b"GET /a HTTP/1.1\r\nHost: vip\r\n\r\n")
            assert header(answer, "Location").startswith("http://s1.example.org")
        assert "storage-9 gets no requests" in running.listeners.report().listeners[0].problem


# Tokens


def token_path(path: bytes = b"/a?x=1", *, method: bytes = b"PUT", expiry: int = 1000) -> bytes:
    """Return a path with a good token."""
    return verify.signed(KEY, b"k1", method=method, host=b"s1:8080", path=path, expiry=expiry)


def judged(path: bytes, *, method: bytes = b"PUT", host: bytes = b"s1:8080", now: float = 999.0) -> Verdict:
    """Judge as a real server does."""
    return verify.verify({b"k1": KEY}, method=method, host=host, path=path, now=now)


def test_a_token_is_good_for_its_request_only() -> None:
    """Anybody could upload anything to a real server, past the balancer."""
    good = token_path()
    assert judged(good) is Verdict.GOOD
    assert judged(good, host=b"S1:8080") is Verdict.GOOD
    assert judged(good, method=b"DELETE") is Verdict.WRONG
    assert judged(good, host=b"s2:8080") is Verdict.WRONG
    assert judged(good.replace(b"/a?", b"/b?")) is Verdict.WRONG
    assert judged(good.replace(b"x=1", b"x=2")) is Verdict.WRONG
    assert judged(good + b"&x=2") is Verdict.MISSING
    assert judged(good, now=1000.5) is Verdict.EXPIRED
    assert judged(good.replace(b".1000.", b".9000.")) is Verdict.WRONG
    assert judged(b"/a?x=1") is Verdict.MISSING
    other = verify.signed(KEY, b"k2", method=b"PUT", host=b"s1:8080", path=b"/a", expiry=1000)
    assert judged(other) is Verdict.UNKNOWN_KEY


@settings(deadline=None)
@given(VISIBLE, VISIBLE)
def test_a_token_never_passes_for_another_path(one: str, other: str) -> None:
    """A path with a question mark, an ampersand or an old token in it would open another."""
    first = token_path(b"/" + one.encode())
    assert judged(first) is Verdict.GOOD
    token = first[len(b"/" + one.encode()) :]
    second = b"/" + other.encode() + token
    assert (judged(second) is Verdict.GOOD) == (one == other)


async def test_redirects_carry_tokens_that_the_verifier_takes() -> None:
    """Redirector and verifier would not agree, and every upload would be refused."""
    token = Token(key_id="k1", key=base64.b64encode(KEY).decode(), lifetime_seconds=30)
    async with redirecting(listener(targets=(SERVER,), settings=Settings(token=token))) as running:
        running.wall = lambda: 5000.0
        for target in (b"/a%20b", b"/a?x=1&y", b"/a?lvs-token=k1.1.x"):
            answer = await first_answer(running.address, b"PUT %b HTTP/1.1\r\nHost: vip\r\n\r\n" % target)
            url = urlsplit(header(answer, "Location"))
            path = f"{url.path}?{url.query}".encode()
            given = {"method": b"PUT", "host": url.netloc.encode(), "path": path}
            assert verify.verify({b"k1": KEY}, **given, now=5030) is Verdict.GOOD
            assert verify.verify({b"k1": KEY}, **given, now=5031) is Verdict.EXPIRED


async def test_a_key_that_is_none_stops_redirects_and_says_so() -> None:
    """Uploads would be sent off without token, or with one that everybody can make."""
    for key in ("x" * 24, base64.b64encode(b"short").decode() + "=" * 20):
        async with redirecting(listener(settings=Settings(token=Token(key_id="k1", key=key)))) as running:
            answer = await first_answer(running.address, b"PUT /a HTTP/1.1\r\nHost: vip\r\n\r\n")
            assert status(answer) in (307, 503)
            if status(answer) == 503:
                assert "tokens cannot be made" in running.listeners.report().listeners[0].problem
    with pytest.raises(ValueError, match="at least 16"):
        verify.read_key(base64.b64encode(b"short").decode())
    with pytest.raises(ValueError, match="base64"):
        verify.read_key("no base64!")


def test_the_verifier_answers_auth_request() -> None:
    """The recipe for nginx in the documentation would not work."""
    path = token_path(expiry=int(time.time()) + 60)
    with ThreadingHTTPServer(("127.0.0.1", 0), verify.handler({b"k1": KEY})) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            for method, expected in (("PUT", (204, None)), ("DELETE", (403, Verdict.WRONG.value))):
                connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=10)
                headers = {"X-Original-Method": method, "X-Original-Host": "s1:8080", "X-Original-URI": path.decode()}
                connection.request("GET", "/", headers=headers)
                answer = connection.getresponse()
                assert (answer.status, answer.headers["X-Reason"]) == expected
                connection.close()
        finally:
            server.shutdown()
            thread.join()


def test_the_verifier_runs_as_a_copied_file(tmp_path: Path) -> None:
    """A real server has none of our packages."""
    copy = tmp_path / "verify.py"
    copy.write_text(Path(verify.__file__).read_text())
    key = tmp_path / "key"
    key.write_text("short")
    done = subprocess.run(
        [sys.executable, "-I", str(copy), "--key", f"k1={key}"], capture_output=True, text=True, timeout=30, check=False
    )
    assert done.returncode == 1
    assert "the key" in done.stderr
    script = "import json, sys; sys.path.insert(0, sys.argv[1]); import verify; print(json.dumps(list(sys.modules)))"
    command = [sys.executable, "-I", "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert not {"msgspec", "lvs_dr", "httptools"} & set(json.loads(done.stdout))


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"status_code": 301}, "POST"),
        ({"status_code": 302}, "POST"),
        ({"status_code": 308, "cache_control": "public"}, "remembered"),
        ({"token": True, "cache_control": "max-age=0"}, "token"),
        ({"tls": True}, "in clear"),
        ({"methods": ("PUT", "OPTIONS")}, "preflight"),
    ],
)
def test_settings_that_hurt_clients_are_named(changes: dict[str, object], word: str) -> None:
    """`kubectl apply` would take them in silence."""
    good = {
        "status_code": 307,
        "methods": (),
        "cache_control": "",
        "tls": False,
        "target_scheme": "http",
        "token": False,
    }
    assert harms(**good) == ()  # type: ignore[arg-type]
    found = harms(**(good | changes))  # type: ignore[arg-type]
    assert len(found) == 1
    assert word in found[0]
