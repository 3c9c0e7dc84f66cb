"""The agent's side of the API on a real API server: its watches, its report, its Lease, and what it may not do."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from lvs_dr.agent.apiclient import ApiClient, ApiError, ApiSettings, ForbiddenError
from lvs_dr.agent.groupwatch import TABLES
from lvs_dr.agent.lease import LeaseKeeper
from lvs_dr.agent.report import LVSNODES, Reporter
from lvs_dr.agent.secrets import Secrets
from lvs_dr.agent.watch import Seen, Watch
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import LVSNodeStatus, Problem, TableReport
from lvs_dr.core.table import DirectorTableSpec
from lvs_lab.controlplane import LocalControlPlane
from tests.unit.agent.bench import CHECK, TABLE, VIP, Bench
from tests.unit.agent.fake_api import FakeApi

ROOT = Path(__file__).parents[2]
SYSTEM = "lvs-system"
NODES = ("agent-api-a", "agent-api-b")
NAMESPACE = "agent-api"
PARTS = ("crds", "manifests/base/namespace.yaml", "manifests/base/rbac-agent.yaml", "manifests/base/policy.yaml")


class Cluster:
    """The API server with what an agent needs there, and agents' tokens."""

    def __init__(self, server: LocalControlPlane, directory: Path) -> None:
        self.server = server
        self.directory = directory
        self._ca = directory / "ca.crt"
        self._ca.write_text(server.access.ca_pem)

    def write(self, method: str, path: str, body: object = None) -> Any:
        """Send a request as administrator; an object that is there already, or not any more, is no failure."""
        status, answer = self.server.api(method, path, body)
        assert status < 300 or status in (404, 409), answer
        return answer

    def token(self, node: str) -> str:
        """Return a token of ServiceAccount lvs-agent, bound to a pod on a node; node "" = bound to nothing."""
        request: dict[str, Any] = {"spec": {"audiences": [], "expirationSeconds": 3600}}
        if node:
            name = f"lvs-agent-{node}"
            pod = self.write("GET", f"/api/v1/namespaces/{SYSTEM}/pods/{name}")
            uid = pod["metadata"]["uid"]
            request["spec"]["boundObjectRef"] = {"kind": "Pod", "apiVersion": "v1", "name": name, "uid": uid}
        path = f"/api/v1/namespaces/{SYSTEM}/serviceaccounts/lvs-agent/token"
        return str(self.write("POST", path, request)["status"]["token"])

    def access(self, node: str) -> ApiSettings:
        """Return how the agent on a node reaches the API server."""
        file = self.directory / f"token-{node}"
        file.write_text(self.token(node))
        return ApiSettings(self.server.server, token_file=file, ca_file=self._ca)

    def node(self, name: str, spec: dict[str, Any]) -> dict[str, Any]:
        """Create or replace the spec of an LVSNode."""
        body = {"apiVersion": "lvs-operator.io/v1alpha1", "kind": "LVSNode", "metadata": {"name": name}, "spec": spec}
        argv = ("apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", "-")
        self.server.kubectl(*argv, stdin=json.dumps(body))
        found: dict[str, Any] = self.server.api("GET", f"{LVSNODES}/{name}")[1]
        return found

    def table(self, name: str, **changes: Any) -> None:
        """Create or replace a DirectorTable."""
        body = {
            "apiVersion": "lvs-operator.io/v1alpha1",
            "kind": "DirectorTable",
            "metadata": {"name": name, "namespace": NAMESPACE},
            "spec": TABLE | {"directorGroup": "agent-api"} | changes,
        }
        argv = ("apply", "--server-side", "--force-conflicts", "--field-manager=test", "-f", "-")
        self.server.kubectl(*argv, stdin=json.dumps(body))

    def remove_table(self, name: str) -> None:
        """Delete a DirectorTable."""
        self.write("DELETE", f"/apis/lvs-operator.io/v1alpha1/namespaces/{NAMESPACE}/directortables/{name}")

    def status(self, name: str) -> dict[str, Any]:
        """Return the status of an LVSNode."""
        found: dict[str, Any] = self.server.api("GET", f"{LVSNODES}/{name}")[1].get("status", {})
        return found


