"""Makes the process it runs in a container, and then becomes the container's program. Standard library only.

    container.py run PLAN             as first process of a new PID namespace, in a mount namespace of its own
    container.py exec PLAN PID ARGV…  inside a running container: same namespaces, user and capabilities

PLAN is the JSON file that `lvs_lab.podspec` makes; once all is set up the process's number on the node is written to
its neighbour `pid`. What a container runtime does is done here by hand: a root of its
own with the image's directories in it, /proc, /sys and /dev as containers have them, volumes, user, capability sets,
no_new_privs. Exit code 125: the container could not be set up; the reason is in PLAN's neighbour `error`.
"""

# pathlib, typing and traceback are done without: importing them takes longer than all that happens here.
# ruff: noqa: PTH101, PTH102, PTH103, PTH110, PTH112, PTH114, PTH115, PTH118, PTH120, PTH123, PTH211
from __future__ import annotations

import ctypes
import json
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

SETUP_FAILED = 125
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR, SYS_PIVOT_ROOT, SYS_CAPSET = 428, 429, 442, 155, 126
AT_FDCWD, AT_EMPTY_PATH, AT_RECURSIVE = -100, 0x1000, 0x8000
OPEN_TREE_CLONE, OPEN_TREE_CLOEXEC, MOVE_MOUNT_F_EMPTY_PATH = 1, os.O_CLOEXEC, 4
MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID = 1, 2
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_PRIVATE_RECURSIVE, MNT_DETACH = 2, 4, 8, (1 << 18) | 0x4000, 2
PR_SET_PDEATHSIG, PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL = 1, 24, 38, 47, 4
NAMESPACES = ("mnt", "ipc", "pid")
NEW_ROOT = "/run"
"""Where the container's root is put together: covered by a tmpfs in the container's mount namespace only."""
DEVICES = {"null": (1, 3), "zero": (1, 5), "full": (1, 7), "random": (1, 8), "urandom": (1, 9), "tty": (5, 0)}

_libc = ctypes.CDLL(None, use_errno=True)


def checked(what: str, result: int) -> int:
    """Return a system call's result. Raises OSError naming `what`."""
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result


def read(path: str) -> str:
    """Return a file's text."""
    with open(path) as file:
        return file.read()


def mount(kind: str, target: str, flags: int, data: str = "") -> None:
    """mount(2) of a file system without a device."""
    call = _libc.mount(kind.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())
    checked(f"mount {kind} on {target}", call)


def clone_tree(path: str) -> int:
    """Return a detached copy of what is mounted at `path`, with what is mounted below it."""
    flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | AT_RECURSIVE
    return checked(f"open_tree {path}", _libc.syscall(SYS_OPEN_TREE, AT_FDCWD, path.encode(), flags))


def make_read_only(tree: int, *, recursive: bool = False) -> None:
    """Make a mount read-only, without touching the mount it was copied from."""
    attributes = (ctypes.c_uint64 * 4)(MOUNT_ATTR_RDONLY, 0, 0, 0)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    call = _libc.syscall(SYS_MOUNT_SETATTR, tree, b"", flags, ctypes.byref(attributes), ctypes.c_size_t(32))
    checked("mount_setattr", call)


def attach(tree: int, target: str) -> None:
    """Put a detached copy in place."""
    call = _libc.syscall(SYS_MOVE_MOUNT, tree, b"", AT_FDCWD, target.encode(), MOVE_MOUNT_F_EMPTY_PATH)
    checked(f"move_mount to {target}", call)


def make_target(root: str, path: str, *, directory: bool) -> str:
    """Make the place where something is to be mounted; its parents must not be in a read-only image directory."""
    target = root + path
    try:
        os.makedirs(target if directory else os.path.dirname(target), exist_ok=True)
        if not directory:
            os.close(os.open(target, os.O_CREAT | os.O_CLOEXEC, 0o644))
    except OSError as error:
        raise OSError(error.errno, f"no place to mount {path}: {error.strerror}") from error
    return target


