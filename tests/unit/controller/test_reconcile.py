"""Passes of the compiler: one bad object harms only itself, and nothing is taken away by mistake."""

from typing import Any

import pytest

from lvs_dr.controller import watched
from lvs_dr.controller.errors import KindsMissing, Unreachable
from lvs_dr.controller.guard import DEFINITIONS, HOLD_SECONDS, Guard
from lvs_dr.controller.intake import Intake
from lvs_dr.controller.metrics import METRICS
from lvs_dr.controller.pending import Pending
from lvs_dr.controller.reconcile import Reconciler
from lvs_dr.controller.silence import Silence
from lvs_dr.controller.store import Store
from lvs_dr.controller.takeovers import Takeovers
from lvs_dr.controller.watched import Watched
from lvs_dr.controller.writer import Writer
from lvs_dr.core.objects import Key
from lvs_dr.process.metrics import Metrics
from tests.unit.controller.bodies import Clock, FakeApi, metadata, node, real_server, virtual_service
from tests.unit.controller.test_guard import definitions

WEB, SHOP = Key("shop", "web"), Key("shop", "shop")
BACKEND, DIRECTOR = Key("", "one"), Key("", "director")


class Bench:
    """All the parts that make a pass, on a fake API server, with one director and one backend."""

    def __init__(self) -> None:
        self.api, self.clock, self.store, metrics = FakeApi(), Clock(), Store(), Metrics(METRICS)
        definitions(self.api)
        self.pending = Pending(self.clock, jitter=lambda: 0.5)
        self.silence = Silence(self.clock)
        takeovers = Takeovers(self.silence, self.clock)
        self.intake = Intake(
            store=self.store, pending=self.pending, silence=self.silence, takeovers=takeovers, metrics=metrics
        )
        writer = Writer(self.api, self.store, lambda: True, self.intake.changed, metrics)
        self.guard = Guard(self.api, self.clock)
        self.relisted: list[Watched] = []
        self.reconciler = Reconciler(
            store=self.store,
            pending=self.pending,
            writer=writer,
            guard=self.guard,
            metrics=metrics,
            relist=self.relisted.append,
        )

    async def start(self) -> "Bench":
        """Read everything once and bring the example up."""
        await self.guard.learn()
        director = node("director", "192.0.2.5")
        director["metadata"]["labels"]["lvs-operator.io/director"] = ""
        for kind, body in (
            (watched.NODE, director),
            (watched.NODE, node("one", "192.0.2.1")),
            (watched.REAL_SERVER, real_server("one")),
            (watched.VIRTUAL_SERVICE, virtual_service()),
        ):
            await self.user(kind, body)
        for kind in watched.WATCHED:
            self.store.listed.add(kind.kind)
        self.reconciler.mark_everything()
        for _ in range(8):
            await self.settle()
            await self.agents()
        await self.settle()
        return self

    async def user(self, kind: Watched, body: dict[str, Any]) -> None:
        """Create or change an object."""
        path = kind.path(Key(body["metadata"].get("namespace", ""), body["metadata"]["name"]))
        self.api.hold(path, body)
        await self.intake.event(kind, "MODIFIED", body)

    async def gone(self, kind: Watched, key: Key) -> None:
        """Delete an object."""
        body = self.api.objects.pop(kind.path(key))
        body["metadata"]["resourceVersion"] = str(next(self.api._versions))
        await self.intake.event(kind, "DELETED", body)

    async def settle(self) -> None:
        """Run passes until nothing is due."""
        for _ in range(50):
            self.clock.advance(0.2)
            if self.pending.due_in() is None or self.pending.due_in():
                return
            await self.reconciler.run_pass(self.pending.take())

    async def agents(self) -> None:
        """Let the agents report what they are told."""
        for key in (BACKEND, DIRECTOR):
            path = watched.LVS_NODE.path(key)
            found = self.api.objects.get(path)
            if found is None:
                continue
            spec, tables = (
                found["spec"],
                [
                    {
                        "table": f"{record.key.namespace}/{record.key.name}",
                        "generation": record.generation,
                        "uid": record.uid,
                    }
                    for record in self.store.world.tables.values()
                ],
            )
            routers = spec.get("director", {}).get("vrrp", {}).get("routers", [])
            status = {
                "observedGeneration": found["metadata"]["generation"],
                "interfaces": [{"name": "eth0", "addresses": [f"192.0.2.{5 if key == DIRECTOR else 1}/24"]}],
                "directorInterface": "eth0",
                "heldAddresses": [each for router in routers for each in router["addresses"]],
                "virtualRouters": [
                    {"id": each["id"], "family": 4, "state": "Active", "priority": each["priority"]} for each in routers
                ],
                "loopbackAddresses": spec.get("backendAddresses", []),
                "tables": tables if key == DIRECTOR else [],
            }
            body = found | {"status": status}
            body["metadata"] = found["metadata"] | {"resourceVersion": str(next(self.api._versions))}
            self.api.hold(path, body)
            await self.intake.event(watched.LVS_NODE, "MODIFIED", body)

    def told(self) -> tuple[Any, Any]:
        """Return the VIPs that the director holds and the backend carries."""
        nodes = self.store.world.lvs_nodes
        role = nodes["director"].spec.director
        return (role.addresses if role else ()), nodes["one"].spec.backend_addresses


