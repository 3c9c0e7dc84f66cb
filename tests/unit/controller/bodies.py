"""Objects as the API server sends them, and a small stateful stand-in for it."""

import itertools
import json
from collections.abc import Mapping
from typing import Any

from lvs_dr.controller.apiclient import Api, Body
from lvs_dr.controller.errors import api_error


def metadata(name: str, *, namespace: str = "", uid: str = "", version: int = 1, **more: Any) -> dict[str, Any]:
    """Metadata with a uid made from the name."""
    scope = {"namespace": namespace} if namespace else {}
    return {
        "name": name,
        "uid": uid or f"uid-{name}",
        "resourceVersion": str(version),
        "generation": 1,
        "creationTimestamp": "2026-01-01T00:00:00Z",
        **scope,
        **more,
    }


def virtual_service(name: str = "web", address: str = "192.0.2.10", **meta: Any) -> Body:
    """A VirtualService of namespace `shop`."""
    return {
        "metadata": metadata(name, namespace="shop", **meta),
        "spec": {
            "address": address,
            "ports": [{"port": 80}],
            "realServers": {"selector": {"matchLabels": {"pool": "web"}}},
        },
    }


def real_server(name: str = "one", **meta: Any) -> Body:
    """A RealServer of namespace `shop` on the node of its name."""
    return {
        "metadata": metadata(name, namespace="shop", labels={"pool": "web"}, **meta),
        "spec": {"nodeName": name},
    }


def node(name: str, address: str = "192.0.2.1", **meta: Any) -> Body:
    """A Node."""
    return {
        "metadata": metadata(name, labels={"kubernetes.io/os": "linux"}, **meta),
        "status": {"addresses": [{"type": "InternalIP", "address": address}]},
    }


class FakeApi(Api):
    """Keeps objects by path: create, apply, delete with uid precondition, and a log of all requests."""

    def __init__(self) -> None:
        self.objects: dict[str, Body] = {}
        self.now = "2026-01-01T00:00:00Z"  # when what is written first is created
        self.requests: list[tuple[str, str]] = []
        self.failures: dict[tuple[str, str], Exception] = {}
        self._versions = itertools.count(100)

    def hold(self, path: str, body: Body) -> None:
        """Put an object there."""
        self.objects[path] = json.loads(json.dumps(body))

    def writes(self) -> list[tuple[str, str]]:
        """Return the requests that changed something."""
        return [each for each in self.requests if each[0] != "GET"]

    async def request(
        self,
        method: str,
        path: str,
        *,
        body: Any = None,
        query: Mapping[str, str] | None = None,
        content_type: str = "application/json",
        timeout_seconds: float = 0,
    ) -> Body:
        """Answer one request, or raise what `failures` says."""
        del query, timeout_seconds
        self.requests.append((method, path))
        if (failure := self.failures.get((method, path))) is not None:
            raise failure
        found = self.objects.get(path)
        if method == "DELETE":
            return self._delete(path, found, body["preconditions"]["uid"])
        if method == "POST":
            return self._stored(f"{path}/{body['metadata']['name']}", body)
        if method == "PATCH" and content_type == "application/apply-patch+yaml":
            return self._applied(path, found, body)
        if found is None:
            raise api_error(404, "NotFound", f"{path} not found")
        if method == "PATCH":
            return self._stored(path, found | body)
        return found

    def _delete(self, path: str, found: Body | None, uid: str) -> Body:
        if found is None:
            raise api_error(404, "NotFound", f"{path} not found")
        if found["metadata"]["uid"] != uid:
            raise api_error(409, "Conflict", "the UID in the precondition does not match")
        del self.objects[path]
        return {"kind": "Status", "status": "Success"}

    def _applied(self, path: str, found: Body | None, body: Body) -> Body:
        main = path.removesuffix("/status")
        if path != main:
            found = self.objects.get(main)
            if found is None:
                raise api_error(404, "NotFound", f"{main} not found")
        uid = body["metadata"].get("uid")
        if uid and (found is None or found["metadata"]["uid"] != uid):
            raise api_error(409, "Conflict", "the UID in the precondition does not match")
        fresh = {"uid": f"uid-{path.rsplit('/', 1)[1]}", "generation": 0, "creationTimestamp": self.now}
        old = found or {"metadata": fresh}
        generation = old["metadata"]["generation"] + (path == main and old.get("spec") != body.get("spec"))
        merged = {**old, **body, "metadata": {**old["metadata"], **body["metadata"], "generation": generation}}
        return self._stored(main, merged)

    def _stored(self, path: str, body: Body) -> Body:
        fresh: Body = json.loads(json.dumps(body))
        fresh["metadata"]["resourceVersion"] = str(next(self._versions))
        self.objects[path] = fresh
        return fresh


class Clock:
    """A monotonic clock that only moves when told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds
