"""Everything the repository tells a user to apply is accepted by a real API server, without a warning."""

import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lvs_dr.agent.health import checkers
from lvs_dr.agent.main import parser as agent_parser
from lvs_dr.redirect.__main__ import DEFAULT_SOCKET
from lvs_lab.controlplane import LocalControlPlane

ROOT = Path(__file__).parents[2]
KUSTOMIZATIONS = ["manifests/base", "manifests/cleanup"]
STRICT = ("--server-side", "--force-conflicts", "--validate=strict")


@pytest.fixture(scope="module")
def server(api_server: LocalControlPlane) -> LocalControlPlane:
    """The API server with manifests/base applied."""
    api_server.kubectl("apply", *STRICT, "-k", str(ROOT / "manifests/base"))
    api_server.kubectl("wait", "--for=condition=Established", "crd", "--all", "--timeout=30s")
    return api_server


@pytest.mark.parametrize("path", KUSTOMIZATIONS)
def test_kustomizations_apply_strictly(server: LocalControlPlane, path: str) -> None:
    """A misspelt field would be dropped in silence: strict validation takes every manifest, with no warning."""
    done = server.kubectl("apply", *STRICT, "--dry-run=server", "-k", str(ROOT / path))
    assert "Warning" not in done.stderr, done.stderr


def with_component(server: LocalControlPlane, directory: Path, name: str) -> Any:
    """Return the DaemonSet's pod as a site with a component gets it."""
    here = directory / "site"
    here.mkdir()
    relative = Path("../" * (len(here.parts) - 1)) / ROOT.relative_to("/")
    content = {
        "resources": [str(relative / "manifests/base")],
        "components": [str(relative / f"manifests/components/{name}")],
    }
    (here / "kustomization.yaml").write_text(yaml.safe_dump(content))
    done = server.kubectl("kustomize", str(here))
    found = next(item for item in yaml.safe_load_all(done.stdout) if item["kind"] == "DaemonSet")
    return found["spec"]["template"]["spec"]