@pytest.fixture(scope="module")
def cluster(api_server: LocalControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """CRDs, rights and policy as in the manifests; two nodes with an agent's pod each."""
    api_server.start_api_server()
    for part in PARTS:
        flag = "-k" if part == "crds" else "-f"
        api_server.kubectl("apply", "--server-side", "--force-conflicts", flag, str(ROOT / part))
    api_server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    made = Cluster(api_server, tmp_path_factory.mktemp("agent"))
    made.write("POST", "/api/v1/namespaces", {"metadata": {"name": NAMESPACE}})
    for node in NODES:
        made.write("POST", "/api/v1/nodes", {"metadata": {"name": node}})
        made.node(node, {"decided": True})
        pod = {
            "metadata": {"name": f"lvs-agent-{node}", "namespace": SYSTEM},
            "spec": {
                "nodeName": node,
                "serviceAccountName": "lvs-agent",
                "tolerations": [{"operator": "Exists"}],
                "containers": [{"name": "agent", "image": "none"}],
            },
        }
        made.write("POST", f"/api/v1/namespaces/{SYSTEM}/pods", pod)
    _wait_for_the_policy(made)
    return made


def _wait_for_the_policy(made: Cluster) -> None:
    """A policy is in force a moment after it was made."""
    deadline = time.monotonic() + 30
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases?dryRun=All"
    lease = {"metadata": {"name": "policy-probe", "namespace": SYSTEM}, "spec": {}}
    while made.server.api("POST", path, lease, token=made.token(NODES[0]))[0] != 403:
        assert time.monotonic() < deadline, "the policy never came into force"
        time.sleep(0.2)


@pytest.fixture(autouse=True)
def no_tables(cluster: Cluster) -> Iterator[None]:
    """Leave no table to the next test."""
    yield
    cluster.server.start_api_server()
    cluster.server.kubectl("delete", "directortables", "--all", "-n", NAMESPACE)


@pytest.fixture
async def client(cluster: Cluster) -> AsyncIterator[ApiClient]:
    """A client with the rights of the agent on the first node."""
    async with ApiClient(cluster.access(NODES[0])) as session:
        yield session


class Tables:
    """A sink that remembers."""

    def __init__(self) -> None:
        self.specs: dict[str, DirectorTableSpec] = {}
        self.lists = 0
        self.unknowns = 0

    def replaced(self, items: Any) -> None:
        self.specs = {key: item.spec for key, item in items.items()}
        self.lists += 1

    def changed(self, item: Any) -> None:
        assert isinstance(item, Seen)
        self.specs[item.meta.key] = item.spec

    def deleted(self, key: str) -> None:
        self.specs.pop(key, None)

    def unknown(self, _: str) -> None:
        self.unknowns += 1


async def until(condition: Callable[[], object], seconds: float = 30.0) -> None:
    """Wait for something that other processes do."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@pytest.fixture
async def tables(cluster: Cluster, client: ApiClient) -> AsyncIterator[Tables]:
    """A running watch of the group's tables, after its first list."""
    _ = cluster
    sink = Tables()
    watch = Watch(client, TABLES, DirectorTableSpec, sink, field_selector="spec.directorGroup=agent-api")
    task = asyncio.create_task(watch.run())
    await until(lambda: sink.lists == 1)
    yield sink
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_table_that_leaves_the_group_leaves_the_director(cluster: Cluster, tables: Tables) -> None:
    """The field selector of the CRD works: only our group's tables, and a table that moves away is gone."""
    await asyncio.to_thread(cluster.table, "one")
    await asyncio.to_thread(cluster.table, "other", directorGroup="elsewhere")
    await until(lambda: set(tables.specs) == {f"{NAMESPACE}/one"})
    await asyncio.to_thread(cluster.table, "one", directorGroup="elsewhere")
    await until(lambda: not tables.specs)
    assert tables.lists == 1


async def test_the_watch_survives_a_restart_of_the_api_server(cluster: Cluster, tables: Tables) -> None:
    """What changes after the API server is back arrives, without anybody's help."""
    await asyncio.to_thread(cluster.table, "one")
    await until(lambda: len(tables.specs) == 1)
    await asyncio.to_thread(cluster.server.restart_api_server)
    await asyncio.to_thread(cluster.table, "two")
    await until(lambda: len(tables.specs) == 2)


async def test_deletions_lost_to_a_compaction_are_found(cluster: Cluster, client: ApiClient) -> None:
    """With the history gone the watch gets 410, and what is missing from the new list was deleted."""
    disconnected, may_return = asyncio.Event(), asyncio.Event()

    async def stay_away(_: float) -> None:
        disconnected.set()
        await may_return.wait()

    sink = Tables()
    watch = Watch(
        client, TABLES, DirectorTableSpec, sink, field_selector="spec.directorGroup=agent-api", sleep=stay_away
    )
    await asyncio.to_thread(cluster.table, "one")
    await asyncio.to_thread(cluster.table, "two")
    task = asyncio.create_task(watch.run())
    await until(lambda: len(sink.specs) == 2)
    await asyncio.to_thread(cluster.server.stop_api_server)
    await asyncio.wait_for(disconnected.wait(), 10)

    def lose_history() -> None:
        cluster.server.start_api_server()
        cluster.remove_table("one")
        cluster.server.compact_etcd()
        cluster.server.restart_api_server()

    await asyncio.to_thread(lose_history)
    may_return.set()
    await until(lambda: set(sink.specs) == {f"{NAMESPACE}/two"})
    assert sink.lists == 2
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_the_report_is_taken_as_it_is_and_owns_its_fields(cluster: Cluster, client: ApiClient) -> None:
    """Every field of the report passes the CRD's schema; what a later one leaves out is gone; the spec stays."""
    full = LVSNodeStatus(
        agent_version="0.1.0",
        boot_id="boot",
        observed_generation=7,
        director_interface="eth0",
        held_addresses=(VIP,),
        loopback_addresses=("2001:db8::1",),
        next_hops=("192.0.2.254",),
        tables=(TableReport("web/one", 3, 1, 2, uid="uid"),),
        problems=(Problem("Contested", "somebody"),),
        repairs=5,
    )
    before = cluster.server.api("GET", f"{LVSNODES}/{NODES[0]}")[1]
    reporter = Reporter(client, NODES[0])
    reporter.offer(full)
    await reporter.write()
    status = cluster.status(NODES[0])
    assert status["heldAddresses"] == [VIP]
    assert status["tables"] == [{"table": "web/one", "generation": 3, "healthy": 1, "total": 2, "uid": "uid"}]
    reporter.offer(LVSNodeStatus(agent_version="0.1.0", boot_id="boot"))
    await reporter.write()
    assert cluster.status(NODES[0]) == {"agentVersion": "0.1.0", "bootId": "boot"}
    after = cluster.server.api("GET", f"{LVSNODES}/{NODES[0]}")[1]
    assert after["spec"] == before["spec"]
    assert after["metadata"]["generation"] == before["metadata"]["generation"]
    version = after["metadata"]["resourceVersion"]
    reporter.offer(LVSNodeStatus(agent_version="0.1.0", boot_id="boot"), again=True)
    await reporter.write()
    assert cluster.server.api("GET", f"{LVSNODES}/{NODES[0]}")[1]["metadata"]["resourceVersion"] == version


def keeper(client: ApiClient, node: str) -> LeaseKeeper:
    """Return a keeper of a node's Lease."""
    return LeaseKeeper(client, namespace=SYSTEM, node=node, identity="test", alive=lambda: True)


async def test_the_lease_is_kept(cluster: Cluster, client: ApiClient) -> None:
    """The controller finds the agent's sign of life by its label."""
    mine = keeper(client, NODES[0])
    await mine.renew()
    await mine.renew()
    path = f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases?labelSelector=lvs-operator.io/component=agent"
    _, found = cluster.server.api("GET", path)
    assert NODES[0] in [lease["metadata"]["name"] for lease in found["items"]]


async def test_one_nodes_token_writes_nothing_of_another_node(cluster: Cluster, client: ApiClient) -> None:
    """A node that was broken into cannot speak for the others: neither report, nor Lease, nor leader."""
    theirs = Reporter(client, NODES[1])
    theirs.offer(LVSNodeStatus(agent_version="evil"))
    with pytest.raises(ForbiddenError, match=f"the lvs-agent on node {NODES[0]} may not write"):
        await theirs.write()
    assert cluster.status(NODES[1]).get("agentVersion") != "evil"
    for name in (NODES[1], "lvs-controller-leader"):
        with pytest.raises(ForbiddenError, match="may not write"):
            await keeper(client, name).renew()
    async with ApiClient(cluster.access(NODES[1])) as other:
        await keeper(other, NODES[1]).renew()
    with pytest.raises(ForbiddenError, match="may not write"):
        await keeper(client, NODES[1]).renew()


async def test_a_token_that_is_bound_to_no_pod_writes_nothing(cluster: Cluster) -> None:
    """A copied ServiceAccount token without a node is worth nothing."""
    async with ApiClient(cluster.access("")) as client:
        mine = Reporter(client, NODES[0])
        mine.offer(LVSNodeStatus(agent_version="evil"))
        with pytest.raises(ForbiddenError, match="not bound to a pod on a node"):
            await mine.write()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/apis/lvs-operator.io/v1alpha1/virtualservices"),
        ("GET", "/apis/lvs-operator.io/v1alpha1/realservers"),
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"/api/v1/namespaces/{SYSTEM}/secrets"),
        ("DELETE", f"{LVSNODES}/{NODES[0]}"),
        ("GET", f"/apis/coordination.k8s.io/v1/namespaces/{SYSTEM}/leases"),
    ],
)
async def test_the_agent_has_no_right_that_it_does_not_need(client: ApiClient, method: str, path: str) -> None:
    """What an agent may not read or delete cannot be stolen or lost through it."""
    with pytest.raises(ForbiddenError):
        await client.request(method, path)


