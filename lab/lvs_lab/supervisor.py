"""The lab's own process inside the sandbox: it owns networks, kernels and control plane, and serves the clients."""

import argparse
import asyncio
import compileall
import contextlib
import ctypes
import dataclasses
import fcntl
import json
import os
import shutil
import signal
import sys
import threading
import traceback
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from lvs_lab import cache
from lvs_lab.errors import LabError, StartFailed
from lvs_lab.network import Networks
from lvs_lab.node import NodeHandle
from lvs_lab.rpc import Emit, Params, Server
from lvs_lab.service import NodeService
from lvs_lab.spec import MANAGEMENT_HOST, ClusterConfig, NodeSpec
from lvs_lab.uml import KernelFactory

_CLUSTER_STOP_TIMEOUT = 5.0
_GUEST = Path(__file__).parent / "guest"


class ClusterLike(Protocol):
    """The Kubernetes half, as far as the supervisor knows it; its other methods are called by name."""

    async def start(self) -> None:
        """Bring the control plane up, and the kubelet stand-ins as their nodes come up."""

    async def stop(self) -> None:
        """End all of it."""


class Supervisor:
    """One lab."""

    def __init__(self, run_dir: Path, relay_fd: int, report: Callable[[dict[str, object]], None]) -> None:
        self.run_dir = run_dir
        self._report = report
        settings = json.loads((run_dir / "lab.json").read_text())
        self.specs = [NodeSpec(**spec) for spec in settings["nodes"]]
        self.with_kubernetes = bool(settings["kubernetes"])
        self.tools = cache.tools(kubernetes=self.with_kubernetes)
        self.networks = Networks()
        kernels = self._kernels(settings["python"])
        self.nodes = {
            spec.name: NodeHandle(spec, run_dir / "nodes" / spec.name, kernels, self.networks) for spec in self.specs
        }
        self.cluster = self._cluster(relay_fd, settings["relay_port"]) if self.with_kubernetes else None
        self.ended = asyncio.Event()
        self._service = NodeService(self.nodes)

    def _kernels(self, python: str) -> KernelFactory:
        guest = self.run_dir / "guest"
        shutil.copytree(_GUEST, guest, ignore=shutil.ignore_patterns("__pycache__"))
        compileall.compile_dir(guest, quiet=1)  # nodes cannot write here, and compiling is slow there
        hosts = {spec.name: (spec.lan_address, spec.lan_address6) for spec in self.specs}
        environment = {
            **self.tools.environment,
            "HOME": "/tmp",
            "LANG": "C.UTF-8",
            "TERM": "xterm",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        factory = KernelFactory(
            linux=self.tools.linux,
            modules=self.tools.modules,
            guest=guest,
            python=python,
            environment=environment,
            exports=[self.run_dir, cache.PROJECT, cache.root(), Path(sys.prefix), Path(sys.base_prefix)],
            hosts={**hosts, "kubernetes": (MANAGEMENT_HOST,)},
        )
        factory.prepare()
        return factory

    def _cluster(self, relay_fd: int, relay_port: int) -> ClusterLike:
        from lvs_lab.cluster import Cluster  # noqa: PLC0415 - a lab without Kubernetes needs none of it

        config = ClusterConfig(
            run_dir=self.run_dir,
            project=cache.PROJECT,
            binaries=self.tools.binaries,
            relay_fd=relay_fd,
            relay_port=relay_port,
            progress=self.progress,
        )
        return Cluster(config, self.nodes)

    def progress(self, message: str) -> None:
        """Tell whoever starts the lab."""
        print(message, flush=True)
        self._report({"progress": message})

    async def run(self) -> None:
        """Bring the lab up, serve until it shall end, take it down."""
        try:
            await self._start()
            async with await Server(self.handle, self._service.raw).listen(self.run_dir / "lab.sock"):
                self._report({"ready": True})
                await self.ended.wait()
        finally:
            await self._stop()

    async def _start(self) -> None:
        await self.networks.build(self.specs)
        async with asyncio.TaskGroup() as group:
            for node in self.nodes.values():
                group.create_task(node.boot())
            if self.cluster is not None:
                group.create_task(self.cluster.start())

    async def _stop(self) -> None:
        if self.cluster is not None:
            try:
                async with asyncio.timeout(_CLUSTER_STOP_TIMEOUT):
                    await self.cluster.stop()
            except Exception:  # noqa: BLE001 - the kernel ends everything in a moment anyway
                traceback.print_exc()
        await asyncio.gather(*(node.kill() for node in self.nodes.values()), return_exceptions=True)

    async def handle(self, method: str, params: Params, emit: Emit) -> object:
        """Serve one call. Raises LabError for an unknown method."""
        part, _, name = method.partition(".")
        if part == "node":
            return await self._service.handle(name, params, emit)
        if part == "cluster":
            return await self._cluster_method(name)(**params)
        if method == "lab.shutdown":
            self.ended.set()
            return None
        if method == "lab.status":
            return await self._status()
        raise LabError(f"no method {method!r}")

    def _cluster_method(self, name: str) -> Callable[..., Awaitable[Any]]:
        if self.cluster is None:
            raise LabError("this lab runs without Kubernetes")
        method = getattr(self.cluster, name, None)
        if name.startswith("_") or method is None or not asyncio.iscoroutinefunction(method):
            raise LabError(f"no method cluster.{name}")
        found: Callable[..., Awaitable[Any]] = method
        return found

    async def _status(self) -> dict[str, object]:
        answers = await asyncio.gather(*(node.ping() for node in self.nodes.values()))
        return {
            "kubernetes": self.with_kubernetes,
            "nodes": [
                {"spec": dataclasses.asdict(node.spec), "alive": node.alive, "answers": answer, "boots": node.boots}
                for node, answer in zip(self.nodes.values(), answers, strict=True)
            ],
        }


def _mount_shared_memory(megabytes: int) -> None:
    """Give UML memory of its own: the host's /dev/shm may be noexec (refused) or too small (bus error)."""
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"size={megabytes}m,mode=1777".encode()
    if libc.mount(b"tmpfs", b"/dev/shm", b"tmpfs", ctypes.c_ulong(0), options):
        raise OSError(ctypes.get_errno(), "cannot mount a tmpfs on /dev/shm")


def _end_with_owner(owner_fd: int) -> None:
    """End the sandbox when the process that owns the lab is gone, however it went."""

    def body() -> None:
        os.read(owner_fd, 1)
        os._exit(0)

    threading.Thread(target=body, daemon=True).start()


async def _main(run_dir: Path, relay_fd: int, report: Callable[[dict[str, object]], None]) -> None:
    supervisor = Supervisor(run_dir, relay_fd, report)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, supervisor.ended.set)
    await supervisor.run()


