"""The order between nodes under any delay: the controller compiles, agents read, act and report when they like."""

import random
from collections.abc import Callable
from itertools import chain

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from lvs_dr.core.decisions import Member
from lvs_dr.core.director_group import VrrpSettings
from lvs_dr.core.forwarding import carries, exclude, tunnel_end
from lvs_dr.core.indexing import IMPLICIT_GROUP, Kind
from lvs_dr.core.node import BackendTunnel
from lvs_dr.core.objects import Key, Override, Port, VirtualService
from lvs_dr.core.resolve import entered
from lvs_dr.core.table import TableDestination
from lvs_dr.core.virtual_routers import Place
from lvs_dr.core.world import TableRecord
from tests.unit.core.machines import METHODS, Machine
from tests.unit.core.worlds import Objects, group, node, real_server, service

NODES = ("n1", "n2", "n3", "n4")
ADDRESSES = {name: f"192.0.2.{at}" for at, name in enumerate(NODES, 1)}
VIPS = ("192.0.2.100", "192.0.2.101")
SERVICES = ("a", "b")
GROUPS = ("default", "other")


class Simulation:
    """A cluster in which every step may come at any time."""

    def __init__(self) -> None:
        self.objects = Objects(group("other"))
        self.machines: dict[str, Machine] = {}
        self.excused: set[tuple[str, str]] = set()
        self.trace: list[str] = []
        for name in NODES:
            self.add_node(name, director=name in ("n1", "n2"))
        for number in (0, 5):  # on one VIP each, for different groups at first
            self.put_service(number + 8)
        for number in (6, 7, 4):
            self.toggle_real_server(number)
        self.rest()

    # What people and machines do. Each takes a number to choose by.

    def add_node(self, name: str, *, director: bool) -> None:
        """Let a node join."""
        self.objects.put(node(name, ADDRESSES[name], director=director, uid=self.objects.uid()))
        self.machines[name] = Machine(name, ADDRESSES[name], self.machines)

    def toggle_node(self, number: int) -> None:
        """Delete a Node, whose machine is off with it; or let it come back."""
        name = NODES[number % len(NODES)]
        if name not in self.objects.world.nodes:
            self.collect_garbage(0)  # garbage collection takes less time than a machine to come back
            self.add_node(name, director=number % 3 == 0)
            # What is sent to a machine that was switched off, and came back, is nobody's fault.
            self.excused |= {(name, record.uid) for record in self._records() if _sends(record, name)}
            return
        del self.machines[name]
        self.objects.remove(Kind.NODE, name)
        self.objects.silence(name, silent=False)

    def toggle_director(self, number: int) -> None:
        """Change which group a Node directs for."""
        name = NODES[number % len(NODES)]
        known = self.objects.world.nodes.get(name)
        if known is None or not self._reported(name):
            return
        choices: tuple[dict[str, str], ...] = ({}, {"lvs-operator.io/director": ""}, {"group": "other"})
        labels = {"kubernetes.io/os": "linux"} | choices[number // 4 % 3]
        self.objects.put(replace(known, meta=replace(known.meta, labels=tuple(sorted(labels.items())))))

    def toggle_agent(self, number: int) -> None:
        """Kill an agent (the kernel stays as it is), or start it."""
        machine = self.machines.get(NODES[number % len(NODES)])
        if machine is not None and (self._reported(machine.name) or not machine.alive):
            machine.alive = not machine.alive
            self.objects.silence(machine.name, silent=not machine.alive)

    def _reported(self, name: str) -> bool:
        """Tell whether the LVSNode is as it should be: a second mistake before it is healed is left to the probe."""
        record = self.objects.world.lvs_nodes.get(name)
        return record is not None and record.status is not None

    def lose_lvs_node(self, number: int) -> None:
        """Delete an LVSNode by mistake, while its agent is alive and nothing is being released."""
        name = NODES[number % len(NODES)]
        record, machine = self.objects.world.lvs_nodes.get(name), self.machines.get(name)
        if record is not None and machine is not None and machine.alive and record.spec.releasing is None:
            holding = machine.held - set(record.spec.director.addresses if record.spec.director else ())
            told = record.spec.director.group if record.spec.director else ""
            directs = next(
                (group for group, them in self.objects.world.index.nodes_by_group.items() if name in them), ""
            )
            if not holding and told == directs and (told or not machine.programmed):
                self.objects.remove(Kind.LVS_NODE, name)
                self.objects.nodes.add(name)

    def edit_group(self, number: int) -> None:
        """Give a group other virtual routers: its VIPs move, or stay where they are if they can."""
        name = GROUPS[number % 2]
        selector = group(name).node_selector if name == "other" else IMPLICIT_GROUP.node_selector
        vrrp = VrrpSettings(first_virtual_router_id=(51, 52, 61)[number // 2 % 3], instances=1 + number // 6 % 3)
        self.objects.put(group(name, node_selector=selector, vrrp=vrrp))

    def change_rank(self, number: int) -> None:
        """Give a Node another priority, or none; cordon it, or not."""
        name = NODES[number % len(NODES)]
        known = self.objects.world.nodes.get(name)
        if known is not None:
            self.objects.put(replace(known, vrrp_priority=(0, 7, 254)[number // 4 % 3], standby=number // 12 % 2 == 1))

    def put_service(self, number: int) -> None:
        """Create or change a VirtualService."""
        name = SERVICES[number % 2]
        before = self.objects.world.virtual_services.get(Key("shop", name))
        changed = service(
            name,
            address=VIPS[number // 2 % 2],
            ports=(Port(80 if name == "a" or number // 32 % 4 == 0 else 443),),
            director_group=GROUPS[number // 4 % 2],
            selector=replace(service().selector, match_labels=(("pool", "web"),) if number // 8 % 4 else ()),
        )
        uid, generation = (before.meta.uid, before.meta.generation + 1) if before else (self.objects.uid(), 1)
        self.objects.put(replace(changed, meta=replace(changed.meta, uid=uid, generation=generation)))

    def change_method(self, number: int) -> None:
        """Change how the directors of a VirtualService reach all its real servers, or one of them."""
        before = self.objects.world.virtual_services.get(Key("shop", SERVICES[number % 2]))
        if not isinstance(before, VirtualService):
            return
        forwarding, tunnel = METHODS[number // 2 % len(METHODS)]
        one = NODES[number // 16 % len(NODES)]
        if number // 64 % 3:
            others = tuple(each for each in before.overrides if each.real_server != one)
            kept = (*others, Override(one, forwarding=forwarding, tunnel=tunnel)) if number // 192 % 3 else others
            changed = replace(before, overrides=tuple(sorted(kept, key=lambda each: each.real_server)))
        else:
            changed = replace(before, forwarding=forwarding, tunnel=tunnel)
        self.objects.put(replace(changed, meta=replace(changed.meta, generation=before.meta.generation + 1)))

    def remove_service(self, number: int) -> None:
        """Delete a VirtualService."""
        self.objects.remove(Kind.VIRTUAL_SERVICE, SERVICES[number % 2], "shop")

    def toggle_real_server(self, number: int) -> None:
        """Create or delete a RealServer."""
        name = NODES[number % len(NODES)]
        if Key("shop", name) in self.objects.world.real_servers:
            self.objects.remove(Kind.REAL_SERVER, name, "shop")
        else:
            self.objects.put(real_server(name, meta_={"labels": {"pool": "web" if number // 4 % 2 else "old"}}))

    def collect_garbage(self, _: int) -> None:
        """Delete what has no owner, as Kubernetes does on its own time."""
        world = self.objects.world
        for key, record in list(world.tables.items()):
            owner = world.virtual_services.get(record.owner)
            if owner is None or owner.meta.uid != record.owner_uid:
                self.objects.change(Kind.DIRECTOR_TABLE, key, None)
        for name, lvs_node in list(world.lvs_nodes.items()):
            owner_node = world.nodes.get(name)
            if owner_node is None or owner_node.meta.uid != lvs_node.owner_uid:
                self.objects.remove(Kind.LVS_NODE, name)
                self.objects.nodes.add(name)

    def give_up(self, number: int) -> None:
        """Let the time be over for which VirtualServices keep a VIP for the one that is to follow."""
        for key in SERVICES[number % 2 :]:
            decision = self.objects.decisions.get(Key("shop", key))
            present = self.objects.world.tables.get(decision.table) if decision is not None else None
            if decision is not None and decision.former is not None and present is not None:
                self.objects.overdue.add(present.uid)
                self.objects.services.add(decision.key)

    def compile_one(self, number: int) -> None:
        """Let the controller do one thing of what is dirty."""
        objects = self.objects
        queue: list[tuple[Callable[[], object], Callable[[], object]]] = [
            (lambda key=key: objects.services.discard(key), lambda key=key: objects.compile_service(key))  # type: ignore[misc]
            for key in sorted(objects.services)
        ]
        queue += [
            (lambda name=name: objects.nodes.discard(name), lambda name=name: objects.compile_lvs_node(name))  # type: ignore[misc]
            for name in sorted(objects.nodes)
        ]
        if queue:
            done, work = queue[number % len(queue)]
            done()
            work()

    def agent_step(self, number: int) -> None:
        """Let one agent do one thing; or let a director look at who is Active, which needs no agent."""
        machine = self.machines.get(NODES[number % len(NODES)])
        if machine is not None and number // 4 % 7 == 6:
            machine.elect()
        if machine is None or not machine.alive:
            return
        match number // 4 % 7:
            case 0:
                machine.read_node(self.objects)
            case 1:
                machine.read_tables(self.objects)
            case 2:
                machine.apply()
            case 3:
                machine.look()
            case 4:
                machine.report(self.objects)
            case 5:
                machine.turn(self.objects)
            case _:
                pass

    STEPS: tuple[tuple[int, Callable[["Simulation", int], None]], ...] = (
        (1, toggle_node),
        (1, toggle_director),
        (1, toggle_agent),
        (1, lose_lvs_node),
        (2, edit_group),
        (2, change_rank),
        (3, put_service),
        (8, change_method),
        (1, remove_service),
        (4, toggle_real_server),
        (2, collect_garbage),
        (1, give_up),
        (56, compile_one),
        (90, agent_step),
    )

    # What must hold

    def step(self, chosen: Callable[["Simulation", int], None], number: int) -> None:
        """Take a step and look."""
        self.trace.append(f"{chosen.__name__}({number})")
        chosen(self, number)
        self.check()

    def check(self) -> None:
        """Nothing is routed back to a director, and nobody else answers for a VIP."""
        if self.excused:
            known = self._records()
            names = {name for name, _ in self.excused}
            self.excused &= {(name, each.uid) for each in known for name in names if _sends(each, name, self)}
        for machine in self.machines.values():
            for entry, vip, uid in machine.sends_to():
                name = entry.node
                if name in self.machines and (name, uid) not in self.excused:
                    text = f"{machine.name} sends {vip} to {name} by {entry.forwarding} {entry.tunnel or ''}"
                    assert self.takes(entry, vip), f"{text}, which it does not take"
        for vip in VIPS:
            holders = {name: machine.told[vip] for name, machine in self.machines.items() if vip in machine.held}
            assert len(set(holders.values())) <= 1, f"{vip} is held by {holders}, who do not agree by VRRP"

    def _records(self) -> list[TableRecord]:
        """Return every version of a table that anybody knows."""
        known = [*self.objects.world.tables.values()]
        for machine in self.machines.values():
            known += [*machine.programmed.values(), *machine.tables.values()]
        return known

    def takes(self, entry: TableDestination, vip: str) -> bool:
        """Tell whether the destination's node takes what is sent to it: else it routes it back, or drops it."""
        machine = self.machines.get(entry.node)
        return machine is not None and machine.takes(entry, vip)

    def rest(self) -> None:
        """Let everybody live and work until nothing changes any more, for as long as a VIP is kept for the next."""
        self._come_to_rest()
        for decision in self.objects.decisions.values():
            if decision.former is not None and decision.key in self.objects.world.virtual_services:
                spec = self.objects.world.tables[decision.table].spec
                assert not self._directs(spec.director_group), decision.former.handover
        self.give_up(0)
        self._come_to_rest()

    def _come_to_rest(self) -> None:
        for machine in self.machines.values():
            if not machine.alive:
                machine.alive = True
                self.objects.silence(machine.name, silent=False)
        for _ in range(40):
            before = self._state()
            self.collect_garbage(0)
            while self.objects.services or self.objects.nodes:
                self.compile_one(0)
                self.check()
            for machine in self.machines.values():
                for _ in range(2):
                    machine.turn(self.objects)
                    self.check()
            if self._state() == before:
                return
        raise AssertionError("no rest")

    def _state(self) -> object:
        world = self.objects.world
        kernels = {
            name: (each.lo, each.tunnels, each.held, dict(each.programmed)) for name, each in self.machines.items()
        }
        return dict(world.tables), dict(world.lvs_nodes), kernels

    def check_converged(self) -> None:
        """What was compiled for changes only is what a full compile gives; services that can be served are."""
        before = self._state()
        self.objects.everything()
        self.objects.settle()
        assert self._state() == before, "a full compile finds more to do: a change was not followed"
        for key, decision in self.objects.decisions.items():
            if key not in self.objects.world.virtual_services or not decision.accepted.ok:
                continue
            assert decision.former is None, f"the VIP before stays although all is at rest: {decision.former.handover}"
            spec = self.objects.world.tables[decision.table].spec
            waiting = [each for each in decision.members if each.verdict.ok and not entered(each)]
            if self._directs(spec.director_group):
                assert not [each for each in waiting if not self._is_taken(key, each)], waiting
            sent = {each.real_server: (each.forwarding, each.tunnel) for each in spec.destinations}
            for each in filter(entered, decision.members):
                assert sent[each.real_server.name] == (each.forwarding, each.tunnel)
            holders = [name for name, machine in self.machines.items() if spec.address in machine.held]
            directing = self.objects.world.index.nodes_by_group.get(spec.director_group, set())
            assert len(holders) == (1 if directing else 0), (spec.address, holders)
            told = {
                name: machine.told[spec.address]
                for name, machine in self.machines.items()
                if spec.address in machine.told
            }
            place = Place(spec.director_group, spec.virtual_router_id)
            assert told == dict.fromkeys(directing, place), "every director takes part"

    def check_lean(self) -> None:
        """Nodes carry what is sent to them and no more: masquerading leaves no VIP on lo."""
        needed: set[tuple[str, str]] = set()
        for key, decision in self.objects.decisions.items():
            if key in self.objects.world.virtual_services and decision.table in self.objects.world.tables:
                spec = self.objects.world.tables[decision.table].spec
                needed |= {(each.node, spec.address) for each in spec.destinations if carries(each.forwarding)}
                ready = (each for each in decision.members if each.verdict.ok and carries(each.forwarding))
                needed |= {(each.node, spec.address) for each in ready}
        for name, machine in self.machines.items():
            assert {(name, vip) for vip in machine.lo} <= needed, f"{name} carries {machine.lo}"

    def _is_taken(self, service: Key, member: Member) -> bool:
        """Tell whether another service has a tunnel to the node that excludes this one."""
        end = BackendTunnel(address=ADDRESSES[member.node], tunnel=member.tunnel) if member.tunnel else None
        others = (table.spec.destinations for table in self.objects.world.tables.values() if table.owner != service)
        return any(exclude(end, tunnel_end(each)) for each in chain(*others))

    def _directs(self, name: str) -> bool:
        return bool(self.objects.world.index.nodes_by_group.get(name))

    def check_clean(self) -> None:
        """When all is deleted, nothing of ours is left on any node."""
        for name in SERVICES:
            self.objects.remove(Kind.VIRTUAL_SERVICE, name, "shop")
        self.rest()
        for machine in self.machines.values():
            assert not machine.lo, f"{machine.name} still carries {machine.lo}"
            assert not machine.tunnels, f"{machine.name} still has {machine.tunnels}"
            assert not machine.held, f"{machine.name} still holds {machine.held}"
            assert not machine.programmed, f"{machine.name} still has {list(machine.programmed)}"
        for record in self.objects.world.lvs_nodes.values():
            assert record.spec.releasing is None, record


def _sends(record: TableRecord, name: str, simulation: Simulation | None = None) -> bool:
    """Tell whether the table sends, or may go on sending, to the node; with a simulation: which does not take it."""
    entries = [each for each in (*record.spec.destinations, *record.spec.pending) if each.node == name]
    return any(simulation is None or not simulation.takes(each, record.spec.address) for each in entries)


def run(steps: list[tuple[int, int]]) -> None:
    """Run the steps (an index into the weighted STEPS, a number) and then let everything come to rest."""
    weighted = [step for weight, step in Simulation.STEPS for _ in range(weight)]
    simulation = Simulation()
    try:
        for chosen, number in steps:
            simulation.step(weighted[chosen % len(weighted)], number)
        simulation.rest()
        simulation.check_converged()
        simulation.check_lean()
        simulation.check_clean()
    except AssertionError as error:
        error.add_note("\n".join(simulation.trace))
        raise


@pytest.mark.parametrize("seed", range(80))
def test_long_random_walks_never_loop_a_packet_and_never_announce_twice(seed: int) -> None:
    """Else packets circle between nodes until their TTL ends, or two directors answer for one VIP."""
    dice = random.Random(seed)
    run([(dice.randrange(10_000), dice.randrange(10_000)) for _ in range(400)])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(st.tuples(st.integers(0, 172), st.integers(0, 575)), max_size=120))
def test_any_order_of_steps_is_safe_and_comes_to_rest(steps: list[tuple[int, int]]) -> None:
    """The same, by steps that hypothesis chooses and shrinks."""
    run(steps)


@pytest.mark.parametrize("listed", [False, True])
def test_a_table_that_came_and_went_between_two_reports_is_noticed(listed: bool) -> None:  # noqa: FBT001
    """A director may have programmed it and not told: a backend in it keeps the VIP until the director has spoken."""
    simulation = Simulation()
    objects, director = simulation.objects, simulation.machines["n1"]
    simulation.remove_service(1)
    simulation.put_service(8)  # "a" selects pool web on the first VIP
    for name in ("n3", "n4"):
        objects.put(real_server(name))
    simulation.rest()
    objects.put(real_server("n3", meta_={"labels": {"pool": "other"}}))
    objects.compile_service(Key("shop", "a"))
    director.turn(objects)
    simulation.machines["n2"].turn(objects)
    # Before n3 is told to drop the VIP, another service of that VIP takes it in, and is gone again.
    selector = replace(service().selector, match_labels=(("pool", "other"),))
    objects.put(service("b", ports=(Port(443),), selector=selector))
    objects.compile_service(Key("shop", "b"))
    if listed:
        objects.compile_lvs_node("n1")
        objects.compile_lvs_node("n2")
    objects.compile_service(Key("shop", "b"))
    entered = bool(objects.world.tables[Key("shop", "b")].spec.destinations)
    assert entered is listed, "a node's destination enters once the directors' LVSNodes name the table"
    director.read_tables(objects)
    director.apply()
    objects.remove(Kind.VIRTUAL_SERVICE, "b", "shop")
    for _ in range(2):
        for key in sorted(objects.services):
            objects.compile_service(key)
        for name in NODES:
            objects.compile_lvs_node(name)
            simulation.machines["n3"].turn(objects)
            simulation.check()
    simulation.rest()
    assert objects.world.lvs_nodes["n3"].spec.backend_addresses == ()
