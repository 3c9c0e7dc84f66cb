"""The Kubernetes half of the lab in the supervisor: control plane, relay, scheduler and one kubelet per node."""

import asyncio
import compileall
import logging
import sys
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from typing import Any

from lvs_lab.apiclient import WAY_ERRORS, ApiClient, Mirror
from lvs_lab.components import Layout
from lvs_lab.controlplane import ControlPlane
from lvs_lab.errors import LabError, StartFailed
from lvs_lab.image import SYSTEM, Image, host_image
from lvs_lab.kubelet import Kubelet
from lvs_lab.kubelet_container import ContainerWorker
from lvs_lab.kubelet_pod import PodWorker
from lvs_lab.node import NodeHandle
from lvs_lab.nodelink import NodeLink
from lvs_lab.nodestatus import NodeReporter, usable
from lvs_lab.podfields import NodeFacts
from lvs_lab.pods import info, selected
from lvs_lab.relay import Relay
from lvs_lab.scheduler import Scheduler
from lvs_lab.spec import MANAGEMENT_HOST, ClusterConfig, Completed, PodInfo

LOG = logging.getLogger(__name__)
API_PORT = 6443
STOP, CONTINUE = 19, 18
NODES_READY_SECONDS = 90.0


class Cluster:
    """Starts and stops Kubernetes in the sandbox, and does to it what tests ask for."""

    def __init__(self, config: ClusterConfig, nodes: Mapping[str, NodeHandle]) -> None:
        self._config = config
        self._nodes = {name: node for name, node in nodes.items() if node.spec.kubernetes}
        layout = Layout(
            directory=config.run_dir / "control-plane",
            binaries=config.binaries,
            address=MANAGEMENT_HOST,
            api_port=API_PORT,
        )
        self._plane = ControlPlane(layout)
        self._plane_lock = asyncio.Lock()
        self._relay = Relay(config.relay_fd, MANAGEMENT_HOST, API_PORT)
        self._tasks: list[asyncio.Task[None]] = []
        self._client: ApiClient | None = None
        self._pods: Mirror | None = None
        self._kubelets: dict[str, Kubelet] = {}

    async def start(self) -> None:
        """Start everything; returns when the API server is ready and all nodes are Ready. Raises StartFailed."""
        image = host_image()
        _log_to_stdout()
        await asyncio.gather(self._blocking(self._plane.start), asyncio.to_thread(_compile, image))
        await self._relay.start()
        self._plane.admin.at(f"https://127.0.0.1:{self._config.relay_port}").write(self._config.kubeconfig)
        self._config.progress("API server is ready")
        self._client = await ApiClient(self._plane.admin).__aenter__()
        self._pods = Mirror(self._client, "/api/v1/pods")
        nodes = Mirror(self._client, "/api/v1/nodes")
        self._begin(self._pods.run())
        self._begin(nodes.run())
        self._begin(Scheduler(self._client, self._pods, nodes).run())
        for handle in self._nodes.values():
            self._start_node(handle, image, nodes)
        await self._until_ready(nodes)
        self._config.progress(f"{len(self._nodes)} Kubernetes nodes are ready")

    async def _until_ready(self, nodes: Mirror) -> None:
        """Wait until every node is Ready and the node lifecycle controller has taken its first taint away."""
        changed = nodes.subscribe()
        try:
            async with asyncio.timeout(NODES_READY_SECONDS):
                while not all(usable(nodes.objects.get(("", name))) for name in self._nodes):
                    changed.clear()
                    await changed.wait()
        except TimeoutError as error:
            missing = [name for name in self._nodes if not usable(nodes.objects.get(("", name)))]
            raise StartFailed(f"not Ready after {NODES_READY_SECONDS:g} s: {', '.join(missing)}") from error

    def _start_node(self, handle: NodeHandle, image: Image, nodes: Mirror) -> None:
        assert self._client is not None  # noqa: S101 - start() made both
        assert self._pods is not None  # noqa: S101
        link = NodeLink(handle, self._config.run_dir / "guest" / "container.py")
        addresses = (handle.spec.lan_address, handle.spec.lan_address6)
        facts = NodeFacts(name=handle.name, addresses=addresses, state_dir=handle.state_dir)
        kubelet = self._kubelets[handle.name] = Kubelet(link, facts, image, self._client, self._pods)
        self._begin(link.run())
        self._begin(kubelet.run())
        self._begin(NodeReporter(link, self._client, nodes).run())

    def _begin(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        task.add_done_callback(_report)
        self._tasks.append(task)

    async def stop(self) -> None:
        """Stop everything at once; pods are not terminated, their nodes are about to go."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._client is not None:
            await self._client.close()
        await self._relay.stop()
        await self._blocking(self._plane.stop)

    async def _blocking(self, work: Callable[[], object]) -> None:
        async with self._plane_lock:
            await asyncio.to_thread(work)

    async def stop_api_server(self) -> None:
        """Kill the API server; etcd keeps the data, the relay resets connections."""
        await self._blocking(self._plane.stop_api_server)

    async def start_api_server(self) -> None:
        """Start the API server and wait until it is ready."""
        await self._blocking(self._plane.start_api_server)

    async def restart_api_server(self) -> None:
        """Kill and start the API server, and wait until it is ready."""
        await self._blocking(self._plane.restart_api_server)

    async def stop_controller_manager(self) -> None:
        """Kill kube-controller-manager."""
        await self._blocking(self._plane.stop_controller_manager)

    async def start_controller_manager(self) -> None:
        """Start kube-controller-manager."""
        await self._blocking(self._plane.start_controller_manager)

    async def compact_etcd(self) -> None:
        """Forget etcd's history (see `ControlPlane.compact_etcd` for when watches notice)."""
        await self._blocking(self._plane.compact_etcd)

    async def pods(self, selector: str = "") -> list[PodInfo]:
        """List pods of all namespaces by label selector."""
        if self._pods is None:
            return []
        workers = {w.uid: w for kubelet in self._kubelets.values() for w in kubelet.pods.values()}
        found = []
        for pod in self._pods.objects.values():
            if selected(selector, pod["metadata"].get("labels") or {}):
                worker = workers.get(pod["metadata"]["uid"])
                pids = {name: w.state.pid for name, w in worker.workers.items()} if worker else {}
                found.append(info(pod, pids))
        return sorted(found, key=lambda p: (p.namespace, p.name))

    async def kill_container(self, pod: str, container: str, signal: int = 9) -> None:
        """Signal a container's first process; SIGKILL takes the whole container."""
        await self._container(pod, container).signal(signal)

    async def pause_container(self, pod: str, container: str) -> None:
        """Stop all processes of a container (SIGSTOP)."""
        await self._signal_all(pod, container, STOP)

    async def resume_container(self, pod: str, container: str) -> None:
        """Let a paused container go on."""
        await self._signal_all(pod, container, CONTINUE)

    async def _signal_all(self, pod: str, container: str, number: int) -> None:
        worker = self._container(pod, container)
        handle = self._pod(pod)[1].link.handle
        pid = worker.state.pid
        await worker.signal(number)
        listed = await handle.run(["pgrep", "--ns", str(pid), "--nslist", "pid"])
        for other in listed.stdout.split():
            if int(other) != pid:
                await handle.signal(int(other), number)

    async def container_log(self, pod: str, container: str) -> str:
        """Return what the container has printed, over all its restarts."""
        return self._container(pod, container).log()

    async def exec_in_container(
        self,
        pod: str,
        container: str,
        argv: Sequence[str],
        stdin: str = "",
        timeout: float = 30,  # noqa: ASYNC109
    ) -> Completed:
        """Run a command in a container: same namespaces, user and capabilities. `timeout` in seconds."""
        return await self._container(pod, container).execute(argv, stdin, timeout)

    async def api(
        self,
        method: str,
        path: str,
        body: object = None,
        content_type: str = "application/json",
        timeout: float = 10,  # noqa: ASYNC109
    ) -> tuple[int, Any]:
        """Make a request as administrator: status code and decoded answer. Raises LabError when there is none."""
        if self._client is None:
            raise LabError("the API server has not been started yet")
        try:
            return await self._client.request(method, path, body, content_type=content_type, timeout=timeout)
        except WAY_ERRORS as error:
            raise LabError(f"{method} {path}: no answer: {error or type(error).__name__}") from error

    async def rotate_tokens(self, pod: str) -> None:
        """Renew the ServiceAccount tokens of a pod now (the API server grants none shorter than 10 minutes)."""
        worker = self._pod(pod)[0]
        if worker.projector is not None:
            worker.projector.rotate()

    def _pod(self, name: str) -> tuple[PodWorker, Kubelet]:
        namespace, _, short = name.rpartition("/")
        found = [
            (worker, kubelet)
            for kubelet in self._kubelets.values()
            for worker in kubelet.pods.values()
            if worker.name == short and namespace in ("", worker.namespace)
        ]
        if len(found) != 1:
            raise LabError(f"{'no' if not found else 'more than one'} pod {name} on the lab's nodes")
        return found[0]

    def _container(self, pod: str, container: str) -> ContainerWorker:
        workers = self._pod(pod)[0].workers
        if container not in workers:
            raise LabError(f"pod {pod} has no container {container} (it has {', '.join(workers) or 'none yet'})")
        return workers[container]


def _log_to_stdout() -> None:
    """Send what the stand-ins have to say to the supervisor's log."""
    logger = logging.getLogger("lvs_lab")
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stdout)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)


def _report(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()):
        LOG.error("a part of the lab's cluster ended: %r", error, exc_info=error)


def _compile(image: Image) -> None:
    """Compile linked sources once, on the host: a container cannot write there, and compiling is slow on a node."""
    for path in image.paths:
        if path not in SYSTEM and not (Path(path) / "bin").is_dir():
            compileall.compile_dir(path, quiet=2, force=False)
