"""Servers and clients inside the lab, for demo, tests and benchmarks."""

import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from lvs_lab import Lab, Node, NodeProcess

GUEST = Path(__file__).parent / "guest"
CLIENT = "client-1"


@dataclass(frozen=True)
class Answers:
    """Who answered how often, what failed, the longest wait in seconds; when and from where the first ones failed."""

    answers: dict[str, int]
    errors: dict[str, int]
    longest: float
    last: list[str] = field(default_factory=list)
    failed: list[list[str]] = field(default_factory=list)

    @property
    def total(self) -> int:
        """Connections that were answered."""
        return sum(self.answers.values())

    @classmethod
    def parse(cls, text: str) -> "Answers":
        """Read the last line that connect.py printed."""
        record: dict[str, Any] = json.loads(text.strip().splitlines()[-1])
        return cls(record["answers"], record["errors"], record["longest"], record["last"], record.get("failed", []))


def serve(node: Node, port: int, address: str = "::") -> NodeProcess:
    """Start the service on a node and wait until it listens."""
    process = node.spawn(sys.executable, str(GUEST / "serve.py"), str(port), address)
    node.run(
        "sh", "-c", f"for i in $(seq 100); do ss -Hltn 'sport = {port}' | grep -q . && exit 0; sleep 0.1; done; exit 1"
    )
    return process


def connect(lab: Lab, address: str, port: int, count: int, *, timeout: float = 3.0, source: int = 0) -> Answers:
    """Open connections from the client, one after the other; all of them from the port `source` unless it is 0."""
    script = str(GUEST / "connect.py")
    result = lab.nodes[CLIENT].run(
        sys.executable,
        script,
        address,
        str(port),
        f"--count={count}",
        f"--timeout={timeout}",
        f"--from-port={source}",
        timeout=30 + count * timeout,
    )
    return Answers.parse(result.stdout)


class Traffic:
    """Connections that go on until the block ends; `result` is there afterwards."""

    def __init__(self, lab: Lab, address: str, port: int, *, mode: str = "--until", timeout: float = 3.0) -> None:
        self._node = lab.nodes[CLIENT]
        self._argv = [sys.executable, str(GUEST / "connect.py"), address, str(port), f"--timeout={timeout}"]
        self._mode = mode
        self._stop = f"/run/stop-{id(self):x}"
        self._process: NodeProcess | None = None
        self.result: Answers | None = None

    def __enter__(self) -> Self:
        self._process = self._node.spawn(*self._argv, self._mode, self._stop)
        return self

    def __exit__(self, *error: object) -> None:
        if self._process is None:
            raise RuntimeError("leave only what was entered")
        self._node.put_file(self._stop, "")
        self._process.wait(timeout=30)
        self.result = Answers.parse(self._process.output())
