"""Debian packages for the lab: downloaded and unpacked into the cache, never installed, configured or started."""

import json
import os
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path

from lvs_lab import cache
from lvs_lab.errors import ToolsMissing
from lvs_lab.progress import Progress, running

PACKAGES = {
    "user-mode-linux": "linux.uml",
    "ipvsadm": "ipvsadm",
    "tcpdump": "tcpdump",
    "iproute2": "ip",
    "kmod": "modprobe",
    "iptables": "iptables-legacy",
    "iputils-ping": "ping",
}
"""What every lab needs: package, and the program that shows it is there."""

ON_REQUEST = {"keepalived": "keepalived", "haproxy": "haproxy", "nginx-light": "nginx", "wrk": "wrk"}
"""What some tests and benchmarks need."""

_DOWNLOAD_TIMEOUT = 600.0
_UNPACK_TIMEOUT = 120.0


def wanted(extra: Iterable[str] = ()) -> list[str]:
    """Name the packages whose program is neither installed nor unpacked. Raises KeyError for an unknown one."""
    programs = {**PACKAGES, **{name: ON_REQUEST[name] for name in extra}}
    return [package for package, program in programs.items() if cache.find_command(program) is None]


def fetch(packages: Sequence[str], progress: Progress) -> None:
    """Download packages and what they depend on, as far as it is not installed, and unpack all of it.

    Works without root: apt's lock is not taken, downloads and (if need be) package lists are kept in the cache.
    Raises ToolsMissing with what apt said.
    """
    if not packages:
        return
    base = cache.root() / "deb"
    archives, tree = base / "archives", cache.debian_root()
    (archives / "partial").mkdir(parents=True, exist_ok=True)
    tree.mkdir(parents=True, exist_ok=True)
    with running(progress, f"downloading {', '.join(packages)}"):
        _download(packages, base, progress)
    manifest = base / "manifest.json"
    unpacked = set(json.loads(manifest.read_text())) if manifest.exists() else set()
    for archive in sorted(archives.glob("*.deb")):
        if archive.name in unpacked:
            continue
        with running(progress, f"unpacking {archive.name}"):
            _run(["dpkg-deb", "-x", str(archive), str(tree)], _UNPACK_TIMEOUT)
        unpacked.add(archive.name)
        manifest.write_text(json.dumps(sorted(unpacked)))
    _mend_links(tree)
    for package in packages:
        progress(f"{package}: unpacked into {tree}")


def _download(packages: Sequence[str], base: Path, progress: Progress) -> None:
    own_lists = ["-o", f"Dir::State::lists={base / 'lists'}", "-o", f"Dir::State::mirrors={base / 'mirrors'}"]
    options = _apt_options(base)
    install = ["install", "--download-only", "--yes", "--no-install-recommends", "--reinstall", *packages]
    if not any((base / "lists").glob("*_Packages*")):
        try:
            _run(["apt-get", *options, *install], _DOWNLOAD_TIMEOUT)
        except ToolsMissing:
            progress("the system's package lists do not serve: fetching own ones")
        else:
            return
    (base / "lists" / "partial").mkdir(parents=True, exist_ok=True)
    options += own_lists
    try:
        _run(["apt-get", *options, "update"], _DOWNLOAD_TIMEOUT)
    except ToolsMissing as error:  # one broken third-party source does not matter, if Debian's own works
        progress(f"apt-get update: {str(error).splitlines()[-1]}")
    _run(["apt-get", *options, *install], _DOWNLOAD_TIMEOUT)


def _apt_options(base: Path) -> list[str]:
    settings = {
        "Debug::NoLocking": "1",
        "Dir::Cache": str(base),
        "Dir::Cache::archives": str(base / "archives"),
        "Dir::Cache::pkgcache": "",
        "Dir::Cache::srcpkgcache": "",
        "Dir::Log": str(base / "log"),
        "APT::Sandbox::User": "root",
        "APT::Keep-Downloaded-Packages": "true",
        "Binary::apt-get::APT::Keep-Downloaded-Packages": "true",
        "Acquire::Retries": "3",
    }
    return [word for key, value in settings.items() for word in ("-o", f"{key}={value}")]


def _mend_links(tree: Path) -> None:
    """Point absolute links that lead to unpacked files into the tree; give iptables the name it gets on install."""
    for directory in ("sbin", "bin", "usr/sbin", "usr/bin"):
        for link in (tree / directory).glob("*"):
            if link.is_symlink() and (pointed := link.readlink()).is_absolute():
                target = tree / pointed.relative_to("/")
                if target.exists():
                    link.unlink()
                    link.symlink_to(os.path.relpath(target, link.parent))
    sbin = tree / "usr" / "sbin"
    for name in ("iptables", "ip6tables"):
        if (sbin / f"{name}-legacy").exists() and not (sbin / name).exists():
            (sbin / name).symlink_to(f"{name}-legacy")


def _run(argv: Sequence[str], timeout: float) -> None:
    environment = {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}
    try:
        completed = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=timeout, check=False)
    except FileNotFoundError as error:
        raise ToolsMissing(f"{argv[0]} is not there: the lab's tools come as Debian packages") from error
    except subprocess.TimeoutExpired as error:
        raise ToolsMissing(f"{argv[0]} did not end within {timeout:.0f} s") from error
    if completed.returncode:
        said = completed.stderr.strip() or completed.stdout.strip()
        raise ToolsMissing(f"{argv[0]} failed:\n{said}")
