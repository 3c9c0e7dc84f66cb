"""First process of a node: mounts, network, sysctls; then it runs the control server and reaps orphans.

One Python process, since every process started costs 10 to 40 ms in User-Mode Linux. Standard library only.
"""

import ctypes
import json
import os
import subprocess
from pathlib import Path
from typing import Any

MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT = 1, 2, 4, 8, 32
_libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, kind: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    arguments = (source.encode(), target.encode(), kind.encode(), flags, data.encode())
    if _libc.mount(arguments[0], arguments[1], arguments[2], ctypes.c_ulong(flags), arguments[4]):
        number = ctypes.get_errno()
        raise OSError(number, f"mount {kind} on {target}: {os.strerror(number)}")


def mount_kernel_filesystems() -> None:
    """Mount what every Linux has. The kernel has mounted /dev by itself."""
    # setuid programs on hostfs would run as "nobody" in the sandbox's user namespace.
    mount("none", "/", "hostfs", MS_REMOUNT | MS_RDONLY | MS_NOSUID)
    mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    mount("sysfs", "/sys", "sysfs", MS_NOSUID | MS_NODEV | MS_NOEXEC)
    for directory in ("pts", "shm"):
        Path("/dev", directory).mkdir(exist_ok=True)
    mount("devpts", "/dev/pts", "devpts", MS_NOSUID | MS_NOEXEC, "newinstance,ptmxmode=0666,mode=620")
    mount("tmpfs", "/dev/shm", "tmpfs", MS_NOSUID | MS_NODEV, "mode=1777")


def mount_run(config: dict[str, Any]) -> None:
    """Give the node a /run of its own; what the lab keeps there on the host stays visible."""
    mount("tmpfs", "/run", "tmpfs", MS_NOSUID | MS_NODEV, "mode=755")
    expose([path for path in config["exports"] if Path(path).is_relative_to("/run")])


def expose(paths: list[str]) -> None:
    """Show directories of the host again that something of the node's own covers."""
    for path in paths:
        Path(path).mkdir(parents=True, exist_ok=True)
        mount("none", path, "hostfs", MS_RDONLY | MS_NOSUID, path)


def mount_own_files(config: dict[str, Any]) -> None:
    """Give the node its own version of the host's writable directories, its disk, and what must stay visible."""
    for directory in config["overlays"]:
        layers = Path("/run/lab", directory.strip("/"))
        upper, work = layers / "upper", layers / "work"
        for path in (upper, work):
            path.mkdir(parents=True)
        upper.chmod(Path(directory).stat().st_mode & 0o7777)
        mount("overlay", directory, "overlay", 0, f"lowerdir={directory},upperdir={upper},workdir={work}")
    expose([path for path in config["exports"] if not Path(path).is_relative_to("/run")])
    state = config["state"]
    Path(state).mkdir(parents=True, exist_ok=True)
    mount("none", state, "hostfs", MS_NOSUID, state)
    for path in config["persistent"]:
        disk = f"{state}/disk{path}"
        Path(disk).mkdir(parents=True, exist_ok=True)
        Path(path).mkdir(parents=True, exist_ok=True)
        mount("none", path, "hostfs", MS_NOSUID, disk)


def set_up_network(config: dict[str, Any]) -> None:
    """Name and address the interfaces; the control interface goes to a namespace of its own."""
    commands = ["link set lo up", "netns add control", "link set vec2 netns control"]
    for number, (name, addresses) in enumerate(config["interfaces"].items()):
        commands.append(f"link set vec{number} name {name}")
        commands.append(f"link set {name} up")
        commands.extend(f"addr add {a} dev {name}{' nodad' if ':' in a else ''}" for a in addresses)
    control = ["link set vec2 name control up", f"addr add {config['control']}/24 dev control"]
    ip(commands)
    ip(control, "-n", "control")


def ip(commands: list[str], *options: str) -> None:
    """Run `ip -batch`. Raises CalledProcessError."""
    subprocess.run(["ip", *options, "-batch", "-"], input="\n".join(commands), text=True, check=True)


def write_settings(config: dict[str, Any]) -> None:
    """Host name, hosts file, sysctls."""
    Path("/proc/sys/kernel/hostname").write_text(config["name"])
    Path("/etc/hostname").write_text(config["name"] + "\n")
    hosts = ["127.0.0.1 localhost", "::1 localhost", *config["hosts"]]
    Path("/etc/hosts").write_text("\n".join(hosts) + "\n")
    for name, value in config["sysctls"].items():
        Path("/proc/sys", name).write_text(value)


def main(config_file: str) -> None:
    """Set up the node, then serve until the power goes."""
    config = json.loads(Path(config_file).read_text())
    os.environ.clear()
    os.environ.update(config["environment"])
    mount_kernel_filesystems()
    mount_run(config)
    Path("/proc/sys/kernel/modprobe").write_text(config["modprobe"])
    subprocess.run([config["modprobe"], "-a", "ipv6", "overlay"], check=True)
    mount_own_files(config)
    set_up_network(config)
    write_settings(config)
    server = os.fork()
    if not server:
        import agentd  # type: ignore[import-not-found,unused-ignore] # noqa: PLC0415 - not needed in the reaper

        agentd.main(config["control"])
    while os.wait()[0] != server:
        pass
    # PID 1 ending panics the kernel, which ends it.