def _serve(options: argparse.Namespace) -> int:
    if options.owner_fd is not None:
        _end_with_owner(options.owner_fd)

    def report(message: dict[str, object]) -> None:
        with contextlib.suppress(BrokenPipeError):  # the one who started us heard "ready" and left
            os.write(options.report_fd, json.dumps(message).encode() + b"\n")

    try:
        asyncio.run(_main(options.run, options.relay_fd, report))
    except BaseException as error:  # noqa: BLE001 - the process ends here, and says why
        report({"error": _describe(error)})
        traceback.print_exc()
        return 1
    return 0


def _describe(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        return "\n".join(_describe(one) for one in error.exceptions)
    return str(error) if isinstance(error, (StartFailed, LabError)) else f"{type(error).__name__}: {error}"


def main(argv: Sequence[str] | None = None) -> int:
    """Run as process number 1 of the sandbox: fork the supervisor proper, reap orphans, end with it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--relay-fd", type=int, required=True)
    parser.add_argument("--report-fd", type=int, required=True)
    parser.add_argument("--owner-fd", type=int)
    options = parser.parse_args(argv)
    lock = (options.run / "lock").open("w")
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # held as long as anything of this lab lives
    os.environ.update(cache.tool_environment())
    specs = json.loads((options.run / "lab.json").read_text())["nodes"]
    _mount_shared_memory(sum(spec["memory_mib"] for spec in specs) + 512)
    child = os.fork()
    if not child:
        os._exit(_serve(options))
    for descriptor in (options.report_fd, options.relay_fd, options.owner_fd):
        if descriptor is not None:
            os.close(descriptor)
    while True:
        pid, status = os.wait()
        if pid == child:
            return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
