"""The API server that the `api` tier stands on does what its tests rely on."""

import http.client
import json

import pytest

from lvs_lab.controlplane import LocalControlPlane
from lvs_lab.errors import CommandFailed


def test_kubectl_reaches_it_and_reports_mistakes(api_server: LocalControlPlane) -> None:
    """A person's kubectl works with the kubeconfig as it is, and a refusal is an exception with its text."""
    assert "kube-system" in api_server.kubectl("get", "namespaces", "-o", "name").stdout
    with pytest.raises(CommandFailed, match="not found"):
        api_server.kubectl("get", "namespace", "no-such-namespace")


def test_restart_keeps_data_and_expires_old_watches(running_api_server: LocalControlPlane) -> None:
    """After a restart and a compaction objects are still there and a watch from an old version gets 410."""
    server = running_api_server
    _, listed = server.api("GET", "/api/v1/namespaces")
    old = listed["metadata"]["resourceVersion"]
    status, _ = server.api("POST", "/api/v1/namespaces", {"metadata": {"name": "survives-restart"}})
    assert status == 201
    server.compact_etcd()
    server.restart_api_server()
    assert server.api("GET", "/api/v1/namespaces/survives-restart")[0] == 200
    _, event = server.api("GET", f"/api/v1/namespaces?watch=1&resourceVersion={old}&timeoutSeconds=2")
    assert (event["type"], event["object"]["code"]) == ("ERROR", 410)


def test_stopped_server_refuses_connections(running_api_server: LocalControlPlane) -> None:
    """A stopped API server is really gone: tests of outages must not talk to a ghost."""
    running_api_server.stop_api_server()
    with pytest.raises((OSError, http.client.HTTPException)):
        running_api_server.api("GET", "/readyz", timeout=2)


def test_anonymous_and_wrong_tokens_are_refused(api_server: LocalControlPlane) -> None:
    """RBAC tests mean something only if the server does not let everyone in."""
    assert api_server.api("GET", "/api/v1/secrets", token="wrong")[0] == 401  # noqa: S106
    assert json.loads(api_server.kubeconfig.read_text())["current-context"] == "lvs-lab"
