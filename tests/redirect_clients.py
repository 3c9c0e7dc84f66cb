"""Which HTTP client follows which redirect, with which method and body: tried, for docs/uploads.md.

python -m tests.redirect_clients [--write]

Each client makes one upload to a redirector with its default settings, on loopback. What the real server got, counts.
Clients that are not installed are left out of the table.
"""

import argparse
import asyncio
import hashlib
import os
import shutil
import sys
import tempfile
import textwrap
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any, Final

import aiohttp
import requests
import urllib3

from lvs_dr.redirect.messages import Settings, Target
from tests.unit.redirect.redirecting import listener, redirecting
from tests.unit.redirect.storage import Storage

DOCUMENT: Final = Path(__file__).parents[1] / "docs" / "uploads.md"
BEGIN: Final = "<!-- table of clients: python -m tests.redirect_clients --write -->"
END: Final = "<!-- end of the table -->"
SIZES: Final = {"100 KiB": 100 * 1024, "4 MiB": 4 * 1024 * 1024}
CODES: Final = (301, 302, 307, 308)
SECONDS: Final = 60.0
LOGIN: Final = "Basic dXNlcjpzZWNyZXQ="

Client = Callable[[str, str, Path], Awaitable[object]]  # URL, method, file with the body

GO: Final = """
    package main

    import (
        "bytes"
        "net/http"
        "os"
    )

    func main() {
        data, _ := os.ReadFile(os.Args[3])
        request, _ := http.NewRequest(os.Args[2], os.Args[1], bytes.NewReader(data))
        request.Header.Set("Authorization", "Basic dXNlcjpzZWNyZXQ=")
        answer, err := http.DefaultClient.Do(request)
        if err != nil {
            os.Exit(1)
        }
        answer.Body.Close()
    }
"""
JAVA: Final = """
    import java.net.URI;
    import java.net.http.*;
    import java.nio.file.Path;

    public class Upload {
        public static void main(String[] given) throws Exception {
            var client = HttpClient.newBuilder().followRedirects(HttpClient.Redirect.NORMAL)
                .version(HttpClient.Version.HTTP_1_1).build();
            var request = HttpRequest.newBuilder(URI.create(given[0])).header("Authorization", "Basic dXNlcjpzZWNyZXQ=")
                .method(given[1], HttpRequest.BodyPublishers.ofFile(Path.of(given[2]))).build();
            client.send(request, HttpResponse.BodyHandlers.discarding());
        }
    }
"""