async def test_secrets_are_read_by_name_where_the_component_allows_it(cluster: Cluster, client: ApiClient) -> None:
    """With the component every Secret of the namespace would be an agent's to read, or none."""
    for name in ("lvs-check-certificate", "somebody-elses"):
        body = {"metadata": {"name": name, "namespace": SYSTEM}, "stringData": {"ca.crt": "x"}}
        await asyncio.to_thread(cluster.write, "POST", f"/api/v1/namespaces/{SYSTEM}/secrets", body)
    reader = Secrets(client, SYSTEM, changed=lambda: None)
    reader.want(["lvs-check-certificate", "somebody-elses"])
    task = asyncio.create_task(reader.run())
    try:
        await until(lambda: len(reader.problems()) == 2)
        assert "add its name to Role lvs-agent-secrets" in reader.problems()[0]
        role = str(ROOT / "manifests/components/secrets/role.yaml")
        await asyncio.to_thread(cluster.server.kubectl, "apply", "--server-side", "-f", role)
        await until(lambda: len(reader.problems()) == 1)
        assert reader.read("lvs-check-certificate").data == {"ca.crt": b"x"}
        assert "somebody-elses" in reader.problems()[0]
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def test_the_spec_cannot_be_changed_through_the_status(cluster: Cluster, client: ApiClient) -> None:
    """An agent decides nothing about its own role."""
    before = cluster.server.api("GET", f"{LVSNODES}/{NODES[0]}")[1]["spec"]
    body = {
        "apiVersion": "lvs-operator.io/v1alpha1",
        "kind": "LVSNode",
        "metadata": {"name": NODES[0]},
        "spec": {"decided": True, "backendAddresses": [VIP]},
        "status": {"agentVersion": "0.1.0"},
    }
    try:
        await client.apply(f"{LVSNODES}/{NODES[0]}/status", json.dumps(body).encode(), manager="lvs-agent")
    except ApiError as error:
        assert error.status in (400, 403, 422)  # noqa: PT017 - refused or ignored: both are right
    assert cluster.server.api("GET", f"{LVSNODES}/{NODES[0]}")[1]["spec"] == before