def prepare_source(volume: dict[str, Any]) -> None:
    """Make what may be made (DirectoryOrCreate, emptyDir) and insist on the rest."""
    source = volume["source"]
    if volume.get("create") == "directory" and not os.path.isdir(source):
        os.makedirs(source, exist_ok=True)
        os.chmod(source, volume.get("mode", 0o755))
    if not os.path.exists(source):
        raise FileNotFoundError(f"volume {source} does not exist on the node")
    if volume.get("kind") == "directory" and not os.path.isdir(source):
        raise NotADirectoryError(f"volume {source} is not a directory on the node")


def collect(plan: dict[str, Any]) -> tuple[list[tuple[str, int]], list[tuple[dict[str, Any], int, bool]], int]:
    """Copy every mount that the container needs while the node's own view is still there."""
    image = [(path, clone_tree(path)) for path in plan["image"] if not os.path.islink(path) and os.path.exists(path)]
    volumes = []
    for volume in sorted(plan["mounts"], key=lambda v: v["target"].count("/")):
        prepare_source(volume)
        volumes.append((volume, clone_tree(volume["source"]), os.path.isdir(volume["source"])))
    return image, volumes, clone_tree("/sys")


def build_root(plan: dict[str, Any]) -> None:
    """Put the container's root together and make it this process's root."""
    checked("mount private", _libc.mount(b"none", b"/", None, ctypes.c_ulong(MS_PRIVATE_RECURSIVE), None))
    links = [(path, os.readlink(path)) for path in plan["image"] if os.path.islink(path)]
    image, volumes, sys_tree = collect(plan)
    mount("tmpfs", NEW_ROOT, MS_NODEV, "mode=755")
    for path, text in links:
        os.symlink(text, NEW_ROOT + path)
    # What lies below a volume (a project in /tmp, say, and an emptyDir there) would be hidden by it: it comes last.
    hidden = [(path, tree) for path, tree in image if any(path.startswith(v["target"] + "/") for v, _, _ in volumes)]
    attach_image([each for each in image if each not in hidden])
    make_standard_directories()
    make_read_only(sys_tree, recursive=True)
    attach(sys_tree, NEW_ROOT + "/sys")
    for volume, tree, directory in volumes:
        if volume["read_only"]:
            make_read_only(tree, recursive=True)
        attach(tree, make_target(NEW_ROOT, volume["target"], directory=directory))
    attach_image(hidden)
    enter_root(read_only=plan["read_only_root"])


def attach_image(image: list[tuple[str, int]]) -> None:
    """Put directories of the image in place, read-only."""
    for path, tree in image:
        make_read_only(tree, recursive=True)
        attach(tree, make_target(NEW_ROOT, path, directory=os.path.isdir(path)))


