"""The speaker for what people run by hand: asked, and made to let go. Synchronous."""

import json
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Final

from lvs_dr.agent.admission import Present
from lvs_dr.agent.kernel.protocol import Kernel
from lvs_dr.agent.speaker_client import KEPT_NAME, SOCKET_NAME
from lvs_dr.agent.speaker_message import Told, decode
from lvs_dr.agent.words import command
from lvs_dr.core.kernel import AddressKey, AddressOp, Verb
from lvs_dr.vrrp import kept

ANSWER_SECONDS: Final = 3.0
RELEASE_SECONDS: Final = 5.0
_EMPTY: Final = {"interface": "", "instances": []}


class SpeakerHangsError(Exception):
    """A speaker runs and does not answer."""


class SpeakerByHand:
    """The speaker of this node, running or not; `kernel` is asked where it does not run."""

    def __init__(self, run_directory: Path, state_directory: Path, kernel: Kernel) -> None:
        self._path = run_directory / SOCKET_NAME
        self._kept = state_directory / KEPT_NAME
        self._kernel = kernel

    def ask(self, kind: str, configuration: Mapping[str, object] | None = None) -> Told | None:
        """Return its answer; None when none runs. Raises SpeakerHangsError."""
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_SECONDS)
            try:
                client.connect(str(self._path))
            except (FileNotFoundError, ConnectionRefusedError):
                return None
            try:
                client.sendall(json.dumps({"id": "1", "kind": kind, "configuration": configuration}).encode() + b"\n")
                with client.makefile("rb") as lines:
                    while True:  # states that are pushed come in between
                        told = decode(lines.readline())
                        if told.id:
                            return told
            except (OSError, ValueError) as error:
                raise SpeakerHangsError(f"lvs-speaker does not answer ({error}); end it first") from error

    def held(self) -> tuple[AddressKey, ...]:
        """Return the VIPs on the director's interface, as it says, or else as kernel and kept configuration say."""
        told = self.ask("state")
        if told is not None:
            return tuple(AddressKey(told.interface, each) for each in sorted(told.held))
        return tuple(self._left_over())

    def release(self, say: Callable[[str], None]) -> list[str]:
        """Have all VIPs taken off the director's interface; returns what failed. Raises SpeakerHangsError, OSError."""
        told = self.ask("configure", _EMPTY)
        if told is None:
            return self._release_left_over(say)
        if told.kind == "refused":
            return [f"lvs-speaker refuses to let go: {told.message}"]
        end = time.monotonic() + RELEASE_SECONDS
        while told is not None and told.held and time.monotonic() < end:
            time.sleep(0.05)
            told = self.ask("state")
        if told is not None and told.held:
            return [f"lvs-speaker still holds {', '.join(sorted(told.held)[:5])}"]
        self._kept.unlink(missing_ok=True)
        say("lvs-speaker holds nothing")
        return []

    def _left_over(self) -> Iterable[AddressKey]:
        found = kept.load(str(self._kept))
        if found is None:
            return
        hosts = Present(self._kernel.interfaces()).hosts(found.interface)
        for address in sorted({address for each in found.instances for address in each.machine.addresses} & hosts):
            yield AddressKey(found.interface, address)

    def _release_left_over(self, say: Callable[[str], None]) -> list[str]:
        failed = []
        for key in self._left_over():
            op = AddressOp(Verb.DELETE, key)
            failures = self._kernel.apply((op,))
            failed += [failure.message for failure in failures]
            say(command(op) + "".join(f"  # FAILED: {failure.message}" for failure in failures))
        if not failed:
            self._kept.unlink(missing_ok=True)  # a speaker that is started later takes nothing
        return failed


def told_words(told: Told) -> Iterable[str]:
    """Return in words what the speaker says of itself."""
    process = told.process
    yield (
        f"lvs-speaker: interface {told.interface or 'none'}, memory locked: {_yes(process.memory_locked)}, "
        f"real-time priority: {_yes(process.real_time)}"
    )
    if told.agent_silent:
        yield "  it has not heard the agent for long: priorities are lower"
    for each in told.instances:
        since = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() - each.since_seconds))
        yield (
            f"VRID {each.vrid} IPv{each.family}: {each.state} since {since} ({each.reason}), priority {each.priority}, "
            f"{len(each.addresses or ())} VIPs, {len(each.held)} here"
        )
        for text in (*each.faults, *each.conflicts):
            yield f"  {text}"
        for source, seconds in sorted(each.heard_seconds_ago.items()):
            yield f"  heard {source} {seconds:.1f} s ago{' (Active)' if source == each.active_source else ''}"
    for address, mac in sorted(told.addresses.duplicates.items()):
        yield f"  {address} is answered for by {mac} as well"


def _yes(value: bool) -> str:  # noqa: FBT001 - the value is the datum
    return "yes" if value else "no"
