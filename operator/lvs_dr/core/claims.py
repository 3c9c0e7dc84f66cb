"""Who may claim which VIP: a VIP on a node's lo takes that address away from the node, so not everybody any address."""

from lvs_dr.core.addresses import Subnet, subnet
from lvs_dr.core.contest import Claim, claim_of, rival_services, rival_tables
from lvs_dr.core.decisions import Verdict
from lvs_dr.core.director_group import DirectorGroup
from lvs_dr.core.directors import directors, interface_subnets, listed, prospects, usable_group
from lvs_dr.core.indexing import mark_of
from lvs_dr.core.objects import Invalid, Key, VirtualService
from lvs_dr.core.own_tables import claims, own_table
from lvs_dr.core.reasons import Reason
from lvs_dr.core.selector import matches
from lvs_dr.core.world import World

ACCEPTED = Verdict(True, Reason.ACCEPTED)


def judge(world: World, service: VirtualService) -> Verdict:
    """Tell whether the service may have its VIP and ports.

    Whoever holds a claim (its DirectorTable has the VIP, for this group) keeps it: rules that are narrowed later,
    or a subnet that vanishes, take nothing away. A free claim goes to the older object, then by name.
    """
    group = usable_group(world, service.director_group)
    record = own_table(world, service)
    held = record is not None and claims(record.spec, service)
    if group is None:
        invalid = world.groups.get(service.director_group)
        if held and invalid is not None:
            return ACCEPTED  # the bad group says so itself; what it serves goes on
        return Verdict(False, Reason.UNKNOWN_GROUP, _no_group(service.director_group, invalid))
    if not held:
        verdict = _allowed(world, service, group)
        if not verdict.ok:
            return verdict
    verdict = _uncontested(world, service, {})
    return _secrets_named(service, group) if verdict.ok else verdict


def _secrets_named(service: VirtualService, group: DirectorGroup) -> Verdict:
    """Judge which Secrets the service asks directors to use: whoever owns the group says which."""
    check, redirect, name = service.health_check, service.redirect, group.meta.key.name
    asked = [("healthCheck", check.secret)] if check is not None and check.secret else []
    asked += [("redirect", secret) for secret in sorted(redirect.secrets)] if redirect is not None else []
    for field, secret in asked:
        if secret not in group.secrets:
            text = (
                f"{field} names Secret {secret}, which spec.secrets of DirectorGroup {name} does not: ask whoever owns "
                "the DirectorGroup to name it, or use another"
            )
            return Verdict(False, Reason.SECRET_NOT_NAMED, text)
    return ACCEPTED


def namespace_allowed(world: World, group: DirectorGroup | None, namespace: str) -> bool:
    """Tell whether the group serves VirtualServices and RealServers of the namespace."""
    if group is None or group.allowed_namespaces is None:
        return True
    known = world.namespaces.get(namespace)
    return known is not None and matches(group.allowed_namespaces, known.labels)


def _no_group(name: str, invalid: DirectorGroup | Invalid | None) -> str:
    if isinstance(invalid, Invalid):
        return f"DirectorGroup {name} cannot be used: {invalid.message}"
    return f"there is no DirectorGroup {name}: create it, or name another in spec.directorGroup"


def _allowed(world: World, service: VirtualService, group: DirectorGroup) -> Verdict:
    name, address, namespace = group.meta.key.name, service.address, service.meta.key.namespace
    if not namespace_allowed(world, group, namespace):
        text = f"DirectorGroup {name} does not serve namespace {namespace} (its spec.allowedNamespaces)"
        return Verdict(False, Reason.NAMESPACE_NOT_ALLOWED, text)
    if reserved := _reserved(world, address):
        return Verdict(False, Reason.RESERVED_ADDRESS, f"{address} {reserved}: choose another VIP")
    if group.allowed_addresses:
        if any(each.holds(address) for cidr in group.allowed_addresses if (each := subnet(cidr)) is not None):
            return ACCEPTED
        text = f"{address} is in none of the allowedAddresses of DirectorGroup {name}: "
        return Verdict(False, Reason.ADDRESS_NOT_ALLOWED, text + listed(group.allowed_addresses, 8))
    return _on_link(world, name, address)


def _on_link(world: World, name: str, address: str) -> Verdict:
    """Judge by the default of `allowedAddresses`: the subnets that the directors' interfaces are on."""
    found: set[Subnet] = set()
    for director in directors(world, name):
        found.update(interface_subnets(world, director))
    if not found:
        verdict = prospects(world, name)
        if verdict.ok:
            verdict = Verdict(False, Reason.NO_INTERFACE, "the directors report no interface to announce VIPs on")
        return Verdict(False, verdict.reason, f"cannot tell yet whether {address} is allowed: {verdict.message}")
    if any(each.holds(address) for each in found):
        return ACCEPTED
    text = (
        f"{address} is in no subnet of the directors' interfaces ({listed([str(each) for each in sorted(found)], 8)}): "
        f"choose a VIP there, or set spec.allowedAddresses of DirectorGroup {name}"
    )
    return Verdict(False, Reason.ADDRESS_NOT_ALLOWED, text)


