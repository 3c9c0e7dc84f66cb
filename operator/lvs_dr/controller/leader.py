"""Who of the replicas acts: a Lease, renewed every 2 s, given up after 10 s without a renewal, taken after 15 s.

Clocks of two machines are never compared. A candidate watches the Lease and takes it when *it* has seen no change for
15 s of its own monotonic clock; a holder stops 10 s after the start of its last successful renewal.
"""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from lvs_dr.controller.apiclient import Api, Body
from lvs_dr.controller.errors import ApiError, Conflict, NotFound, Unreachable

log = logging.getLogger(__name__)

LEASE_NAME = "lvs-controller-leader"
LEASE_SECONDS = 15.0
RENEW_DEADLINE_SECONDS = 10.0
RETRY_SECONDS = 2.0
ATTEMPT_SECONDS = 5.0


class LeaseRecord(Struct, frozen=True):
    """The Lease as it was read or is to be written."""

    holder: str
    renewed: str = ""  # opaque: only whether it changed counts
    transitions: int = 0
    version: str = ""  # resourceVersion; "" = does not exist
    annotations: dict[str, str] = {}


class LeaseDoor(Protocol):
    """Where the Lease is kept."""

    async def read(self) -> LeaseRecord | None:
        """Return the Lease, None when there is none. Raises ApiError or Unreachable."""

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """Create it or replace exactly `record.version`. Raises Conflict when somebody was faster."""


class ApiLease:
    """The Lease in the API server."""

    def __init__(self, api: Api, namespace: str) -> None:
        self._api = api
        self._collection = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._namespace = namespace

    async def read(self) -> LeaseRecord | None:
        """See LeaseDoor."""
        try:
            return _record(await self._api.get(f"{self._collection}/{LEASE_NAME}", timeout_seconds=ATTEMPT_SECONDS))
        except NotFound:
            return None

    async def write(self, record: LeaseRecord) -> LeaseRecord:
        """See LeaseDoor."""
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {
                "name": LEASE_NAME,
                "namespace": self._namespace,
                "labels": {"lvs-operator.io/component": "controller"},
                "annotations": record.annotations,
            },
            "spec": {
                "holderIdentity": record.holder,
                "leaseDurationSeconds": int(LEASE_SECONDS),
                "renewTime": record.renewed,
                "leaseTransitions": record.transitions,
            },
        }
        if not record.version:
            answer = await self._api.request("POST", self._collection, body=body, timeout_seconds=ATTEMPT_SECONDS)
        else:
            body["metadata"]["resourceVersion"] = record.version  # type: ignore[index]
            path = f"{self._collection}/{LEASE_NAME}"
            answer = await self._api.request("PUT", path, body=body, timeout_seconds=ATTEMPT_SECONDS)
        return _record(answer)


def _record(body: Body) -> LeaseRecord:
    spec, metadata = body.get("spec", {}), body["metadata"]
    return LeaseRecord(
        holder=spec.get("holderIdentity") or "",
        renewed=spec.get("renewTime") or "",
        transitions=spec.get("leaseTransitions") or 0,
        version=metadata["resourceVersion"],
        annotations=metadata.get("annotations") or {},
    )


