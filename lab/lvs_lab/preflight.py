"""What may stand in the lab's way on a machine, each with the one line that cures it."""

import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lvs_lab import cache, debian, gobuild
from lvs_lab.sandbox import enter_command

DISK_NEEDED = 5 * 1024**3
DISK_NEEDED_TO_RUN = 1024**3
MEMORY_NEEDED = 2 * 1024**3
PROCESSES_NEEDED = 500
COMMANDS = {"unshare": "util-linux", "nsenter": "util-linux", "setpriv": "util-linux", "make": "make"}
_DOWNLOADERS = {"apt-get": "apt", "dpkg-deb": "dpkg"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found on this machine. A reason is "" when the thing works."""

    architecture: str = "x86_64"
    missing_commands: tuple[str, ...] = ()
    user_namespace: str = ""
    fresh_proc: str = ""
    shared_memory: str = ""
    network: str = ""
    ptrace: str = ""
    kernel_refused: str = ""
    free_disk: int = 1 << 40
    available_memory: int = 1 << 40
    process_limit: int = 1 << 20
    go: tuple[int, int] | None = (1, 26)
    to_build: tuple[str, ...] = ()
    to_fetch: tuple[str, ...] = ()
    unprivileged_clone_off: bool = False
    user_namespaces_limit: int = 1 << 16
    apparmor_restricts: bool = False
    readable_python: bool = True


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something that is in the way; `fatal` when the lab cannot work with it."""

    what: str
    cure: str
    fatal: bool = True

    def __str__(self) -> str:
        return f"{'in the way' if self.fatal else 'note'}: {self.what}\n    cure: {self.cure}"


def obstacles(facts: Facts) -> list[Obstacle]:
    """Judge the facts: what is in the way, gravest first; nothing when the lab will work."""
    found = [*_programs(facts), *_namespaces(facts), *_resources(facts)]
    return sorted(found, key=lambda obstacle: not obstacle.fatal)


def _programs(facts: Facts) -> list[Obstacle]:
    found = []
    if facts.architecture not in {"x86_64", "amd64"}:
        cure = "use an x86-64 machine: Debian builds User-Mode Linux for no other"
        found.append(Obstacle(f"this machine is {facts.architecture}", cure))
    packages = {**COMMANDS, **_DOWNLOADERS}
    found += [
        Obstacle(f"{command} is not installed", f"apt-get install {packages[command]}")
        for command in facts.missing_commands
    ]
    if facts.to_build and (facts.go is None or facts.go < gobuild.GO_NEEDED):
        version = ".".join(map(str, gobuild.GO_NEEDED))
        there = "no Go on the PATH" if facts.go is None else f"Go {facts.go[0]}.{facts.go[1]} is too old"
        cure = f"install Go {version} or newer from https://go.dev/dl, or set KUBEBUILDER_ASSETS"
        found.append(Obstacle(f"{there}; {', '.join(facts.to_build)} must be built once", cure))
    if not facts.readable_python:
        cure = "install Debian's python3, or use a Python outside another user's home directory"
        found.append(Obstacle("nodes have no Python that they may read", cure))
    return found


def _namespaces(facts: Facts) -> list[Obstacle]:
    found = []
    if facts.user_namespace:
        found.append(Obstacle(f"user namespaces are off ({facts.user_namespace})", _user_namespace_cure(facts)))
        return found  # all below needs one
    if facts.fresh_proc:
        cure = "none needed, the host's /proc will do; in a container: --security-opt systempaths=unconfined"
        found.append(Obstacle("/proc is masked, so the sandbox cannot have its own", cure, fatal=False))
    if facts.shared_memory:
        cure = "allow tmpfs mounts in user namespaces (in a container: --security-opt apparmor=unconfined)"
        found.append(Obstacle(f"no own /dev/shm ({facts.shared_memory}); the host's may be noexec or small", cure))
    if facts.network:
        cure = "modprobe bridge veth (as root, once; add both to /etc/modules)"
        found.append(Obstacle(f"no bridge with veth ports in a namespace ({facts.network})", cure))
    if facts.ptrace:
        cure = "sysctl kernel.yama.ptrace_scope=1 (in a container: --cap-add SYS_PTRACE)"
        found.append(Obstacle(f"ptrace is refused ({facts.ptrace})", cure))
    if facts.kernel_refused and not facts.ptrace:
        cure = "see the message; in a container: --security-opt seccomp=unconfined"
        found.append(Obstacle(f"User-Mode Linux does not start ({facts.kernel_refused})", cure))
    return found


def _user_namespace_cure(facts: Facts) -> str:
    if facts.unprivileged_clone_off:
        return "sysctl kernel.unprivileged_userns_clone=1"
    if facts.user_namespaces_limit < 1:
        return "sysctl user.max_user_namespaces=15000"
    if facts.apparmor_restricts:
        return "sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    return "in a container: --security-opt seccomp=unconfined; else sysctl user.max_user_namespaces=15000"


def _resources(facts: Facts) -> list[Obstacle]:
    found = []
    gib = 1024**3
    needed = DISK_NEEDED if facts.to_build else DISK_NEEDED_TO_RUN
    if facts.free_disk < needed:
        cure = f"free some, or set XDG_CACHE_HOME (and GOCACHE, GOMODCACHE) to a disk with {needed // gib} GB"
        found.append(Obstacle(f"{facts.free_disk / gib:.1f} GB of disk free, {needed // gib} GB needed", cure))
    if facts.available_memory < MEMORY_NEEDED:
        available = facts.available_memory / gib
        cure = "free some: seven kernels, an API server and etcd live in it"
        found.append(Obstacle(f"{available:.1f} GB of memory available, {MEMORY_NEEDED // gib} GB needed", cure))
    if 0 <= facts.process_limit < PROCESSES_NEEDED:
        found.append(Obstacle(f"only {facts.process_limit} processes allowed", f"ulimit -u {2 * PROCESSES_NEEDED}"))
    return found


def probe() -> Facts:
    """Look at this machine. Starts some processes in namespaces of their own; changes nothing."""
    to_build, to_fetch = tuple(gobuild.missing()), tuple(debian.wanted())
    needed = [*COMMANDS, *(_DOWNLOADERS if to_fetch else ())]
    absent = tuple(name for name in needed if shutil.which(name, path=cache.search_path()) is None)
    user_namespace = "" if "unshare" in absent else _try_inside("true")
    inside: Callable[..., str] = (lambda *_, **__: "") if user_namespace or "unshare" in absent else _try_inside
    linux = cache.find_command("linux.uml")
    bridge = "ip link add b0 type bridge && ip link add v0 type veth peer name v1 && ip link set v0 master b0 up"
    return Facts(
        architecture=os.uname().machine,
        missing_commands=absent,
        user_namespace=user_namespace,
        fresh_proc=inside("true", mount_proc=True),
        shared_memory=inside("mount -t tmpfs -o size=1m tmpfs /dev/shm"),
        network=inside(bridge) if cache.find_command("ip") else "",
        ptrace=_try_ptrace(),
        kernel_refused=inside(_UML_TRIAL.format(linux=linux)) if linux else "",
        free_disk=_free_disk(),
        available_memory=_available_memory(),
        process_limit=resource.getrlimit(resource.RLIMIT_NPROC)[0],
        go=gobuild.go_version() if to_build else gobuild.GO_NEEDED,
        to_build=to_build,
        to_fetch=to_fetch,
        unprivileged_clone_off=_sysctl("kernel/unprivileged_userns_clone", 1) == 0,
        user_namespaces_limit=_sysctl("user/max_user_namespaces", 1 << 16),
        apparmor_restricts=_sysctl("kernel/apparmor_restrict_unprivileged_userns", 0) == 1,
        readable_python=os.access(cache.node_python(), os.R_OK | os.X_OK),
    )


# Boots the host's root, read-only, and runs /bin/true there as the first process, whose end is the kernel's.
_UML_TRIAL = """
ulimit -c 0
mount -t tmpfs -o size=256m tmpfs /dev/shm
timeout 20 {linux} mem=64M uml_dir=/dev/shm/ con=null con0=null,fd:1 panic=-1 quiet root=/dev/root rootfstype=hostfs \
    rootflags=/ ro init=/bin/true >/dev/shm/log 2>&1 </dev/null
grep -q 'kill init! exitcode=0x00000000' /dev/shm/log && exit 0
grep -v '<[0-9a-f]*>' /dev/shm/log | tail -n 1 >&2
exit 1
"""


def _try_inside(script: str, *, mount_proc: bool = False) -> str:
    argv = enter_command(["sh", "-c", script], tied=False, mount_proc=mount_proc)
    environment = {**os.environ, **cache.tool_environment()}
    try:
        done = subprocess.run(argv, env=environment, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return "" if not done.returncode else (done.stderr.strip() or f"exit code {done.returncode}").splitlines()[-1]


def _try_ptrace() -> str:
    """Do what UML does: a child asks to be traced (PTRACE_TRACEME is request 0)."""
    script = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
        "print('' if libc.ptrace(0, 0, 0, 0) == 0 else os.strerror(ctypes.get_errno()))"
    )
    done = subprocess.run([sys.executable, "-ESc", script], capture_output=True, text=True, timeout=30, check=False)
    return done.stdout.strip() or done.stderr.strip()


def _free_disk() -> int:
    existing = cache.root()
    while not existing.exists():
        existing = existing.parent
    return shutil.disk_usage(existing).free


def _available_memory() -> int:
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return 1 << 40


def _sysctl(name: str, default: int) -> int:
    try:
        return int(Path("/proc/sys", name).read_text())
    except (OSError, ValueError):
        return default
