"""Where downloaded and built tools live, and which of them are there."""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lvs_lab.errors import ToolsMissing
from lvs_lab.progress import Progress, running

PROJECT = Path(__file__).resolve().parents[2]
GO_MODULES = PROJECT / "lab" / "go"
KUBERNETES = ("kube-apiserver", "kube-controller-manager", "kubectl")
BINARIES = ("etcd", *KUBERNETES)
_SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

HOW_TO_GET_TOOLS = "run `make tools` (or lab/ctl tools)"


def root() -> Path:
    """Return the user's cache directory of the project."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "lvs-operator"


def debian_root() -> Path:
    """Return the tree that Debian packages are unpacked into."""
    return root() / "deb" / "root"


@contextmanager
def locked(progress: Progress) -> Iterator[None]:
    """Hold the cache for writing; says so while somebody else does."""
    root().mkdir(parents=True, exist_ok=True)
    with (root() / "lock").open("w") as file:
        with running(progress, "waiting for another process that fetches tools"):
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def version_in(module: str, path: str) -> str:
    """Return the version of a Go module as pinned in lab/go/MODULE/go.mod."""
    for line in (GO_MODULES / module / "go.mod").read_text().splitlines():
        words = line.split()
        if words[:1] == [path]:
            return words[1]
    raise LookupError(f"{path} is not in lab/go/{module}/go.mod")


def binary_directory(name: str) -> Path:
    """Return where a built binary belongs: keyed by version and by what its module is made of."""
    module, path = ("etcd", "go.etcd.io/etcd/server/v3") if name == "etcd" else ("kubernetes", "k8s.io/kubernetes")
    digest = hashlib.sha256((GO_MODULES / module / "go.sum").read_bytes()).hexdigest()[:12]
    return root() / "bin" / f"{module}-{version_in(module, path)}-{digest}"


def find_binary(name: str) -> Path | None:
    """Find etcd or a Kubernetes binary: in KUBEBUILDER_ASSETS, then in the cache."""
    directories = [binary_directory(name)]
    if assets := os.environ.get("KUBEBUILDER_ASSETS"):
        directories.insert(0, Path(assets))
    for directory in directories:
        if os.access(directory / name, os.X_OK):
            return directory / name
    return None


def search_path() -> str:
    """Return the PATH of the lab and its nodes: what is installed first, then what was unpacked."""
    tree = debian_root()
    return ":".join([_SYSTEM_PATH, *(str(tree / part) for part in ("usr/sbin", "usr/bin", "sbin", "bin"))])


def find_command(name: str) -> Path | None:
    """Find a program that is installed or unpacked."""
    found = shutil.which(name, path=search_path())
    return Path(found) if found else None


def tool_environment() -> dict[str, str]:
    """Return the environment that unpacked programs need to find their libraries."""
    environment = {"PATH": search_path()}
    libraries = [path for base in ("usr/lib", "lib") for path in (debian_root() / base).glob("*-linux-gnu*")]
    if libraries:
        environment["LD_LIBRARY_PATH"] = ":".join(map(str, libraries))
    for directory in debian_root().glob("usr/lib/*/xtables"):
        environment["XTABLES_LIBDIR"] = str(directory)
    return environment


@dataclass(frozen=True, slots=True, kw_only=True)
class Tools:
    """Everything a lab is made from."""

    linux: Path
    modules: Path
    environment: Mapping[str, str]
    binaries: Mapping[str, Path]


def module_tree() -> Path:
    """Return a directory for `modprobe -d`: lib/modules/VERSION links to the UML package's modules."""
    return root() / "uml"


def link_modules() -> None:
    """Make module_tree() from the installed or unpacked user-mode-linux."""
    for base in (debian_root(), Path("/")):
        for source in (base / "usr/lib/uml/modules").glob("*"):
            link = module_tree() / "lib" / "modules" / source.name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.unlink(missing_ok=True)
                link.symlink_to(source)


def missing(*, kubernetes: bool = True) -> list[str]:
    """Name what a lab would need and is not there."""
    commands = ("linux.uml", "ip", "modprobe", "tcpdump", "ipvsadm")
    absent = [name for name in commands if find_command(name) is None]
    if kubernetes:
        absent += [name for name in BINARIES if find_binary(name) is None]
    return absent


def tools(*, kubernetes: bool = True) -> Tools:
    """Find all tools. Raises ToolsMissing with the command that gets them."""
    if absent := missing(kubernetes=kubernetes):
        raise ToolsMissing(f"the lab lacks {', '.join(absent)}: {HOW_TO_GET_TOOLS}")
    link_modules()
    linux = find_command("linux.uml")
    assert linux is not None  # noqa: S101 - missing() has looked
    found = {name: path for name in BINARIES if (path := find_binary(name)) is not None} if kubernetes else {}
    return Tools(linux=linux, modules=module_tree(), environment=tool_environment(), binaries=found)


def node_python() -> str:
    """Return a Python that nodes can run the control server with: the system's, else the running one."""
    return "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else os.path.realpath(sys.executable)