def test_the_component_narrows_the_agents(server: LocalControlPlane, tmp_path: Path) -> None:
    """Sites that do not want an agent on every node get the component to work with the base."""
    template = with_component(server, tmp_path, "labelled-nodes")
    terms = template["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms["nodeSelectorTerms"][0]["matchExpressions"][0]["key"] == "lvs-operator.io/agent"


def test_the_component_mounts_scripts_where_the_agent_looks(server: LocalControlPlane, tmp_path: Path) -> None:
    """A script that is mounted elsewhere is never found, and the base's own mounts must stay."""
    template = with_component(server, tmp_path, "check-scripts")
    mounts = {each["name"]: each for each in template["containers"][0]["volumeMounts"]}
    assert mounts["check-scripts"]["mountPath"] == str(checkers.SCRIPTS)
    assert {"sysctls", "run", "state"} < mounts.keys()
    (volume,) = [each for each in template["volumes"] if each["name"] == "check-scripts"]
    assert volume["configMap"] == {"name": "lvs-check-scripts", "defaultMode": 0o555, "optional": True}


def test_real_time_is_granted_to_the_speaker_alone(server: LocalControlPlane, tmp_path: Path) -> None:
    """The component would do nothing, or give the agent rights that it does not need."""
    pod = with_component(server, tmp_path, "real-time")
    added = {each["name"]: set(each["securityContext"]["capabilities"]["add"]) for each in pod["containers"]}
    assert added == {
        "agent": {"NET_ADMIN", "NET_RAW"},
        "speaker": {"NET_ADMIN", "NET_RAW", "IPC_LOCK", "SYS_NICE"},
    }


def test_the_pod_may_stop_for_longer_than_the_speaker_waits(server: LocalControlPlane) -> None:
    """A director that is stopped would be killed before its successor has the VIPs."""
    done = server.kubectl("kustomize", str(ROOT / "manifests/base"))
    pod = next(item for item in yaml.safe_load_all(done.stdout) if item["kind"] == "DaemonSet")["spec"]["template"][
        "spec"
    ]
    speaker = next(each for each in pod["containers"] if each["name"] == "speaker")
    [wait] = [float(each.partition("=")[2]) for each in speaker["args"] if each.startswith("--stop-wait=")]
    assert wait + 3 < pod["terminationGracePeriodSeconds"]
    assert "limits" not in speaker["resources"] or "cpu" not in speaker["resources"]["limits"]


@pytest.mark.parametrize("path", sorted(ROOT.glob("manifests/examples/*.yaml")), ids=lambda path: path.stem)
def test_examples_apply_strictly(server: LocalControlPlane, path: Path) -> None:
    """An example that does not apply is worse than none."""
    done = server.kubectl("apply", *STRICT, "--dry-run=server", "-f", str(path))
    assert "Warning" not in done.stderr, done.stderr


def test_the_kind_example_applies(server: LocalControlPlane) -> None:
    """What kind/example prints for kind's network is accepted, though kind itself does not run here."""
    script = (ROOT / "kind/example").read_text()
    heads, tails = script.split("cat <<YAML\n")[1:3]
    service = heads.split("\nYAML\n")[0].replace("$vip", "172.18.255.253")
    servers = tails.split("\nYAML\n")[0].replace("$node", "lvs-dev-worker3")
    done = server.kubectl("apply", *STRICT, "--dry-run=server", "-f", "-", stdin=service + "\n" + servers)
    assert "Warning" not in done.stderr, done.stderr


def test_users_get_their_rights_by_the_clusters_own_roles(server: LocalControlPlane) -> None:
    """A namespace's editor may write services and real servers, a viewer may read them, neither a DirectorGroup."""
    for role in ("view", "edit"):
        server.kubectl("create", "rolebinding", f"may-{role}", f"--clusterrole={role}", f"--user={role}er", check=False)

    def can(user: str, verb: str, kind: str) -> bool:
        argv = ("auth", "can-i", verb, f"{kind}.lvs-operator.io", f"--as={user}", "-n", "default", "-q")
        return server.kubectl(*argv, check=False).returncode == 0

    # The controller-manager gathers the aggregated roles on its own time.
    end = time.monotonic() + 30
    while not (can("editer", "create", "virtualservices") and can("viewer", "list", "virtualservices")):
        assert time.monotonic() < end, "the cluster's roles never got the rights"
        time.sleep(0.2)
    assert can("editer", "delete", "realservers")
    assert not can("editer", "patch", "directortables")
    assert not can("editer", "create", "directorgroups")
    assert can("viewer", "list", "virtualservices")
    assert not can("viewer", "create", "virtualservices")


def test_the_controller_and_the_agent_have_no_more_than_they_need(server: LocalControlPlane) -> None:
    """Least rights: neither may read Secrets or write what users write; the agent may not read users' objects."""
    controller, agent = (f"--as=system:serviceaccount:lvs-system:lvs-{name}" for name in ("controller", "agent"))

    def can(who: str, *argv: str) -> bool:
        return server.kubectl("auth", "can-i", *argv, who, "-q", check=False).returncode == 0

    for who in (controller, agent):
        assert not can(who, "get", "secrets", "-n", "lvs-system")
        assert not can(who, "patch", "virtualservices.lvs-operator.io")
        assert not can(who, "patch", "nodes")
        assert not can(who, "create", "pods", "-n", "lvs-system")
    assert not can(agent, "list", "virtualservices.lvs-operator.io")
    assert not can(agent, "patch", "lvsnodes.lvs-operator.io")
    assert not can(controller, "patch", "lvsnodes.lvs-operator.io", "--subresource=status")
    assert can(agent, "patch", "lvsnodes.lvs-operator.io", "--subresource=status")


def test_the_redirector_has_no_rights_and_the_agent_one_more(server: LocalControlPlane, tmp_path: Path) -> None:
    """The process that strangers talk to must not be able to do anything on a director."""
    pod = with_component(server, tmp_path, "redirect")
    by_name = {each["name"]: each for each in pod["containers"]}
    assert by_name["redirector"]["image"] == by_name["agent"]["image"]
    found = by_name["redirector"]["securityContext"]
    assert found["capabilities"] == {"drop": ["ALL"]}
    assert (found["runAsNonRoot"], found["readOnlyRootFilesystem"]) == (True, True)
    assert not found["allowPrivilegeEscalation"]
    assert set(by_name["agent"]["securityContext"]["capabilities"]["add"]) == {
        "NET_ADMIN",
        "NET_RAW",
        "NET_BIND_SERVICE",
    }
    [socket] = [each.partition("=")[2] for each in by_name["agent"]["args"] if each.startswith("--redirector-socket=")]
    assert Path(socket) == DEFAULT_SOCKET
    for name in ("agent", "redirector"):
        mounts = {each["name"]: each["mountPath"] for each in by_name[name]["volumeMounts"]}
        assert mounts["redirector"] == str(DEFAULT_SOCKET.parent)
    uid = agent_parser().parse_args(["run"]).redirector_uid
    assert uid == found["runAsUser"], "the agent would not let it connect"
