"""User-Mode Linux kernels: command line, start, kill. Each oddity of the command line has its reason beside it."""

import asyncio
import contextlib
import os
import re
import shutil
import signal as signals
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from lvs_lab.network import DEVICES, port_in_node
from lvs_lab.spec import LAN4, LAN6, MANAGEMENT, NodeSpec

_TRACE = re.compile(r"\s*(\[<[0-9a-f]+>\]|[0-9a-f ]+$)")
_UML_DIRECTORY = Path("/dev/shm/uml")

# The raw transport hears its own sent frames (bridging breaks, counters double): drop PACKET_OUTGOING (4), which
# the ancillary load SKF_AD_OFF + SKF_AD_PKTTYPE (0xfffff004) tells; accept all else (linux/filter.h).
_DROP_OUTGOING = b"".join(
    struct.pack("=HBBI", *instruction)
    for instruction in ((0x20, 0, 0, 0xFFFFF004), (0x15, 0, 1, 4), (6, 0, 0, 0), (6, 0, 0, 0x40000))
)

_COVERED = ("/etc", "/run", "/tmp", "/var")
"""Directories of the host that a node has its own version of."""


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelFactory:
    """How kernels are started: programs, and directories of the host that every node must be able to read."""

    linux: Path
    modules: Path
    guest: Path
    python: str
    environment: Mapping[str, str]
    exports: Sequence[Path]
    hosts: Mapping[str, Sequence[str]]

    def boot_config(self, spec: NodeSpec, state_dir: Path) -> dict[str, object]:
        """What guest/init.py needs to know, as JSON."""
        forwarding = {"net/ipv4/ip_forward": "1", "net/ipv6/conf/all/forwarding": "1"}
        return {
            "name": spec.name,
            "state": str(state_dir),
            "exports": [str(path) for path in self.exports if any(map(path.is_relative_to, _COVERED))],
            "overlays": [path for path in _COVERED if path != "/run"],
            "persistent": list(spec.persistent),
            "modprobe": str(self.guest / "modprobe"),
            "environment": dict(self.environment),
            "sysctls": forwarding if spec.kubernetes else {},
            "hosts": [f"{address} {name}" for name, addresses in self.hosts.items() for address in addresses],
            "interfaces": {
                "eth0": [f"{spec.lan_address}/{LAN4.prefixlen}", f"{spec.lan_address6}/{LAN6.prefixlen}"],
                "eth1": [f"{spec.management_address}/{MANAGEMENT.prefixlen}"],
            },
            "control": spec.control_address,
        }

    def prepare(self) -> None:
        """Write the files all kernels share."""
        (self.guest / "outgoing.bpf").write_bytes(_DROP_OUTGOING)
        modprobe = self.guest / "modprobe"
        library = self.environment.get("LD_LIBRARY_PATH", "")
        modprobe.write_text(
            f"#!/bin/sh\nPATH={self.environment['PATH']} LD_LIBRARY_PATH={library}"
            f' exec modprobe -d {self.modules} "$@"\n'
        )
        modprobe.chmod(0o755)
        _UML_DIRECTORY.mkdir(parents=True, exist_ok=True)

    def command(self, spec: NodeSpec, state_dir: Path) -> list[str]:
        """Return the kernel's command line."""
        devices = [
            f"vec{number}:transport=raw,ifname={port_in_node(spec, network)},mac={spec.mac(network)},"
            f"bpffile={self.guest / 'outgoing.bpf'}"
            for number, network in enumerate(DEVICES)
        ]
        return [
            str(self.linux),
            f"mem={spec.memory_mib}M",
            f"umid={spec.name}",
            f"uml_dir={_UML_DIRECTORY}/",
            "root=/dev/root",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",  # the host's files are not the nodes' to write
            f"init={state_dir / 'init'}",
            "con=null",
            "con0=null,fd:1",
            "con1=null",
            "ssl=null",
            "quiet",
            "panic=-1",
            *devices,
        ]

    async def start(self, spec: NodeSpec, state_dir: Path) -> "Kernel":
        """Start the kernel of a node whose boot.json is written."""
        init = state_dir / "init"
        init.write_text(
            f"#!{self.python} -ES\nimport sys\nsys.path.insert(0, {str(self.guest)!r})\n"
            f"import init\ninit.main({str(state_dir / 'boot.json')!r})\n"
        )
        init.chmod(0o755)
        console = state_dir / "console.log"
        with console.open("ab") as log:
            process = await asyncio.create_subprocess_exec(
                *self.command(spec, state_dir),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # helper processes hold the sockets: one group to kill
                env={"PATH": "/usr/bin:/bin", "HOME": "/"},
            )
        return Kernel(process, spec.name, console)


class Kernel:
    """A running kernel."""

    def __init__(self, process: asyncio.subprocess.Process, name: str, console: Path) -> None:
        self._process = process
        self._name = name
        self._console = console

    @property
    def running(self) -> bool:
        """Whether the kernel process exists."""
        return self._process.returncode is None

    def signal(self, number: signals.Signals) -> None:
        """Signal the kernel process alone: its traced user processes cannot go on without it."""
        self._process.send_signal(number)

    async def ended(self) -> None:
        """Wait until the kernel has ended."""
        await self._process.wait()

    async def kill(self) -> None:
        """Kill the whole group and wait until the kernel has ended."""
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself, with all its helpers
            os.killpg(self._process.pid, signals.SIGKILL)
        await self._process.wait()
        shutil.rmtree(_UML_DIRECTORY / self._name, ignore_errors=True)

    def console_tail(self, lines: int = 20) -> str:
        """Return the last lines of the console, without the kernel's own call traces."""
        said = self._console.read_text(errors="replace").splitlines()
        return "\n".join([line for line in said if not _TRACE.match(line)][-lines:])
