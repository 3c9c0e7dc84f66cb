"""Clusters that serve already: one or two directors, real servers, everything reported."""

from typing import Any

from msgspec.structs import replace

from lvs_dr.core.addresses import version
from lvs_dr.core.drain_report import DrainReport
from lvs_dr.core.node import DirectorRole, table_key
from lvs_dr.core.node_status import SocketReport, TableException, TableReport, VirtualRouterReport
from lvs_dr.core.status import VirtualServiceStatus
from lvs_dr.core.summary import virtual_service_status
from tests.unit.core.worlds import NOW, Objects, node, real_server, service, status

D1, D2, S1, S2 = "d1", "d2", "s1", "s2"
ADDRESSES = {D1: "192.0.2.1", D2: "192.0.2.2", S1: "192.0.2.11", S2: "192.0.2.12"}


def nodes(*directors: str) -> Objects:
    """Return a cluster of four nodes whose agents have reported, nothing to serve yet."""
    objects = Objects(*(node(name, address, director=name in directors) for name, address in ADDRESSES.items()))
    objects.everything()
    objects.settle()
    for name, address in ADDRESSES.items():
        objects.report(name, status(address, director_interface="eth0" if name in directors else ""))
    objects.settle()
    return objects


def serving(*given: Any, directors: tuple[str, ...] = (D1, D2)) -> Objects:
    """Return a cluster that serves `web` on two real servers (or what is given)."""
    objects = nodes(*directors)
    objects.put(*(given or (service(), real_server(S1), real_server(S2))))
    converge(objects)
    return objects


def agent(objects: Objects, name: str, **exceptions: tuple[TableException, ...]) -> None:
    """Let the agent of a node do what it is told, and report; exceptions by table name.

    It is Active where no other live director of its group reports to be.
    """
    record = objects.world.lvs_nodes[name]
    if record.status is None:
        objects.report(name, status(ADDRESSES[name], observed_generation=record.generation))
        return
    role = record.spec.director
    reports = []
    for table in role.tables if role is not None else ():
        known = objects.world.tables.get(table_key(table))
        if known is None:
            continue
        unwell = exceptions.get(known.key.name, ())
        total = len(known.spec.destinations)
        reports.append(
            TableReport(
                table=table,
                uid=known.uid,
                generation=known.generation,
                healthy=total - len(unwell),
                total=total,
                exceptions=unwell,
                draining=tuple(
                    DrainReport(each.real_server, left, clients, idle=not left and not clients)
                    for each in known.spec.destinations
                    if each.draining
                    for left in (objects.left.get((name, each.real_server), 0),)
                    for clients in (objects.remembered.get((name, each.real_server), 0),)
                ),
            )
        )
    routers = elect(objects, name, role)
    active = {(each.id, each.family) for each in routers if each.state == "Active"}
    objects.report(
        name,
        replace(
            record.status,
            observed_generation=record.generation,
            director_interface="eth0" if role is not None else "",
            held_addresses=tuple(
                each
                for router in (role.vrrp.routers if role is not None else ())
                for each in router.addresses
                if (router.id, version(each)) in active
            ),
            virtual_routers=routers,
            loopback_addresses=record.spec.backend_addresses,
            tunnels=record.spec.backend_tunnels,
            tables=tuple(reports),
            sockets=tuple(
                SocketReport(each.table, each.generation, left, idle=not left)
                for each in record.spec.draining
                if (left := objects.own.get(name)) is not None
            ),
        ),
    )


def elect(objects: Objects, name: str, role: DirectorRole | None) -> tuple[VirtualRouterReport, ...]:
    """Return the state of the node's virtual routers: Active without preemption, else Backup."""
    if role is None:
        return ()
    others = {
        (each.id, each.family): ADDRESSES[other]
        for other, record in sorted(objects.world.lvs_nodes.items())
        if other not in (name, *objects.silent) and record.status is not None
        if record.spec.director is not None and record.spec.director.group == role.group
        for each in record.status.virtual_routers
        if each.state == "Active"
    }
    found = []
    for router in role.vrrp.routers:
        for family in sorted({version(each) for each in router.addresses}):
            source = others.get((router.id, family), "")
            state, heard = ("Backup", source) if source else ("Active", ADDRESSES[name])
            report = VirtualRouterReport(router.id, family, state, router.priority, NOW, "elected", heard)
            found.append(report)
    return tuple(found)


def converge(objects: Objects) -> None:
    """Let controller and all agents work until nothing changes."""
    for _ in range(8):
        objects.settle()
        for name in list(objects.world.lvs_nodes):
            agent(objects, name)
    objects.settle()


def web_status(objects: Objects, previous: VirtualServiceStatus | None = None, now: str = NOW) -> VirtualServiceStatus:
    """Return the status of `web`, after compiling it."""
    key = service().meta.key
    decision = objects.compile_service(key)
    return virtual_service_status(objects.world, key, decision, previous, now)


def down(name: str, message: str = "connection refused") -> tuple[TableException, ...]:
    """Return that one real server failed its check."""
    return (TableException(reason="CheckFailed", message=message, real_server=name),)