def _reserved(world: World, address: str) -> str:
    """Return what the address is already, "" when it is free to be a VIP."""
    index = world.index
    if address in world.cluster.api_addresses:
        return "is the API server's"
    for cidr in world.cluster.service_ranges:
        if (each := subnet(cidr)) is not None and each.holds(address):
            return f"is in the cluster's Service range {cidr}"
    for by, what in (
        (index.nodes_by_own_address.get(address), "is an address of node"),
        (index.nodes_by_next_hop.get(address), "is a next hop of node"),
        (index.nodes_by_edge.get(address), "is the network or broadcast address of a subnet of node"),
    ):
        if by:
            return f"{what} {min(by)}"
    if tables := index.tables_by_destination.get(address):
        return f"is the address of a real server of {min(world.owners(tables))}"
    if address in index.tables_by_address:
        return ""  # a VIP already: kubelet may have picked it up as its node's InternalIP
    nodes = index.nodes_by_internal_address.get(address, set())
    unreported = [node for node in nodes if not _reports_addresses(world, node)]
    return f"is the InternalIP of node {min(unreported)}" if unreported else ""


def _reports_addresses(world: World, node: str) -> bool:
    record = world.lvs_node(node)
    return record is not None and record.status is not None and bool(record.status.interfaces)


def _uncontested(world: World, service: VirtualService, known: dict[Key, bool]) -> Verdict:
    key = service.meta.key
    mine = claim_of(key, service)
    if service.firewall_mark and not (verdict := _mark_is_free(world, service, known)).ok:
        return verdict
    for other in sorted(rival_tables(world, mine)):
        record = world.tables[other]
        if record.owner != key:
            return _refused(mine, record.owner, claim_of(other, record.spec))
    return _first_come(world, service, mine, known)


def _mark_is_free(world: World, service: VirtualService, known: dict[Key, bool]) -> Verdict:
    """Judge the firewall mark, which is one IPVS service on all directors of a group, whatever the VIP."""
    mark, key = mark_of(service), service.meta.key
    for other in sorted(world.owners(world.index.tables_by_mark.get(mark))):
        if other != key:
            return _mark_taken(service, other)
    older = (world.virtual_services[each] for each in world.index.services_by_mark.get(mark, ()) if each != key)
    for rival in sorted((each for each in older if isinstance(each, VirtualService)), key=_age):
        if _age(rival) < _age(service) and own_table(world, rival) is None and _will_have(world, rival, known):
            return _mark_taken(service, rival.meta.key)
    return ACCEPTED


def _mark_taken(service: VirtualService, other: Key) -> Verdict:
    text = (
        f"firewall mark {service.firewall_mark} is taken by VirtualService {other} in DirectorGroup "
        f"{service.director_group}: choose another mark"
    )
    return Verdict(False, Reason.MARK_CLAIMED, text)


def _first_come(world: World, service: VirtualService, mine: Claim, known: dict[Key, bool]) -> Verdict:
    """Judge against the older services that want the VIP and have no table for it yet."""
    others: list[VirtualService] = []
    for key in rival_services(world, mine):
        other = world.virtual_services[key]
        if isinstance(other, VirtualService) and _age(other) < _age(service):
            table = own_table(world, other)
            if table is None or not claims(table.spec, other):
                others.append(other)
    for other in sorted(others, key=_age):
        if _will_have(world, other, known):
            return _refused(mine, other.meta.key, claim_of(other.meta.key, other))
    return ACCEPTED


def _will_have(world: World, service: VirtualService, known: dict[Key, bool]) -> bool:
    key = service.meta.key
    if key not in known:
        known[key] = False  # age orders them, so nobody asks again before the answer
        group = usable_group(world, service.director_group)
        known[key] = group is not None and _allowed(world, service, group).ok and _uncontested(world, service, known).ok
    return known[key]


def _age(service: VirtualService) -> tuple[str, Key]:
    return service.meta.created, service.meta.key


def _refused(mine: Claim, other: Key, theirs: Claim) -> Verdict:
    """Say why a claim cannot be served beside another that contests it."""
    address = mine.address
    if theirs.namespace != mine.namespace:
        text = f"{address} belongs to VirtualService {other}: an address is one namespace's; choose another VIP"
        return Verdict(False, Reason.ADDRESS_CLAIMED, text)
    if theirs.group != mine.group:
        text = f"{address} belongs to DirectorGroup {theirs.group} (VirtualService {other}): an address is one group's"
        return Verdict(False, Reason.ADDRESS_CLAIMED, text)
    shared = mine.ports & theirs.ports
    if not shared:
        text = (
            f"{address}: anyPort takes every port that IPVS does not know, also one that is redirected (VirtualService "
            f"{other}): choose another VIP for one of them"
        )
        return Verdict(False, Reason.PORT_CLAIMED, text)
    port, protocol = min(shared)
    which = f"port {port}/{protocol}" if port else f"any port of {protocol}"
    text = f"{address} {which} is taken by VirtualService {other}: choose another port or VIP"
    return Verdict(False, Reason.PORT_CLAIMED, text)
