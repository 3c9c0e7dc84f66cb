"""Inputs and one simulated node for the tests of the plan."""

from collections.abc import Mapping, Sequence

from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.arp_settings import ARP_KEYS, ARP_RULES
from lvs_dr.core.desired import Desired, desired, loopback_config
from lvs_dr.core.destinations import NO_DESTINATIONS
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.ipvs_table import family
from lvs_dr.core.kernel import (
    AddressConfig,
    AddressKey,
    DestinationKey,
    RouteKey,
    ServiceKey,
)
from lvs_dr.core.ledger import Ledger, ledger_for
from lvs_dr.core.node import DirectorRole, LVSNodeSpec
from lvs_dr.core.objects import OnFailure, Protocol
from lvs_dr.core.plan import Plan, plan
from lvs_dr.core.scope import IPVS
from lvs_dr.core.table import DirectorTableSpec, TableDestination, TableHealthCheck, TablePort, TcpCheck
from tests.contract.fake_kernel import FakeKernel
from tests.contract.table_cases import RIPS, VIPS, tables, wishes

__all__ = ["RIPS", "VIPS"]

CHECK = TableHealthCheck(TcpCheck(), 2, 1, 2, 3)
EMPTY = LVSNodeSpec(decided=True)


def table(
    vip: str = VIPS[0],
    *,
    ports: Sequence[int] = (8443,),
    rips: Mapping[str, int] | Sequence[str] = RIPS[4][:2],
    scheduler: str = "rr",
    check: TableHealthCheck | None = None,
    on_failure: OnFailure = OnFailure.REMOVE,
    paused: bool = False,
) -> DirectorTableSpec:
    """Return a table; `rips` with weights or without."""
    weights = rips if isinstance(rips, Mapping) else dict.fromkeys(rips, 100)
    entries = tuple(TableDestination(f"rs-{rip}", rip, weight) for rip, weight in sorted(weights.items()))
    return DirectorTableSpec(
        director_group="default",
        service_generation=1,
        address=vip,
        ports=tuple(TablePort(port, Protocol.TCP) for port in ports),
        scheduler=scheduler,
        on_failure=on_failure,
        destinations=entries,
        health_check=check,
        paused=paused,
    )


def director(*, backend: Sequence[str] = (), paused: bool = False, decided: bool = True) -> LVSNodeSpec:
    """Return the spec of a director that may be a backend too."""
    return LVSNodeSpec(
        decided=decided, director=DirectorRole("default"), backend_addresses=tuple(backend), paused=paused
    )


def service(vip: str = VIPS[0], port: int = 8443) -> ServiceKey:
    """Return the key of a TCP service."""
    return ServiceKey(vip, port, 6, 0, family(vip))


def destination(rip: str, vip: str = VIPS[0], port: int = 8443) -> DestinationKey:
    """Return the key of a destination."""
    return DestinationKey(service(vip, port), rip, port)


class Node:
    """One node: a kernel, the ledger file, and an agent that plans and applies when told."""

    def __init__(self, kernel: FakeKernel | None = None) -> None:
        self.kernel = kernel or FakeKernel()
        self.ledger = Ledger(self.kernel.boot)
        self.now = 0.0

    def plan(self, wanted: Desired) -> Plan:
        """Return what the next pass would do."""
        self.ledger = ledger_for(self.kernel.boot_id(), self.ledger)
        return plan(wanted, self.kernel.read(frozenset(VIPS), IPVS), self.ledger, now=self.now)

    def follow(
        self,
        spec: LVSNodeSpec = EMPTY,
        tables: Mapping[str, DirectorTableSpec] | None = None,
        health: Mapping[CheckKey, Health] | None = None,
        *,
        held: Sequence[str] = (),
        reserved: Mapping[str, str] | None = None,
        crash_after: int | None = None,
    ) -> Plan:
        """Do one pass; `crash_after` stops after so many operations."""
        wanted = desired(spec, tables or {}, health or {}, self.ledger, held=frozenset(held), reserved=reserved or {})
        return self.apply(wanted, crash_after=crash_after)

    def apply(self, wanted: Desired, *, crash_after: int | None = None) -> Plan:
        """Carry out what is planned."""
        made = self.plan(wanted)
        self.ledger = made.ledger
        self.kernel.apply(made.ops if crash_after is None else made.ops[:crash_after])
        return made


@st.composite
def wanted_states(draw: st.DrawFn) -> Desired:
    """Return anything that may be desired, but for checks that are outstanding."""
    ipvs = draw(wishes())
    backend = draw(st.lists(st.sampled_from(VIPS), unique=True))
    return replace(
        ipvs,
        uncertain=NO_DESTINATIONS,
        awaited=NO_DESTINATIONS,
        addresses={AddressKey("lo", address): loopback_config(address) for address in backend},
        routes=frozenset(RouteKey(address) for address in backend),
        sysctls={rule.key: rule for rule in ARP_RULES} if any(":" not in address for address in backend) else {},
    )


@st.composite
def kernels(draw: st.DrawFn) -> FakeKernel:
    """Return a kernel on which others have been at work already."""
    kernel = FakeKernel()
    kernel.services, kernel.destinations = draw(tables(most=3))
    for address in draw(st.lists(st.sampled_from(VIPS), unique=True)):
        kernel.addresses[AddressKey("lo", address)] = AddressConfig(
            draw(st.sampled_from((0, 254))), deprecated=":" in address and draw(st.booleans())
        )
    kernel.routes = set(draw(st.lists(st.sampled_from([RouteKey(vip) for vip in VIPS]), unique=True)))
    for key in ARP_KEYS:
        kernel.sysctls[key] = draw(st.sampled_from(("0", "1", "2")))
    return kernel
