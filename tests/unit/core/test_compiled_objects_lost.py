"""DirectorTables and LVSNodes deleted by mistake are made anew, and no director lets go of a real server meanwhile."""

import random
from itertools import product

import pytest
from msgspec.structs import replace

from lvs_dr.core.indexing import Kind
from lvs_dr.core.objects import Key, Override
from tests.unit.core.machines import METHODS, Machine
from tests.unit.core.worlds import Objects, node, real_server, service

VIP = "192.0.2.100"
WEB = Key("shop", "web")
ADDRESSES = {"d1": "192.0.2.1", "d2": "192.0.2.2", "s1": "192.0.2.11", "s2": "192.0.2.12"}


class Site:
    """Two directors and two real servers that serve one VIP."""

    def __init__(self, seed: int) -> None:
        self.objects = Objects()
        forwarding, tunnel = METHODS[seed % len(METHODS)]
        other, others_tunnel = METHODS[seed // len(METHODS) % len(METHODS)]
        s1 = Override("s1", forwarding=other, tunnel=others_tunnel)
        self.machines: dict[str, Machine] = {}
        for name, address in ADDRESSES.items():
            self.machines[name] = Machine(name, address, self.machines)
        for name, address in ADDRESSES.items():
            self.objects.put(node(name, address, director=name.startswith("d"), uid=f"node-{name}"))
        web = service("web", address=VIP, forwarding=forwarding, tunnel=tunnel, overrides=(s1,) if seed % 2 else ())
        self.objects.put(web, real_server("s1"), real_server("s2"))
        self.rest()

    def rest(self) -> None:
        """Let everybody work until nothing changes."""
        for _ in range(30):
            self.objects.settle()
            for machine in self.machines.values():
                machine.turn(self.objects)
        self.objects.settle()

    def lose(self, *, tables: bool, nodes: bool, owner: bool) -> None:
        """Delete compiled objects; with `owner` the VirtualService was deleted with them and is applied again."""
        objects = self.objects
        if owner:
            given = objects.world.virtual_services[WEB]
            objects.put(replace(given, meta=replace(given.meta, uid=objects.uid())))
        if tables:
            objects.change(Kind.DIRECTOR_TABLE, WEB, None)
        for name in ADDRESSES if nodes else ():
            objects.remove(Kind.LVS_NODE, name)
        objects.everything()

    def step(self, dice: random.Random) -> None:
        """Let the controller or one agent do one thing."""
        objects, machine = self.objects, dice.choice(list(self.machines.values()))
        match dice.randrange(7):
            case 0 if objects.services:
                objects.compile_service(objects.services.pop())
            case 1 if objects.nodes:
                objects.compile_lvs_node(objects.nodes.pop())
            case 2:
                machine.read_node(objects)
            case 3:
                machine.read_tables(objects)
            case 4:
                machine.apply()
            case 5:
                machine.look()
            case _:
                machine.report(objects)

    def served(self) -> set[tuple[str, str]]:
        """Return (director, real server) of what the directors' kernels send to, and check that it arrives."""
        found = set()
        for name, machine in self.machines.items():
            for entry, vip, _ in machine.sends_to():
                assert self.machines[entry.node].takes(entry, vip), f"{name} sends {vip} to {entry.node} in vain"
                found.add((name, entry.node))
        return found


ALL = set(product(("d1", "d2"), ("s1", "s2")))


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize(
    ("tables", "nodes", "owner"), [(True, True, False), (True, False, False), (False, True, False), (True, False, True)]
)
def test_nothing_that_serves_is_withdrawn(tables: bool, nodes: bool, owner: bool, seed: int) -> None:  # noqa: FBT001
    """Whatever the order in which controller and agents find out, every director goes on sending to every server."""
    site = Site(seed)
    assert site.served() == ALL
    holder = {name for name, machine in site.machines.items() if machine.held}
    site.lose(tables=tables, nodes=nodes, owner=owner)
    dice = random.Random(seed)
    for _ in range(200):
        site.step(dice)
        assert site.served() == ALL
        assert {name for name, each in site.machines.items() if each.held} == holder
    site.rest()
    assert site.served() == ALL
    table = site.objects.world.tables[WEB]
    assert [each.real_server for each in table.spec.destinations] == ["s1", "s2"]
    assert table.spec.pending == ()
