"""Nodes and their processes as tests use them: every call goes to the supervisor."""

import itertools
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lvs_lab import rpc
from lvs_lab.capture import Capture
from lvs_lab.errors import CommandFailed, LabError
from lvs_lab.spec import Completed, Network, NodeSpec

_MARGIN = 15.0
"""Seconds an answer may take beyond the time the node was given."""


class NodeProcess:
    """A process started with Node.spawn(); its output is in `log`, a file on the host."""

    def __init__(self, node: "Node", pid: int, log: Path) -> None:
        self.node = node
        self.pid = pid
        self.log = log

    def signal(self, number: int = 15, *, group: bool = True) -> bool:
        """Send a signal to the process group (the process leads one), or to the process alone; False when gone."""
        return bool(self.node.call("signal", pid=self.pid, signal=int(number), group=group))

    def wait(self, timeout: float = 30) -> int:
        """Wait for its end: return code, negative for a signal. Raises CommandTimeout after `timeout` seconds."""
        return int(self.node.call("wait", wait=timeout + _MARGIN, pid=self.pid, timeout=timeout))

    def output(self) -> str:
        """Return what it has written so far."""
        return self.log.read_text(errors="replace")

    def wait_for_output(self, text: str, timeout: float = 10) -> str:
        """Wait until its output contains `text`; returns the output. Raises LabError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while text not in (output := self.output()):
            if time.monotonic() > deadline:
                raise LabError(f"{self.node.name}: {text!r} did not appear within {timeout:g} s in: {output[-2000:]}")
            time.sleep(0.02)
        return output


class Node:
    """One node of a lab."""

    def __init__(self, spec: NodeSpec, socket: Path, state_dir: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.lan_address = spec.lan_address
        self.lan_address6 = spec.lan_address6
        self.management_address = spec.management_address
        self.mac = spec.mac("lan")
        self.state_dir = state_dir
        self._socket = socket
        self._logs = itertools.count(1)

    def __repr__(self) -> str:
        return f"Node({self.name})"

    def call(
        self,
        method: str,
        /,
        *,
        wait: float = 60,
        on_event: Callable[[Any], None] | None = None,
        **parameters: object,
    ) -> Any:  # noqa: ANN401 - JSON
        """Call the supervisor's method node.METHOD for this node."""
        full = {"node": self.name, **parameters}
        return rpc.call(self._socket, f"node.{method}", full, timeout=wait, on_event=on_event)

    def run(
        self,
        *argv: str,
        stdin: str = "",
        timeout: float = 30,
        check: bool = True,
        env: Mapping[str, str] | None = None,
    ) -> Completed:
        """Run a command as root on the node. `timeout` in seconds.

        Raises CommandFailed (return code other than 0 and `check`), CommandTimeout, NodeUnreachable.
        """
        completed = Completed(
            **self.call("run", wait=timeout + _MARGIN, argv=argv, stdin=stdin, timeout=timeout, env=dict(env or {}))
        )
        if check and completed.returncode:
            raise CommandFailed(self.name, argv, completed)
        return completed

    def stream(self, *argv: str, output: Callable[[str, str], None], stdin: str = "", timeout: float = 3600) -> int:
        """Run a command and pass its output on as it comes: output("stdout" | "stderr", text)."""

        def on_event(event: Mapping[str, str]) -> None:
            for stream, text in event.items():
                output(stream, text)

        answer = self.call(
            "run",
            wait=timeout + _MARGIN,
            on_event=on_event,
            argv=argv,
            stdin=stdin,
            timeout=timeout,
            stream=True,
        )
        return int(answer["returncode"])

    def spawn(self, *argv: str, log: str | None = None, env: Mapping[str, str] | None = None) -> NodeProcess:
        """Start a command that goes on running; `log` is a file name under the node's logs (made up if not given).

        Raises NodeUnreachable, LabError (no such program).
        """
        logs = self.state_dir / "logs"
        logs.mkdir(exist_ok=True)
        path = logs / (log or f"{Path(argv[0]).name}-{time.time_ns()}-{next(self._logs)}.log")
        path.touch()
        return NodeProcess(self, int(self.call("spawn", argv=argv, log_path=path, env=dict(env or {}))), path)

    def put_file(self, path: str, content: str, mode: int = 0o644) -> None:
        """Write a file on the node, with the directories above it. /etc, /var, /tmp and /run are writable."""
        self.call("put_file", path=path, content=content, mode=mode)

    def read_file(self, path: str) -> str:
        """Read a text file on the node. Raises LabError when there is none."""
        return str(self.call("read_file", path=path))

    @contextmanager
    def capture(self, interface: str, expression: str = "") -> Iterator[Capture]:
        """Record packets with tcpdump on the node; it is really capturing when the block begins."""
        captures = self.state_dir / "captures"
        captures.mkdir(exist_ok=True)
        path = captures / f"{interface}-{time.time_ns()}-{next(self._logs)}.pcap"
        argv = ["tcpdump", "-i", interface, "-n", "-U", "--immediate-mode", "-Z", "root", "-B", "8192"]
        process = self.spawn(*argv, "-w", str(path), *([expression] if expression else []), log=f"{path.stem}.log")
        process.wait_for_output("listening on")
        capture = Capture(path, process)
        try:
            yield capture
        finally:
            capture.stop()

    def alive(self) -> bool:
        """Whether the node answers within a second."""
        return bool(self.call("ping"))

    def kill(self) -> None:
        """Kill the node's kernel, as a power failure would."""
        self.call("kill")

    def boot(self) -> None:
        """Boot a dead node and wait until it answers; it has the same addresses and hardware addresses."""
        self.call("boot", wait=90)

    def reboot(self) -> None:
        """Terminate all processes, power off, boot, wait until it answers."""
        self.call("reboot", wait=120)

    def freeze(self) -> None:
        """Stop the node's kernel; nothing is lost until thaw()."""
        self.call("freeze")

    def thaw(self) -> None:
        """Let a frozen node go on."""
        self.call("thaw")

    def cut_off(self, network: Network) -> None:
        """Lose all frames from and to the node on a network; it sees no loss of carrier."""
        self.call("cut_off", network=network)

    def reconnect(self, network: Network) -> None:
        """End cut_off()."""
        self.call("reconnect", network=network)

    def netem(self, network: Network, *, delay_ms: int = 0, loss_percent: float = 0) -> None:
        """Delay and drop what the node sends on a network."""
        self.call("netem", network=network, delay_ms=delay_ms, loss_percent=loss_percent)

    def clear_netem(self, network: Network) -> None:
        """End netem()."""
        self.call("clear_netem", network=network)
