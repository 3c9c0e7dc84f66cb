"""The lab as tests, demo and benchmarks use it: synchronous, safe to use from several threads."""

import atexit
import contextlib
import dataclasses
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from lvs_lab import cache, rpc, rundir, sandbox
from lvs_lab.client import Node
from lvs_lab.errors import CommandFailed, CommandTimeout, LabError
from lvs_lab.progress import Progress, running, silent
from lvs_lab.spec import DEFAULT_NODES, Completed, NodeSpec, PodInfo

_STOP_TIMEOUT = 20.0


class Lab:
    """A running lab. Use start() for one that ends with this process, attach() for the one of `make lab`."""

    def __init__(self, run_dir: Path, owned: sandbox.Sandbox | None) -> None:
        self.run_dir = run_dir
        self.kubeconfig = run_dir / "kubeconfig"
        self._socket = run_dir / "lab.sock"
        self._owned = owned
        self._stopped = False
        self._process = os.getpid()
        status = self.status()
        specs = [NodeSpec(**node["spec"]) for node in status["nodes"]]
        self.nodes: Mapping[str, Node] = MappingProxyType(
            {spec.name: Node(spec, self._socket, run_dir / "nodes" / spec.name) for spec in specs}
        )

    @classmethod
    def start(
        cls,
        *,
        nodes: Sequence[NodeSpec] = DEFAULT_NODES,
        kubernetes: bool = True,
        progress: Progress | None = None,
        detach: bool = False,
    ) -> "Lab":
        """Start a lab and wait until its nodes have booted and its API server is ready.

        It ends with this process, however that ends; with `detach` it goes on until somebody stops it.
        Raises ToolsMissing (with the command that gets them), StartFailed.
        """
        tell = progress or silent
        tools = cache.tools(kubernetes=kubernetes)
        run_dir = rundir.make()
        try:
            owned = _start_supervisor(run_dir, nodes, tools, kubernetes=kubernetes, progress=tell, detach=detach)
        except BaseException:
            rundir.remove(run_dir)
            raise
        lab = cls(run_dir, owned)
        if detach:
            rundir.remember(run_dir)
        else:
            atexit.register(lab.stop)
        return lab

    @classmethod
    def attach(cls, run: Path | None = None) -> "Lab":
        """Use the lab that `make lab` left running, or the one of a run directory. Raises StartFailed."""
        return cls(run or rundir.current(), None)

    def stop(self) -> None:
        """End the lab and everything in it. Stopping twice does nothing."""
        if self._stopped or os.getpid() != self._process:  # a forked child has a copy of this object, not the lab
            return
        self._stopped = True
        atexit.unregister(self.stop)
        with contextlib.suppress(LabError):  # it hangs or has just ended: the next lines see to it
            rpc.call(self._socket, "lab.shutdown", {}, timeout=_STOP_TIMEOUT)
        if self._owned is not None:
            self._owned.wait(_STOP_TIMEOUT)
            self._owned.destroy()
        else:
            _await_end(self.run_dir)
            rundir.forget(self.run_dir)
        rundir.remove(self.run_dir)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def status(self) -> dict[str, Any]:
        """Return {"kubernetes": bool, "nodes": [{"spec", "alive", "answers", "boots"}]}."""
        answer: dict[str, Any] = rpc.call(self._socket, "lab.status", {}, timeout=30)
        return answer

    # --- Kubernetes ---

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> Completed:
        """Run kubectl on the host, as the cluster's administrator. Raises CommandFailed, CommandTimeout."""
        binary = cache.find_binary("kubectl")
        if binary is None:
            raise LabError(f"no kubectl: {cache.HOW_TO_GET_TOOLS}")
        environment = {**os.environ, "KUBECONFIG": str(self.kubeconfig), "HOME": str(self.run_dir)}
        try:
            done = subprocess.run(
                [str(binary), *argv],
                input=stdin,
                stdin=subprocess.DEVNULL if stdin is None else None,
                capture_output=True,
                text=True,
                timeout=timeout,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise CommandTimeout(f"kubectl {' '.join(argv)!r} did not end within {timeout:g} s") from error
        completed = Completed(done.stdout, done.stderr, done.returncode)
        if check and completed.returncode:
            raise CommandFailed("host", ["kubectl", *argv], completed)
        return completed

    def install(self, *paths: Path) -> None:
        """kubectl apply: -k for a directory with a kustomization, else -f."""
        for path in paths:
            option = "-k" if (path / "kustomization.yaml").exists() else "-f"
            self.kubectl("apply", "--server-side", "--force-conflicts", option, str(path), timeout=120)

    def api(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        content_type: str = "application/json",
        timeout: float = 10,
    ) -> tuple[int, object]:
        """Make a request to the API server as administrator: HTTP status and decoded body. `timeout` in seconds."""
        status, answer = self._cluster(
            "api",
            wait=timeout + 10,
            method=method,
            path=path,
            body=body,
            content_type=content_type,
            timeout=timeout,
        )
        return int(status), answer

    def stop_api_server(self) -> None:
        """Kill the API server; etcd keeps its data."""
        self._cluster("stop_api_server")

    def start_api_server(self) -> None:
        """Start the API server again and wait until it is ready."""
        self._cluster("start_api_server")

    def restart_api_server(self) -> None:
        """Stop and start the API server."""
        self._cluster("restart_api_server")

    def compact_etcd(self) -> None:
        """Drop old revisions, so that watches that resume from one get 410."""
        self._cluster("compact_etcd")

    def pods(self, selector: str = "") -> list[PodInfo]:
        """Return the pods that match a label selector, in all namespaces."""
        return [PodInfo(**pod) for pod in self._cluster("pods", selector=selector)]

    def kill_container(self, pod: str, container: str, signal: int = 9) -> None:
        """Send a signal to a container's process."""
        self._cluster("kill_container", pod=pod, container=container, signal=int(signal))

    def pause_container(self, pod: str, container: str) -> None:
        """Stop a container's processes with SIGSTOP."""
        self._cluster("pause_container", pod=pod, container=container)

    def resume_container(self, pod: str, container: str) -> None:
        """End pause_container()."""
        self._cluster("resume_container", pod=pod, container=container)

    def container_log(self, pod: str, container: str) -> str:
        """Return what the container has written, over all its restarts."""
        return str(self._cluster("container_log", pod=pod, container=container))

    def exec_in_container(
        self, pod: str, container: str, *argv: str, stdin: str = "", timeout: float = 30, check: bool = True
    ) -> Completed:
        """Run a command with a container's namespaces, user and capabilities. Raises CommandFailed."""
        answer = Completed(
            **self._cluster(
                "exec_in_container",
                wait=timeout + 20,
                pod=pod,
                container=container,
                argv=argv,
                stdin=stdin,
                timeout=timeout,
            )
        )
        if check and answer.returncode:
            raise CommandFailed(f"{pod}/{container}", argv, answer)
        return answer

    def _cluster(self, called: str, /, *, wait: float = 120, **parameters: object) -> Any:  # noqa: ANN401 - JSON
        return rpc.call(self._socket, f"cluster.{called}", parameters, timeout=wait)


def _start_supervisor(
    run_dir: Path,
    nodes: Sequence[NodeSpec],
    tools: cache.Tools,
    *,
    kubernetes: bool,
    progress: Progress,
    detach: bool,
) -> sandbox.Sandbox:
    for spec in nodes:
        (run_dir / "nodes" / spec.name).mkdir()
    with socket.create_server(("127.0.0.1", 0), backlog=128) as relay:
        settings = {
            "nodes": [dataclasses.asdict(spec) for spec in nodes],
            "kubernetes": kubernetes,
            "relay_port": relay.getsockname()[1],
            "python": cache.node_python(),
        }
        (run_dir / "lab.json").write_text(json.dumps(settings, default=dict))
        environment = {**os.environ, **tools.environment}
        with running(progress, f"starting {len(nodes)} nodes{' and a control plane' if kubernetes else ''}"):
            started = sandbox.start(run_dir, relay.fileno(), environment, progress, tied=not detach)
    (run_dir / "pid").write_text(str(started.process.pid))
    return started


def _await_end(run_dir: Path) -> None:
    """Wait for a detached lab's end; one that does not obey is killed by its number, which it still holds."""
    deadline = time.monotonic() + _STOP_TIMEOUT
    while rundir.is_alive(run_dir) and time.monotonic() < deadline:
        time.sleep(0.05)
    if rundir.is_alive(run_dir):
        os.kill(int((run_dir / "pid").read_text()), signal.SIGKILL)
