"""What is polled: the agents' Leases, the namespaces' labels while a group asks for them, the cluster's own addresses.

All of them change rarely, or (Leases) far too often for a watch.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from functools import partial

from lvs_dr.controller import silence as signs
from lvs_dr.controller import watched
from lvs_dr.controller.apiclient import Api, Body
from lvs_dr.controller.errors import ControllerError, NotFound
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.silence import Silence
from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.world import Cluster

log = logging.getLogger(__name__)

DOUBT_SECONDS = 1.0
"""Between looks at the Leases while two directors say that they are Active, and one of them may be dead."""
NAMESPACES_SECONDS = 10.0
CLUSTER_SECONDS = 60.0
SERVICE_RANGES = "/apis/networking.k8s.io/v1/servicecidrs"
API_ENDPOINTS = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices/kubernetes"


class Polls:
    """Looks regularly. Each `look_at_…` raises ApiError or Unreachable."""

    def __init__(
        self,
        api: Api,
        intake: Intake,
        silence: Silence,
        *,
        namespace: str,
        report: Callable[[str, str], None],
    ) -> None:
        self._api = api
        self._intake = intake
        self._silence = silence
        self._leases = f"/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases"
        self._report = report
        self._namespaces_known = False

    async def look_at_leases(self) -> None:
        """Note which agents have renewed their Lease since the last look."""
        renewals: dict[str, str] = {}
        asked_at = self._silence.now()
        leases, _ = await self._api.list(self._leases, label_selector=signs.SELECTOR)
        for lease in leases:
            metadata = lease["metadata"]
            renewals[metadata["name"]] = f"{metadata['uid']}/{(lease.get('spec') or {}).get('renewTime')}"
        self._silence.observe(renewals, asked_at)
        self._intake.refresh_silence()

    async def look_at_namespaces(self, *, needed: bool | None = None) -> None:
        """Read the namespaces' labels, when any group asks for them."""
        if needed is None:
            groups = self._intake.store.world.groups.values()
            needed = any(isinstance(each, DirectorGroup) and each.allowed_namespaces is not None for each in groups)
        if not needed:
            self._namespaces_known = False
            return
        bodies, version = await self._api.list(watched.NAMESPACE.collection)
        self._intake.listed(watched.NAMESPACE, bodies, version)
        self._namespaces_known = True

    async def before_group(self) -> None:
        """Read the namespaces once before a group that asks for them is looked at."""
        if self._namespaces_known:
            return
        try:
            await self.look_at_namespaces(needed=True)
        except ControllerError as error:
            log.warning("cannot list namespaces yet: %s", error)

    async def look_at_cluster(self) -> None:
        """Read the Service ranges and the API server's addresses, which nobody may claim."""
        ranges = {cidr for body in await self._ranges() for cidr in (body.get("spec") or {}).get("cidrs") or ()}
        addresses = {address for endpoint in await self._endpoints() for address in endpoint.get("addresses") or ()}
        cluster = Cluster(service_ranges=tuple(sorted(ranges)), api_addresses=tuple(sorted(addresses)))
        self._intake.cluster(cluster)

    async def _ranges(self) -> list[Body]:
        try:
            bodies, _ = await self._api.list(SERVICE_RANGES)
        except NotFound:
            return []  # a cluster without this kind
        return bodies

    async def _endpoints(self) -> list[Body]:
        try:
            body = await self._api.get(API_ENDPOINTS)
        except NotFound:
            return []  # an API server that does not announce itself
        return body.get("endpoints") or []

    async def run_leases(self) -> None:
        """Work until cancelled."""
        await self._repeat(self.look_at_leases, self._until_leases_are_due, "leases")

    async def run_namespaces(self) -> None:
        """Work until cancelled."""
        await self._repeat(self.look_at_namespaces, partial(asyncio.sleep, NAMESPACES_SECONDS), "namespaces")

    async def run_cluster(self) -> None:
        """Work until cancelled."""
        pause = partial(asyncio.sleep, CLUSTER_SECONDS)
        await self._repeat(self.look_at_cluster, pause, "service ranges and API endpoints")

    async def _until_leases_are_due(self) -> None:
        """Wait for five seconds; a second is enough while a director is in doubt that may live."""
        for _ in range(round(signs.POLL_SECONDS / DOUBT_SECONDS)):
            await asyncio.sleep(DOUBT_SECONDS)
            if self._intake.store.unconfirmed - self._intake.store.silent:
                return

    async def _repeat(
        self, look: Callable[[], Awaitable[None]], pause: Callable[[], Awaitable[None]], what: str
    ) -> None:
        while True:
            await pause()
            try:
                await look()
            except ControllerError as error:
                log.warning("cannot read %s, what was known stays: %s", what, error)
                self._report(what, str(error))
            else:
                self._report(what, "")
