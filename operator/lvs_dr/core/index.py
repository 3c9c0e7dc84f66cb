"""The store's cross-references, so that one changed object does not cost a look at all others."""

from dataclasses import dataclass, field
from typing import Final

from lvs_dr.core.objects import Key, Protocol

Label = tuple[str, str, str]
"""Namespace, label key, label value; ("namespace", "", "") where no label narrows the choice."""

Place = tuple[str, str, str]
"""A VIP, and whom it is claimed for: address, namespace, DirectorGroup (it is one namespace's and one group's)."""

ClaimedPort = tuple[str, int, Protocol]
"""Address, port (0 = any), protocol: one IPVS service."""

Mark = tuple[str, int, int]
"""DirectorGroup, firewall mark, IP version: one IPVS service on each of the group's directors."""


ANY_PORT: Final = (0, Protocol.TCP)
"""IPVS takes every port that it has no other service for, before a redirector gets anything."""
REDIRECTED_PORT: Final = (-1, Protocol.TCP)
"""No port: stands for all those of a redirector, which is not found by any port."""


@dataclass(slots=True)
class Index:
    """Only `core.indexing` changes it; a value that nothing refers to has no entry. Keys of LVSNodes are node names."""

    services_by_address: dict[str, set[Key]] = field(default_factory=dict)
    services_by_place: dict[Place, set[Key]] = field(default_factory=dict)
    services_by_port: dict[ClaimedPort, set[Key]] = field(default_factory=dict)
    services_by_namespace: dict[str, set[Key]] = field(default_factory=dict)
    services_by_group: dict[str, set[Key]] = field(default_factory=dict)
    services_by_mark: dict[Mark, set[Key]] = field(default_factory=dict)
    services_by_label: dict[Label, set[Key]] = field(default_factory=dict)  # by one label of their selector
    services_by_sorry_server: dict[Key, set[Key]] = field(default_factory=dict)  # by the RealServer they name
    real_servers_by_namespace: dict[str, set[Key]] = field(default_factory=dict)
    real_servers_by_label: dict[Label, set[Key]] = field(default_factory=dict)
    real_servers_by_node: dict[str, set[Key]] = field(default_factory=dict)
    real_servers_by_address: dict[str, set[Key]] = field(default_factory=dict)  # addresses they name themselves
    tables_by_owner: dict[Key, set[Key]] = field(default_factory=dict)  # VirtualService, by name
    tables_by_address: dict[str, set[Key]] = field(default_factory=dict)
    tables_by_place: dict[Place, set[Key]] = field(default_factory=dict)
    tables_by_port: dict[ClaimedPort, set[Key]] = field(default_factory=dict)
    tables_by_router: dict[tuple[str, str, int], set[Key]] = field(default_factory=dict)  # address, group, its id
    tables_by_group: dict[str, set[Key]] = field(default_factory=dict)
    tables_by_real_server: dict[Key, set[Key]] = field(default_factory=dict)  # with a destination of that name
    tables_by_node: dict[str, set[Key]] = field(default_factory=dict)  # with a destination on the node
    tables_by_carrier: dict[str, set[Key]] = field(default_factory=dict)  # with one there that needs the VIP on lo
    tables_by_tunnel: dict[str, set[Key]] = field(default_factory=dict)  # with one there that is reached by tunnel
    tables_by_mark: dict[Mark, set[Key]] = field(default_factory=dict)
    tables_by_check_mark: dict[tuple[str, int], set[Key]] = field(default_factory=dict)  # DirectorGroup, mark
    tables_by_check_target: dict[tuple[str, int, object], set[Key]] = field(default_factory=dict)  # and what it reaches
    tables_by_destination: dict[str, set[Key]] = field(default_factory=dict)  # with a destination at the address
    nodes_by_group: dict[str, set[str]] = field(default_factory=dict)  # the group's selector matches, first by name
    nodes_by_internal_address: dict[str, set[str]] = field(default_factory=dict)  # Node.status.addresses
    lvs_nodes_by_group: dict[str, set[str]] = field(default_factory=dict)  # told to direct for the group
    holders_by_address: dict[str, set[str]] = field(default_factory=dict)  # announce the VIP, or may still
    unsure_nodes: dict[str, set[str]] = field(default_factory=dict)  # one entry "": may announce what nobody noted
    backends_by_address: dict[str, set[str]] = field(default_factory=dict)  # told to carry the VIP on lo
    tunnel_nodes: dict[str, set[str]] = field(default_factory=dict)  # one entry "": told to open tunnels
    nodes_by_own_address: dict[str, set[str]] = field(default_factory=dict)  # as the agents report
    nodes_by_next_hop: dict[str, set[str]] = field(default_factory=dict)
    nodes_by_edge: dict[str, set[str]] = field(default_factory=dict)  # network and broadcast addresses on link
    programmers: dict[str, set[str]] = field(default_factory=dict)  # one entry "": may have IPVS services