async def test_a_watch_of_one_lvsnode_tells_whether_it_has_a_status(cluster: Cluster, client: ApiClient) -> None:
    """An LVSNode that was made anew is reported again."""

    class Nodes(Tables):
        seen: Any = None

        def replaced(self, items: Any) -> None:
            self.lists += 1
            self.seen = items.get(NODES[0])

        def changed(self, item: Any) -> None:
            self.seen = item

        def deleted(self, _: str) -> None:
            self.seen = None

    sink = Nodes()
    watch = Watch(client, LVSNODES, LVSNodeSpec, sink, field_selector=f"metadata.name={NODES[0]}")
    task = asyncio.create_task(watch.run())
    await until(lambda: sink.lists == 1 and sink.seen is not None)
    cluster.write("DELETE", f"{LVSNODES}/{NODES[0]}")
    await until(lambda: sink.seen is None)
    await asyncio.to_thread(cluster.node, NODES[0], {"decided": True})
    await until(lambda: sink.seen is not None)
    assert not sink.seen.reported
    reporter = Reporter(client, NODES[0])
    reporter.offer(LVSNodeStatus(agent_version="0.1.0"))
    await reporter.write()
    await until(lambda: sink.seen.reported)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_a_whole_agent_follows_a_real_api_server_through_an_outage(cluster: Cluster, tmp_path: Path) -> None:
    """While the API server is away health goes on; when it is back, so do changes and reports."""
    director = {
        "decided": True,
        "director": {"group": "agent-api", "internalAddresses": ["192.0.2.1"], "tables": [f"{NAMESPACE}/one"]},
    }
    await asyncio.to_thread(cluster.table, "one", healthCheck=CHECK | {"rise": 1, "fall": 1})
    await asyncio.to_thread(cluster.node, NODES[0], director)
    async with FakeApi() as unused:
        bench = Bench(unused, tmp_path, node=NODES[0])
        async with bench.running(access=cluster.access(NODES[0])):
            await until(lambda: len(bench.destinations()) == 2)
            await until(lambda: cluster.status(NODES[0]).get("tables", [{}])[0].get("healthy") == 2)
            await asyncio.to_thread(cluster.server.stop_api_server)
            bench.down.add(("192.0.2.12", 80))
            await until(lambda: bench.destinations() == {"192.0.2.11": 100})
            await asyncio.to_thread(cluster.server.start_api_server)
            await until(lambda: cluster.status(NODES[0])["tables"][0]["healthy"] == 1)
            await asyncio.to_thread(cluster.table, "one", destinations=[])
            await until(lambda: not bench.destinations())
