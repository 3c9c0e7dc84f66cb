"""Certificates that come, change, and are wrong."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from lvs_dr.redirect.messages import Listener, Settings, Tls
from tests.unit.redirect.node import Node
from tests.unit.redirect.redirecting import free_port, header, listener

GET = b"GET /a HTTP/1.1\r\nHost: vip\r\n\r\n"


def certificate(directory: Path, name: str) -> tuple[Path, Path]:
    """Make a certificate for 127.0.0.1."""
    if shutil.which("openssl") is None:
        pytest.skip("openssl is missing: apt install openssl")
    certificate, key = directory / f"{name}.crt", directory / f"{name}.key"
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"),
            *("-days", "1", "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", str(certificate), "-keyout", str(key)),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return certificate, key


async def name_shown(port: int) -> str:
    """Return whose certificate a client is shown."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2", "http/1.1"])
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context)
    found = writer.get_extra_info("ssl_object")
    assert found.selected_alpn_protocol() == "http/1.1"
    shown = found.getpeercert(binary_form=True)
    writer.write(b"PUT /a HTTP/1.1\r\nHost: vip\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000)
    async with asyncio.timeout(10):
        answer = await reader.readuntil(b"\r\n\r\n")
    writer.close()
    assert header(answer, "Location").startswith("https://")
    return subject(shown)


def subject(shown: bytes) -> str:
    """Return the common name in a certificate."""
    text = ssl.DER_cert_to_PEM_cert(shown)
    command = ["openssl", "x509", "-noout", "-subject"]
    done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout.strip().rpartition("=")[2].strip()


async def test_certificates_change_without_a_pause_and_bad_ones_change_nothing(node: Node, tmp_path: Path) -> None:
    """A renewed certificate would need a restart; a broken Secret would end the service."""
    port = free_port()
    first, second = certificate(tmp_path, "first"), certificate(tmp_path, "second")

    def tls(pair: tuple[Path, Path]) -> Listener:
        text = Tls(certificate=pair[0].read_text(), key=pair[1].read_text())
        return listener(port=port, tls=text, settings=Settings(scheme="https"))

    await node.serve(tls(first))
    assert await name_shown(port) == "first"
    await node.serve(tls(second))
    assert await name_shown(port) == "second"
    await node.serve(tls((first[0], second[1])))
    assert await name_shown(port) == "second"
    assert node.handoff.report is not None
    assert "cannot be used" in node.handoff.report.listeners[0].problem
    await node.serve(tls(first))
    assert await name_shown(port) == "first"
    assert node.handoff.report.listeners[0].problem == ""
    answer = await first_answer_or_nothing(port)
    assert answer == b""  # plain HTTP on a TLS port
    files = Tls(certificate_file=str(tmp_path / "live.crt"), key_file=str(tmp_path / "live.key"))
    for source, target in zip(first, ("live.crt", "live.key"), strict=True):
        shutil.copy(source, tmp_path / target)
    await node.serve(listener(port=port, tls=files, settings=Settings(scheme="https")))
    assert await name_shown(port) == "first"
    for source, target in zip(second, ("live.crt", "live.key"), strict=True):
        shutil.copy(source, tmp_path / target)
    async with asyncio.timeout(60):
        while await name_shown(port) != "second":  # noqa: ASYNC110 - files tell nobody
            await asyncio.sleep(0.2)


async def first_answer_or_nothing(port: int) -> bytes:
    """Ask in clear."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(GET)
    try:
        async with asyncio.timeout(10):
            return await reader.read(1)
    except ConnectionError:
        return b""
    finally:
        writer.close()
