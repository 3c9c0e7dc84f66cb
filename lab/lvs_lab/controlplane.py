"""A real Kubernetes control plane: etcd, kube-apiserver and, when asked for, kube-controller-manager.

The same class serves the lab's sandbox (at the address its nodes use) and tests that need an API server and no nodes
(`start_local`, on loopback with free ports). Its processes die with the process that started them.
"""

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from pathlib import Path
from typing import IO, Any, Self

from lvs_lab import apiclient, cache, components
from lvs_lab.components import ADMIN, CONTROLLER_MANAGER, Layout
from lvs_lab.errors import CommandFailed, StartFailed, ToolsMissing
from lvs_lab.kubeconfig import Access
from lvs_lab.spec import Completed

READY_SECONDS = 90.0
ETCD_SECONDS = 10.0
LOCAL_PREFIX = "lvs-api-"


class ControlPlane:
    """Processes of one control plane. Methods block; call them from one thread at a time."""

    def __init__(self, layout: Layout, *, controller_manager: bool = True, node_grace_seconds: int = 12) -> None:
        self.layout = layout
        self._with_controller_manager = controller_manager
        self._node_grace_seconds = node_grace_seconds
        self._processes: dict[str, subprocess.Popen[bytes]] = {}
        # The kernel sends the parent-death signal when the *thread* that forked ends, so one thread that lives as
        # long as this process forks them all.
        self._forker = ThreadPoolExecutor(1, thread_name_prefix="control-plane")

    @property
    def admin(self) -> Access:
        """The administrator's access; the control plane must have started once."""
        return self._access(ADMIN)

    def _access(self, user: str) -> Access:
        return Access(
            server=self.layout.server, ca_pem=self.layout.certificate.read_text(), token=self.layout.tokens[user]
        )

    def start(self) -> None:
        """Start everything and wait until the API server is ready. Raises StartFailed."""
        self.layout.prepare()
        self._spawn("etcd", components.etcd_argv(self.layout))
        self.start_api_server()
        if self._with_controller_manager:
            self._access(CONTROLLER_MANAGER).write(self.layout.controller_manager_kubeconfig)
            self.start_controller_manager()

    def stop(self) -> None:
        """Kill everything; nothing here is worth a graceful end."""
        for name in ("kube-controller-manager", "kube-apiserver", "etcd"):
            self._kill(name)
        self._forker.shutdown()

    def start_api_server(self) -> None:
        """Start kube-apiserver on the data etcd has, and wait until it is ready."""
        if not self.running("kube-apiserver"):
            self._spawn("kube-apiserver", components.api_server_argv(self.layout))
        self.wait_ready()

    def stop_api_server(self) -> None:
        """Kill kube-apiserver (SIGKILL: watches break, nothing is drained). Data stays in etcd."""
        self._kill("kube-apiserver")

    def restart_api_server(self) -> None:
        """Kill the API server, start it again and wait until it is ready."""
        self.stop_api_server()
        self.start_api_server()

    def start_controller_manager(self) -> None:
        """Start kube-controller-manager when it is not running."""
        if not self.running("kube-controller-manager"):
            argv = components.controller_manager_argv(self.layout, node_grace_seconds=self._node_grace_seconds)
            self._spawn("kube-controller-manager", argv)

    def stop_controller_manager(self) -> None:
        """Kill kube-controller-manager: no garbage collection and no new pods until it is started again."""
        self._kill("kube-controller-manager")

    def running(self, name: str) -> bool:
        """Tell whether a component's process is alive."""
        process = self._processes.get(name)
        return process is not None and process.poll() is None

    def wait_ready(self, timeout: float = READY_SECONDS) -> None:
        """Wait until `/readyz` answers 200. Raises StartFailed after `timeout` seconds or when it ends."""
        deadline = time.monotonic() + timeout
        while not self._answers():
            for name in ("etcd", "kube-apiserver"):
                if not self.running(name):
                    raise StartFailed(f"{name} ended: {self.log_tail(name)}")
            if time.monotonic() > deadline:
                raise StartFailed(f"kube-apiserver not ready after {timeout} s: {self.log_tail('kube-apiserver')}")
            time.sleep(0.1)

    def _answers(self) -> bool:
        if not self.layout.certificate.exists():
            return False
        try:
            status, _ = apiclient.request(self.admin, "GET", "/readyz", timeout=5)
        except (OSError, HTTPException):
            return False
        return status == 200

    def compact_etcd(self) -> int:
        """Forget etcd's history and return the revision kept.

        The API server still has recent events in its own watch cache: a watch from an old version gets 410 for
        certain only after `restart_api_server` as well.
        """
        answer = self._etcd("range", {"key": base64.b64encode(b"\0").decode(), "count_only": True, "range_end": "AA=="})
        revision = int(answer["header"]["revision"])
        self._etcd("compaction", {"revision": revision, "physical": True})
        return revision

    def _etcd(self, what: str, body: object) -> Any:  # noqa: ANN401 - JSON
        call = urllib.request.Request(  # noqa: S310 - a fixed http URL on loopback
            f"{self.layout.etcd}/v3/kv/{what}", json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(call, timeout=ETCD_SECONDS) as answer:  # noqa: S310
            return json.load(answer)

    def log_tail(self, name: str, characters: int = 1500) -> str:
        """Return the end of a component's log."""
        path = self.layout.directory / f"{name}.log"
        return path.read_text(errors="replace")[-characters:] if path.exists() else "(no log)"

    def _spawn(self, name: str, argv: list[str]) -> None:
        with (self.layout.directory / f"{name}.log").open("ab") as log:
            self._processes[name] = self._forker.submit(_popen, argv, log, self.layout.directory).result()

    def _kill(self, name: str) -> None:
        process = self._processes.pop(name, None)
        if process is not None:
            process.kill()
            process.wait()


def _popen(argv: Sequence[str], log: IO[bytes], directory: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        ["setpriv", "--pdeathsig", "KILL", *argv],
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
        cwd=directory,
        env={"PATH": os.environ.get("PATH", ""), "HOME": str(directory), "TMPDIR": str(directory)},
        start_new_session=True,  # Ctrl-C is for the parent, which then stops us in order
    )


class LocalControlPlane:
    """A control plane on loopback for tests that need no nodes. Context manager."""

    def __init__(self, plane: ControlPlane) -> None:
        self.plane = plane
        self.kubeconfig = plane.layout.directory / "kubeconfig"
        self.access = plane.admin
        self.access.write(self.kubeconfig)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def server(self) -> str:
        """URL of the API server; its certificate is made for this address."""
        return self.access.server

    def api(
        self,
        method: str,
        path: str,
        body: object | None = None,
        *,
        content_type: str = "application/json",
        timeout: float = 10,
        token: str | None = None,
    ) -> tuple[int, Any]:
        """Send one request as administrator, or as the owner of `token`; return status code and answer."""
        access = self.access if token is None else Access(server=self.server, ca_pem=self.access.ca_pem, token=token)
        return apiclient.request(access, method, path, body, content_type=content_type, timeout=timeout)

    def kubectl(self, *argv: str, stdin: str | None = None, check: bool = True, timeout: float = 60) -> Completed:
        """Run kubectl as administrator. Raises CommandFailed when `check` and it ends with another code than 0."""
        binary = self.plane.layout.binaries["kubectl"]
        return run_kubectl(binary, self.kubeconfig, argv, stdin=stdin, check=check, timeout=timeout)

    def stop_api_server(self) -> None:
        """Kill the API server; etcd keeps the data."""
        self.plane.stop_api_server()

    def start_api_server(self) -> None:
        """Start the API server again and wait until it is ready."""
        self.plane.start_api_server()

    def restart_api_server(self) -> None:
        """Kill and start the API server, and wait until it is ready."""
        self.plane.restart_api_server()

    def compact_etcd(self) -> int:
        """Forget etcd's history (see `ControlPlane.compact_etcd` for when watches notice)."""
        return self.plane.compact_etcd()

    def stop(self) -> None:
        """Kill everything and remove the files."""
        self.plane.stop()
        shutil.rmtree(self.plane.layout.directory, ignore_errors=True)


def run_kubectl(
    binary: Path, kubeconfig: Path, argv: Sequence[str], *, stdin: str | None, check: bool, timeout: float
) -> Completed:
    """Run one kubectl command with a kubeconfig and a cache of its own."""
    environment = {
        **os.environ,
        "KUBECONFIG": str(kubeconfig),
        "KUBECACHEDIR": str(kubeconfig.parent / "kubectl-cache"),
    }
    done = subprocess.run(
        [str(binary), *argv],
        input=stdin if stdin is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        env=environment,
        check=False,
    )
    completed = Completed(done.stdout, done.stderr, done.returncode)
    if check and done.returncode != 0:
        raise CommandFailed("kubectl", argv, completed)
    return completed


def start_local(*, controller_manager: bool = False, binaries: Mapping[str, Path] | None = None) -> LocalControlPlane:
    """Start etcd and kube-apiserver on free loopback ports (about 4 s), as any user.

    With `controller_manager` also garbage collection, namespaces and default ServiceAccounts work. Everything ends
    with `stop()` or with this process, however it ends. Raises StartFailed, ToolsMissing.
    """
    if binaries is None:
        binaries = _cached_binaries()
    _sweep()
    for attempt in range(3):
        directory = Path(tempfile.mkdtemp(prefix=f"{LOCAL_PREFIX}{os.getpid()}-"))
        api, etcd, peer = _free_ports(3)
        layout = Layout(directory=directory, binaries=binaries, api_port=api, etcd_port=etcd, etcd_peer_port=peer)
        plane = ControlPlane(layout, controller_manager=controller_manager)
        try:
            plane.start()
        except BaseException as error:
            plane.stop()
            shutil.rmtree(directory, ignore_errors=True)
            # Another process may have taken a port between our choice and the bind.
            if attempt == 2 or "address already in use" not in str(error):
                raise
        else:
            return LocalControlPlane(plane)
    raise AssertionError("unreachable")


def _cached_binaries() -> Mapping[str, Path]:
    found = {name: cache.find_binary(name) for name in cache.BINARIES}
    if absent := [name for name, path in found.items() if path is None]:
        raise ToolsMissing(f"the API server's tests lack {', '.join(absent)}: {cache.HOW_TO_GET_TOOLS}")
    return {name: path for name, path in found.items() if path is not None}


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _sweep() -> None:
    """Remove what control planes left whose process was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{LOCAL_PREFIX}*-*"):
        owner = directory.name.removeprefix(LOCAL_PREFIX).split("-")[0]
        if owner.isdigit() and not Path(f"/proc/{owner}").exists():
            shutil.rmtree(directory, ignore_errors=True)
