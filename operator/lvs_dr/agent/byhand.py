"""What people run by hand: `cleanup`, `show`, `status` and `plan`. Synchronous, without the API server."""

import time
from collections.abc import Callable, Iterable

from msgspec import structs

from lvs_dr.agent.interface import director_interface, ledger_addresses, own_addresses, sync_link
from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.agent.lastgood import LastGood, LastGoodFile
from lvs_dr.agent.ledger import LedgerFile
from lvs_dr.agent.speaker_byhand import SpeakerByHand, SpeakerHangsError, told_words
from lvs_dr.agent.words import address_words, command, owned, redirect_words
from lvs_dr.core.desired import Desired, desired, in_service, reserved_addresses
from lvs_dr.core.destinations import Destinations
from lvs_dr.core.health import CheckKey, Health
from lvs_dr.core.ipvs_table import services_of
from lvs_dr.core.kernel import KernelState
from lvs_dr.core.ledger import Ledger
from lvs_dr.core.node import LVSNodeSpec
from lvs_dr.core.plan import Plan, plan
from lvs_dr.core.probes import EVERYWHERE, STRICT
from lvs_dr.core.scope import scope
from lvs_dr.core.settings import other_owner
from lvs_dr.core.table import DirectorTableSpec

Say = Callable[[str], None]

NOTHING = LVSNodeSpec()
ROUNDS = 3  # what a first round frees, a second can put back


class CleanUpError(Exception):
    """Something of ours is still on the node."""


def clean_up(kernel: Kernel, ledger: LedgerFile, last_good: LastGoodFile, speaker: SpeakerByHand, say: Say) -> None:
    """Remove everything of ours, in the order of a removal: VIPs, destinations, services, lo, settings.

    The caller holds the host lock. Raises CleanUpError, KernelError, OSError.
    """
    if last_good.remove():
        say(f"removed {last_good.path}")
    try:
        failed = speaker.release(say)
    except SpeakerHangsError as error:
        raise CleanUpError(str(error)) from error
    for _ in range(ROUNDS):
        made = plan(Desired(), _read(kernel, ledger.current), ledger.current, now=time.monotonic())
        ledger.save_plan(made.ledger)
        if not made.ops:
            break
        failures = {failure.op: failure for failure in kernel.apply(made.ops)}
        for op in made.ops:
            say(command(op) + (f"  # FAILED: {failures[op].message}" if op in failures else ""))
        if failures:
            failed += [failure.message for failure in failures.values()]
            break
    if failed or not ledger.current.holds_nothing:
        raise CleanUpError(f"{max(1, len(failed))} entries could not be removed: {'; '.join(failed[:3])}")
    ledger.remove()
    say("nothing of lvs-operator is left on this node")


def show(kernel: Kernel, ledger: LedgerFile, speaker: SpeakerByHand, say: Say) -> None:
    """Print what is ours. Raises KernelError, SpeakerHangsError."""
    lines = list(owned(ledger.current, _read(kernel, ledger.current)))
    lines += [f"ip address add {address_words(key)}  # by lvs-speaker" for key in speaker.held()]
    for line in lines or ["# nothing on this node is lvs-operator's"]:
        say(line)


def show_status(last_good: LastGoodFile, node: str, speaker: SpeakerByHand, say: Say) -> None:
    """Print what the node is to be, how old that is, and what the speaker does. Raises SpeakerHangsError."""
    stored = last_good.load(node, put_aside=False)
    if stored is None:
        say("# there is no last good state")
    else:
        age = max(0.0, time.time() - last_good.path.stat().st_mtime)
        group = stored.spec.director.group if stored.spec.director else ""
        role = f"director of group {group}, {len(stored.tables)} tables" if group else "no director"
        backend = len(stored.spec.backend_addresses)
        say(f"{stored.node}: {role}; {backend} VIPs on lo (LVSNode generation {stored.generation}, since {age:.0f} s)")
        for _, table in sorted(stored.tables.items()) if group else ():
            if table.spec.redirect is not None:
                for line in redirect_words(table.spec, table.spec.redirect):
                    say(line)
    told = speaker.ask("state")
    for line in told_words(told) if told is not None else ["# lvs-speaker does not run"]:
        say(line)


def show_plan(
    kernel: Kernel, ledger: LedgerFile, last_good: LastGoodFile, node: str, say: Say, *, speaker: SpeakerByHand
) -> bool:
    """Print what the next pass would do, from the last good state; returns whether there is such a state.

    Checks are not run: what the kernel serves counts as healthy, the rest as not checked yet. Nor are loads asked for:
    weights that follow them count as right where they are. Raises KernelError.
    """
    stored = last_good.load(node, put_aside=False)
    if stored is None:
        return False
    made = _plan(kernel, ledger.current, stored, frozenset(key.address for key in speaker.held()))
    for op in made.ops:
        say(command(op))
    if not made.ops:
        say("# nothing to do")
    return True


def _plan(kernel: Kernel, ledger: Ledger, stored: LastGood, held: frozenset[str]) -> Plan:
    spec, interfaces = stored.spec, kernel.interfaces()
    interface = director_interface(spec.director, interfaces) if spec.director else ""
    actual = _read(kernel, ledger, spec, interface)
    tables = {name: table.spec for name, table in stored.tables.items()}
    virtual = (
        held | ledger_addresses(ledger) | {*spec.backend_addresses, *(spec.director.addresses if spec.director else ())}
    )
    own = own_addresses(interfaces, virtual)
    health: dict[CheckKey, Health] = dict.fromkeys(in_service(tables.values(), actual), Health.UP)
    goal = desired(
        spec,
        tables,
        health,
        ledger,
        held=held,
        reserved=reserved_addresses(own, kernel.next_hops()),
        owner=other_owner({interface.name for interface in interfaces}),
        link=sync_link(spec.director, interface, interfaces, virtual),
        interface=interface,
        strict=actual.sysctls.get(EVERYWHERE) == STRICT,
    )
    return plan(_with_weights_found(goal, tables.values(), actual), actual, ledger, now=time.monotonic())


def _with_weights_found(goal: Desired, tables: Iterable[DirectorTableSpec], actual: KernelState) -> Desired:
    """Return the goal with the kernel's weights where slow start or load change them."""
    moving = [one for one in tables if one.slow_start is not None or one.load_feedback is not None]
    groups = dict(goal.destinations.groups)
    for service in {key for table in moving for key in services_of(table)} & groups.keys():
        here = actual.destinations.group(service)
        groups[service] = {
            place: config._replace(weight=here[place].weight)
            if place in here and here[place].weight and config.weight
            else config
            for place, config in groups[service].items()
        }
    return structs.replace(goal, destinations=Destinations(groups))


def _read(kernel: Kernel, ledger: Ledger, spec: LVSNodeSpec = NOTHING, interface: str = "") -> KernelState:
    return kernel.read(ledger_addresses(ledger), scope(spec, ledger, interface))
