"""A node as the supervisor holds it: its kernel process, and what can be done on it and to it."""

import asyncio
import contextlib
import json
import signal as signals
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from lvs_lab.channel import Channel, Output
from lvs_lab.errors import LabError, NodeUnreachable, StartFailed
from lvs_lab.network import Networks
from lvs_lab.spec import INTERFACES, Completed, Network, NodeSpec
from lvs_lab.uml import Kernel, KernelFactory

_BOOT_TIMEOUT = 60.0
_SHUTDOWN_GRACE = 3.0


class NodeHandle:
    """One node. Its disk is `state_dir`, which has the same absolute path on the host and on the node.

    Files under `state_dir` belong to uid 0 whoever writes them (hostfs maps all to the user who runs the lab):
    what another uid must own or chmod belongs into a tmpfs.
    """

    def __init__(self, spec: NodeSpec, state_dir: Path, kernels: KernelFactory, networks: Networks) -> None:
        self.spec = spec
        self.name = spec.name
        self.state_dir = state_dir
        self.boots = 0
        self.channel = Channel(spec.name, spec.control_address)
        self._kernels = kernels
        self._networks = networks
        self._kernel: Kernel | None = None
        self._watch: asyncio.Task[None] | None = None
        self._changing = asyncio.Lock()

    # --- what can be done on it ---

    async def run(
        self,
        argv: Sequence[str],
        stdin: str = "",
        timeout: float = 30,  # noqa: ASYNC109
        *,
        env: Mapping[str, str] | None = None,
        cwd: str = "/",
        output: Output | None = None,
    ) -> Completed:
        """Run a command to its end, as root in the node's own namespaces; `env` is added to the node's usual one.

        `timeout` in seconds. Raises CommandTimeout (the command is then killed with its process group),
        NodeUnreachable, LabError (no such program). A return code other than 0 is not an error here.
        """
        text: dict[str, list[str]] = {"stdout": [], "stderr": []}

        async def collect(stream: str, chunk: str) -> None:
            text[stream].append(chunk)

        frame = {"op": "run", "argv": [*argv], "stdin": stdin, "env": dict(env or {}), "cwd": cwd}
        answer = await self.channel.converse(frame, timeout=timeout, output=output or collect)
        return Completed("".join(text["stdout"]), "".join(text["stderr"]), int(answer["exit"]))

    async def spawn(
        self,
        argv: Sequence[str],
        log_path: Path | str,
        env: Mapping[str, str] | None = None,
        *,
        cwd: str = "/",
        clear_env: bool = False,
    ) -> int:
        """Start a command in a session of its own and return its process number; output is appended to `log_path`.

        With `clear_env` it gets `env` only. Raises NodeUnreachable, LabError (no such program).
        """
        frame = {
            "op": "spawn",
            "argv": [*argv],
            "log": str(log_path),
            "env": dict(env or {}),
            "cwd": cwd,
            "clear_env": clear_env,
        }
        return int((await self.channel.request(frame, timeout=20))["pid"])

    async def signal(self, pid: int, signal: int, *, group: bool = False) -> bool:
        """Send a signal to a process (or its group); False when it is gone already."""
        frame = {"op": "signal", "pid": pid, "signal": int(signal), "group": group}
        return bool((await self.channel.request(frame, timeout=10))["sent"])

    async def wait(self, pid: int, timeout: float | None = None) -> int:  # noqa: ASYNC109
        """Wait for a spawned process to end: its return code, negative for a signal.

        Raises CommandTimeout after `timeout` seconds, NodeUnreachable when the node dies first.
        """
        return int((await self.channel.request({"op": "wait", "pid": pid}, timeout=timeout))["exit"])

    async def ping(self, timeout: float = 1.0) -> bool:  # noqa: ASYNC109
        """Whether the node's kernel and control server answer within `timeout` seconds."""
        try:
            await self.channel.request({"op": "ping"}, timeout=timeout)
        except LabError:
            return False
        return True

    async def http_get(
        self,
        port: int,
        path: str,
        timeout: float,  # noqa: ASYNC109
        host: str = "127.0.0.1",
    ) -> tuple[int, str]:
        """GET http://host:port/path from the node itself (a kubelet's probe): status, first KiB of the body.

        Status 0 and the reason when there was no HTTP answer. Raises NodeUnreachable, CommandTimeout.
        """
        frame = {"op": "http", "host": host, "port": port, "path": path, "timeout": timeout}
        answer = await self.channel.request(frame, timeout=timeout + 5)
        return int(answer["status"]), str(answer["body"])

    async def tcp_connect(self, port: int, timeout: float, host: str = "127.0.0.1") -> str:  # noqa: ASYNC109
        """Open and close a TCP connection from the node itself: "" or why it failed."""
        frame = {"op": "tcp", "host": host, "port": port, "timeout": timeout}
        return str((await self.channel.request(frame, timeout=timeout + 5))["reason"])

    async def put_file(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file on the node, with the directories above it."""
        await self.channel.request({"op": "put", "path": path, "content": content, "mode": mode}, timeout=20)

    async def read_file(self, path: str) -> str:
        """Read a text file on the node. Raises LabError when there is none."""
        return str((await self.channel.request({"op": "get", "path": path}, timeout=20))["content"])

    # --- what can be done to it ---

    @property
    def alive(self) -> bool:
        """Whether its kernel runs (a frozen one does too)."""
        return self._kernel is not None and self._kernel.running

    async def boot(self) -> None:
        """Start the kernel and wait until the control server answers. Raises StartFailed."""
        async with self._changing:
            await self._boot()

    async def kill(self) -> None:
        """Kill the node's kernel, as a power failure would."""
        async with self._changing:
            await self._kill()

    async def reboot(self) -> None:
        """Terminate the node's processes, 3 s grace, then power off and boot. A dead node just boots."""
        async with self._changing:
            with contextlib.suppress(LabError):  # a hung or dead node is rebooted all the same
                await self.channel.request({"op": "terminate", "grace": _SHUTDOWN_GRACE}, timeout=_SHUTDOWN_GRACE + 5)
            await self._kill()
            await self._boot()

    async def freeze(self) -> None:
        """Stop the node's kernel: nothing on it runs, and nothing is lost, until thaw()."""
        self._running_kernel().signal(signals.SIGSTOP)

    async def thaw(self) -> None:
        """Let a frozen kernel run again."""
        self._running_kernel().signal(signals.SIGCONT)

    async def cut_off(self, network: Network) -> None:
        """Lose all frames from and to the node on a network; the node sees no loss of carrier."""
        await self._networks.cut_off(self.spec, network)

    async def reconnect(self, network: Network) -> None:
        """End cut_off()."""
        await self._networks.reconnect(self.spec, network)

    async def netem(self, network: Network, *, delay_ms: int = 0, loss_percent: float = 0) -> None:
        """Delay and drop what the node sends on a network."""
        argv = ["tc", "qdisc", "replace", "dev", INTERFACES[network], "root", "netem"]
        argv += ["delay", f"{delay_ms}ms", "loss", f"{loss_percent:g}%"]
        await self._checked(argv)

    async def clear_netem(self, network: Network) -> None:
        """End netem()."""
        await self._checked(["tc", "qdisc", "replace", "dev", INTERFACES[network], "root", "pfifo_fast"])

    # --- inside ---

    async def _checked(self, argv: Sequence[str]) -> None:
        completed = await self.run(argv)
        if completed.returncode:
            raise LabError(f"{self.name}: {' '.join(argv)}: {completed.stderr.strip()}")

    def _running_kernel(self) -> Kernel:
        if self._kernel is None or not self._kernel.running:
            raise NodeUnreachable(f"{self.name}: the node is down")
        return self._kernel

    async def _boot(self) -> None:
        if self.alive:
            return
        deadline = time.monotonic() + _BOOT_TIMEOUT
        (self.state_dir / "boot.json").write_text(json.dumps(self._kernels.boot_config(self.spec, self.state_dir)))
        kernel = await self._kernels.start(self.spec, self.state_dir)
        self._kernel = kernel
        self.channel.powered = True
        self._watch = asyncio.create_task(self._hang_up_after(kernel))
        while not await self.ping(timeout=0.2):
            if not kernel.running or time.monotonic() > deadline:
                await self._kill()
                raise StartFailed(f"{self.name} did not boot; its console said:\n{kernel.console_tail()}")
            await asyncio.sleep(0.05)
        self.boots += 1

    async def _hang_up_after(self, kernel: Kernel) -> None:
        await kernel.ended()
        self.channel.hang_up()

    async def _kill(self) -> None:
        if self._kernel is not None:
            await self._kernel.kill()
        if self._watch is not None:
            await self._watch
        self._kernel = self._watch = None
