"""Compiles what one node must be: the spec of its LVSNode."""

from collections.abc import Iterable
from typing import Final

from msgspec.structs import replace

from lvs_dr.core.announcing import announced, given, releasing
from lvs_dr.core.backend import backend
from lvs_dr.core.director_group import InterfaceChoice, IpvsSettings
from lvs_dr.core.directors import directors, group_of, unheard, usable_group
from lvs_dr.core.drain import questions
from lvs_dr.core.indexing import eligible
from lvs_dr.core.lost_tables import lost_tables, wanted_addresses
from lvs_dr.core.node import (
    FEATURE_CONNECTION_SYNC,
    FEATURE_IPVS_SETTINGS,
    FEATURE_TUNNELS,
    FEATURE_VRRP,
    DirectorRole,
    DirectorSettings,
    IpvsSysctl,
    LVSNodeSpec,
    table_name,
)
from lvs_dr.core.objects import Key, Node
from lvs_dr.core.sync_modes import group_sync
from lvs_dr.core.virtual_routers import vrrp
from lvs_dr.core.world import NodeRecord, World


def compile_node(world: World, name: str) -> LVSNodeSpec | None:
    """Decide what a node must be; None when there is nothing to write.

    That is: no such Node, no Linux one, or one whose predecessor's LVSNode is still about to be deleted.

    Nothing is decided before the agent has reported: an LVSNode that was deleted by mistake and created anew must not
    read as `clean up`.
    """
    node, record = world.nodes.get(name), world.lvs_node(name)
    if node is None or not eligible(node):
        return None
    paused = node.meta.paused
    stored = world.lvs_nodes.get(name)
    if record is None and stored is not None and stored.owner_uid:
        return None
    if record is None or (not record.spec.decided and record.status is None):
        return LVSNodeSpec(paused=paused)
    if not record.spec.decided and unheard(world, group_of(world, name)):
        return LVSNodeSpec(paused=paused)  # it may be the one that holds the group's VIPs, or another may
    role = _role(world, node, record)
    addresses, tunnels, served = backend(world, record)
    features = (
        (FEATURE_CONNECTION_SYNC, role is not None and role.sync is not None),
        (FEATURE_IPVS_SETTINGS, role is not None and role.settings is not None),
        (FEATURE_TUNNELS, bool(tunnels)),
        (FEATURE_VRRP, role is not None and bool(role.vrrp.routers)),
    )
    return LVSNodeSpec(
        decided=True,
        director=role,
        backend_addresses=addresses,
        backend_tunnels=tunnels,
        backend_services=served,
        draining=questions(world, name),
        paused=paused,
        requires=tuple(name for name, used in features if used),
        releasing=releasing(world, record, role),
    )


def _role(world: World, node: Node, record: NodeRecord) -> DirectorRole | None:
    name = node.meta.key.name
    group = group_of(world, name)
    if not group:
        return None
    before = record.spec.director
    known = usable_group(world, group)
    settings = before.settings if before is not None else None
    sync = before.sync if before is not None else None
    if known is not None:
        interface, settings = known.interface, _settings(known.ipvs)
        sync = group_sync(known, len(directors(world, group)))
    elif before is not None:  # its group is gone or unreadable: the last good one
        interface = InterfaceChoice(before.interface_name, before.interface_subnet)
    else:
        interface = InterfaceChoice()
    tables = sorted(world.index.tables_by_group.get(group, ()))
    lost = lost_tables(world, record, group)
    wanted = {world.tables[key].spec.address for key in tables}
    wanted |= wanted_addresses(world, lost, group) & announced(record, group)
    return DirectorRole(
        group=group,
        interface_name=interface.name,
        interface_subnet=interface.subnet,
        # kubelet may have picked up a VIP as an address of its node
        internal_addresses=tuple(each for each in node.internal_addresses if each not in world.tables_by_address),
        tables=tuple(sorted(table_name(key) for key in (*tables, *lost))),
        vrrp=vrrp(world, node, group, before, given(world, record, group, wanted)),
        settings=_forgetting(settings) if _forgets(world, tables) else settings,
        sync=sync if tables or lost else None,
        secrets=known.secrets if known is not None else before.secrets if before is not None else (),
    )


_FORGET: Final = IpvsSysctl(name="expire_quiescent_template", value=1)


def _forgets(world: World, tables: Iterable[Key]) -> bool:
    """Tell whether a real server drains whose clients persistence is not to bring back."""
    return any(each.forget_clients for key in tables for each in world.tables[key].spec.destinations)


def _forgetting(settings: DirectorSettings | None) -> DirectorSettings:
    """Return settings by which IPVS forgets clients of quiesced real servers; what the group says itself stands."""
    settings = settings or DirectorSettings()
    if any(each.name == _FORGET.name for each in settings.sysctls):
        return settings
    return replace(settings, sysctls=tuple(sorted((*settings.sysctls, _FORGET), key=lambda each: each.name)))


def _settings(given: IpvsSettings) -> DirectorSettings | None:
    if given == IpvsSettings():
        return None
    return DirectorSettings(
        tcp_seconds=given.tcp_seconds,
        tcp_fin_seconds=given.tcp_fin_seconds,
        udp_seconds=given.udp_seconds,
        sysctls=tuple(IpvsSysctl(name=name, value=value) for name, value in given.sysctls),
    )
