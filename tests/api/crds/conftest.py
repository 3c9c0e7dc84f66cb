"""The API server with our CRDs, and objects on it that are gone when a module of tests ends."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from lvs_dr.api import kinds
from lvs_lab.controlplane import LocalControlPlane
from tests.api.crds.objects import SERVER_SIDE, Objects

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def objects(request: pytest.FixtureRequest, api_server: LocalControlPlane) -> Iterator[Objects]:
    """Objects in a namespace of the module's own (its NAMESPACE); cluster-wide ones are named crds-*."""
    files = [f"--filename={ROOT}/crds/{kind.plural}.yaml" for kind in kinds.KINDS]
    applied = api_server.kubectl("apply", *SERVER_SIDE, "--validate=strict", *files)
    assert applied.stderr == "", "the API server warns about our CRDs"
    crds = [f"crd/{kind.crd_name}" for kind in kinds.KINDS]
    api_server.kubectl("wait", "--for=condition=Established", "--timeout=30s", *crds)
    made = Objects(api_server, request.module.NAMESPACE)
    api_server.kubectl("create", "namespace", made.namespace)
    yield made
    plurals = ",".join(kind.plural for kind in kinds.KINDS if not kind.namespaced)
    api_server.kubectl("delete", plurals, "crds-group", "crds-node", "edge", "--ignore-not-found")
    api_server.kubectl("delete", "namespace", made.namespace, "--wait=false")
