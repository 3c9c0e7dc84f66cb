"""The agent's sign of life: a Lease that is renewed only while the loop makes progress."""

import asyncio
import logging
from collections.abc import Callable
from datetime import UTC, datetime

import msgspec

from lvs_dr.agent.apiclient import ApiClient, ApiError, ConflictError, NotFoundError

log = logging.getLogger(__name__)

RENEW_SECONDS = 10.0
HOLDING_SECONDS = 3.0
"""Of a director that holds VIPs: where two do, the sooner one is heard of again the sooner both are known to live."""
RETRY_SECONDS = 2.0
DURATION_SECONDS = 40
LABELS = {"lvs-operator.io/component": "agent"}


class _Metadata(msgspec.Struct, rename="camel"):
    resource_version: str = ""
    labels: dict[str, str] = {}


class _Spec(msgspec.Struct, rename="camel"):
    holder_identity: str = ""
    lease_transitions: int = 0


class _Lease(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec = msgspec.field(default_factory=_Spec)


def wall_clock() -> datetime:
    """Return the time of day in UTC, for people: nobody compares it with another machine's."""
    return datetime.now(UTC)


class LeaseKeeper:
    """Renews `namespace/node` while `alive()` says so: every 10 s, every 3 s while `holding()` does."""

    def __init__(
        self,
        client: ApiClient,
        *,
        namespace: str,
        node: str,
        identity: str,
        alive: Callable[[], bool],
        holding: Callable[[], bool] = lambda: False,
        now: Callable[[], datetime] = wall_clock,
    ) -> None:
        self._client = client
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace
        self._node = node
        self._identity = identity
        self._alive = alive
        self._holding = holding
        self._now = now
        self._version = ""  # resourceVersion we wrote last; "" = read it first
        self._transitions = 0

    async def run(self) -> None:
        """Renew for ever; a failure is logged when it starts, and tried again after 2 s."""
        failing = False
        while True:
            pause = HOLDING_SECONDS if self._holding() else RENEW_SECONDS
            if not self._alive():
                log.warning("the Lease is not renewed: the loop makes no progress")
                pause = RETRY_SECONDS
            else:
                try:
                    await self.renew()
                    if failing:
                        log.info("the Lease is renewed again")
                    failing = False
                except (ApiError, msgspec.MsgspecError) as error:
                    if not failing:
                        log.warning("cannot renew the Lease: %s", error)
                    failing, pause = True, RETRY_SECONDS
            await asyncio.sleep(pause)

    async def renew(self) -> None:
        """Renew once, creating the Lease or reading it again where that is needed. Raises ApiError."""
        for _ in range(3):
            try:
                if not self._version:
                    await self._read()
                await self._write()
            except NotFoundError:  # deleted, or never there
                self._version = ""
                try:
                    await self._create()
                except ConflictError:
                    continue
            except ConflictError:  # changed by somebody: read it again
                self._version = ""
                continue
            return
        raise ConflictError(409, "Conflict", f"Lease {self._namespace}/{self._node} keeps changing under us")

    async def _read(self) -> None:
        lease = msgspec.json.decode(await self._client.get(f"{self._leases}/{self._node}"), type=_Lease)
        self._version = lease.metadata.resource_version
        self._transitions = lease.spec.lease_transitions
        if lease.spec.holder_identity != self._identity:
            self._transitions += 1

    async def _write(self) -> None:
        body = self._body(self._version)
        answer = await self._client.request("PUT", f"{self._leases}/{self._node}", body=body)
        self._version = msgspec.json.decode(answer, type=_Lease).metadata.resource_version

    async def _create(self) -> None:
        answer = await self._client.request("POST", self._leases, body=self._body(""))
        self._version = msgspec.json.decode(answer, type=_Lease).metadata.resource_version

    def _body(self, version: str) -> bytes:
        metadata: dict[str, object] = {"name": self._node, "namespace": self._namespace, "labels": LABELS}
        if version:
            metadata["resourceVersion"] = version
        return msgspec.json.encode(
            {
                "apiVersion": "coordination.k8s.io/v1",
                "kind": "Lease",
                "metadata": metadata,
                "spec": {
                    "holderIdentity": self._identity,
                    "leaseDurationSeconds": DURATION_SECONDS,
                    "leaseTransitions": self._transitions,
                    "renewTime": self._now().strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                },
            }
        )