def make_standard_directories() -> None:
    """Make /proc, /dev, /tmp and the rest as containers have them."""
    for name, mode in (
        ("proc", 0o555),
        ("sys", 0o555),
        ("dev", 0o755),
        ("root", 0o755),
        ("run", 0o755),
        ("tmp", 0o1777),
        ("var", 0o755),
    ):
        os.makedirs(f"{NEW_ROOT}/{name}", exist_ok=True)
        os.chmod(f"{NEW_ROOT}/{name}", mode)
    for name in ("lib", "log", "tmp"):
        os.makedirs(f"{NEW_ROOT}/var/{name}", exist_ok=True)
    os.symlink("../run", NEW_ROOT + "/var/run")  # relative: it is followed before the root is entered
    mount("proc", NEW_ROOT + "/proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    settings = clone_tree(NEW_ROOT + "/proc/sys")
    make_read_only(settings)
    attach(settings, NEW_ROOT + "/proc/sys")
    dev = NEW_ROOT + "/dev"
    mount("tmpfs", dev, MS_NOSUID, "mode=755")
    old = os.umask(0)
    for name, numbers in DEVICES.items():
        os.mknod(f"{dev}/{name}", 0o20666, os.makedev(*numbers))
    os.umask(old)
    for link, target in {"fd": "fd", "stdin": "fd/0", "stdout": "fd/1", "stderr": "fd/2"}.items():
        os.symlink(f"/proc/self/{target}", f"{dev}/{link}")
    os.mkdir(dev + "/shm")
    mount("tmpfs", dev + "/shm", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=1777")


def enter_root(*, read_only: bool) -> None:
    """Make the new root this process's root and let go of the node's."""
    os.chdir(NEW_ROOT)
    if read_only:
        root = os.open(".", os.O_PATH | os.O_CLOEXEC)
        make_read_only(root)
        os.close(root)
    checked("pivot_root", _libc.syscall(SYS_PIVOT_ROOT, b".", b"."))
    checked("umount old root", _libc.umount2(b".", MNT_DETACH))
    os.chdir("/")


def drop_privileges(plan: dict[str, Any]) -> None:
    """Become the container's user with the capability sets that container runtimes give.

    Bounding = effective = permitted = the container's set, inheritable and ambient empty. Exec then leaves a user
    other than 0 with nothing, as on every Kubernetes node (capabilities(7), "Transformation during execve").
    """
    capabilities = set(plan["capabilities"])
    last = int(read("/proc/sys/kernel/cap_last_cap"))
    for number in range(last + 1):
        if number not in capabilities:
            checked(f"drop capability {number}", _libc.prctl(PR_CAPBSET_DROP, number, 0, 0, 0))
    os.setgroups(plan["groups"])
    os.setresgid(plan["gid"], plan["gid"], plan["gid"])
    os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    mask = 0 if plan["uid"] else sum(1 << number for number in capabilities if number <= last)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this process
    words = (mask & 0xFFFFFFFF, mask >> 32)
    data = (ctypes.c_uint32 * 6)(words[0], words[0], 0, words[1], words[1], 0)
    checked("capset", _libc.syscall(SYS_CAPSET, ctypes.byref(header), ctypes.byref(data)))
    checked("clear ambient", _libc.prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
    if plan["no_new_privileges"]:
        checked("no_new_privs", _libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def become(plan: dict[str, Any], argv: list[str], announce: Callable[[], object] = lambda: None) -> None:
    """Drop privileges, announce it and run the program. Returns only by exception."""
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and exec would hand that on
        signal.signal(number, signal.SIG_DFL)
    os.umask(0o022)
    drop_privileges(plan)
    os.chdir(plan["cwd"])
    # A change of user clears the signal, so it is set last: whoever waits for us takes us along.
    checked("pdeathsig", _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0))
    announce()
    os.execvpe(argv[0], argv, plan["env"])  # noqa: S606


def run(plan_path: str) -> None:
    """Become a new container."""
    plan = json.loads(read(plan_path))
    # /proc still belongs to the node's PID namespace here, so this is our number there.
    pid = os.readlink("/proc/self")
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
    complaint = os.open(os.path.join(os.path.dirname(plan_path), "error"), flags, 0o600)
    started = os.open(os.path.join(os.path.dirname(plan_path), "pid"), flags, 0o600)
    try:
        build_root(plan)
        become(plan, plan["argv"], lambda: os.write(started, pid.encode() + b"\n"))
    except Exception as error:  # noqa: BLE001 - whatever it was, the pod's status must say it
        os.write(complaint, (str(error) or type(error).__name__).encode())
        os.write(2, f"container setup failed: {error!r}\n".encode())
        os._exit(SETUP_FAILED)


def enter(plan_path: str, pid: int, argv: list[str]) -> int:
    """Run `argv` in the container whose first process is `pid` and return its exit code."""
    plan = json.loads(read(plan_path))
    handles = [os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY) for name in NAMESPACES]
    for name, handle in zip(NAMESPACES, handles, strict=True):
        checked(f"setns {name}", _libc.setns(handle, 0))
        os.close(handle)
    os.chdir("/")
    child = os.fork()
    if not child:
        try:
            become(plan, argv)
        except OSError as error:
            os.write(2, f"{error}\n".encode())
        os._exit(SETUP_FAILED)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    """Dispatch on the first argument."""
    if sys.argv[1] == "run":
        run(sys.argv[2])
    code = enter(sys.argv[2], int(sys.argv[3]), sys.argv[4:])
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