SERVING = (("192.0.2.10",), ("192.0.2.10",))


async def test_example_comes_up() -> None:
    """The bench itself reaches what the other tests start from."""
    bench = await Bench().start()
    assert bench.told() == SERVING
    assert [each.real_server for each in bench.store.world.tables[WEB].spec.destinations] == ["one"]
    assert not bench.pending.failures


async def test_failing_write_harms_only_itself() -> None:
    """One namespace whose writes are refused does not stop another, and is tried again until it works."""
    bench = await Bench().start()
    path = watched.DIRECTOR_TABLE.path(SHOP)
    bench.api.failures["PATCH", path] = Unreachable("no answer")
    await bench.user(watched.VIRTUAL_SERVICE, virtual_service("shop", "192.0.2.20"))
    await bench.user(watched.VIRTUAL_SERVICE, virtual_service("other", "192.0.2.30"))
    await bench.settle()
    assert Key("shop", "other") in bench.store.world.tables
    assert [item.key for item in bench.pending.failures] == [SHOP]
    bench.clock.advance(40)
    assert "shop/shop" in bench.reconciler.problem(bench.clock.now)
    del bench.api.failures["PATCH", path]
    bench.clock.advance(60)
    await bench.settle()
    assert SHOP in bench.store.world.tables
    assert bench.reconciler.problem(bench.clock.now) == ""


async def test_table_that_cannot_be_written_again_takes_no_vip() -> None:
    """A table deleted by mistake, and an API server that refuses the new one: the nodes keep what they have."""
    bench = await Bench().start()
    bench.api.failures["PATCH", watched.DIRECTOR_TABLE.path(WEB)] = Unreachable("no answer")
    await bench.gone(watched.DIRECTOR_TABLE, WEB)
    await bench.settle()
    assert bench.told() == SERVING
    bench.api.failures.clear()
    bench.clock.advance(60)
    await bench.settle()
    assert WEB in bench.store.world.tables
    assert bench.told() == SERVING


async def test_vanishing_kind_ends_the_process_before_anything_is_taken_away() -> None:
    """The DELETED events that come with a deleted definition are not acted upon."""
    bench = await Bench().start()
    bench.api.objects[f"{DEFINITIONS}/{watched.VIRTUAL_SERVICE.crd}"]["metadata"]["deletionTimestamp"] = "now"
    await bench.gone(watched.VIRTUAL_SERVICE, WEB)
    with pytest.raises(KindsMissing):
        await bench.settle()
    assert bench.told() == SERVING
    assert watched.DIRECTOR_TABLE.path(WEB) in bench.api.objects


async def test_held_removals_are_carried_out_afterwards() -> None:
    """While removals are held a deleted service stays; when the hold is over it goes."""
    bench = await Bench().start()
    bench.guard.compare("virtualservices=earlier")
    await bench.gone(watched.VIRTUAL_SERVICE, WEB)
    await bench.settle()
    assert bench.told() == SERVING
    bench.clock.advance(HOLD_SECONDS + 60)
    for _ in range(4):
        await bench.settle()
        await bench.agents()
    await bench.settle()
    assert bench.told() == ((), ())
    assert WEB not in bench.store.world.tables


async def test_ghost_of_a_missed_deletion_is_looked_for() -> None:
    """A table whose owner turns out to be gone asks for a LIST, which finds the deletion that no event told."""
    bench = await Bench().start()
    await bench.intake.event(watched.VIRTUAL_SERVICE, "ADDED", virtual_service("ghost", "192.0.2.40"))
    await bench.settle()
    assert watched.VIRTUAL_SERVICE in bench.relisted
    assert Key("shop", "ghost") not in bench.store.world.tables


async def test_orphans_are_swept() -> None:
    """An LVSNode and a table without a live owner are deleted."""
    bench = await Bench().start()
    orphan = {
        "metadata": metadata("left", namespace="shop", ownerReferences=[{"kind": "VirtualService", "uid": "gone"}]),
        "spec": bench.api.objects[watched.DIRECTOR_TABLE.path(WEB)]["spec"],
    }
    await bench.user(watched.DIRECTOR_TABLE, orphan)
    await bench.gone(watched.NODE, BACKEND)
    await bench.reconciler.sweep()
    assert watched.DIRECTOR_TABLE.path(Key("shop", "left")) not in bench.api.objects
    assert watched.LVS_NODE.path(BACKEND) not in bench.api.objects
    assert watched.DIRECTOR_TABLE.path(WEB) in bench.api.objects