async def run(*command: str, stdin: Path | None = None) -> None:
    """Run a client."""
    with (stdin or Path(os.devnull)).open("rb") as source:
        process = await asyncio.create_subprocess_exec(
            *command, stdin=source, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await asyncio.wait_for(process.wait(), SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()


def curl(*more: str, standard_input: bool = False) -> Client:
    """Return curl with options."""

    async def upload(url: str, method: str, file: Path) -> None:
        body = ("-T", "-" if standard_input else str(file)) if method == "PUT" else ("--data-binary", f"@{file}")
        await run(
            *("curl", "-s", "-L", "-m", "30", "-H", f"Authorization: {LOGIN}", *more, *body, url),
            stdin=file if standard_input else None,
        )

    return upload


async def wget(url: str, method: str, file: Path) -> None:
    """GNU Wget."""
    await run(
        *("wget", "-q", "-O", "/dev/null", "-t", "1", "-T", "30", f"--method={method}", f"--body-file={file}"),
        *(f"--header=Authorization: {LOGIN}", url),
    )


async def by_requests(url: str, method: str, file: Path) -> None:
    """python-requests, the body from a file."""

    def upload() -> None:
        with file.open("rb") as body:
            requests.request(method, url, data=body, timeout=30, headers={"Authorization": LOGIN})

    await asyncio.to_thread(upload)


async def by_urllib3(url: str, method: str, file: Path) -> None:
    """urllib3, the body as bytes."""
    await asyncio.to_thread(
        urllib3.PoolManager().request, method, url, body=file.read_bytes(), headers={"Authorization": LOGIN}, timeout=30
    )


async def by_urllib(url: str, method: str, file: Path) -> None:
    """urllib.request of the standard library."""
    request = urllib.request.Request(url, file.read_bytes(), {"Authorization": LOGIN}, method=method)  # noqa: S310
    with await asyncio.to_thread(urllib.request.urlopen, request, timeout=30):
        pass


def by_aiohttp(*, expect: bool) -> Client:
    """aiohttp."""

    async def upload(url: str, method: str, file: Path) -> None:
        headers = {"Authorization": LOGIN}
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(30)) as session:
            with file.open("rb") as body:
                async with session.request(method, url, data=body, expect100=expect, headers=headers):
                    pass

    return upload


def compiled(directory: Path) -> dict[str, Client]:
    """Return clients in other languages, as far as these are installed."""
    found: dict[str, Client] = {}
    if shutil.which("javac"):
        (directory / "Upload.java").write_text(textwrap.dedent(JAVA))
        build = ["javac", "-d", str(directory), str(directory / "Upload.java")]
        if os.spawnvp(os.P_WAIT, build[0], build) == 0:  # noqa: S606
            found["Java `HttpClient`, `Redirect.NORMAL`"] = lambda url, method, file: run(
                "java", "-cp", str(directory), "Upload", url, method, str(file)
            )
    if shutil.which("go"):
        (directory / "upload.go").write_text(textwrap.dedent(GO))
        build = ["go", "build", "-o", str(directory / "upload"), str(directory / "upload.go")]
        if os.spawnvp(os.P_WAIT, build[0], build) == 0:  # noqa: S606
            found["Go `net/http`, body that can be read again"] = lambda url, method, file: run(
                str(directory / "upload"), url, method, str(file)
            )
    return found


def clients() -> dict[str, Client]:
    """Return all that need not be compiled and can be tried here."""
    found: dict[str, Client] = {}
    if shutil.which("curl"):
        found["`curl -L -T FILE`"] = curl()
        found["`curl -L -H Expect: -T FILE`"] = curl("-H", "Expect:")
        found["`curl --location-trusted -T FILE`"] = curl("--location-trusted")
        found["`curl -L -T -` (chunked)"] = curl(standard_input=True)
        found["`curl -L -X PUT -T FILE`"] = curl("-X", "PUT")
    if shutil.which("wget"):
        found["`wget --method --body-file`"] = wget
    found["python-requests, file"] = by_requests
    found["urllib3, bytes"] = by_urllib3
    found["Python `urllib.request`"] = by_urllib
    found["aiohttp, file"] = by_aiohttp(expect=False)
    found["aiohttp, file, `expect100=True`"] = by_aiohttp(expect=True)
    return found


async def tried(client: Client, code: int, method: str, file: Path) -> tuple[str, str]:
    """Let a client upload, and return what the real server got, and whether it was given the credentials."""
    expected = hashlib.sha256(file.read_bytes()).hexdigest()
    nothing = hashlib.sha256().hexdigest()
    with Storage() as storage:
        target = (Target(name="storage", address=storage.host),)
        settings = Settings(status_code=code, port=storage.port)  # type: ignore[arg-type]
        async with redirecting(listener(targets=target, settings=settings)) as redirector:
            try:
                await client(f"http://127.0.0.1:{redirector.port}/file", method, file)
            except (OSError, requests.RequestException, urllib3.exceptions.HTTPError, aiohttp.ClientError) as error:
                trouble = error
                if isinstance(error, urllib.error.HTTPError):
                    error.close()
                    return "not followed", ""
                if "/file" not in storage.stored:
                    return f"fails ({_short(trouble)})", ""
            except TimeoutError:
                return "hangs", ""
        if "/file" not in storage.stored:
            return "not followed", ""
        got, digest = storage.stored["/file"]
        body = {expected: "whole", nothing: "no body"}.get(digest, "damaged")
        login = "yes" if "authorization" in storage.headers["/file"] else "no"
        return (got if body == "whole" else f"**{got}, {body}**"), login


def _short(error: BaseException) -> str:
    text = str(error).lower()
    for sign, name in (
        ("reset", "reset"),
        ("broken pipe", "reset"),
        ("rewind", "cannot rewind"),
        ("disconnect", "reset"),
    ):
        if sign in text:
            return name
    return type(error).__name__


async def table(directory: Path) -> str:
    """Try everything, and return the table."""
    lines = [
        "| client | method | " + " | ".join(str(code) for code in CODES) + " | keeps `Authorization` |",
        "|---|---|" + "---|" * (len(CODES) + 1),
    ]
    files: dict[str, Path] = {}
    for name, size in SIZES.items():
        files[name] = directory / f"body-{size}"
        files[name].write_bytes(os.urandom(size))
    for name, client in chain(clients().items(), _compiled(directory)):
        for method in ("PUT", "POST"):
            if method == "POST" and ("-T -" in name or "-X PUT" in name):
                continue
            cells, login = [], ""
            for code in CODES:
                results = {size: await tried(client, code, method, file) for size, file in files.items()}
                cells.append(_cell({size: text for size, (text, _) in results.items()}))
                login = next((given for _, given in results.values() if given), login)
            lines.append(f"| {name} | {method} | " + " | ".join(cells) + f" | {login or '-'} |")
            sys.stderr.write(lines[-1] + "\n")
    return "\n".join(lines)


def _compiled(directory: Path) -> Iterator[tuple[str, Client]]:
    yield from compiled(directory).items()  # when the others are done: it takes time


def _cell(results: Mapping[str, str]) -> str:
    if len(set(results.values())) == 1:
        return next(iter(results.values()))
    return "; ".join(f"{size}: {text}" for size, text in results.items())


def main(arguments: list[str] | None = None) -> None:
    """Print the table, or write it into the document."""
    parser = argparse.ArgumentParser(prog="tests.redirect_clients")
    parser.add_argument("--write", action="store_true", help=f"into {DOCUMENT.name}")
    options: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as directory:
        made = asyncio.run(table(Path(directory)))
    if not options.write:
        sys.stdout.write(made + "\n")
        return
    text = DOCUMENT.read_text()
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    DOCUMENT.write_text(f"{before}{BEGIN}\n{made}\n{END}{after}")


if __name__ == "__main__":
    main()
