"""From a pass to its report: the node's problems in words, and the facts in one place."""

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence

from msgspec import structs

from lvs_dr.agent.facts import Facts, problem
from lvs_dr.agent.inforce import InForce
from lvs_dr.agent.interface import missing_interface
from lvs_dr.agent.ipvs_report import ipvs_report, overlapping, small_table
from lvs_dr.agent.lastgood import TableVersion
from lvs_dr.agent.onepass import NodePass
from lvs_dr.agent.redirects import Redirecting
from lvs_dr.agent.seen import Seen
from lvs_dr.agent.sync_report import sync_problems, sync_report
from lvs_dr.core.desired import LOOPBACK, loopback_addresses, loopback_config
from lvs_dr.core.kernel import AddressKey, ServiceKey
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.node_status import Problem, VirtualRouterReport
from lvs_dr.core.reasons import Reason
from lvs_dr.core.settings import unmet
from lvs_dr.core.tunnels import ready
from lvs_dr.vrrp.messages import RouterState, SpeakerState

NAMED = 5  # entries named in one message
MAXIMUM_ROUTERS = 64
MAXIMUM_LISTED = 8
MAXIMUM_WORDS = 256
NOT_REDIRECTING = Redirecting({}, {})


def facts(
    seen: Seen,
    *,
    node_pass: NodePass,
    in_force: InForce,
    ledger: Ledger,
    speaker: SpeakerState,
    exposed: frozenset[str],
    agent_version: str,
    boot_id: str,
    troubles: Iterable[str],
    repairs: int,
    now: float,
    secrets: Iterable[str] = (),
    redirects: Redirecting = NOT_REDIRECTING,
) -> Facts:
    """Return what to report of one pass."""
    force = seen.force
    spec = force.spec if force is not None else LVSNodeSpec()
    programmed: dict[str, TableVersion] = dict(node_pass.programmed.versions())
    announced = frozenset(spec.director.addresses if spec.director else ())
    problems = _about_the_pass(seen, spec, in_force, node_pass, now)
    sync = sync_report(seen, spec)
    problems += sync_problems(sync)
    ipvs = (
        ipvs_report(seen.done.made, seen.actual, node_pass.connections, seen.goal.probes)
        if spec.director is not None
        else None
    )
    problems += small_table(ipvs) if ipvs is not None else ()
    held = frozenset(speaker.held)
    problems += [problem(Reason(one.reason), one.message, one.address) for one in speaker.problems]
    routers = tuple(_router(one) for one in speaker.routers[:MAXIMUM_ROUTERS])
    problems += [problem(Reason.KERNEL_REFUSED, text) for text in troubles if text]
    problems += [problem(Reason.SECRET_UNAVAILABLE, text) for text in secrets]
    return Facts(
        agent_version=agent_version,
        boot_id=boot_id,
        # The controller takes its next step when it reads this: all else told here is true of a node that follows
        # this generation (of a paused one, too).
        observed_generation=force.generation if force is not None and seen.wanted.decided else 0,
        tables=force.tables if force is not None else {},
        programmed=programmed,
        refused=seen.wanted.refused,
        refusals=seen.goal.refusals,
        failures=seen.done.failures,
        director_interface=seen.interface,
        # A VIP that the speaker may take any moment, although it is not to any more, counts as held.
        held=sorted(held | (exposed - announced)),
        routers=routers,
        loopback=_on_loopback(seen, spec, ledger),
        tunnels=ready(spec.backend_tunnels, seen.actual, ledger),
        interfaces=seen.surroundings.own,
        next_hops=seen.surroundings.next_hops,
        problems=problems,
        suspicions=seen.suspicions,
        ipvs=ipvs,
        sync=sync,
        panic=seen.goal.panic,
        weights=node_pass.weighing.told if node_pass.weighing is not None else {},
        sorry=seen.goal.sorry,
        draining=node_pass.drains.follow(
            force.tables if force is not None else {}, seen.actual, now, redirects.in_flight
        ),
        redirects=redirects.troubles,
        sockets=node_pass.sockets.follow(spec.draining, now),
        # Only who holds the VIP sees its packets.
        silent=frozenset(key for key in seen.actual.silent_marks if _address(key, seen) in held),
        repairs=repairs,
    )


def _about_the_pass(seen: Seen, spec: LVSNodeSpec, in_force: InForce, node_pass: NodePass, now: float) -> list[Problem]:
    """Return the problems that the pass found by itself: with the objects, the kernel and what is on the wire."""
    return [
        *_about_the_objects(seen, spec, in_force),
        *_about_the_kernel(seen, spec, node_pass.drift.contested_at(now)),
        *_about_shared_settings(seen, spec, node_pass.drift.conflicts()),
        *(node_pass.arp_watch.problems() if node_pass.arp_watch is not None else ()),
    ]


