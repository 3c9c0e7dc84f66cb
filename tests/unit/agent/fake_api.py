"""A stateful stand-in for the Kubernetes API on loopback: lists, watches, status by apply, Leases, and its faults."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any, Self

from aiohttp import web

GROUP = "/apis/lvs-operator.io/v1alpha1"
KINDS = {"lvsnodes": "LVSNode", "directortables": "DirectorTable"}


def refusal(code: int, reason: str, message: str) -> web.Response:
    """Return what the API server answers when it refuses."""
    return web.json_response({"kind": "Status", "code": code, "reason": reason, "message": message}, status=code)


class FakeApi:
    """Objects with resource versions and a history of events; use as `async with`."""

    def __init__(self) -> None:
        self.version = 100
        self.compacted = 0  # watches from before this get 410
        self.objects: dict[str, dict[str, dict[str, Any]]] = {kind: {} for kind in KINDS}
        self.history: list[tuple[int, str, str, dict[str, Any]]] = []
        self.missing: set[str] = set()  # kinds that answer 404
        self.forbidden: set[str] = set()
        self.tokens: set[str] | None = None  # None = all are good
        self.page = 1000
        self.silent = False  # open watches, say nothing
        self.refuse_status: int = 0
        self.lists: list[str] = []
        self.watches: list[str] = []
        self.status_writes: list[dict[str, Any]] = []
        self.leases: dict[str, dict[str, Any]] = {}
        self.lease_writes = 0
        self.secrets: dict[str, dict[str, str]] = {}  # by name: base64 by key
        self.authorizations: list[str] = []
        self.url = ""
        self._news = asyncio.Condition()
        self._streams: set[web.StreamResponse] = set()
        self._stack = contextlib.AsyncExitStack()
        self._port = 0

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Listen, on the port of before after a stop."""
        application = web.Application(middlewares=[self._authenticate])
        application.router.add_get(GROUP + "/{kind}", self._get)
        application.router.add_patch(GROUP + "/lvsnodes/{name}/status", self._apply_status)
        leases = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        application.router.add_post(leases, self._create_lease)
        application.router.add_get(leases + "/{name}", self._read_lease)
        application.router.add_put(leases + "/{name}", self._write_lease)
        application.router.add_get("/api/v1/namespaces/{namespace}/secrets/{name}", self._read_secret)
        runner = web.AppRunner(application, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{self._port}"
        self._stack.push_async_callback(runner.cleanup)

    async def stop(self) -> None:
        """Go away, all connections broken."""
        await self.break_watches()
        await self._stack.aclose()

    async def break_watches(self) -> None:
        """Cut every open watch in the middle."""
        for stream in list(self._streams):
            request = stream._req
            if request is not None and request.transport is not None:
                request.transport.abort()
        async with self._news:
            self._news.notify_all()

    # What a test does to the objects.

    async def put(
        self, kind: str, name: str, spec: dict[str, Any], *, namespace: str = "", **metadata: Any
    ) -> dict[str, Any]:
        """Create or change an object."""
        key = f"{namespace}/{name}" if namespace else name
        before = self.objects[kind].get(key)
        self.version += 1
        generation = 1 if before is None else before["metadata"]["generation"] + (before["spec"] != spec)
        thing = {
            "apiVersion": "lvs-operator.io/v1alpha1",
            "kind": KINDS[kind],
            "metadata": {
                "name": name,
                **({"namespace": namespace} if namespace else {}),
                "uid": before["metadata"]["uid"] if before else f"uid-{self.version}",
                "generation": generation,
                **metadata,
                "resourceVersion": str(self.version),
            },
            "spec": spec,
            **({"status": before["status"]} if before and "status" in before else {}),
        }
        self.objects[kind][key] = thing
        await self._event(kind, "MODIFIED" if before else "ADDED", thing)
        return thing

    async def delete(self, kind: str, key: str) -> None:
        """Delete an object."""
        thing = self.objects[kind].pop(key)
        self.version += 1
        thing = {**thing, "metadata": {**thing["metadata"], "resourceVersion": str(self.version)}}
        await self._event(kind, "DELETED", thing)

    async def bookmark(self, kind: str) -> None:
        """Tell all watches how far they are."""
        self.version += 1
        await self._event(kind, "BOOKMARK", {"metadata": {"resourceVersion": str(self.version)}})

    async def compact(self) -> None:
        """Forget the history, as etcd does."""
        self.version += 1
        self.compacted = self.version
        self.history.clear()

    async def _event(self, kind: str, what: str, thing: dict[str, Any]) -> None:
        self.history.append((self.version, kind, what, thing))
        async with self._news:
            self._news.notify_all()

    # What the API answers.

    @web.middleware
    async def _authenticate(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.authorizations.append(request.headers.get("Authorization", ""))
        if self.tokens is not None and self.authorizations[-1].removeprefix("Bearer ") not in self.tokens:
            return refusal(401, "Unauthorized", "Unauthorized")
        answer: web.StreamResponse = await handler(request)
        return answer

    def _selected(self, request: web.Request, thing: dict[str, Any]) -> bool:
        field, _, value = request.query.get("fieldSelector", "").partition("=")
        if field == "metadata.name":
            return bool(thing["metadata"].get("name", value) == value)
        if field == "spec.directorGroup":
            return bool(thing.get("spec", {}).get("directorGroup", value) == value)
        return True

    async def _get(self, request: web.Request) -> web.StreamResponse:
        kind = request.match_info["kind"]
        if kind in self.missing or kind not in KINDS:
            return refusal(404, "NotFound", "the server could not find the requested resource")
        if kind in self.forbidden:
            return refusal(403, "Forbidden", f"cannot list {kind}")
        if request.query.get("watch") == "true":
            return await self._watch(kind, request)
        self.lists.append(kind)
        items = [thing for _, thing in sorted(self.objects[kind].items()) if self._selected(request, thing)]
        start = int(request.query.get("continue", "0"))
        more = str(start + self.page) if start + self.page < len(items) else ""
        metadata = {"resourceVersion": str(self.version), "continue": more}
        return web.json_response({"metadata": metadata, "items": items[start : start + self.page]})

    async def _watch(self, kind: str, request: web.Request) -> web.StreamResponse:
        self.watches.append(kind)
        since = int(request.query["resourceVersion"])
        stream = web.StreamResponse(headers={"Content-Type": "application/json"})
        await stream.prepare(request)
        if since < self.compacted:
            status = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
            await stream.write(json.dumps({"type": "ERROR", "object": status}).encode() + b"\n")
            return stream
        self._streams.add(stream)
        try:
            async for event in self._since(kind, since):
                if self._selected(request, event["object"]):
                    await stream.write(json.dumps(event).encode() + b"\n")
        finally:
            self._streams.discard(stream)
        return stream

    async def _since(self, kind: str, since: int) -> AsyncIterator[dict[str, Any]]:
        while True:
            for version, of, what, thing in list(self.history):
                if version > since:
                    if self.silent:
                        await asyncio.Event().wait()  # a dead connection: nothing comes on it again
                    since = version
                    if of == kind:
                        yield {"type": what, "object": thing}
            async with self._news:
                await self._news.wait_for(lambda: any(event[0] > since for event in self.history))  # noqa: B023

    async def _apply_status(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if self.refuse_status:
            return refusal(self.refuse_status, "Refused", "not now")
        if name not in self.objects["lvsnodes"]:
            return refusal(404, "NotFound", f"lvsnodes {name} not found")
        assert request.query["fieldManager"] == "lvs-agent"
        assert request.headers["Content-Type"] == "application/apply-patch+yaml"
        body = json.loads(await request.read())
        self.status_writes.append(body["status"])
        thing = self.objects["lvsnodes"][name]
        if thing.get("status") != body["status"]:
            self.version += 1
            metadata = {**thing["metadata"], "resourceVersion": str(self.version)}
            thing = {**thing, "metadata": metadata, "status": body["status"]}
            self.objects["lvsnodes"][name] = thing
            await self._event("lvsnodes", "MODIFIED", thing)
        async with self._news:
            self._news.notify_all()
        return web.json_response(thing)

    async def status_where(self, condition: Any, *, seconds: float = 5.0) -> dict[str, Any]:
        """Wait until a status was written for which `condition` is true, and return it."""

        def latest() -> bool:
            try:
                return bool(self.status_writes and condition(self.status_writes[-1]))
            except (KeyError, IndexError):  # what the condition looks for is not there yet
                return False

        async with asyncio.timeout(seconds), self._news:
            await self._news.wait_for(latest)
        return self.status_writes[-1]

    async def _create_lease(self, request: web.Request) -> web.Response:
        lease = json.loads(await request.read())
        if lease["metadata"]["name"] in self.leases:
            return refusal(409, "AlreadyExists", "already exists")
        return self._store(lease)

    async def _read_lease(self, request: web.Request) -> web.Response:
        lease = self.leases.get(request.match_info["name"])
        return web.json_response(lease) if lease else refusal(404, "NotFound", "not found")

    async def _read_secret(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        if "secrets" in self.forbidden:
            return refusal(403, "Forbidden", f"cannot get {name}")
        if name not in self.secrets:
            return refusal(404, "NotFound", "not found")
        data = self.secrets[name]
        version = str(hash(json.dumps(data)))
        return web.json_response({"metadata": {"name": name, "resourceVersion": version}, "data": data})

    async def _write_lease(self, request: web.Request) -> web.Response:
        lease = json.loads(await request.read())
        stored = self.leases.get(request.match_info["name"])
        if stored is None:
            return refusal(404, "NotFound", "not found")
        if stored["metadata"]["resourceVersion"] != lease["metadata"]["resourceVersion"]:
            return refusal(409, "Conflict", "the object has been modified")
        return self._store(lease)

    def _store(self, lease: dict[str, Any]) -> web.Response:
        self.version += 1
        self.lease_writes += 1
        lease["metadata"]["resourceVersion"] = str(self.version)
        self.leases[lease["metadata"]["name"]] = lease
        return web.json_response(lease)