def micro_time() -> str:
    """Return the wall clock as Kubernetes' MicroTime; for people, never compared."""
    return dt.datetime.now(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Elector:
    """One candidate. `clock` is monotonic, in seconds."""

    def __init__(
        self, door: LeaseDoor, identity: str, clock: Callable[[], float], stamp: Callable[[], str] = micro_time
    ) -> None:
        self.identity = identity
        self.elected = asyncio.Event()
        self.lost = asyncio.Event()
        self.annotations: dict[str, str] = {}
        """On election it holds what the Lease said; `note` changes it."""
        self._wake = asyncio.Event()
        self._door = door
        self._clock = clock
        self._stamp = stamp
        self._observed: LeaseRecord | None = None
        self._started_at = self._changed_at = clock()
        self._renewed_at = float("-inf")

    def holds(self) -> bool:
        """Tell whether this process may write right now."""
        return not self.lost.is_set() and self._clock() < self._renewed_at + RENEW_DEADLINE_SECONDS

    async def attempt(self) -> None:
        """Try once to take or renew the Lease. Raises ApiError or Unreachable; the state is right in any case."""
        started = self._clock()
        if self.elected.is_set() and self._observed is not None and self._observed.holder == self.identity:
            try:
                await self._take(self._observed, started)  # one request: a busy API server has time for it sooner
            except (Conflict, NotFound):
                log.debug("the Lease was changed or deleted by somebody else")
            else:
                return
        current = await self._door.read()
        if current != self._observed:
            self._observed, self._changed_at = current, self._clock()
        if self.elected.is_set():
            if current is not None and current.holder not in (self.identity, ""):
                log.error("the Lease was taken by %s", current.holder)
                self.lost.set()
                return
        elif not self._free(current):
            return
        await self._take(current, started)

    def _free(self, current: LeaseRecord | None) -> bool:
        if current is None and self._started_at == self._changed_at:
            return True  # there never was one
        if current is not None and current.holder in ("", self.identity):
            return True
        # Held by another, or deleted under its holder, who stops only when it notices.
        return self._clock() - self._changed_at >= LEASE_SECONDS

    async def _take(self, current: LeaseRecord | None, started: float) -> None:
        base = current or LeaseRecord(holder="")
        annotations = base.annotations | self.annotations
        wanted = replace(base, holder=self.identity, renewed=self._stamp(), annotations=annotations)
        if base.holder != self.identity:
            wanted = replace(wanted, transitions=base.transitions + 1)
        written = await self._door.write(wanted)
        self._observed, self._changed_at, self._renewed_at = written, self._clock(), started
        if not self.elected.is_set():
            self.annotations = annotations
            log.info("elected leader as %s", self.identity)
            self.elected.set()

    async def run(self) -> None:
        """Take the Lease and keep it; return when it is lost."""
        while not self.lost.is_set():
            try:
                async with asyncio.timeout(ATTEMPT_SECONDS):
                    await self.attempt()
            except Conflict:
                log.info("another replica was faster with the Lease")
            except (ApiError, Unreachable, TimeoutError) as error:
                log.warning("cannot %s the Lease: %s", "renew" if self.elected.is_set() else "read", error)
            if self.elected.is_set() and not self.holds():
                log.error("the Lease could not be renewed for %.0f s: leadership is lost", RENEW_DEADLINE_SECONDS)
                self.lost.set()
            await self._pause()

    def note(self, name: str, value: str) -> None:
        """Keep something on the Lease for the next leader; it is written at once."""
        self.annotations[name] = value
        self._wake.set()

    async def _pause(self) -> None:
        """Wait for the next attempt, but never past the moment when the Lease is lost."""
        seconds = RETRY_SECONDS
        if self.elected.is_set():
            seconds = min(seconds, max(0.05, self._renewed_at + RENEW_DEADLINE_SECONDS - self._clock()))
        try:
            async with asyncio.timeout(seconds):
                await self._wake.wait()
        except TimeoutError:
            return
        self._wake.clear()

    async def release(self) -> None:
        """Give the Lease back, so that the next replica need not wait. Failures are logged: it runs out anyway."""
        if not self.elected.is_set() or self.lost.is_set():
            return
        self.lost.set()
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS):
                current = await self._door.read()
                if current is not None and current.holder == self.identity:
                    annotations = current.annotations | self.annotations
                    await self._door.write(replace(current, holder="", renewed=self._stamp(), annotations=annotations))
                    log.info("the Lease is released")
        except (ApiError, Unreachable, TimeoutError) as error:
            log.warning("cannot release the Lease, it runs out in %.0f s: %s", LEASE_SECONDS, error)