def _router(told: RouterState) -> VirtualRouterReport:
    """Return the report of a virtual router. Ages are told as moments, so that time alone changes nothing."""
    since = dt.datetime.fromtimestamp(told.since, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return VirtualRouterReport(
        id=told.key.vrid,
        family=told.key.family,
        state=told.state,
        priority=told.priority,
        since=since,
        reason=told.reason[:MAXIMUM_WORDS],
        active_source=told.active_source,
        faults=tuple(each[:MAXIMUM_WORDS] for each in told.faults[:MAXIMUM_LISTED]),
        conflicts=tuple(each[:MAXIMUM_WORDS] for each in told.conflicts[:MAXIMUM_LISTED]),
    )


def _on_loopback(seen: Seen, spec: LVSNodeSpec, ledger: Ledger) -> tuple[str, ...]:
    """Return the VIPs that are safely on lo, also while nothing may be written."""
    ours = [key.address for key in ledger.addresses] + [key.address for key, _ in ledger.adopted_addresses]
    wanted = {AddressKey(LOOPBACK, one): loopback_config(one) for one in {*spec.backend_addresses, *ours}}
    return loopback_addresses(structs.replace(seen.goal, addresses=wanted), seen.actual)


def _about_the_objects(seen: Seen, spec: LVSNodeSpec, in_force: InForce) -> Iterable[Problem]:
    if seen.wanted.node_refused is not None:
        yield problem(seen.wanted.node_refused.reason, f"this LVSNode {seen.wanted.node_refused.message}")
    if not seen.wanted.decided:
        yield problem(
            Reason.UNDECIDED, "the controller has not decided yet what this node is to be; nothing is changed"
        )
    elif spec.paused:
        yield problem(Reason.PAUSED, "the node is paused: it is checked and reported, nothing is written to its kernel")
    if in_force.hold is not None:
        yield problem(Reason.MASS_REMOVAL_HELD, in_force.hold_text())


def _about_the_kernel(seen: Seen, spec: LVSNodeSpec, contested: Mapping[str, Sequence[str]]) -> Iterable[Problem]:
    if spec.director is not None and not seen.interface:
        yield problem(Reason.NO_INTERFACE, missing_interface(spec.director))
    for address, undone in contested.items():
        text = f"someone else keeps undoing what is set here: {_some(undone)}; find and stop them"
        yield problem(Reason.CONTESTED, text, address)
    if unheard := seen.goal.guard.unheard:
        text = f"no MAC address is known of the peer directors {_some(unheard)}: nothing stops a loop with them"
        yield problem(Reason.LOOP_GUARD_INCOMPLETE, text)
    for key in seen.done.made.foreign_tunnels:
        text = f"a device named {key.name} is there and not ours: it is left alone; delete or rename it (ip link)"
        yield problem(Reason.TUNNEL_UNAVAILABLE, text)
    for address in seen.done.made.blocked:
        text = f"{address} is not put on lo: the ARP settings that keep it silent cannot be made on this kernel"
        yield problem(Reason.KERNEL_REFUSED, text, address)
    entries = [_entry(key) for key in seen.done.made.foreign if isinstance(key, AddressKey)]
    if entries:
        yield problem(Reason.FOREIGN_ENTRY, f"not ours, left alone: {_some(entries)}")
    in_the_way: dict[str, list[str]] = {}
    for address, words in overlapping(seen.done.made, seen.goal.notes):
        in_the_way.setdefault(address, []).append(words)
    for address, named in in_the_way.items():
        yield problem(Reason.FOREIGN_ENTRY, f"not ours, left alone: {_some(named)}", address)


def _about_shared_settings(seen: Seen, spec: LVSNodeSpec, conflicts: Sequence[str]) -> Iterable[Problem]:
    """Tell which settings of the whole network namespace are not as the DirectorGroup wishes, and why."""
    wish = spec.director.settings if spec.director is not None else None
    owner = seen.goal.shared.owner
    wrong = unmet(wish, seen.actual)
    if owner and wrong:
        text = f"{owner} sets what the whole network namespace shares; nothing is written: {_some(wrong)}"
        yield problem(Reason.SHARED_SETTING_CONFLICT, text)
    elif conflicts:
        text = f"someone else keeps setting {_some(conflicts)}; given up until the DirectorGroup's wish changes"
        yield problem(Reason.SHARED_SETTING_CONFLICT, text)
    absent = seen.goal.shared.sysctls.keys() - seen.actual.sysctls.keys() if seen.actual.timeouts else ()
    for key in sorted(absent):
        yield problem(Reason.UNSUPPORTED, f"this kernel has no net.{'.'.join(key.path)}")


def _address(key: ServiceKey, seen: Seen) -> str:
    note = seen.goal.notes.get(key)
    return note.address if note is not None else key.address


def _some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMED])
    return shown if len(names) <= NAMED else f"{shown} and {len(names) - NAMED} more"


def _entry(key: AddressKey) -> str:
    return f"address {key.address} on {key.interface}"
